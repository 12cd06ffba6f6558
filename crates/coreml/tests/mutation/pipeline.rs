//! What must hold for any bytes.

use anemone_coreml::compiled::{CompiledData, PipelineData, read_names};
use anemone_coreml::description::Description;
use anemone_coreml::labels::Labels;
use anemone_coreml::loose;
use anemone_coreml::model::Model;
use anemone_coreml::package::Manifest;
use anemone_coreml::pipeline::Pipeline;
use anemone_mil::text;
use anemone_mil::verify::verify_known;

/// How far bytes came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// They are nothing that is read.
    Refused,
    /// They are a manifest or a compiled description.
    Described,
    /// They are a model.
    Read,
    /// They are a model whose program verifies.
    Verified,
}

/// Reads bytes as everything that is read here, and what was read on as far as it goes.
pub fn exercise(bytes: &[u8]) -> Stage {
    let mut stage = Stage::Refused;
    if let Ok(manifest) = Manifest::from_bytes(bytes) {
        assert_eq!(Manifest::from_bytes(manifest.to_json().as_bytes()).unwrap(), manifest);
        stage = Stage::Described;
    }
    if let Ok(data) = CompiledData::from_bytes(bytes) {
        assert_eq!(CompiledData::from_bytes(&data.to_bytes()).unwrap().description, data.description);
        if let Ok(description) = Description::from_bytes(data.description) {
            describe(&description);
        }
        stage = Stage::Described;
    }
    if let Ok(data) = PipelineData::from_bytes(bytes) {
        if let Ok(description) = Description::from_bytes(data.description) {
            describe(&description);
        }
        stage = Stage::Described;
    }
    if read_names(bytes).is_ok() {
        stage = Stage::Described;
    }
    if let Ok(pipeline) = Pipeline::from_bytes(bytes) {
        describe(&pipeline.description);
        if let Ok(written) = pipeline.to_bytes() {
            let again = Pipeline::from_bytes(&written).unwrap();
            // Compared as bytes: what is not a number is not equal to itself.
            assert!(again.to_bytes().unwrap() == written);
            let names = |pipeline: &Pipeline| -> Vec<String> {
                pipeline.models.iter().map(|stage| stage.name.clone()).collect()
            };
            assert_eq!(names(&again), names(&pipeline));
        }
        stage = Stage::Described;
    }
    let Ok(model) = Model::from_bytes(bytes) else { return stage };
    describe(&model.description);
    let written = Model::from_bytes(&model.to_bytes().unwrap()).unwrap();
    assert_eq!(written.program, model.program);
    assert_eq!(written.description.as_bytes(), model.description.as_bytes());
    assert_eq!(written.unknown, model.unknown);

    let description = model.description.model();
    let _ = description.check(&model.program);
    for function in &model.program.functions {
        if let Some(signature) = description.function(&function.name) {
            let _ = Labels::of(function, signature);
        }
    }
    let _ = text::parse(&text::write(&model.program));
    let verified = verify_known(model.program.clone()).is_ok();
    if let Ok(inferred) = loose::inferred(model.program) {
        inferred.description.model().check(&inferred.program).unwrap();
    }
    if verified { Stage::Verified } else { Stage::Read }
}

/// Prints what is described, and writes it again.
fn describe(description: &Description) {
    let model = description.model();
    let signatures = model.functions.iter().map(|(_, signature)| signature).chain([&model.main]);
    for signature in signatures {
        for feature in signature.inputs.iter().chain(&signature.outputs).chain(&signature.states) {
            let _ = feature.kind.as_ref().map(ToString::to_string);
        }
    }
    // Compared as text, in which NaN is NaN.
    let again = Description::from(model.clone());
    let read = Description::from_bytes(again.as_bytes().to_vec()).unwrap();
    assert_eq!(format!("{:?}", read.model()), format!("{model:?}"));
}
