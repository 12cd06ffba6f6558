//! What a model takes and gives, and who made it.

use std::path::PathBuf;

use anemone_coreml::description::{ColorSpace, Feature, FeatureKind, Metadata, ModelDescription};
use anemone_model::pipeline::Opened;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors;

/// A feature as Python has it: name, short description, what it is in words, whether it may be left out, and, of an
/// image, Pillow's mode.
type FeatureTuple = (String, String, String, bool, Option<&'static str>);

/// Features, as Python has them.
fn features(features: &[Feature]) -> Vec<FeatureTuple> {
    let one = |feature: &Feature| {
        let kind = feature.kind.as_ref();
        let mode = match kind {
            Some(FeatureKind::Image(image)) => match image.color_space {
                ColorSpace::Rgb | ColorSpace::Bgr => Some("RGB"),
                ColorSpace::Grayscale => Some("L"),
                ColorSpace::GrayscaleFloat16 => Some("F"),
                ColorSpace::Other(_) => None,
            },
            _ => None,
        };
        let words = kind.map_or_else(String::new, FeatureKind::to_string);
        (feature.name.clone(), feature.short_description.clone(), words, feature.optional, mode)
    };
    features.iter().map(one).collect()
}

/// What a model says of itself, as a dictionary: `inputs`, `outputs` and `states` of a function, `functions`,
/// `default_function`, `specification_version` and the metadata.
pub(crate) fn to_python<'py>(
    py: Python<'py>,
    description: &ModelDescription,
    specification_version: i32,
    function: Option<&str>,
) -> PyResult<Bound<'py, PyDict>> {
    let default = description.default_function.as_str();
    let signature = description.function(function.unwrap_or(default)).unwrap_or(&description.main);
    let functions: Vec<&str> = description.functions.iter().map(|(name, _)| name.as_str()).collect();
    let Metadata { short_description, version, author, license, user_defined } =
        description.metadata.clone().unwrap_or_default();
    let answer = PyDict::new(py);
    answer.set_item("inputs", features(&signature.inputs))?;
    answer.set_item("outputs", features(&signature.outputs))?;
    answer.set_item("states", features(&signature.states))?;
    answer.set_item("functions", functions)?;
    answer.set_item("default_function", default)?;
    answer.set_item("specification_version", specification_version)?;
    answer.set_item("short_description", short_description)?;
    answer.set_item("version", version)?;
    answer.set_item("author", author)?;
    answer.set_item("license", license)?;
    answer.set_item("user_defined_metadata", user_defined)?;
    Ok(answer)
}

/// What a model says of itself, without making it ready.
#[pyfunction]
pub(crate) fn describe<'py>(
    py: Python<'py>,
    path: PathBuf,
    function: Option<&str>,
) -> PyResult<Bound<'py, PyDict>> {
    let (description, version) = py.detach(|| {
        let failed = |error| errors::source(&path, error);
        match Opened::read(&path).map_err(failed)? {
            Opened::Program(source) => {
                let model = source.into_model().map_err(|error| failed(error.into()))?;
                Ok((model.description, model.specification_version))
            }
            Opened::Pipeline(source) => {
                PyResult::Ok((source.pipeline.description, source.pipeline.specification_version))
            }
        }
    })?;
    to_python(py, description.model(), version, function)
}
