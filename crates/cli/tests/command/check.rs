//! `anemone check`.

use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use anemone_mil::weights::write_blob_file;

use serde_json::json;

use super::support::{LINEAR, Place, anemone};

const WITH_BLOB: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp32, [2, 3]> x) {
            tensor<fp32, [2, 3]> w = const()[name = string("w"), val = tensor<fp32, [2, 3]>(BLOBFILE(path = string("@model_path/weights/w.bin"), offset = uint64(64)))];
            tensor<fp32, [2, 2]> y = linear(weight = w, x = x)[name = string("y")];
        } -> (y);
}
"#;

#[test]
fn sound_programs_get_a_line_each() {
    let place = Place::new();
    let (one, two) = (place.file("one.mil", LINEAR), place.file("two.mil", WITH_BLOB));
    let run = anemone(["check", &one, &two]).ended(0);
    assert_eq!(run.stdout, format!("{one}: ok, 1 function, 1 op\n{two}: ok, 1 function, 1 op\n"));
    assert_eq!(run.stderr, "2 files are ok\n");
    assert_eq!(anemone(["check", "-q", &one, &two]).ended(0).stderr, "");
    let json = anemone(["check", "--json", &one]).ended(0).json();
    assert_eq!(json[0], json!({"file": one, "ok": true, "functions": 1, "ops": 1}));
}

#[test]
fn mistakes_are_shown_with_their_line_and_the_rest_is_checked_too() {
    let place = Place::new();
    let good = place.file("good.mil", LINEAR);
    let wrong = place.file("wrong.mil", LINEAR.replace("weight = w", "wieght = w"));
    let run =
        anemone(["check", &wrong, &good]).failed(1, &["wrong.mil:7:", "wieght", "^", "1 of 2 files failed"]);
    assert_eq!(run.stdout, format!("{good}: ok, 1 function, 1 op\n"));
    let json = anemone(["check", "--json", &wrong]).ended(1).json();
    let found = json.iter().find(|finding| finding["code"] == "unknown-parameter").unwrap();
    assert_eq!((found["line"].as_u64(), found["column"].as_u64()), (Some(7), Some(55)));
    assert_eq!((&found["file"], &found["severity"]), (&wrong.clone().into(), &"error".into()));
    assert!(found["message"].as_str().unwrap().contains("`wieght`"), "{found}");
    assert!(found["help"].as_str().unwrap().contains("`weight`"), "{found}");
    let (last, findings) = json.split_last().unwrap();
    assert_eq!(*last, json!({"file": wrong, "ok": false, "errors": findings.len()}));

    let missing = place.text("none.mil");
    let json = anemone(["check", "--json", &missing]).failed(1, &["none.mil"]).json();
    assert!(json[0]["message"].as_str().unwrap().contains("No such file"));
    for (key, value) in
        [("file", json!(missing)), ("line", json!(null)), ("column", json!(null)), ("code", json!("file"))]
    {
        assert_eq!(json[0][key], value);
    }
    assert_eq!(json[1], json!({"file": missing, "ok": false, "errors": 1}));
}

/// A function of these statements.
fn program(statements: impl IntoIterator<Item = String>) -> String {
    let statements: String = statements.into_iter().collect();
    format!("program(1.3)\n{{\nfunc main<ios18>(tensor<fp16, [1, 4]> x) {{\n{statements}}} -> (x);\n}}\n")
}

/// Asserts that 20 errors are shown and the number of the others, to people and to programs.
#[track_caller]
fn shows_20_errors(arguments: &[&str], more: usize) {
    let run = anemone([&["check"], arguments].concat()).ended(1);
    assert_eq!(run.stderr.matches("error: ").count(), 20 + 1, "the closing line is one too");
    let closing = format!("\n\n… and {more} more errors\nerror: 1 of 1 file failed\n");
    assert!(run.stderr.ends_with(&closing), "{}", run.stderr);
    assert!(run.stderr.len() < 20 * 1000, "{} bytes", run.stderr.len());
    let json = anemone([&["--json", "check"], arguments].concat()).ended(1).json();
    assert_eq!(json.len(), 20 + 1);
    assert_eq!((&json[20]["ok"], &json[20]["errors"]), (&false.into(), &(20 + more).into()));
}

#[test]
fn of_many_mistakes_the_first_are_shown_and_the_others_counted() {
    let place = Place::new();
    let line = |i| format!("tensor<fp16, [1, 4]> y{i} = relu(x = x, z = x)[name = string(\"y{i}\")];\n");
    shows_20_errors(&[&place.file("lines.mil", program((0..20_000).map(line)))], 19_980);
    let line = |i| format!("tensor<fp16, [1, 4]> y{i} = rely{i}(x = x)[name = string(\"y{i}\")];\n");
    shows_20_errors(&[&place.file("ops.mil", program((0..20_000).map(line)))], 19_980);
    let line = |i| format!("tensor<fp16, [1, 4]> y{i} = relu(x = z{i})[name = string(\"y{i}\")];\n");
    shows_20_errors(&[&place.file("names.mil", program((0..20_000).map(line)))], 19_980);
    let blob = |i| {
        format!(
            "fp16 w{i} = const()[val = fp16(BLOBFILE(path = string(\"@model_path/w{i}.bin\"), \
             offset = uint64(64)))];\n"
        )
    };
    let files = place.file("files.mil", program((0..10_000).map(blob)));
    shows_20_errors(&["--weights", &place.text(""), &files], 9_980);
}

#[test]
fn in_a_long_line_columns_are_right() {
    let place = Place::new();
    let parameters: String = (0..30_000).map(|i| format!(", p{i} = x")).collect();
    let statement = format!("tensor<fp16, [1, 4]> y = relu(x = x{parameters})[name = string(\"y\")];");
    let column = statement.find("p19 =").unwrap() + 1;
    let file = place.file("line.mil", program([statement + "\n"]));
    shows_20_errors(&[&file], 29_980);
    let run = anemone(["check", &file]).ended(1);
    assert!(run.stderr.contains(&format!("line.mil:4:{column}\n")), "{}", run.stderr);
    let json = anemone(["--json", "check", &file]).ended(1).json();
    let place = &json[19];
    assert_eq!((place["line"].as_u64(), place["column"].as_u64()), (Some(4), Some(column as u64)));
}

#[test]
fn weights_are_checked_where_their_directory_is_given() {
    let place = Place::new();
    let file = place.file("program.mil", WITH_BLOB);
    let weights = place.text("");
    anemone(["check", &file]).ended(0);
    anemone(["check", &file, "--weights", &weights]).failed(1, &["program.mil:4:", "does not exist"]);
    anemone(["check", &file, "--weights", &place.text("none")]).failed(1, &["none"]);
    anemone(["check", &file, "--weights", &file]).failed(1, &["not a directory"]);

    std::fs::create_dir(place.path("weights")).unwrap();
    let write = |tensor: &Tensor| {
        write_blob_file(place.path("weights/w.bin"), |writer| writer.append(tensor)).unwrap();
    };
    write(&Tensor::from_values(&[2, 3], vec![0.5f32; 6]).unwrap());
    anemone(["check", &file, "--weights", &weights]).ended(0);
    write(&Tensor::from_values(&[2, 2], vec![0.5f32; 4]).unwrap());
    anemone(["check", &file, "--weights", &weights]).failed(1, &["holds 16 bytes, expected 24"]);
}

#[test]
fn warnings_are_shown_and_leave_the_status_alone() {
    let place = Place::new();
    let doubtful = "fp16 h = const()[val = fp16(0x3c00)];\ntensor<fp16, [1, 4]> y = gelu(x = x);\n";
    let file = place.file("doubtful.mil", program([doubtful.to_string()]));
    let run = anemone(["check", &file]).ended(0);
    assert_eq!(run.stdout, format!("{file}: ok, 1 function, 1 op\n"));
    assert!(run.stderr.starts_with("warning: `0x3c00` could be a number"), "{}", run.stderr);
    assert!(run.stderr.contains("\n\nwarning: `gelu` is not given `mode`\n"), "{}", run.stderr);
    assert_eq!(anemone(["check", "-q", &file]).ended(0).stderr, "");
    let json = anemone(["check", "--json", &file]).ended(0).json();
    assert_eq!(json.len(), 2 + 1);
    assert_eq!((&json[0]["severity"], &json[0]["code"]), (&"warning".into(), &"ambiguous-number".into()));
    assert_eq!((&json[1]["severity"], &json[1]["code"]), (&"warning".into(), &"omitted-parameter".into()));
    assert_eq!((json[1]["line"].as_u64(), &json[2]["ok"]), (Some(5), &true.into()));

    let run = anemone(["check", "-q", "--warnings-are-errors", &file]);
    assert_eq!(run.failed(1, &["warning: `gelu`", "1 of 1 file failed"]).stdout, "");
    let json = anemone(["check", "--json", "--warnings-are-errors", &file]).ended(1).json();
    assert_eq!(json[2], json!({"file": file, "ok": false, "errors": 2}));
    let sound = place.file("sound.mil", LINEAR);
    anemone(["check", "--warnings-are-errors", &sound]).ended(0);
}

/// A classifier's backward with 20000 words, and a parameter that is left out.
const BACKWARD: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [20000, 16]> dlogits, tensor<fp16, [64, 20000]> embed) {
            bool no = const()[name = string("no"), val = bool(false)];
            tensor<fp16, [64, 16]> dx = matmul(transpose_x = no, transpose_y = no, x = embed, y = dlogits)[name = string("dx")];
            tensor<fp16, [64, 16]> p = softmax(x = dx)[name = string("p")];
        } -> (p);
}
"#;

#[test]
fn a_chips_rules_are_checked_where_it_is_named() {
    let place = Place::new();
    let file = place.file("backward.mil", BACKWARD);
    anemone(["check", &file]).ended(0);
    let run = anemone(["check", "--chip", "m2", &file]).failed(1, &["1 of 1 file failed"]);
    assert_eq!(run.stdout, "");
    for part in [
        "error[R1]: this `matmul` has an inner dimension of 20000, more than 16384\n",
        "backward.mil:5:41\n",
        "^^^^^^ refused on m2 (measured: F)\n",
        "= help: cut that axis in tiles of at most 16384",
        "warning[R30]: this is `program(1.3)`\n",
        "warning[R50]: `softmax` is not given `axis`\n",
    ] {
        assert!(run.stderr.contains(part), "{part}\n{}", run.stderr);
    }
    // Without a chip the verifier says it.
    assert!(!run.stderr.contains("warning: `softmax`"), "{}", run.stderr);
    let json = anemone(["check", "--json", "--chip", "all", &file]).ended(1).json();
    let of_r1 = json.iter().find(|finding| finding["code"] == "R1").unwrap();
    assert_eq!((of_r1["line"].as_u64(), of_r1["column"].as_u64()), (Some(5), Some(41)));
    assert_eq!((&of_r1["severity"], &of_r1["file"]), (&json!("error"), &json!(file)));
    assert_eq!(of_r1["label"], "refused on m1, m2, m3 (measured: F)");
    assert!(of_r1["help"].as_str().unwrap().starts_with("cut that axis"), "{of_r1}");
    assert_eq!(*json.last().unwrap(), json!({"file": file, "ok": false, "errors": 1}));
}

#[test]
fn rules_that_are_not_measured_warn() {
    let place = Place::new();
    let file = place.file("backward.mil", BACKWARD);
    let run = anemone(["check", "--chip", "m4", &file]).ended(0);
    assert_eq!(run.stdout, format!("{file}: ok, 1 function, 2 ops\n"));
    assert!(run.stderr.contains("warning[R50]"), "{}", run.stderr);
    assert!(run.stderr.contains("warning[R52]"), "{}", run.stderr);
    let strict = anemone(["check", "--json", "--chip", "m4", "--warnings-are-errors", &file]);
    assert_eq!(*strict.ended(1).json().last().unwrap(), json!({"file": file, "ok": false, "errors": 2}));
    anemone(["check", "--chip", "m7", &file])
        .failed(2, &["`m7` is no chip; there are m1, m2, m3, m4, m5, m6, or all"]);
}

#[test]
fn rules_are_checked_beside_ops_that_are_not_known() {
    let place = Place::new();
    let calls = [
        "tensor<fp16, [1, 4]> sums = cumsum(axis = int32(1), exclusive = bool(false), reverse = bool(false), x = x);\n",
        "tensor<fp16, [1, 4]> other = of_another_maker(x = x);\n",
    ];
    let file = place.file("other.mil", program(calls.map(str::to_string)));
    let run = anemone(["check", "--chip", "m1", &file]).ended(1);
    assert!(run.stderr.contains("error: unknown op `of_another_maker`"), "{}", run.stderr);
    assert!(run.stderr.contains("[R51]: "), "{}", run.stderr);
}

#[test]
fn ranges_of_inputs_tell_where_numbers_may_go_wrong() {
    let place = Place::new();
    let file = place.file("backward.mil", BACKWARD);
    let check = |ranges: &[&str], status| {
        let flags = ranges.iter().flat_map(|range| ["--range", range]);
        let arguments = ["check", "--chip", "m4", &file].into_iter().chain(flags);
        anemone(arguments.collect::<Vec<_>>()).ended(status)
    };
    let assumed = check(&[], 0).stderr;
    let message = "the products of this `matmul` may add up to 2.00e6, past 32752, because of `embed` (assumed within ±10) \
        and `dlogits` (assumed within ±10); `--range embed=LO..HI` says otherwise\n";
    assert!(assumed.contains(&format!("warning[R52]: {message}")), "{assumed}");
    let stated = check(&["dlogits=-1..1", "embed=-0.5..0.5"], 0).stderr;
    assert!(!stated.contains("R52"), "{stated}");

    for (ranges, message) in [
        (&["x=-1..1"][..], "no function has an input `x`; there are dlogits, embed"),
        (&["embed=0..1", "embed=0..2"], "the range of `embed` is given twice"),
        (&["embed=1e5..1e6"], "`embed` is fp16, which holds no number of 100000..1000000"),
    ] {
        let run = check(ranges, 1);
        assert!(run.stderr.contains(message), "{}", run.stderr);
        assert_eq!(run.stdout, "");
    }
    for (range, message) in [
        ("embed", "`embed` is no range of an input; write NAME=LO..HI, such as x=-1..1"),
        ("embed=0..nan", "`nan` in `embed=0..nan` is no number"),
        ("embed=2..1", "holds nothing: its first number is larger than its second"),
    ] {
        assert!(check(&[range], 2).stderr.contains(message));
    }
    anemone(["check", "--range", "embed=0..1", &file]).failed(2, &["--chip"]);
}

#[test]
fn weights_that_are_at_hand_count_with_their_values() {
    let place = Place::new();
    let blob = r#"BLOBFILE(path = string("@model_path/w.bin"), offset = uint64(64))"#;
    let text = format!(
        "tensor<fp16, [2, 4]> w = const()[name = string(\"w\"), val = tensor<fp16, [2, 4]>({blob})];\n\
         tensor<fp16, [1, 2]> y = linear(weight = w, x = x);\n\
         tensor<fp16, [1, 4]> first, tensor<fp16, [1, 4]> second = split(axis = int32(0), num_splits = int32(2), x = w);\n\
         tensor<fp16, [1, 4]> both = mul(x = first, y = second);\n"
    );
    let file = place.file("linear.mil", program([text]));
    let weights = [1.0, -2.0, 0.5, 0.25, 1000.0, 0.0, 0.0, 0.0];
    let weights = Tensor::from_f64(DType::Fp16, &[2, 4], &weights).unwrap();
    write_blob_file(place.path("w.bin"), |writer| writer.append(&weights)).unwrap();
    let unknown = anemone(["check", "--chip", "m4", &file]).ended(0);
    assert!(["R52", "R55"].iter().all(|rule| !unknown.stderr.contains(rule)), "{}", unknown.stderr);
    let directory = place.text("");
    let known =
        anemone(["check", "--chip", "m4", "--range", "x=-40..40", "--weights", &directory, &file]).ended(0);
    assert!(known.stderr.contains("may add up to 40000, past 32752"), "{}", known.stderr);
}

#[test]
fn the_head_breaks_no_rule_where_it_is_small() {
    let place = Place::new();
    for (dialect, chips) in [("1.0", &["m1", "m2"][..]), ("1.3", &["m3", "m4", "m5", "m6"])] {
        let (out, dialect) = (place.text(dialect), ["--dialect", dialect]);
        let sizes = ["--vocab", "256", "--dim", "64", "--seq", "16", "--out", &out];
        anemone([&["emit", "head"][..], &dialect, &sizes].concat()).ended(0);
        let names = ["final_rmsnorm", "classifier_forward", "softmax", "classifier_backward"];
        let files: Vec<String> = names.map(|name| format!("{out}/{name}.mil")).to_vec();
        for chip in chips {
            let flags = ["check", "--warnings-are-errors", "--chip", chip].map(String::from);
            anemone(flags.iter().chain(&files)).ended(0);
        }
    }
}
