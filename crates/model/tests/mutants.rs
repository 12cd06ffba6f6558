//! Mutated models predict or are refused: none may panic, whatever its description and its program say of each other.
//!
//! `cargo test` runs a thousand; `ANEMONE_MUTATIONS=N` as many, and `ANEMONE_MUTATION_FIRST=I` begins with another.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

#[path = "../../coreml/tests/mutation/mutator.rs"]
mod mutator;

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use anemone_coreml::description::{Feature, FeatureKind};
use anemone_mil::eval::Interpreter;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use anemone_model::image::{Image, Pixels};
use anemone_model::predictor::{Given, Predictor};
use anemone_model::source::Source;
use mutator::{Random, mutate};

/// More elements than any input of the models has that are mutated.
const MAX_ELEMENTS: usize = 1 << 16;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// The models that are programs without large weights.
fn seeds() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/coreml");
    let names =
        ["optional", "ranged", "enumerated", "state", "classifier", "image", "blocks", "two_functions"];
    let model = |name| directory.join(format!("{name}.mlpackage/Data/com.apple.CoreML/model.mlmodel"));
    names.map(|name| std::fs::read(model(name)).unwrap()).to_vec()
}

/// What fits a feature as it is described, where that is not too large to be tried.
fn given(feature: &Feature) -> Option<(String, Given)> {
    let given = match feature.kind.as_ref()? {
        FeatureKind::Array(array) => {
            let shape: Vec<usize> =
                array.shape.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<_>>()?;
            let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))?;
            Given::Array((count <= MAX_ELEMENTS).then(|| Tensor::zeros(DType::Fp32, &shape))??)
        }
        FeatureKind::Image(image) => {
            let (width, height) = (usize::try_from(image.width).ok()?, usize::try_from(image.height).ok()?);
            let count = width.checked_mul(height)?.checked_mul(3).filter(|&count| count <= MAX_ELEMENTS)?;
            Given::Image(Image { width, height, pixels: Pixels::Rgb(vec![100; count]) })
        }
        _ => return None,
    };
    Some((feature.name.clone(), given))
}

/// How far a model comes: whether it is opened, and whether it predicts.
fn exercise(path: &Path) -> (bool, bool) {
    let Ok(source) = Source::read(path) else { return (false, false) };
    let opened = Predictor::new(source, None, None, Box::<Interpreter>::default());
    let Ok(mut predictor) = opened else { return (false, false) };
    let inputs: Vec<_> = predictor.signature().inputs.iter().filter_map(given).collect();
    let Ok(mut states) = predictor.states() else { return (true, false) };
    (true, predictor.predict(inputs, Some(&mut states)).is_ok())
}

#[test]
fn mutants_predict_or_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("mutant.mlmodel");
    // Some read weights: those that are not changed in that find them.
    let weights = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/coreml/two_functions.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
    std::fs::create_dir(directory.path().join("weights")).unwrap();
    std::fs::copy(weights, directory.path().join("weights/weight.bin")).unwrap();
    let (seeds, first) = (seeds(), number("ANEMONE_MUTATION_FIRST", 0));
    let count = number("ANEMONE_MUTATIONS", 1000);
    let (mut opened, mut predicted) = (0, 0);
    for index in first..first + count {
        std::fs::write(&path, mutate(&mut Random::new(index), &seeds)).unwrap();
        let result = panic::catch_unwind(AssertUnwindSafe(|| exercise(&path)));
        let (is_opened, has_predicted) = result.unwrap_or_else(|_| panic!("input {index} panicked"));
        opened += u64::from(is_opened);
        predicted += u64::from(has_predicted);
    }
    println!("of {count} mutants {opened} were opened, {predicted} predicted");
    if count >= 1000 {
        assert!(opened > count / 20 && predicted > count / 50, "{opened} opened, {predicted} predicted");
        assert!(opened < count * 9 / 10, "{opened} opened");
    }
}
