//! `anemone opt`.

use std::fs;

use anemone_mil::tensor::Tensor;
use anemone_mil::weights::write_blob_file;

use super::support::{LINEAR, Place, anemone, array};

/// y = x · w, with w [3, 2] in `weights/w.bin`.
const WEIGHT: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp32, [2, 3]> x) {
            // the weight
            tensor<fp32, [3, 2]> w = const()[name = string("w"), val = tensor<fp32, [3, 2]>(BLOBFILE(path = string("@model_path/weights/w.bin"), offset = uint64(64)))];
            tensor<fp32, [2, 2]> y = matmul(x = x, y = w)[name = string("y")];
        } -> (y);
}
"#;

fn with_weight(place: &Place) -> String {
    fs::create_dir(place.path("weights")).unwrap();
    let w = Tensor::from_values(&[3, 2], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    write_blob_file(place.path("weights/w.bin"), |writer| writer.append(&w)).unwrap();
    place.file("weight.mil", WEIGHT)
}

#[test]
fn prints_the_program_and_says_what_changed() {
    let place = Place::new();
    let twice = LINEAR.replace("} -> (y)", "    tensor<fp32, [2, 4]> z = linear(bias = b, weight = w, x = x)[name = string(\"z\")];\n        } -> (z)");
    let file = place.file("twice.mil", twice);
    let passes = ["--pass", "common-subexpressions", "--pass", "dead-code"];
    let run = anemone(["opt", &file, "-v"].into_iter().chain(passes)).ended(0);
    assert!(run.stdout.contains("} -> (z);") && !run.stdout.contains("name = string(\"y\")"), "{run:#?}");
    assert_eq!(
        run.stderr,
        "common-subexpressions: `main`: 1 op computed before\ndead-code: nothing to change\n"
    );
    assert_eq!(anemone(["opt", &file].into_iter().chain(passes)).ended(0).stderr, "");

    let json = anemone(["opt", "--json", &file].into_iter().chain(passes)).ended(0).json();
    assert_eq!(json[0]["text"], run.stdout);
    assert_eq!(
        json[0]["changes"],
        serde_json::json!(["common-subexpressions: `main`: 1 op computed before"])
    );
    // A file that it writes is whole, and is what it prints.
    let out = place.text("out.mil");
    anemone(["opt", &file, "--out", &out].into_iter().chain(passes)).ended(0);
    assert_eq!(fs::read_to_string(&out).unwrap(), run.stdout);
}

#[test]
fn no_file_that_is_read_is_replaced() {
    let place = Place::new();
    let file = with_weight(&place);
    let before = fs::read(&file).unwrap();
    anemone(["opt", &file, "--pass", "dead-code", "--out", &file]).failed(1, &["weight.mil"]);
    let weight = place.text("weights/w.bin");
    anemone(["opt", &file, "--pass", "dead-code", "--out", &weight]).failed(1, &["w.bin"]);
    assert_eq!(fs::read(&file).unwrap(), before);
    let directory = place.text("");
    let run =
        anemone(["opt", &file, "--pass", "unbake", "--arrays", &directory, "--out", &place.text("w.npy")]);
    assert!(!run.ended(1).stderr.is_empty());
}

#[test]
fn large_values_go_into_a_weight_file_beside_the_program() {
    let place = Place::new();
    let program = "program(1.3)\n{\n    func main<ios18>(tensor<fp32, [128, 128]> x, tensor<fp32, [128, 128]> w) {\n            tensor<fp32, [128, 128]> y = add(x = x, y = w)[name = string(\"y\")];\n        } -> (y);\n}\n";
    let file = place.file("add.mil", program);
    let values: Vec<f32> = (0..128 * 128).map(|i| i as f32).collect();
    let w = array(&place, "w.npy", &[128, 128], &values);
    let given = format!("w={w}");
    let out = place.text("baked.mil");
    anemone(["opt", &file, "--pass", "bake", "--input", &given, "--out", &out]).ended(0);
    let text = fs::read_to_string(&out).unwrap();
    assert!(text.contains("@model_path/baked.weights.bin"), "{text}");
    anemone(["check", &out, "--weights", &place.text("")]).ended(0);
    // Both give the same.
    let x = array(&place, "x.npy", &[128, 128], &values);
    let x = format!("x={x}");
    anemone(["run", &file, "--input", &x, "--input", &given, "--output", &place.text("before")]).ended(0);
    anemone(["run", &out, "--input", &x, "--output", &place.text("after")]).ended(0);
    assert_eq!(fs::read(place.path("before/y.npy")).unwrap(), fs::read(place.path("after/y.npy")).unwrap());
    // On standard output everything stands in the text.
    let printed = anemone(["opt", &file, "--pass", "bake", "--input", &given]).ended(0).stdout;
    assert!(!printed.contains("BLOBFILE"));
}

#[test]
fn constants_come_out_as_arrays_and_go_back() {
    let place = Place::new();
    let file = with_weight(&place);
    let run = anemone(["opt", &file, "--pass", "unbake"]).ended(0);
    assert!(run.stdout.contains("main<ios18>(tensor<fp32, [2, 3]> x, tensor<fp32, [3, 2]> w)"), "{run:#?}");
    assert!(
        run.stderr.contains("`w` was tensor<fp32, [3, 2]> in @model_path/weights/w.bin at offset 64"),
        "{run:#?}"
    );
    let (out, arrays) = (place.text("inputs.mil"), place.text("arrays"));
    anemone(["opt", &file, "--pass", "unbake", "--arrays", &arrays, "--out", &out]).ended(0);
    let given = format!("w={arrays}/w.npy");
    let back = anemone(["opt", &out, "--pass", "bake", "--input", &given]).ended(0).stdout;
    assert!(back.contains("[[0x1p+0, 0x1p+1], [0x1.8p+1, 0x1p+2], [0x1.4p+2, 0x1.8p+2]]"), "{back}");
    assert!(back.contains("// the weight"), "{back}");
}

#[test]
fn weights_are_read_only_if_they_are_given() {
    let place = Place::new();
    let file = place.file(
        "weight.mil",
        WEIGHT
            .replace("(x = x, y = w)", "(x = w, y = w, transpose_x = bool(false), transpose_y = bool(true))")
            .replace("[2, 2]> y", "[3, 3]> y"),
    );
    let run = anemone(["opt", &file, "--pass", "fold-constants", "-v"]).ended(0);
    assert_eq!(run.stderr, "fold-constants: nothing to change\n");
    anemone(["opt", &file, "--pass", "fold-constants", "--weights", &place.text("")])
        .failed(1, &["`w`", "w.bin"]);
}

#[test]
fn mistakes_say_where_and_what_to_give() {
    let place = Place::new();
    let file =
        place.file("linear.mil", LINEAR.replace("[2, 3]> x", "[?, 3]> x").replace("[2, 4]> y", "[?, 4]> y"));
    let opt = |arguments: &[&str]| anemone(["opt", &file].iter().chain(arguments));
    opt(&[]).failed(2, &["--pass"]);
    opt(&["--pass", "fold"]).failed(2, &["fold-constants", "dialect=1.0"]);
    opt(&["--pass", "specialize", "--input", "x=fp32[2"]).failed(2, &["fp32[2,3]"]);
    opt(&["--pass", "specialize"]).failed(1, &["`x`", "tensor<fp32, [?, 3]>"]);
    opt(&["--pass", "specialize", "--input", "y=fp32[2,3]"]).failed(1, &["no input is named `y`"]);
    opt(&["--pass", "specialize", "--input", "x=fp16[2,3]"]).failed(1, &["`x`", "tensor<fp16, [2, 3]>"]);
    opt(&["--pass", "specialize", "--input", "x=fp32[2,3]", "--input", "x=fp32[2,3]"]).failed(1, &["twice"]);
    opt(&["--pass", "dead-code", "--input", "x=fp32[2,3]"]).failed(1, &["`--pass specialize`"]);
    opt(&["--pass", "dead-code", "--constant", "w"]).failed(1, &["`--pass unbake`"]);
    opt(&["--pass", "bake"]).failed(1, &["--input NAME=FILE.npy"]);
    opt(&["--pass", "bake", "--input", "x=none.npy"]).failed(1, &["none.npy"]);
    opt(&["--pass", "unbake", "--constant", "v"]).failed(1, &["no constant is named `v`"]);
    opt(&["--pass", "specialize", "--function", "other"]).failed(1, &["`other`", "`main`"]);
    let run = opt(&["--pass", "specialize", "--input", "x=fp32[2,3]"]).ended(0);
    assert!(run.stdout.contains("tensor<fp32, [2, 4]> y = linear"), "{run:#?}");
}

#[test]
fn what_an_older_opset_lacks_is_shown_where_it_stands() {
    let place = Place::new();
    // Passes before have changed the numbers of ops; the lines are those of the file.
    let program = "program(1.3)\n{\n    func main<ios18>(tensor<fp16, [4]> x, state<tensor<fp16, [4]>> s) {\n            fp16 unused = const()[name = string(\"unused\"), val = fp16(1)];\n            tensor<fp16, [4]> held = read_state(input = s)[name = string(\"held\")];\n            tensor<fp16, [4]> y = add(x = x, y = held)[name = string(\"y\")];\n        } -> (y);\n}\n";
    let file = place.file("state.mil", program);
    let run = anemone(["opt", &file, "--pass", "dead-code", "--pass", "dialect=1.0"]).failed(1, &["ios17"]);
    assert!(run.stderr.contains("state.mil:5:"), "{run:#?}");
    assert!(run.stderr.contains("state.mil:3:"), "{run:#?}");
    assert_eq!(run.stdout, "");
}

#[test]
fn ops_that_are_not_known_stay() {
    let place = Place::new();
    let foreign = LINEAR.replace("} -> (y)", "    tensor<fp32, [2, 4]> q = frobnicate(x = y)[name = string(\"q\")];\n            tensor<fp32, [2, 4]> r = frobnicate(x = y)[name = string(\"r\")];\n        } -> (y)");
    let file = place.file("foreign.mil", &foreign);
    let every =
        ["dead-code", "common-subexpressions", "fold-constants", "specialize", "unbake", "dialect=1.3"];
    let passes = every.iter().flat_map(|pass| ["--pass", pass]);
    assert_eq!(anemone(["opt", &file].into_iter().chain(passes)).ended(0).stdout, foreign);
    // Any other mistake is one.
    let wrong = place.file("wrong.mil", foreign.replace("[2, 4]> y", "[2, 5]> y"));
    anemone(["opt", &wrong, "--pass", "dead-code"]).failed(1, &["`y` is declared"]);
}

/// y = w · x for 32000 channels, with w [2, 32000, 1, 1] in `weights/w.bin`.
const WIDE: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 32000, 1, 16]> x) {
            tensor<fp16, [2, 32000, 1, 1]> w = const()[name = string("w"), val = tensor<fp16, [2, 32000, 1, 1]>(BLOBFILE(path = string("@model_path/weights/w.bin"), offset = uint64(64)))];
            tensor<fp16, [1, 2, 1, 16]> y = conv(weight = w, x = x)[name = string("y")];
        } -> (y);
}
"#;

#[test]
fn legalises_for_a_chip_and_tells_what_is_left() {
    let place = Place::new();
    let file = place.file("wide.mil", WIDE);
    let run = anemone(["opt", "-v", &file, "--chip", "m4", "--pass", "legalize"]).ended(0);
    assert!(run.stdout.contains("matmul("), "{run:#?}");
    assert!(run.stderr.contains("legalize: conv-to-matmul: `main`: 1 convolution made a matrix product"));
    assert!(run.stderr.contains("`w` is in a weight file, which is read only with `--weights`"), "{run:#?}");
    let run = anemone(["opt", &file, "--chip", "all", "--pass", "legalize"]).ended(0);
    assert!(
        run.stderr.contains("warning[R1]: axis 2 of `y_w` has length 32000, more than 16384"),
        "{run:#?}"
    );
    assert!(run.stderr.contains("do not mend what is written there"), "{run:#?}");
    let integers = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/rules/r14_trips.mil");
    let run = anemone(["opt", integers, "--chip", "m4", "--pass", "legalize"]).ended(0);
    assert!(run.stderr.contains("no pass mends R14: what the warnings advise is left to you"), "{run:#?}");
    let run = anemone(["opt", &file, "--pass", "conv-to-matmul"]).ended(0);
    assert!(run.stdout.contains("matmul(") && run.stderr.is_empty(), "{run:#?}");

    let run = anemone(["opt", &file, "--chip", "m9", "--pass", "legalize"]).ended(2);
    assert!(run.stderr.contains("`m9` is no chip"), "{run:#?}");
    let run = anemone(["opt", &file, "--pass", "legalize"]).ended(1);
    assert!(run.stderr.contains("`--pass legalize` needs the chip"), "{run:#?}");
    let run = anemone(["opt", &file, "--chip", "m4", "--pass", "dead-code"]).ended(1);
    assert!(run.stderr.contains("`--chip` is for `--pass legalize`"), "{run:#?}");
}
