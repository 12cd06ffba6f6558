//! Pipelines of models from one container into another, and back.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::fs;
use std::path::{Path, PathBuf};

use anemone_coreml::compiled;
use anemone_coreml::container::{self, Container};
use anemone_coreml::model::{Model, ModelError};
use anemone_coreml::package;
use anemone_coreml::pipeline::{AnyModel, Pipeline};
use anemone_coreml::program;
use anemone_mil::program::{LiteralValue, Op, Program};
use anemone_mil::weights::{WeightDirectory, WeightSource};
use serde_json::Value;
use tempfile::TempDir;

fn data() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/coreml"))
}

fn pipeline(file: &Path) -> Pipeline {
    match container::read_any(file).unwrap() {
        AnyModel::Pipeline(pipeline) => *pipeline,
        AnyModel::Program(_) => panic!("{} is no pipeline", file.display()),
    }
}

fn of_package(path: &Path) -> (Pipeline, PathBuf) {
    let file = package::model_file(path).unwrap();
    (pipeline(&file), file.parent().unwrap().to_owned())
}

fn models(pipeline: &Pipeline) -> impl Iterator<Item = &Model> {
    pipeline.models.iter().map(|stage| stage.model.as_ref().unwrap())
}

/// Every weight of a program, by the place of its op and argument.
fn weights(program: &Program, directory: &Path) -> Vec<Vec<f64>> {
    let directory = WeightDirectory::new(directory);
    let ops = program.functions.iter().flat_map(|function| &function.ops);
    let literals = ops.flat_map(Op::literals).filter_map(|(_, literal)| match &literal.value {
        LiteralValue::Blob(blob) => {
            Some(directory.load(blob, &literal.ty.as_tensor().unwrap()).unwrap().to_f64().unwrap())
        }
        _ => None,
    });
    literals.collect()
}

#[track_caller]
fn assert_same(read: &Pipeline, original: &Pipeline) {
    assert_eq!(read.specification_version, original.specification_version);
    assert_eq!(read.description.as_bytes(), original.description.as_bytes());
    assert_eq!((read.kind, &read.names, &read.unknown), (original.kind, &original.names, &original.unknown));
    for (stage, other) in read.models.iter().zip(&original.models) {
        assert_eq!(stage.name, other.name);
    }
    assert_eq!(read.models.len(), original.models.len());
    for (model, other) in models(read).zip(models(original)) {
        assert_eq!(
            program::to_bytes(&model.program).unwrap(),
            program::to_bytes(&other.program).unwrap(),
            "{}",
            anemone_mil::text::write(&model.program)
        );
        assert_eq!(model.description.as_bytes(), other.description.as_bytes());
        assert_eq!(model.specification_version, other.specification_version);
    }
}

#[test]
fn models_are_read_one_by_one() {
    let (pipeline, _) = of_package(&data().join("pipeline.mlpackage"));
    let names: Vec<&str> = pipeline.models.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["model0", "model1"]);
    for (model, input) in models(&pipeline).zip(["a", "b"]) {
        assert_eq!(model.description.model().main.inputs[0].name, input);
        assert_eq!(model.program.functions.len(), 1);
    }
    assert_eq!(pipeline.description.model().main.outputs[0].name, "c");
}

#[test]
fn pipelines_come_back_from_every_form() {
    let weighted = data().join("compiled-pipelines/weighted");
    let (unweighted, without) = of_package(&data().join("pipeline.mlpackage"));
    for (original, from) in [(unweighted, without), (pipeline(&weighted.join("model.mlmodel")), weighted)] {
        let from_weights = WeightDirectory::new(&from);
        let place = TempDir::new().unwrap();
        let at = |name: &str| place.path().join(name);
        package::write(original.clone(), &from_weights, &at("a.mlpackage")).unwrap();
        let (read, model_path) = of_package(&at("a.mlpackage"));
        assert_same(&read, &original);

        let left_out =
            compiled::write(original.clone(), &WeightDirectory::new(&model_path), &at("a.mlmodelc")).unwrap();
        assert_eq!(left_out, Vec::<String>::new());
        assert!(compiled::is_pipeline(&at("a.mlmodelc")));
        let read = compiled::read_pipeline(&at("a.mlmodelc")).unwrap();
        for (model, other) in models(&read).zip(models(&original)) {
            assert_eq!(weights(&model.program, &at("a.mlmodelc")), weights(&other.program, &from));
        }
        package::write(read, &WeightDirectory::new(at("a.mlmodelc")), &at("back.mlpackage")).unwrap();
        let (read, _) = of_package(&at("back.mlpackage"));
        assert_same(&read, &original);

        container::write(Container::Model, original.clone(), &from_weights, &at("a.mlmodel")).unwrap();
        let read = pipeline(&at("a.mlmodel"));
        assert_eq!(models(&read).map(|model| model.program.blobs().count()).sum::<usize>(), 0);
        assert_eq!(read.description, original.description);
    }
}

/// What Apple's compiler made of pipelines is read as what they were, and made of them again.
#[test]
fn compiled_pipelines_are_those_of_the_compiler() {
    let mut count = 0;
    for entry in fs::read_dir(data().join("compiled-pipelines")).unwrap() {
        let directory = entry.unwrap().path();
        let theirs = directory.join("compiled.mlmodelc");
        let original = pipeline(&directory.join("model.mlmodel"));
        let mut read = compiled::read_pipeline(&theirs).unwrap();
        for stage in &mut read.models {
            // The compiler says who made the text.
            assert!(stage.model.as_mut().unwrap().program.attributes.remove("buildInfo").is_some());
        }
        let place = TempDir::new().unwrap();
        let (ours, back) = (place.path().join("model.mlmodelc"), place.path().join("back.mlpackage"));
        package::write(read.clone(), &WeightDirectory::new(&theirs), &back).unwrap();
        let (again, model_path) = of_package(&back);
        assert_same(&again, &original);
        // The compiler gives each model a copy of the weights; they are one file again.
        let files = fs::read_dir(model_path.join("weights")).map_or(0, Iterator::count);
        assert_eq!(files, usize::from(directory.join("weights").exists()));

        compiled::write(original, &WeightDirectory::new(&directory), &ours).unwrap();
        for file in [
            "coremldata.bin",
            "modelNames/coremldata.bin",
            "model0/coremldata.bin",
            "model1/coremldata.bin",
            "model0/analytics/coremldata.bin",
        ] {
            assert!(fs::read(ours.join(file)).unwrap() == fs::read(theirs.join(file)).unwrap(), "{file}");
        }
        let metadata = |path: &Path| {
            let text = fs::read_to_string(path.join(compiled::METADATA)).unwrap();
            let mut all: Value = serde_json::from_str(&text).unwrap();
            // That is of the file's name.
            assert!(all[0].as_object_mut().unwrap().remove("generatedClassName").is_some());
            all
        };
        assert_eq!(metadata(&ours), metadata(&theirs));
        let again = compiled::read_pipeline(&ours).unwrap();
        for (model, other) in models(&again).zip(models(&read)) {
            let both = [&model.program, &other.program].map(|program| {
                let mut program = program.clone();
                program.version = anemone_mil::program::Version::V1_3;
                program::to_bytes(&program).unwrap()
            });
            assert!(both[0] == both[1]);
        }
        count += 1;
    }
    assert_eq!(count, 2);
}

/// Weights that models have in one directory beside them, as other compilers write them, and different weights of one
/// name.
#[test]
fn weights_beside_the_models_are_found_and_kept_apart() {
    let theirs = data().join("compiled-pipelines/weighted/compiled.mlmodelc");
    let place = TempDir::new().unwrap();
    let compiled = place.path().join("a.mlmodelc");
    let original = compiled::read_pipeline(&theirs).unwrap();
    compiled::write(original.clone(), &WeightDirectory::new(&theirs), &compiled).unwrap();
    fs::rename(compiled.join("model0/weights"), compiled.join("weights")).unwrap();
    let program = compiled.join("model0").join(compiled::PROGRAM);
    let text = fs::read_to_string(&program).unwrap();
    let moved = text.replace("@model_path/weights/", "@model_path/../weights/");
    assert_ne!(moved, text);
    fs::write(&program, moved).unwrap();
    let other = compiled.join("model1/weights/weights.bin");
    let mut changed = fs::read(&other).unwrap();
    // The first element of the blob, which begins 64 bytes after its record.
    changed[128..132].copy_from_slice(&9.5f32.to_le_bytes());
    fs::write(&other, changed).unwrap();

    let back = place.path().join("a.mlpackage");
    let read = compiled::read_pipeline(&compiled).unwrap();
    package::write(read, &WeightDirectory::new(&compiled), &back).unwrap();
    let (read, model_path) = of_package(&back);
    let kept: Vec<Vec<f64>> = models(&read).flat_map(|model| weights(&model.program, &model_path)).collect();
    let before: Vec<Vec<f64>> =
        models(&original).flat_map(|model| weights(&model.program, &theirs)).collect();
    assert_eq!(kept[0], before[0]);
    assert_eq!((kept[1][0], &kept[1][1..]), (9.5, &before[1][1..]));
    let mut names: Vec<String> = fs::read_dir(model_path.join("weights"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["1-weights.bin", "weights.bin"]);

    // Nor is a compiled model without a version of the specification, which no package could be read with.
    let described = compiled.join("model1/coremldata.bin");
    let bytes = fs::read(&described).unwrap();
    let unversioned = [&bytes[..4], &[0; 4], &bytes[8..]].concat();
    fs::write(&described, unversioned).unwrap();
    let error = compiled::read_pipeline(&compiled).unwrap_err().to_string();
    assert!(error.contains("no version of the specification"), "{error}");
    fs::write(&described, bytes).unwrap();

    // A path that leaves the pipeline's directory is none that is read.
    let text = fs::read_to_string(&program).unwrap().replace("/../weights/", "/../../weights/");
    fs::write(&program, text).unwrap();
    let read = compiled::read_pipeline(&compiled).unwrap();
    let refused = package::write(read, &WeightDirectory::new(&compiled), &place.path().join("b.mlpackage"));
    assert!(refused.unwrap_err().to_string().contains("cannot be used"), "a path outside was read");
}

/// A name that is invented for weights is none that the program has, and cases do not make names different.
#[test]
fn names_of_weights_do_not_meet() {
    let theirs = data().join("compiled-pipelines/weighted/compiled.mlmodelc");
    let place = TempDir::new().unwrap();
    let compiled = place.path().join("a.mlmodelc");
    let original = compiled::read_pipeline(&theirs).unwrap();
    compiled::write(original, &WeightDirectory::new(&theirs), &compiled).unwrap();
    let blob = compiled.join("model1/weights/weights.bin");
    let mut changed = fs::read(&blob).unwrap();
    changed[128..132].copy_from_slice(&9.5f32.to_le_bytes());
    // The second model has other weights under the first one's name, but for the case.
    fs::remove_file(&blob).unwrap();
    fs::write(blob.with_file_name("WEIGHTS.bin"), &changed).unwrap();
    let program = compiled.join("model1").join(compiled::PROGRAM);
    let text = fs::read_to_string(&program).unwrap();
    fs::write(&program, text.replace("weights/weights.bin", "weights/WEIGHTS.bin")).unwrap();
    let back = place.path().join("a.mlpackage");
    let read = compiled::read_pipeline(&compiled).unwrap();
    package::write(read, &WeightDirectory::new(&compiled), &back).unwrap();
    let (read, model_path) = of_package(&back);
    let kept: Vec<Vec<f64>> = models(&read).flat_map(|model| weights(&model.program, &model_path)).collect();
    assert_eq!((kept[0][0], kept[1][0]), (0.25, 9.5));
    assert!(model_path.join("weights/1-WEIGHTS.bin").is_file());
}

/// A length of less than 16 KiB, in two bytes.
fn length(bytes: usize) -> [u8; 2] {
    [(bytes & 0x7f) as u8 | 0x80, (bytes >> 7) as u8]
}

/// A field of a message that holds bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[(tag << 3) | 2][..], &length(bytes.len()), bytes].concat()
}

/// A pipeline with this message, of the kind with this key.
fn model_of(kind: [u8; 2], message: &[u8]) -> Vec<u8> {
    [&[0x08, 0x07, 0x12, 0x00][..], &kind, &length(message.len()), message].concat()
}

/// The keys of pipelines, and of those that end in a classifier.
const PIPELINE: [u8; 2] = [0xd2, 0x0c];
const CLASSIFIER: [u8; 2] = [0xc2, 0x0c];

/// A pipeline of these messages.
fn pipeline_of(models: &[&[u8]]) -> Vec<u8> {
    model_of(PIPELINE, &models.iter().flat_map(|model| field(1, model)).collect::<Vec<_>>())
}

#[test]
fn models_that_are_no_programs_pass_through_where_they_can() {
    let network = fs::read(data().join("neural_network.mlmodel")).unwrap();
    let (original, _) = of_package(&data().join("pipeline.mlpackage"));
    let one = original.models[0].model.as_ref().unwrap().to_bytes().unwrap();
    let bytes = pipeline_of(&[&one, &network]);
    let read = Pipeline::from_bytes(&bytes).unwrap();
    assert!(read.names.is_empty());
    assert_eq!(read.models[1].name, "model1");
    let place = TempDir::new().unwrap();
    let (nowhere, out) = (WeightDirectory::new(place.path()), place.path().join("a.mlpackage"));
    package::write(read.clone(), &nowhere, &out).unwrap();
    let written = fs::read(package::model_file(&out).unwrap()).unwrap();
    assert_eq!(Pipeline::from_bytes(&written).unwrap(), read);
    let end = written.windows(network.len()).any(|window| window == network);
    assert!(end, "the neural network's message is not as it was");
    let error = compiled::write(read, &nowhere, &place.path().join("a.mlmodelc")).unwrap_err().to_string();
    assert!(error.contains("its model `model1`: it is a neural network of the older kind"), "{error}");

    // What may refer to weight files beside it is not written without them.
    let nested = Pipeline::from_bytes(&pipeline_of(&[&one, &bytes])).unwrap();
    let error = package::write(nested, &nowhere, &place.path().join("b.mlpackage")).unwrap_err().to_string();
    assert!(error.contains("its model `model1`: it is a pipeline of models"), "{error}");
    let bytes = model_of(PIPELINE, &[0x0a, 0x00].repeat(5000));
    assert!(Pipeline::from_bytes(&bytes).unwrap_err().to_string().contains("too many models"));
    let mut damaged = one.clone();
    damaged.truncate(one.len() - 1);
    let read = Pipeline::from_bytes(&pipeline_of(&[&damaged])).unwrap();
    assert!(read.models[0].model.is_err());
    assert!(matches!(read.to_bytes(), Err(ModelError::Stage { .. })));
}

/// What is not known of a pipeline passes through with it; what a compiled one has no place for is said or refused.
#[test]
fn nothing_of_a_pipeline_is_lost_in_silence() {
    let (original, _) = of_package(&data().join("pipeline.mlpackage"));
    let one = original.models[0].model.as_ref().unwrap().to_bytes().unwrap();
    let place = TempDir::new().unwrap();
    let nowhere = WeightDirectory::new(place.path());
    // A name more than there are models, a field that is not known, and the same around it for a classifier.
    let within = [field(1, &one), field(2, b"x"), field(2, b"y"), field(9, b"within")].concat();
    let around = [field(1, &within), field(8, b"around")].concat();
    for (kind, message) in [(PIPELINE, within), (CLASSIFIER, around)] {
        let bytes = model_of(kind, &message);
        let read = Pipeline::from_bytes(&bytes).unwrap();
        assert_eq!((read.names.len(), read.models[0].name.as_str()), (2, "x"));
        let out = place.path().join("a.mlmodel");
        container::write(Container::Model, read.clone(), &nowhere, &out).unwrap();
        let written = fs::read(&out).unwrap();
        assert!(
            [&b"within"[..], b"y"].iter().all(|text| written.windows(text.len()).any(|part| part == *text))
        );
        assert_eq!(pipeline(&out), read);
        let compiled = compiled::write(read, &nowhere, &place.path().join("a.mlmodelc"));
        match kind {
            PIPELINE => assert_eq!(
                compiled.unwrap(),
                ["fields of the model that are not known here", "names that are not one for each model"]
            ),
            _ => assert!(
                compiled.unwrap_err().to_string().contains("a pipeline of models that ends in a classifier")
            ),
        }
    }
    let versioned = Pipeline { specification_version: 300, ..original.clone() };
    let error = compiled::write(versioned, &nowhere, &place.path().join("b.mlmodelc")).unwrap_err();
    assert!(error.to_string().contains("no place in a compiled pipeline"));
    let unversioned = Pipeline { specification_version: 0, ..original.clone() };
    assert!(compiled::write(unversioned, &nowhere, &place.path().join("b.mlmodelc")).is_err());
    let empty = Pipeline { models: Vec::new(), names: Vec::new(), ..original };
    let out = place.path().join("c.mlmodelc");
    compiled::write(empty, &nowhere, &out).unwrap();
    assert!(compiled::is_pipeline(&out));
    assert_eq!(compiled::read_pipeline(&out).unwrap().models, []);
}
