//! Models from one container into another, and back; and containers that must be refused.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::fs;
use std::path::{Path, PathBuf};

use anemone_coreml::compiled;
use anemone_coreml::container::{self, Container, ContainerError};
use anemone_coreml::labels::Labels;
use anemone_coreml::model::{Model, ModelError};
use anemone_coreml::{loose, package, program};
use anemone_mil::program::Program;
use anemone_mil::verify::verify;
use anemone_mil::weights::WeightDirectory;
use anemone_mil::{passes, text};
use tempfile::TempDir;

fn data() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/coreml"))
}

/// The packages with a program that coremltools made.
fn packages() -> Vec<PathBuf> {
    let entries = fs::read_dir(data()).unwrap().map(|entry| entry.unwrap().path());
    let is_pipeline = |path: &PathBuf| path.to_string_lossy().ends_with("pipeline.mlpackage");
    entries.filter(|path| package::is_package(path) && !is_pipeline(path)).collect()
}

fn example(name: &str) -> PathBuf {
    data().join(format!("{name}.mlpackage"))
}

/// The message of a program, in which maps are in the order of their names.
fn message(program: &Program) -> Vec<u8> {
    program::to_bytes(program).unwrap()
}

#[track_caller]
fn assert_same(model: &Model, original: &Model) {
    assert!(message(&model.program) == message(&original.program), "{}", text::write(&model.program));
    assert_eq!(model.description.as_bytes(), original.description.as_bytes());
    assert_eq!(model.specification_version, original.specification_version);
    assert_eq!(model.unknown, original.unknown);
}

/// Files below a directory with what they hold, by path.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    found.push((path.strip_prefix(directory).unwrap().to_owned(), fs::read(&path).unwrap()))
                }
            }
        }
    }
    found.sort();
    found
}

#[test]
fn packages_come_back_from_every_form() {
    for path in packages() {
        let place = TempDir::new().unwrap();
        let original = package::read(&path).unwrap();
        let weights = WeightDirectory::new(original.model_path());
        let kept = files(original.model_path());

        let compiled = place.path().join("a.mlmodelc");
        let left_out = compiled::write(original.model.clone(), &weights, &compiled).unwrap();
        assert_eq!(left_out, Vec::<String>::new());
        let read = compiled::read(&compiled).unwrap();
        let back = place.path().join("compiled.mlpackage");
        package::write(read, &WeightDirectory::new(&compiled), &back).unwrap();
        assert_same(&package::read(&back).unwrap().model, &original.model);

        let text = place.path().join("text/program.mil");
        fs::create_dir(place.path().join("text")).unwrap();
        let written = loose::files(&original.model, &weights, &text).unwrap();
        written.write(&original.model, &text).unwrap();
        let parsed = text::parse(&fs::read_to_string(&text).unwrap()).unwrap().program;
        let read = loose::model(&text, parsed).unwrap();
        let again = place.path().join("text.mlpackage");
        package::write(read, &WeightDirectory::new(text.parent().unwrap()), &again).unwrap();
        assert_same(&package::read(&again).unwrap().model, &original.model);

        for back in [back, again] {
            let model_path = package::read(&back).unwrap().model_path().to_owned();
            let weights = |files: &[(PathBuf, Vec<u8>)]| -> Vec<_> {
                files.iter().filter(|(path, _)| path.starts_with("weights")).cloned().collect()
            };
            assert_eq!(weights(&files(&model_path)), weights(&kept), "{}", path.display());
        }

        let single = place.path().join("a.mlmodel");
        container::write(Container::Model, original.model.clone(), &weights, &single).unwrap();
        let read = container::read_model(&single).unwrap();
        assert_eq!(read.program.blobs().count(), 0);
        assert_eq!(read.description, original.model.description);
    }
}

/// What Apple's compiler made of models is read as what they were, and made of them again.
#[test]
fn compiled_models_are_those_of_the_compiler() {
    let mut count = 0;
    for entry in fs::read_dir(data().join("compiled")).unwrap() {
        let directory = entry.unwrap().path();
        let (source, theirs) = (directory.join("model.mlmodel"), directory.join("compiled.mlmodelc"));
        let mut original = container::read_model(&source).unwrap();
        let mut read = compiled::read(&theirs).unwrap();
        // The compiler says who made the text; it prints every program in dialect 1.3.
        assert!(read.program.attributes.remove("buildInfo").is_some());
        let place = TempDir::new().unwrap();
        let (ours, back) = (place.path().join("model.mlmodelc"), place.path().join("back.mlpackage"));
        package::write(read.clone(), &WeightDirectory::new(&theirs), &back).unwrap();
        assert_same(&package::read(&back).unwrap().model, &original);

        let verified = verify(original.program).unwrap();
        original.program = passes::dialect(&verified, read.program.version).unwrap().program.into_program();
        // The pass goes to an opset of the dialect; the compiler leaves the program's.
        for (function, read) in original.program.functions.iter_mut().zip(&read.program.functions) {
            function.opset = read.opset;
        }
        compiled::write(original, &WeightDirectory::new(&directory), &ours).unwrap();
        assert_eq!(
            fs::read(ours.join(compiled::DATA)).unwrap(),
            fs::read(theirs.join(compiled::DATA)).unwrap()
        );
        let ours = compiled::read(&ours).unwrap();
        assert_eq!(message(&ours.program), message(&read.program), "{}", directory.display());
        assert_eq!(text::write(&ours.program), text::write(&read.program));
        count += 1;
    }
    assert_eq!(count, 4);
}

#[test]
fn other_models_are_named() {
    let error = container::read_model(&data().join("neural_network.mlmodel")).unwrap_err().to_string();
    assert!(
        error.ends_with("it is a neural network of the older kind (`neuralNetwork`), not a program"),
        "{error}"
    );
    let error = package::read(&example("pipeline")).unwrap_err().to_string();
    assert!(error.contains("a pipeline of models (`pipeline`)"), "{error}");
    for (bytes, words) in [
        (&b""[..], "does not say what it computes"),
        (b"\x08\x07\x12\x00", "does not say what it computes"),
        (b"\xb2\x1f\x02\x08\x01", "no version of the specification"),
        (b"\x08\x07\xb2\x1f\x05\x08\x01", "ends in the midst of a message"),
        (b"\x08\x07\xb2\x1f\x02\x08\x01\xa2\x1f\x00", "`mlProgram` and `neuralNetwork` at once"),
        (b"\x0f", "it is no Core ML model"),
    ] {
        let error = Model::from_bytes(bytes).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(
        matches!(Model::from_bytes(b"\x08\x07\xa2\x1f\x00"), Err(ModelError::Kind(kind)) if kind.name() == "neuralNetwork")
    );
}

/// A copy of a package, to be spoilt.
fn copy(name: &str) -> (TempDir, PathBuf) {
    let place = TempDir::new().unwrap();
    let path = place.path().join("a.mlpackage");
    for (file, bytes) in files(&example(name)) {
        fs::create_dir_all(path.join(&file).parent().unwrap()).unwrap();
        fs::write(path.join(&file), bytes).unwrap();
    }
    (place, path)
}

#[test]
fn manifests_that_are_none_are_refused() {
    let (_place, path) = copy("conv_relu");
    let manifest = path.join(package::MANIFEST);
    let good = fs::read_to_string(&manifest).unwrap();
    let model = "com.apple.CoreML/model.mlmodel";
    for (change, words) in [
        (
            good.replace(model, "../../outside.mlmodel"),
            "the path `../../outside.mlmodel` of an item leaves the package",
        ),
        (good.replace(model, "/etc/passwd"), "leaves the package"),
        (good.replace(model, "a/../b"), "leaves the package"),
        (good.replace(model, "./a"), "leaves the package"),
        (good.replace(model, "a\\\\..\\\\b"), "leaves the package"),
        (good.replace(model, "C:b"), "leaves the package"),
        (good.replace(model, "a//b"), "leaves the package"),
        (good.replace(model, ""), "leaves the package"),
        (
            good.replace(model, "com.apple.CoreML/missing"),
            "`com.apple.CoreML/missing`, which is not in the package",
        ),
        (good.replace(model, "com.apple.CoreML/WEIGHTS"), "two items have the path"),
        (good.replace("1.0.0", "2.0.0"), "`fileFormatVersion` is `2.0.0`"),
        (good.replace("rootModelIdentifier\": \"", "rootModelIdentifier\": \"x"), "is that of no item"),
        (good.replace("\"path\"", "\"paths\""), "missing field `path`"),
        ("{}".to_string(), "missing field"),
        ("[".repeat(100_000), "it is no manifest of a package"),
        (String::new(), "it is no manifest of a package"),
    ] {
        fs::write(&manifest, change).unwrap();
        let error = package::read(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    }
    let identifiers: Vec<&str> =
        good.split('"').filter(|part| part.len() == 36 && part.contains('-')).collect();
    let (first, second) = (identifiers[0], identifiers[1]);
    fs::write(&manifest, good.replace(first, second)).unwrap();
    let error = package::read(&path).unwrap_err().to_string();
    assert!(error.contains("two items have the identifier"), "{error}");
    fs::remove_file(&manifest).unwrap();
    assert!(matches!(package::read(&path), Err(ContainerError::Read { .. })));
}

#[cfg(unix)]
#[test]
fn links_are_refused() {
    use std::os::unix::fs::symlink;
    for part in [
        "Manifest.json",
        "Data",
        "Data/com.apple.CoreML",
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights",
        "Data/com.apple.CoreML/weights/weight.bin",
    ] {
        let (place, path) = copy("conv_relu");
        let moved = place.path().join("outside");
        fs::rename(path.join(part), &moved).unwrap();
        symlink(&moved, path.join(part)).unwrap();
        let error = package::read(&path).unwrap_err();
        assert!(matches!(&error, ContainerError::Link(link) if link.ends_with(part)), "{part}: {error}");
    }
    // A link to the whole package is its user's business.
    let (place, path) = copy("conv_relu");
    let link = place.path().join("link.mlpackage");
    symlink(&path, &link).unwrap();
    package::read(&link).unwrap();
}

#[test]
fn only_models_are_replaced() {
    let original = package::read(&example("conv_relu")).unwrap();
    let weights = WeightDirectory::new(original.model_path());
    let place = TempDir::new().unwrap();
    let out = place.path().join("a.mlpackage");
    let write = |out: &Path| package::write(original.model.clone(), &weights, out);
    fs::create_dir(&out).unwrap();
    write(&out).unwrap();
    let first = files(&out);
    fs::write(out.join("Data/other"), b"other").unwrap();
    write(&out).unwrap();
    assert_eq!(files(&out), first);
    let other = place.path().join("b.mlpackage");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("precious"), b"text").unwrap();
    assert!(matches!(write(&other), Err(ContainerError::InTheWay(_))));
    assert!(matches!(
        compiled::write(original.model.clone(), &weights, &out),
        Err(ContainerError::InTheWay(_))
    ));
    assert_eq!(fs::read(other.join("precious")).unwrap(), b"text");
    // A package cannot become itself: its weights would be gone before they are copied.
    let (_place, own) = copy("conv_relu");
    let before = files(&own);
    let read = package::read(&own).unwrap();
    let weights = WeightDirectory::new(read.model_path());
    let error = package::write(read.model.clone(), &weights, &own).unwrap_err();
    assert!(matches!(error, ContainerError::Within { .. }), "{error}");
    assert_eq!(files(&own), before);
}

#[test]
fn weights_beside_text_are_not_replaced() {
    let original = package::read(&example("conv_relu")).unwrap();
    let weights = WeightDirectory::new(original.model_path());
    let place = TempDir::new().unwrap();
    let out = place.path().join("a.mil");
    loose::files(&original.model, &weights, &out).unwrap().write(&original.model, &out).unwrap();
    assert!(loose::files(&original.model, &weights, &out).unwrap().copies.is_empty());
    fs::write(place.path().join("weights/weight.bin"), b"others").unwrap();
    let error = loose::files(&original.model, &weights, &out).unwrap_err();
    assert!(matches!(error, ContainerError::OtherWeights(_)), "{error}");
}

#[test]
fn descriptions_are_inferred_and_must_fit() {
    let source = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [1, ?]> x, tensor<int32, [2]> n, state<tensor<fp16, [3]>> kept) {
            tensor<fp16, [1, ?]> y = relu(x = x);
            tensor<fp32, [1]> z = const()[val = tensor<fp32, [1]>([0x1p+0])];
        } -> (y, z);
}
"#;
    let program = text::parse(source).unwrap().program;
    let model = loose::inferred(program.clone()).unwrap();
    assert_eq!(model.specification_version, 9);
    let signature = model.description.model().function("main").unwrap();
    let described: Vec<String> = [&signature.inputs, &signature.states, &signature.outputs]
        .into_iter()
        .flatten()
        .map(|feature| format!("{}: {}", feature.name, feature.kind.as_ref().unwrap()))
        .collect();
    assert_eq!(
        described,
        [
            "x: fp16 [1, 1], or [1..1, 1..]",
            "n: int32 [2]",
            "kept: state fp16 [3]",
            "y: fp16 []",
            "z: fp32 [1]"
        ]
    );
    model.description.model().check(&program).unwrap();
    for (from, to, words) in [
        ("> x", "> a", "its input `a` is not described"),
        ("fp16, [1, ?]> x", "fp32, [1, ?]> x", "its input `x` is tensor<fp32, [1, ?]>"),
        ("<int32, [2]> n", "<int32, [3]> n", "its input `n` is tensor<int32, [3]>"),
        (", tensor<int32, [2]> n", "", "it has no input `n`"),
        ("(y, z)", "(y)", "it has no output `z`"),
        ("main<", "other<", "the function `other`"),
    ] {
        let changed = text::parse(
            &source.replace(from, to).replace("x = x", if to == "> a" { "x = a" } else { "x = x" }),
        );
        let checked = model.description.model().check(&changed.unwrap().program);
        match to {
            // One function is described, whatever its name.
            "other<" => checked.unwrap(),
            _ => assert!(checked.unwrap_err().contains(words), "{words}"),
        }
    }
    for (ty, words) in [("bool", "its input `x` has elements of type bool"), ("string", "of type string")] {
        let source = format!("program(1.3)\n{{ func main<ios18>(tensor<{ty}, [1]> x) {{ }} -> (x); }}");
        let error = loose::inferred(text::parse(&source).unwrap().program).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// What Apple's compiler adds to the text says what the description would.
#[test]
fn shapes_are_inferred_from_the_text_of_the_compiler() {
    for name in ["flexible-range", "flexible-multifunction"] {
        let directory = data().join("compiled").join(name);
        let described = container::read_model(&directory.join("model.mlmodel")).unwrap();
        let source = fs::read_to_string(directory.join("compiled.mlmodelc/model.mil")).unwrap();
        let inferred = loose::inferred(text::parse(&source).unwrap().program).unwrap();
        let (inferred, described) = (inferred.description, described.description);
        for function in ["main", "first", "second"] {
            let (ours, theirs) = (inferred.model().function(function), described.model().function(function));
            let kinds = |signature: Option<&anemone_coreml::description::Signature>| {
                signature.map(|signature| {
                    signature.inputs.iter().map(|input| input.kind.clone()).collect::<Vec<_>>()
                })
            };
            assert_eq!(kinds(ours), kinds(theirs), "{name}: {function}");
        }
    }
}

#[test]
fn labels_are_those_of_the_classifier() {
    let model = package::read(&example("classifier")).unwrap().model;
    let signature = model.description.model().function("main").unwrap();
    assert_eq!(
        (signature.predicted_feature.as_str(), signature.predicted_probabilities.as_str()),
        ("classLabel", "classLabel_probs")
    );
    let labels = Labels::of(&model.program.functions[0], signature).unwrap();
    assert_eq!(labels.to_text(), ["ant", "b\"ee", "cat \\ dog"]);
    // Without its description it is still known for one, by what it gives.
    let inferred = loose::inferred(model.program.clone()).unwrap();
    assert_eq!(inferred.description.model().function("main"), Some(signature));
}

#[test]
fn descriptions_come_back_from_what_they_say() {
    for path in packages() {
        let description = package::read(&path).unwrap().model.description;
        let again = anemone_coreml::description::Description::from(description.model().clone());
        // The messages are coremltools' own, in the order of their fields: nothing is lost and nothing added.
        assert_eq!(again.as_bytes().len(), description.as_bytes().len(), "{}", path.display());
        assert_eq!(again.model(), description.model());
    }
}

/// A model is what somebody else made: one of a few megabytes is not to keep its reader for minutes.
#[test]
fn many_inputs_are_compared_in_little_time() {
    let inputs: Vec<String> = (0..100_000).map(|i| format!("tensor<fp32, [1]> x{i}")).collect();
    let source = format!(
        "program(1.3) {{ func main<ios18>({}) {{ tensor<fp32, [1]> y = relu(x = x0)[name = string(\"y\")]; }} -> (y); }}",
        inputs.join(", ")
    );
    let model = loose::inferred(text::parse(&source).unwrap().program).unwrap();
    let start = std::time::Instant::now();
    model.description.model().check(&model.program).unwrap();
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
