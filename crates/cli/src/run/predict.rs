//! Core ML models run as their descriptions have them: images, defaults, classes and states.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anemone_coreml::description::{ColorSpace, Feature, FeatureKind, Signature};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;
use anemone_model::classifier::Label;
use anemone_model::image::{Image, Pixels};
use anemone_model::predictor::{self, Given, OpenError, PredictError, Predictor, States};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::inputs::{Assignment, InputError};
use super::{Args, RunError, is_missing_weight, picture, write};
use crate::common::files::{self, refuse_overwriting, serialize_path};
use crate::common::pipeline::Opened;
use crate::common::{Failure, Output, npy};

/// The line of a result that is no array.
#[derive(Serialize)]
struct Line<'a> {
    output: &'a str,
    #[serde(flatten)]
    value: Map<String, Value>,
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
}

/// Classes that a line of text names, the likeliest first.
const NAMED_CLASSES: usize = 5;

/// Predicts once, and writes the outputs and what the states hold then.
///
/// # Errors
///
/// When the model is not sound, an input is missing, unknown or not as described, a weight cannot be read, the runtime
/// refuses the program, or a result cannot be written or would replace a file that is read.
pub(super) fn run(
    args: &Args,
    model: Opened,
    runtime: Box<dyn Runtime>,
    output: &Output,
) -> Result<(), Failure> {
    let sources = model.files().to_vec();
    let start = Instant::now();
    let opened = Predictor::new(model, args.function.as_deref(), args.weights.as_deref(), runtime);
    let mut predictor = opened.map_err(|error| match error {
        OpenError::Mistakes(mistakes) => Failure::from(mistakes),
        other => other.into(),
    })?;
    let (given, mut states) = read_inputs(&predictor, args)?;
    let files = result_files(predictor.signature(), predictor.state_types(), &args.output)?;
    let read = || args.inputs.iter().map(|input| input.file.clone()).chain(sources.iter().cloned());
    refuse_overwriting(&files, read())?;
    let predicted = predictor.predict(given, Some(&mut states));
    let outputs = predicted.map_err(|error| match error.runtime() {
        Some(cause) if args.weights.is_none() && is_missing_weight(cause) => {
            RunError::MissingWeight(error.to_string()).into()
        }
        _ => Failure::from(error),
    })?;
    output.detail(format_args!("prepared and run in {:?}", start.elapsed()));
    refuse_overwriting(&files, predictor.opened_weights().into_iter().chain(read()))?;
    files::make_directory(&args.output)?;
    let kept = predictor.state_types().iter().filter_map(|(name, _)| Some((name, states.get(name)?)));
    for (file, (name, value)) in files.iter().zip(&outputs) {
        write_output(file, name, value, output)?;
    }
    for (file, (name, value)) in files[outputs.len()..].iter().zip(kept) {
        write(file, name, value, output)?;
    }
    Ok(())
}

/// What is given for each input, and for the states.
fn read_inputs(predictor: &Predictor, args: &Args) -> Result<(Vec<(String, Given)>, States), Failure> {
    let mut seen = HashSet::new();
    if let Some(twice) = args.inputs.iter().find(|input| !seen.insert(&input.name)) {
        return Err(InputError::Duplicate(twice.name.clone()).into());
    }
    let is_state = |name: &str| predictor.state_types().iter().any(|(known, _)| known == name);
    let (of_states, of_inputs): (Vec<&Assignment>, Vec<&Assignment>) =
        args.inputs.iter().partition(|input| is_state(&input.name));
    predictor.check_names(of_inputs.iter().map(|input| input.name.as_str()))?;
    let mut given = Vec::new();
    for Assignment { name, file } in of_inputs {
        let Some((ty, kind)) = predictor.input(name) else { continue };
        given.push((name.clone(), read_input(name, file, (ty, kind), args.resize)?));
    }
    let mut states = predictor.states()?;
    for Assignment { name, file } in of_states {
        let Some((_, ty)) = predictor.state_types().iter().find(|(known, _)| known == name) else { continue };
        states.set(name, npy::read(file, ty, &format!("the state `{name}`, {ty}"))?)?;
    }
    Ok((given, states))
}

fn read_input(
    name: &str,
    file: &Path,
    (ty, kind): (&TensorType, Option<&FeatureKind>),
    resize: bool,
) -> Result<Given, Failure> {
    let is_picture = picture::is_picture(file)?;
    match kind {
        Some(FeatureKind::Image(feature))
            if is_picture || feature.color_space != ColorSpace::GrayscaleFloat16 =>
        {
            Ok(Given::Image(picture::read(file, name, feature, resize)?))
        }
        Some(FeatureKind::Image(_)) => {
            let values = npy::read(file, ty, &format!("the input `{name}`, {ty}"))?;
            let &[_, _, height, width] = values.shape() else { return Ok(Given::Array(values)) };
            let pixels = values.to_f64().unwrap_or_default().into_iter().map(|value| value as f32).collect();
            Ok(Given::Image(Image { width, height, pixels: Pixels::GreyFloat(pixels) }))
        }
        Some(kind) if is_picture => {
            let (name, kind) = (name.to_string(), Box::new(kind.clone()));
            Err(PredictError::Kind { name, kind, given: "an image" }.into())
        }
        _ => Ok(Given::Array(npy::read(file, ty, &format!("the input `{name}`, {ty}"))?)),
    }
}

/// Where each output is written, and then each state's last value.
fn result_files(
    signature: &Signature,
    states: &[(String, TensorType)],
    directory: &Path,
) -> Result<Vec<PathBuf>, RunError> {
    let ending = |feature: &Feature| match &feature.kind {
        Some(FeatureKind::Image(image)) if image.color_space != ColorSpace::GrayscaleFloat16 => "png",
        Some(FeatureKind::Dictionary(_) | FeatureKind::String | FeatureKind::Int64) => "json",
        _ => "npy",
    };
    let outputs = signature.outputs.iter().map(|feature| (&feature.name, ending(feature)));
    let states = states.iter().map(|(name, _)| (name, "npy"));
    super::distinct_files(outputs.chain(states), directory)
}

fn write_output(file: &Path, name: &str, value: &predictor::Output, output: &Output) -> Result<(), Failure> {
    let (text, value) = match value {
        predictor::Output::Array(tensor) => return write(file, name, tensor, output),
        predictor::Output::Image(image) => match picture::png(image)? {
            Some(bytes) => {
                files::replace(file, &bytes)?;
                let (width, height) = (image.width, image.height);
                let text = format!("{} image, {width} × {height}", image.pixels.name());
                (text, object(json!({"width": width, "height": height})))
            }
            None => return write(file, name, &of_floats(image)?, output),
        },
        predictor::Output::Label(label) => {
            let value = value_of(label);
            files::replace(file, format!("{value}\n").as_bytes())?;
            (value.to_string(), object(json!({ "label": value })))
        }
        predictor::Output::Probabilities(all) => {
            let mut all: Vec<(String, f64)> =
                all.iter().map(|(label, probability)| (word(label), *probability)).collect();
            // Classes of the same probability stay in the model's order.
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            let named: Vec<String> =
                all.iter().take(NAMED_CLASSES).map(|(name, p)| format!("{name} {p}")).collect();
            let object_of_all: Map<String, Value> =
                all.into_iter().map(|(name, probability)| (name, json!(probability))).collect();
            files::replace(file, format!("{}\n", Value::Object(object_of_all.clone())).as_bytes())?;
            (named.join(", "), object(json!({ "probabilities": object_of_all })))
        }
    };
    let text = format!("{name}: {text} in {}", file.display());
    output.result(text, &Line { output: name, value, file });
    Ok(())
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn value_of(label: &Label) -> Value {
    match label {
        Label::String(word) => json!(word),
        Label::Integer(number) => json!(number),
    }
}

fn word(label: &Label) -> String {
    match label {
        Label::String(word) => word.clone(),
        Label::Integer(number) => number.to_string(),
    }
}

/// An image of floats as `[1, 1, H, W]`.
fn of_floats(image: &Image) -> Result<Tensor, Failure> {
    let values = match &image.pixels {
        Pixels::GreyFloat(values) => values.clone(),
        Pixels::Grey(values) | Pixels::Rgb(values) => values.iter().map(|&value| f32::from(value)).collect(),
    };
    Ok(Tensor::from_values(&[1, 1, image.height, image.width], values)?)
}
