//! `metadata.json`: a model's description for those who look at it without loading it.
//!
//! Operations are counted under the opset of their function, by the names that the program has for them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anemone_mil::program::{Function, LiteralValue};
use anemone_mil::types::{DType, Opset};
use anemone_mil::verify::CONST;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::description::ColorSpace;
use crate::description::{
    ArrayFeature, ArrayType, Feature, FeatureKind, ImageFeature, Item, Shapes, Signature, SizeRange,
};
use crate::description::{Description, ModelDescription};
use crate::model::Model;

/// The systems that load each version of the specification.
const AVAILABILITY: [(i32, [&str; 6]); 5] = [
    (6, ["12.0", "15.0", "", "8.0", "15.0", "15.0"]),
    (7, ["13.0", "16.0", "", "9.0", "16.0", "16.0"]),
    (8, ["14.0", "17.0", "1.0", "10.0", "17.0", "17.0"]),
    (9, ["15.0", "18.0", "2.0", "11.0", "18.0", "18.0"]),
    (10, ["26.0", "26.0", "26.0", "26.0", "26.0", "26.0"]),
];
const SYSTEMS: [&str; 6] = ["macOS", "tvOS", "visionOS", "watchOS", "iOS", "macCatalyst"];

/// The JSON for a model that is written to `out`.
pub(super) fn json(model: &Model, out: &Path) -> String {
    let description = model.description.model();
    let default = model.program.function(&description.default_function).map(|(_, function)| function);
    let default = default.or(model.program.functions.first());
    let mut all = of_model(model.specification_version, description, out);
    let mut put = |name: &str, value: Value| all.insert(name.to_string(), value);
    put("isUpdatable", json!(flag(model.is_updatable)));
    put("modelType", json!({ "name": PROGRAM }));
    if let Some(precision) = storage_precision(&[model]) {
        put("storagePrecision", json!(precision));
    }
    let described = description.by_function();
    if let Some(function) = default {
        let signature = described(&function.name);
        of_function(&[function], signature).into_iter().for_each(|(name, value)| drop(put(&name, value)));
    }
    if !description.functions.is_empty() {
        put("defaultFunctionName", json!(description.default_function));
        let functions = model.program.functions.iter().map(|function| {
            let mut of_function = of_function(&[function], described(&function.name));
            of_function.insert("name".to_string(), json!(function.name));
            Value::Object(of_function)
        });
        put("functions", functions.collect());
    }
    printed(all)
}

/// The JSON for a pipeline of programs that is written to `out`.
pub(super) fn pipeline_json(
    description: &Description,
    specification_version: i32,
    models: &[&Model],
    out: &Path,
) -> String {
    let description = description.model();
    let mut all = of_model(specification_version, description, out);
    let functions: Vec<&Function> = models.iter().flat_map(|model| &model.program.functions).collect();
    all.append(&mut of_function(&functions, Some(&description.main)));
    let structure: Vec<Value> = models.iter().map(|_| json!({ "name": PROGRAM })).collect();
    all.insert("isUpdatable".to_string(), json!(flag(false)));
    all.insert("modelType".to_string(), json!({ "name": "MLModelType_pipeline", "structure": structure }));
    if let Some(precision) = storage_precision(models) {
        all.insert("storagePrecision".to_string(), json!(precision));
    }
    printed(all)
}

/// The type of a model that is a program.
const PROGRAM: &str = "MLModelType_mlProgram";

/// What is said of every model.
fn of_model(specification_version: i32, description: &ModelDescription, out: &Path) -> Map<String, Value> {
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| all.insert(name.to_string(), value);
    put("metadataOutputVersion", json!("3.0"));
    put("specificationVersion", json!(specification_version));
    put("modelParameters", json!([]));
    put("method", json!("predict"));
    let name = out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    put("generatedClassName", json!(name));
    put("availability", availability(specification_version));
    if let Some(metadata) = &description.metadata {
        for (name, text) in [
            ("shortDescription", &metadata.short_description),
            ("version", &metadata.version),
            ("author", &metadata.author),
            ("license", &metadata.license),
        ] {
            if !text.is_empty() {
                put(name, json!(text));
            }
        }
    }
    let user_defined = description.metadata.as_ref().map(|metadata| &metadata.user_defined);
    put("userDefinedMetadata", user_defined.map_or(json!({}), |entries| json!(entries)));
    all
}

fn printed(all: Map<String, Value>) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"  ");
    // Strings, numbers and maps of strings: there is nothing that could fail.
    let _ = json!([all]).serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter));
    String::from_utf8(bytes).unwrap_or_default()
}

/// What is said of each function; of a pipeline, of the functions of its models together.
fn of_function(functions: &[&Function], signature: Option<&Signature>) -> Map<String, Value> {
    let schema = |features: fn(&Signature) -> &Vec<Feature>| -> Value {
        signature
            .map(|signature| features(signature).iter().map(feature).collect())
            .unwrap_or_else(|| json!([]))
    };
    let mut operations: BTreeMap<String, u64> = BTreeMap::new();
    let mut types: BTreeSet<&str> = BTreeSet::new();
    for function in functions {
        for (_, op) in function.walk().filter(|(_, op)| op.name != CONST) {
            *operations.entry(operation(function.opset, &op.name)).or_default() += 1;
            let results = op.results.iter().filter_map(|id| function.values.get(id.index()));
            types.extend(results.filter_map(|value| value.ty.dtype()).filter_map(computed));
        }
    }
    let mut all = Map::new();
    all.insert("inputSchema".to_string(), schema(|signature| &signature.inputs));
    all.insert("outputSchema".to_string(), schema(|signature| &signature.outputs));
    all.insert("stateSchema".to_string(), schema(|signature| &signature.states));
    all.insert("mlProgramOperationTypeHistogram".to_string(), json!(operations));
    all.insert("computePrecision".to_string(), json!(precision(&types)));
    all
}

/// `Ios17.reduceMean` for `reduce_mean`; `Select` for `select`, which has no opset there.
fn operation(opset: Opset, name: &str) -> String {
    if name == "select" {
        return "Select".to_string();
    }
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_string();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.extend(letters);
    }
    format!("Ios{}.{camel}", opset.0)
}

/// The types that numbers are computed in.
fn computed(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::Fp16 => Some("Float16"),
        DType::Fp32 => Some("Float32"),
        DType::Int8 => Some("Int8"),
        DType::Int16 => Some("Int16"),
        DType::Int32 => Some("Int32"),
        DType::UInt8 => Some("UInt8"),
        DType::UInt16 => Some("UInt16"),
        _ => None,
    }
}

/// The types that weights are kept in.
fn storage_precision(models: &[&Model]) -> Option<String> {
    let functions = models.iter().flat_map(|model| &model.program.functions);
    let ops = functions.flat_map(|function| function.walk().map(|(_, op)| op));
    let kept = ops.flat_map(|op| op.literals().map(|(_, literal)| literal));
    let kept = kept.filter(|literal| matches!(literal.value, LiteralValue::Blob(_)));
    let types: BTreeSet<&str> = kept.filter_map(|literal| literal.ty.dtype()).filter_map(stored).collect();
    (!types.is_empty()).then(|| precision(&types))
}

fn stored(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::Int4 => "Int4",
        DType::UInt1 => "UInt1",
        DType::UInt2 => "UInt2",
        DType::UInt3 => "UInt3",
        DType::UInt4 => "UInt4",
        DType::UInt6 => "UInt6",
        DType::UInt32 => "UInt32",
        other => return computed(other),
    })
}

fn precision(types: &BTreeSet<&str>) -> String {
    let all: Vec<&str> = types.iter().copied().collect();
    match all.as_slice() {
        [only] => (*only).to_string(),
        all => format!("Mixed ({})", all.join(", ")),
    }
}

fn availability(version: i32) -> Value {
    let known = AVAILABILITY.iter().rev().find(|(known, _)| *known <= version).unwrap_or(&AVAILABILITY[0]);
    let systems = SYSTEMS.iter().zip(known.1).filter(|(_, since)| !since.is_empty());
    Value::Object(systems.map(|(system, since)| ((*system).to_string(), json!(since))).collect())
}

fn flag(value: bool) -> &'static str {
    if value { "1" } else { "0" }
}

/// An input, output or state.
fn feature(feature: &Feature) -> Value {
    let mut all = Map::new();
    let mut put = |name: &str, value: String| drop(all.insert(name.to_string(), json!(value)));
    put("name", feature.name.clone());
    put("shortDescription", feature.short_description.clone());
    put("isOptional", flag(feature.optional).to_string());
    match &feature.kind {
        Some(FeatureKind::Array(feature)) => array("MultiArray", feature, &mut put),
        Some(FeatureKind::State(Some(feature))) => array("State", feature, &mut put),
        Some(FeatureKind::Image(feature)) => image(feature, &mut put),
        Some(FeatureKind::Dictionary(keys)) => {
            put("type", "Dictionary".to_string());
            let key = if *keys == Some(Item::Int64) { "Int64" } else { "String" };
            put("keyType", key.to_string());
            put("formattedType", format!("Dictionary ({key} → Double)"));
        }
        other => {
            let name = match other {
                Some(FeatureKind::Int64) => "Int64",
                Some(FeatureKind::Double) => "Double",
                Some(FeatureKind::String) => "String",
                Some(FeatureKind::Sequence(..)) => "Sequence",
                _ => "",
            };
            put("type", name.to_string());
            put("formattedType", name.to_string());
        }
    }
    Value::Object(all)
}

fn array(ty: &str, array: &ArrayFeature, put: &mut dyn FnMut(&str, String)) {
    let elements = match array.elements {
        ArrayType::Float16 => "Float16",
        ArrayType::Float32 => "Float32",
        ArrayType::Double => "Double",
        ArrayType::Int8 => "Int8",
        ArrayType::Int32 => "Int32",
        ArrayType::Other(_) => "",
    };
    put("type", ty.to_string());
    put("dataType", elements.to_string());
    put("shape", format!("{:?}", array.shape));
    let shape = format!("MultiArray ({elements} {})", by(&array.shape));
    put("formattedType", if ty == "State" { format!("State ({shape})") } else { shape });
    put("hasShapeFlexibility", flag(array.shapes != Shapes::Fixed).to_string());
    match &array.shapes {
        Shapes::Fixed => {}
        Shapes::Enumerated(shapes) => {
            put("shapeFlexibility", shapes.iter().map(|shape| by(shape)).collect::<Vec<_>>().join(" | "));
            put("enumeratedShapes", format!("{shapes:?}"));
        }
        Shapes::Range(ranges) => {
            put("shapeFlexibility", ranges.iter().map(range).collect::<Vec<_>>().join(" × "));
            let bounds: Vec<String> =
                ranges.iter().map(|range| format!("[{}, {}]", range.lower, range.upper)).collect();
            put("shapeRange", format!("[{}]", bounds.join(", ")));
        }
    }
}

fn image(image: &ImageFeature, put: &mut dyn FnMut(&str, String)) {
    let colors = match image.color_space {
        ColorSpace::Rgb => "RGB",
        ColorSpace::Bgr => "BGR",
        ColorSpace::Grayscale => "Grayscale",
        ColorSpace::GrayscaleFloat16 => "Grayscale16Half",
        ColorSpace::Other(_) => "",
    };
    put("type", "Image".to_string());
    put("width", image.width.to_string());
    put("height", image.height.to_string());
    put("colorspace", colors.to_string());
    put("isColor", flag(matches!(image.color_space, ColorSpace::Rgb | ColorSpace::Bgr)).to_string());
    put("hasSizeFlexibility", flag(image.sizes != crate::description::ImageSizes::Fixed).to_string());
    put("formattedType", format!("Image ({colors} {} × {})", image.width, image.height));
}

fn by(shape: &[i64]) -> String {
    shape.iter().map(i64::to_string).collect::<Vec<_>>().join(" × ")
}

fn range(range: &SizeRange) -> String {
    match i64::try_from(range.lower) == Ok(range.upper) {
        true => range.lower.to_string(),
        false => format!("{}...{}", range.lower, range.upper),
    }
}
