//! `anemone convert`, and models wherever a program is read.

use std::fs;

use super::support::{LINEAR, Place, anemone, array, repository};

fn example(name: &str) -> String {
    repository().join("tests/coreml").join(name).to_str().unwrap().to_string()
}

/// What `fmt` prints of each form is the same, and so is what a run computes.
#[test]
fn a_package_is_the_same_in_every_form() {
    let place = Place::new();
    let package = example("conv_relu.mlpackage");
    let values: Vec<f32> = (0..192).map(|i| (i % 23) as f32 / 8.0 - 1.0).collect();
    let x = array(&place, "x.npy", &[1, 3, 8, 8], &values);
    let run = |program: &str, out: &str| {
        let (input, out) = (format!("x={x}"), place.text(out));
        anemone(["run", program, "--input", &input, "--output", &out]).ended(0);
        fs::read(format!("{out}/y.npy")).unwrap()
    };
    let (text, y) = (anemone(["fmt", &package]).ended(0).stdout, run(&package, "package"));
    for (name, from) in [
        ("a.mlmodelc", package.as_str()),
        ("b.mil", &place.text("a.mlmodelc")),
        ("c.mlpackage", &place.text("b.mil")),
        ("d.mlmodel", &place.text("c.mlpackage")),
        ("e.mlmodelc", &place.text("d.mlmodel")),
    ] {
        let to = place.text(name);
        let line = &anemone(["--json", "convert", from, &to]).ended(0).json()[0];
        assert_eq!(
            (line["file"].as_str().unwrap(), &line["functions"], &line["ops"]),
            (to.as_str(), &1.into(), &4.into())
        );
        assert!(line["not_kept"].as_array().unwrap().is_empty());
        anemone(["check", &to]).ended(0);
        assert_eq!(run(&to, &format!("{name}.out")), y, "{name}");
        let printed = anemone(["fmt", &to]).ended(0).stdout;
        // From the single file on, the weights are in the program.
        assert_eq!(printed == text, !"de".contains(&name[..1]), "{name}");
    }
    let description = |package: &str| anemone(["show", package]).ended(0).stdout.replace(package, "");
    assert_eq!(description(&place.text("c.mlpackage")), description(&package));
    assert!(place.path("b.description.pb").exists() && place.path("weights/weight.bin").exists());
    // A second time, in the place of the first.
    anemone(["convert", &package, &place.text("c.mlpackage")]).ended(0);
    anemone(["fmt", "--check", &package, &place.text("b.mil")]).ended(0);
}

#[test]
fn programs_without_a_description_get_one() {
    let place = Place::new();
    let (file, package) = (place.file("linear.mil", LINEAR), place.text("linear.mlpackage"));
    anemone(["convert", &file, &package]).ended(0);
    let shown = anemone(["show", &package]).ended(0).stdout;
    for line in [
        "specification version 9",
        "    input x: fp32 [2, 3]\n",
        "    output y: fp32 [2, 4]\n",
        "function main<ios18>",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert_eq!(anemone(["fmt", &package]).ended(0).stdout, LINEAR);
    // Text that was changed does not fit what is described beside it.
    let back = place.text("back.mil");
    anemone(["convert", &package, &back]).ended(0);
    fs::write(&back, LINEAR.replace("> x)", "> a)").replace("x = x", "x = a")).unwrap();
    let again = place.text("again.mlpackage");
    anemone(["convert", &back, &again])
        .failed(1, &["back.description.pb does not fit the program", "its input `a`"]);
    fs::remove_file(place.path("back.description.pb")).unwrap();
    anemone(["convert", &back, &again]).ended(0);
    let bad = place.file("bool.mil", "program(1.3)\n{ func main<ios18>(bool x) { } -> (x); }");
    anemone(["convert", &bad, &again])
        .failed(1, &["no model can have this program", "its input `x` has elements of type bool"]);
}

#[test]
fn nothing_else_is_replaced() {
    let place = Place::new();
    let package = example("conv_relu.mlpackage");
    anemone(["convert", &package, &place.text("a.txt")])
        .failed(2, &[".mil, .mlpackage, .mlmodelc, .mlmodel"]);
    fs::create_dir(place.path("dir.mlpackage")).unwrap();
    place.file("dir.mlpackage/notes", "mine");
    let words = ["dir.mlpackage is there and is no such model"];
    anemone(["convert", &package, &place.text("dir.mlpackage")]).failed(1, &words);
    place.file("file.mlpackage", "mine");
    anemone(["convert", &package, &place.text("file.mlpackage")]).failed(1, &["cannot write"]);
    let copy = place.text("copy.mlpackage");
    anemone(["convert", &package, &copy]).ended(0);
    anemone(["convert", &copy, &copy]).failed(1, &["cannot write", "which is read"]);
    anemone(["check", &copy]).ended(0);
    fs::create_dir(place.path("weights")).unwrap();
    place.file("weights/weight.bin", "others");
    anemone(["convert", &package, &place.text("a.mil")])
        .failed(1, &["weight.bin is there and holds other weights"]);
    assert!(!place.path("a.mil").exists() && !place.path("a.description.pb").exists());
}

/// A program may name a file of weights as the program itself will be named, or its description.
#[test]
fn weights_take_no_other_files_place() {
    let place = Place::new();
    for directory in ["from", "to"] {
        fs::create_dir(place.path(directory)).unwrap();
    }
    let (from, to) = (place.text("from/a.mil"), place.text("to/Own.mil"));
    anemone(["convert", &example("conv_relu.mlpackage"), &from]).ended(0);
    let program = fs::read_to_string(place.path("from/a.mil")).unwrap();
    for name in ["own.mil", "Own.description.pb"] {
        fs::write(place.path("from/a.mil"), program.replace("weights/weight.bin", name)).unwrap();
        fs::copy(place.path("from/weights/weight.bin"), place.path("from").join(name)).unwrap();
        anemone(["convert", &from, &to]).failed(1, &["would both be", name]);
        assert_eq!(fs::read_dir(place.path("to")).unwrap().count(), 0);
    }
    // One file with everything takes the place of none that is read for it.
    fs::write(place.path("from/a.mil"), program.replace("weights/weight.bin", "w.mlmodel")).unwrap();
    fs::copy(place.path("from/weights/weight.bin"), place.path("from/w.mlmodel")).unwrap();
    anemone(["convert", &from, &place.text("from/w.mlmodel")])
        .failed(1, &["that would replace", "which is read"]);
    anemone(["convert", &from, &place.text("to/other.mil")]).ended(0);
    anemone(["check", &place.text("to/other.mil"), "--weights", &place.text("to")]).ended(0);
}

#[test]
fn models_are_shown() {
    let shown = |name: &str| anemone(["show", &example(name)]).ended(0).stdout;
    assert!(
        shown("classifier.mlpackage")
            .contains("classifier with 3 labels: \"ant\", \"b\\\"ee\", \"cat \\\\ dog\"")
    );
    assert!(shown("image.mlpackage").contains("input picture: image RGB, 12 × 10"));
    assert!(shown("ranged.mlpackage").contains("input x: fp32 [2, 6], or [1..16, 6..6]"));
    assert!(shown("enumerated.mlpackage").contains("input x: fp32 [4, 6], or one of [4, 6], [1, 6], [9, 6]"));
    assert!(shown("optional.mlpackage").contains("input bias: fp32 [1], 0.5 by default, may be left out"));
    assert!(shown("state.mlpackage").contains("state kept: state fp16 [1, 4]"));
    let two = shown("two_functions.mlpackage");
    assert!(two.contains("  squashed, by default\n") && two.contains("function rectified<ios18>"), "{two}");
    let one =
        anemone(["show", &example("two_functions.mlpackage"), "--function", "squashed"]).ended(0).stdout;
    assert!(one.contains("function squashed<ios18>") && !one.contains("function rectified"), "{one}");
    let lines = anemone(["--json", "show", &example("classifier.mlpackage")]).ended(0).json();
    assert_eq!(lines[0]["functions"][0]["classifier"]["labels"][1], "b\"ee");
    assert_eq!(lines[1]["function"], "main");
    // A description gives a terminal no orders.
    let place = Place::new();
    anemone(["convert", &example("ranged.mlpackage"), &place.text("a.mil")]).ended(0);
    let (path, said, order) = (place.path("a.description.pb"), b"milinternal", b"\x1b[2Jternal!");
    let mut description = fs::read(&path).unwrap();
    let at = description.windows(said.len()).position(|window| window == said).unwrap();
    description[at..at + said.len()].copy_from_slice(order);
    fs::write(&path, description).unwrap();
    let shown = anemone(["show", &place.text("a.mil")]).ended(0).stdout;
    assert!(shown.contains("\u{fffd}[2Jternal!"), "{shown}");
}

#[test]
fn pipelines_are_taken_apart() {
    let place = Place::new();
    let pipeline = example("pipeline.mlpackage");
    let shown = anemone(["show", &pipeline]).ended(0).stdout;
    assert!(shown.contains("a pipeline of 2 models: model0, model1"), "{shown}");
    anemone(["fmt", &pipeline])
        .failed(1, &["it is a pipeline of 2 models, `model0`, `model1`", "--model NAME"]);
    anemone(["convert", &pipeline, &place.text("a.mil")]).failed(1, &["it is a pipeline of 2 models"]);
    anemone(["show", &pipeline, "--function", "main"]).failed(2, &["this is a pipeline of several"]);
    let one = place.text("one.mlpackage");
    anemone(["convert", &pipeline, &one, "--model", "model1"]).ended(0);
    anemone(["check", &one]).ended(0);
    anemone(["convert", &pipeline, &one, "--model", "model2"]).failed(1, &["has no model `model2`"]);
    anemone(["convert", &one, &place.text("two.mlmodel"), "--model", "model2"])
        .failed(1, &["is no pipeline"]);
}

/// In every form, and on every runtime.
#[test]
fn pipelines_are_checked_and_run_as_a_whole() {
    let place = Place::new();
    let a = array(&place, "a.npy", &[1, 4], &[0.5f32, -1.0, 2.0, 3.0]);
    let given = format!("a={a}");
    let run = |file: &str, runtime: &str| {
        let out = place.text("out");
        anemone(["run", file, "--input", &given, "--output", &out, "--runtime", runtime]).ended(0);
        fs::read(format!("{out}/c.npy")).unwrap()
    };
    let package = example("weighted_pipeline.mlpackage");
    let expected = run(&package, "eval");
    // NumPy, in fp64, of the weights in the package; the programs are in fp16.
    let values: Vec<f32> = expected[expected.len() - 16..]
        .as_chunks()
        .0
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect();
    for (value, numpy) in values.iter().zip([-6.592_463, -2.437_298, 2.394_631, 8.541_13]) {
        assert!((value - numpy).abs() < 0.02, "{value} {numpy}");
    }
    let (compiled, single) = (place.text("a.mlmodelc"), place.text("a.mlmodel"));
    anemone(["convert", &package, &compiled]).ended(0);
    anemone(["convert", &compiled, &single]).ended(0);
    for file in [&package, &compiled, &single] {
        for runtime in ["eval", "cpu"] {
            assert!(run(file, runtime) == expected, "{file} on {runtime}");
        }
        let checked = anemone(["check", file]).ended(0).stdout;
        assert!(checked.contains(&format!("{file}/model1: ok, 1 function, 5 ops")), "{checked}");
    }
    // Nothing that is read is written over.
    let program = place.text("a.mlmodelc/model1/model.mil");
    let before = fs::read(&program).unwrap();
    anemone(["convert", &compiled, &program, "--model", "model0"]).failed(1, &["model1/model.mil"]);
    assert_eq!(fs::read(&program).unwrap(), before);
    let input = format!("b={a}");
    anemone(["run", &package, "--input", &input, "--output", &place.text("out")])
        .failed(1, &["has no input `b`; its inputs are `a`"]);
    anemone(["run", &package, "--output", &place.text("out")])
        .failed(1, &["nothing is given for the input `a`"]);
}

#[test]
fn functions_are_chosen_and_states_are_kept() {
    let place = Place::new();
    let x = array(&place, "x.npy", &[1, 16], &[0.25f32; 16]);
    let run = |function: &str| {
        let out = place.text(function);
        let (file, input) = (example("two_functions.mlpackage"), format!("x={x}"));
        anemone(["run", &file, "--function", function, "--input", &input, "--output", &out]).ended(0);
        fs::read(format!("{out}/y.npy")).unwrap()
    };
    assert_ne!(run("rectified"), run("squashed"));
    let x = array(&place, "x4.npy", &[1, 4], &[1.0f32, 2.0, 3.0, 4.0]);
    let out = place.text("state");
    anemone(["run", &example("state.mlpackage"), "--input", &format!("x={x}"), "--output", &out]).ended(0);
    assert_eq!(fs::read(format!("{out}/kept.npy")).unwrap(), fs::read(format!("{out}/y.npy")).unwrap());
}

/// Mistakes of a program that has no text are shown in the text that it is printed as.
#[test]
fn mistakes_have_a_place() {
    let place = Place::new();
    let file = place.file("bad.mil", LINEAR.replace("weight = w", "wieght = w"));
    let package = place.text("bad.mlpackage");
    anemone(["convert", &file, &package]).ended(0);
    anemone(["check", &package]).failed(1, &["bad.mlpackage:7:", "wieght = w", "`weight`"]);
    fs::remove_file(place.path("bad.mil")).unwrap();
    let weights = place.text("c.mlpackage");
    anemone(["convert", &example("conv_relu.mlpackage"), &weights]).ended(0);
    let blob = place.path("c.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
    let bytes = fs::read(&blob).unwrap();
    fs::write(&blob, &bytes[..200]).unwrap();
    anemone(["check", &weights]).failed(1, &["c.mlpackage:", "does not lie in the file"]);
}
