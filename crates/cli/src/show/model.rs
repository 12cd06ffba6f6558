//! What the model says that a program is of.

use std::collections::BTreeMap;
use std::path::Path;

use anemone_coreml::description::{Feature, ModelDescription, Signature};
use anemone_coreml::labels::Labels;
use anemone_coreml::model::Model;
use anemone_coreml::pipeline::Pipeline;
use anemone_mil::error::on_one_line;
use anemone_mil::program::Program;
use anemone_mil::verify::count;
use serde::Serialize;

use crate::common::Output;
use crate::common::files::serialize_path;
use crate::common::source::Source;
use anemone_model::text::printable;

/// A model's description, as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    /// Of a pipeline's model: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    specification_version: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_function: Option<&'a str>,
    functions: Vec<ShownFunction<'a>>,
    metadata: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct ShownFunction<'a> {
    function: &'a str,
    inputs: Vec<ShownFeature<'a>>,
    outputs: Vec<ShownFeature<'a>>,
    states: Vec<ShownFeature<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    classifier: Option<Classifier<'a>>,
}

#[derive(Serialize)]
struct ShownFeature<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    ty: String,
    optional: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
}

#[derive(Serialize)]
struct Classifier<'a> {
    answer: &'a str,
    probabilities: &'a str,
    labels: Vec<String>,
}

/// Prints what the model of a source says of it.
pub(super) fn print(model: &Model, source: &Source, output: &Output) {
    let line = line(model, &source.program, &source.path);
    output.result(text(&line), &line);
}

/// Prints what a pipeline says of itself, and each of its models.
pub(super) fn print_pipeline(pipeline: &Pipeline, path: &Path, output: &Output) {
    let names: Vec<String> = pipeline.models.iter().map(|stage| on_one_line(&stage.name)).collect();
    let whole = Line {
        file: path,
        model: None,
        specification_version: pipeline.specification_version,
        default_function: None,
        functions: vec![shown("pipeline", &pipeline.description.model().main, None)],
        metadata: metadata(pipeline.description.model()),
    };
    let title = format!("a pipeline of {}: {}", count(names.len(), "model"), names.join(", "));
    output.result(format!("{}\n  {}", text(&whole), printable(&title)), &whole);
    for stage in &pipeline.models {
        match &stage.model {
            Ok(model) => {
                let line = Line { model: Some(&stage.name), ..line(model, &model.program, path) };
                output.result(text(&line), &line);
            }
            Err(other) => {
                output.message(printable(&format!("the model {}: {}", on_one_line(&stage.name), other.error)))
            }
        }
    }
}

fn line<'a>(model: &'a Model, program: &'a Program, path: &'a Path) -> Line<'a> {
    let description = model.description.model();
    let described = description.by_function();
    let functions = program.functions.iter().filter_map(|function| {
        let signature = described(&function.name)?;
        let classifier = (!signature.predicted_feature.is_empty()).then(|| Classifier {
            answer: &signature.predicted_feature,
            probabilities: &signature.predicted_probabilities,
            labels: Labels::of(function, signature).map(|labels| labels.to_text()).unwrap_or_default(),
        });
        Some(shown(&function.name, signature, classifier))
    });
    Line {
        file: path,
        model: None,
        specification_version: model.specification_version,
        default_function: Some(description.default_function.as_str()).filter(|name| !name.is_empty()),
        functions: functions.collect(),
        metadata: metadata(description),
    }
}

/// Whatever is noted of a model.
fn metadata(description: &ModelDescription) -> BTreeMap<&str, &str> {
    let mut metadata = BTreeMap::new();
    if let Some(said) = &description.metadata {
        metadata.extend(said.user_defined.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        metadata.extend([
            ("description", said.short_description.as_str()),
            ("version", said.version.as_str()),
            ("author", said.author.as_str()),
            ("license", said.license.as_str()),
        ]);
        metadata.retain(|_, text| !text.is_empty());
    }
    metadata
}

fn shown<'a>(
    function: &'a str,
    signature: &'a Signature,
    classifier: Option<Classifier<'a>>,
) -> ShownFunction<'a> {
    ShownFunction {
        function,
        inputs: features(&signature.inputs),
        outputs: features(&signature.outputs),
        states: features(&signature.states),
        classifier,
    }
}

fn features(features: &[Feature]) -> Vec<ShownFeature<'_>> {
    fn shown(feature: &Feature) -> ShownFeature<'_> {
        ShownFeature {
            name: &feature.name,
            ty: feature.kind.as_ref().map(ToString::to_string).unwrap_or_default(),
            optional: feature.optional,
            description: &feature.short_description,
        }
    }
    features.iter().map(shown).collect()
}

/// The description for people, without the last newline.
fn text(line: &Line<'_>) -> String {
    let (file, version) = (line.file.display(), line.specification_version);
    let mut lines = vec![match line.model {
        Some(name) => format!("model {} in {file}, specification version {version}", on_one_line(name)),
        None => format!("model in {file}, specification version {version}"),
    }];
    for function in &line.functions {
        lines.push(match line.default_function {
            Some(default) if default == function.function => format!("  {}, by default", function.function),
            _ => format!("  {}", function.function),
        });
        for (title, features) in
            [("input", &function.inputs), ("output", &function.outputs), ("state", &function.states)]
        {
            for feature in features {
                let optional = if feature.optional { ", may be left out" } else { "" };
                let said = if feature.description.is_empty() { "" } else { ": " };
                lines.push(format!(
                    "    {title} {}: {}{optional}{said}{}",
                    feature.name,
                    feature.ty,
                    feature.description.replace('\n', " ")
                ));
            }
        }
        if let Some(classifier) = &function.classifier {
            lines.push(format!(
                "    classifier with {}{}",
                count(classifier.labels.len(), "label"),
                first(&classifier.labels)
            ));
        }
    }
    for (name, said) in &line.metadata {
        lines.push(format!("  {name}: {}", said.replace('\n', " ")));
    }
    printable(&lines.join("\n"))
}

/// The first labels, in quotes.
fn first(labels: &[String]) -> String {
    /// Enough to recognise them.
    const SHOWN: usize = 5;
    let quoted: Vec<String> = labels.iter().take(SHOWN).map(|label| format!("{label:?}")).collect();
    match labels.len() {
        0 => String::new(),
        1..=SHOWN => format!(": {}", quoted.join(", ")),
        _ => format!(": {}, …", quoted.join(", ")),
    }
}
