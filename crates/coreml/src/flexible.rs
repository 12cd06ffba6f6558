//! The attribute of a compiled function that says what its `?` may be: the default shapes of its inputs, and bounds of
//! their dimensions or all their shapes.
//!
//! ```text
//! FlexibleShapeInformation = tuple<…>((("DefaultShapes", {{"x", [1, 1]}}), ("RangeDims", {{"x", [[1, 1], [1, 512]]}})))
//! FlexibleShapeInformation = tuple<…>((("DefaultShapes", {{"x", [4]}}), ("EnumeratedShapes", {{"00000000", {{"x", [1]}}}, …})))
//! ```
//!
//! Core ML's compiler makes it of the model's description, so messages do not have it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anemone_mil::program::{Dialect, Function, Literal, LiteralValue, Program};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, Dim, Shape, TensorType, Type};

use crate::description::{Feature, FeatureKind, ImageFeature, ImageSizes};
use crate::description::{ModelDescription, Shapes, Signature, SizeRange};

/// The attribute's name.
const NAME: &str = "FlexibleShapeInformation";

/// What an input's shape may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flexible {
    /// The shape that it has by default.
    pub default: Vec<i64>,
    /// The others.
    pub shapes: Shapes,
}

/// Gives every function that takes inputs of several shapes the attribute, unless it has it.
pub(crate) fn add(program: &mut Program, description: &ModelDescription) {
    let (dialect, described) = (program.version.dialect(), description.by_function());
    for function in &mut program.functions {
        if function.attributes.get(NAME).is_none()
            && let Some(signature) = described(&function.name)
            && let Some(literal) = literal(&of_signature(signature), dialect)
        {
            function.attributes.insert(NAME, literal);
        }
    }
}

/// Takes the attribute from every function of which the description says as much.
pub(crate) fn remove(program: &mut Program, description: &ModelDescription) {
    let described = description.by_function();
    for function in &mut program.functions {
        let signature = described(&function.name);
        if signature.is_some_and(|signature| !of_signature(signature).is_empty()) {
            function.attributes.remove(NAME);
        }
    }
}

/// The inputs of several shapes, by name.
fn of_signature(signature: &Signature) -> BTreeMap<&str, Flexible> {
    let flexible = |feature: &Feature| match feature.kind.as_ref()? {
        FeatureKind::Array(array) if array.shapes != Shapes::Fixed => {
            let default = match (&array.shapes, array.shape.is_empty()) {
                (_, false) | (Shapes::Fixed, true) => array.shape.clone(),
                (Shapes::Enumerated(shapes), true) => shapes.first().cloned().unwrap_or_default(),
                (Shapes::Range(ranges), true) => ranges.iter().map(|range| signed(range.lower)).collect(),
            };
            Some(Flexible { default, shapes: array.shapes.clone() })
        }
        FeatureKind::Image(image) => of_image(image),
        _ => None,
    };
    signature.inputs.iter().filter_map(|input| Some((input.name.as_str(), flexible(input)?))).collect()
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// An image is a tensor: one, its colours, its height, its width.
fn of_image(image: &ImageFeature) -> Option<Flexible> {
    let channels = image.channels() as u64;
    let one = |size: u64| SizeRange { lower: size, upper: signed(size) };
    let shapes = match &image.sizes {
        ImageSizes::Fixed => return None,
        ImageSizes::Enumerated(sizes) => {
            let shape = |&(width, height)| vec![1, signed(channels), signed(height), signed(width)];
            Shapes::Enumerated(sizes.iter().map(shape).collect())
        }
        ImageSizes::Range { width, height } => Shapes::Range(vec![one(1), one(channels), *height, *width]),
    };
    Some(Flexible { default: vec![1, signed(channels), image.height, image.width], shapes })
}

/// The attribute for inputs of several shapes; `None` where there are none.
fn literal(inputs: &BTreeMap<&str, Flexible>, dialect: Dialect) -> Option<Literal> {
    if inputs.is_empty() {
        return None;
    }
    let string = dialect.scalar_type(DType::String);
    let dict = |value: Type| Type::Dict(Box::new(string.clone()), Box::new(value));
    let sizes = Type::Tensor(TensorType { dtype: DType::Int32, shape: Shape(vec![Dim::Unknown]) });
    let bounds = Type::List(Box::new(Type::tensor(DType::Int32, &[2])), Dim::Unknown);
    let mut parts = Parts { string: &string, types: Vec::new(), values: Vec::new() };

    let defaults = inputs.iter().map(|(name, input)| (text(name), vector(&input.default))).collect();
    parts.push("DefaultShapes", dict(sizes.clone()), LiteralValue::Dict(defaults));
    let enumerated: Vec<(&str, &Vec<Vec<i64>>)> = inputs
        .iter()
        .filter_map(|(name, input)| match &input.shapes {
            Shapes::Enumerated(shapes) => Some((*name, shapes)),
            _ => None,
        })
        .collect();
    if let Some(count) = enumerated.iter().map(|(_, shapes)| shapes.len()).max() {
        // Each entry, whatever its key, is a shape for every input.
        let entry = |position: usize| {
            let shapes = enumerated
                .iter()
                .filter_map(|(name, shapes)| Some((text(name), vector(shapes.get(position)?))));
            (text(&format!("{position:08x}")), LiteralValue::Dict(shapes.collect()))
        };
        parts.push(
            "EnumeratedShapes",
            dict(dict(sizes)),
            LiteralValue::Dict((0..count).map(entry).collect()),
        );
    }
    let ranges: Vec<_> = inputs
        .iter()
        .filter_map(|(name, input)| match &input.shapes {
            Shapes::Range(ranges) => {
                let bounds = ranges.iter().map(|range| vector(&[signed(range.lower), range.upper])).collect();
                Some((text(name), LiteralValue::List(bounds)))
            }
            _ => None,
        })
        .collect();
    if !ranges.is_empty() {
        parts.push("RangeDims", dict(bounds), LiteralValue::Dict(ranges));
    }
    Some(Literal { ty: Type::Tuple(parts.types), value: LiteralValue::Tuple(parts.values) })
}

/// The tuples that the attribute is made of.
struct Parts<'a> {
    string: &'a Type,
    types: Vec<Type>,
    values: Vec<LiteralValue>,
}

impl Parts<'_> {
    fn push(&mut self, name: &str, ty: Type, value: LiteralValue) {
        self.types.push(Type::Tuple(vec![self.string.clone(), ty]));
        self.values.push(LiteralValue::Tuple(vec![text(name), value]));
    }
}

fn text(value: &str) -> LiteralValue {
    LiteralValue::Tensor(Arc::new(Tensor::scalar(value.to_string())))
}

/// Sizes as the attribute has them, which are 32 bits wide.
fn vector(sizes: &[i64]) -> LiteralValue {
    let narrow = |&size: &i64| i32::try_from(size).unwrap_or(if size < 0 { -1 } else { i32::MAX });
    LiteralValue::Tensor(Arc::new(Tensor::vector(sizes.iter().map(narrow).collect::<Vec<i32>>())))
}

/// What a function's attribute says of its inputs; nothing where it has none, or one of another form.
pub(crate) fn of_function(function: &Function) -> BTreeMap<String, Flexible> {
    let parts = function.attributes.get(NAME).map(|literal| items(&literal.value)).unwrap_or_default();
    let part = |wanted: &str| {
        let part = parts.iter().map(items).find(|part| part.first().and_then(read_text) == Some(wanted));
        part.and_then(|part| part.get(1)).map(pairs).unwrap_or_default()
    };
    let ranges = by_name(part("RangeDims"));
    let enumerated: Vec<_> =
        part("EnumeratedShapes").into_iter().map(|(_, shapes)| by_name(pairs(shapes))).collect();
    let flexible = |(name, default): (&str, &LiteralValue)| {
        let shapes = match ranges.get(name) {
            Some(bounds) => Shapes::Range(items(bounds).iter().map(read_range).collect::<Option<_>>()?),
            None => {
                let shapes = enumerated.iter().filter_map(|shapes| read_sizes(shapes.get(name)?));
                Shapes::Enumerated(shapes.collect())
            }
        };
        Some((name.to_string(), Flexible { default: read_sizes(default)?, shapes }))
    };
    part("DefaultShapes").into_iter().filter_map(flexible).collect()
}

/// Values by name; of several with one name the first.
fn by_name<'a>(pairs: Vec<(&'a str, &'a LiteralValue)>) -> HashMap<&'a str, &'a LiteralValue> {
    pairs.into_iter().rev().collect()
}

fn items(value: &LiteralValue) -> &[LiteralValue] {
    match value {
        LiteralValue::Tuple(items) | LiteralValue::List(items) => items,
        _ => &[],
    }
}

fn pairs(value: &LiteralValue) -> Vec<(&str, &LiteralValue)> {
    match value {
        LiteralValue::Dict(pairs) => {
            pairs.iter().filter_map(|(key, value)| Some((read_text(key)?, value))).collect()
        }
        _ => Vec::new(),
    }
}

fn read_text(value: &LiteralValue) -> Option<&str> {
    match value {
        LiteralValue::Tensor(tensor) => tensor.as_slice::<String>()?.first().map(String::as_str),
        _ => None,
    }
}

fn read_sizes(value: &LiteralValue) -> Option<Vec<i64>> {
    match value {
        LiteralValue::Tensor(tensor) => tensor.to_i64(),
        _ => None,
    }
}

fn read_range(value: &LiteralValue) -> Option<SizeRange> {
    match read_sizes(value)?.as_slice() {
        &[lower, upper] => Some(SizeRange { lower: u64::try_from(lower).ok()?, upper }),
        _ => None,
    }
}
