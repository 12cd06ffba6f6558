//! The description of a program that has none, from the types of its functions.

use anemone_mil::program::{Function, Program, Value, ValueId};
use anemone_mil::types::{DType, Dim, Opset, TensorType, Type};

use super::{ArrayFeature, ArrayType, Description, Feature, FeatureKind, Item, ModelDescription};
use super::{Shapes, Signature, SizeRange};
use crate::flexible::{self, Flexible};

/// The versions of the specification in which each opset came.
const VERSIONS: [(Opset, i32); 5] =
    [(Opset::IOS15, 6), (Opset::IOS16, 7), (Opset::IOS17, 8), (Opset::IOS18, 9), (Opset::IOS26, 10)];

/// The description that a program's own types make, and the version of the specification that it needs. A dimension
/// that is not known may be any from 1 on, unless the function's attribute says more.
///
/// # Errors
///
/// When a function takes or gives what no model does; in words.
pub fn infer(program: &Program) -> Result<(i32, Description), String> {
    let newest = program.functions.iter().map(|function| function.opset).max();
    let newest = newest.ok_or_else(|| "it has no functions".to_string())?;
    let version = VERSIONS.iter().rev().find(|(opset, _)| *opset <= newest);
    let version = version.map_or(VERSIONS[0].1, |(_, version)| *version);
    let mut signatures = Vec::with_capacity(program.functions.len());
    for function in &program.functions {
        let signature = signature(function);
        let signature = signature.map_err(|what| format!("the function `{}`: {what}", function.name))?;
        signatures.push((function.name.clone(), signature));
    }
    let mut model = ModelDescription::default();
    if let [(name, signature)] = signatures.as_mut_slice()
        && name == "main"
    {
        model.main = std::mem::take(signature);
    } else {
        let default = signatures.iter().find(|(name, _)| name == "main").or(signatures.first());
        model.default_function = default.map(|(name, _)| name.clone()).unwrap_or_default();
        model.functions = signatures;
    }
    Ok((version, model.into()))
}

fn signature(function: &Function) -> Result<Signature, String> {
    let flexible = flexible::of_function(function);
    let mut signature = Signature::default();
    for value in values(function, &function.body.inputs) {
        let failed = |what: String| format!("its input `{}` {what}", value.name);
        match &value.ty {
            Type::State(kept) => {
                let kept = kept.as_tensor().ok_or_else(|| failed(format!("is {}", value.ty)))?;
                let kept = FeatureKind::State(Some(array(&kept, None).map_err(failed)?));
                signature.states.push(feature(value, kept));
            }
            other => {
                let ty =
                    other.as_tensor().ok_or_else(|| failed(format!("is {other}; models take arrays")))?;
                let input = array(&ty, flexible.get(&value.name)).map_err(failed)?;
                signature.inputs.push(feature(value, FeatureKind::Array(input)));
            }
        }
    }
    for value in values(function, &function.body.outputs) {
        let kind = output(&value.ty).map_err(|what| format!("its output `{}` {what}", value.name))?;
        signature.outputs.push(feature(value, kind));
    }
    // A classifier is known by what it gives: probabilities by label, and a label.
    let named = |kinds: fn(&FeatureKind) -> bool| {
        let found = signature.outputs.iter().find(|output| output.kind.as_ref().is_some_and(kinds));
        found.map(|output| output.name.clone()).unwrap_or_default()
    };
    let probabilities = named(|kind| matches!(kind, FeatureKind::Dictionary(_)));
    if !probabilities.is_empty() {
        signature.predicted_feature = named(|kind| matches!(kind, FeatureKind::String | FeatureKind::Int64));
        signature.predicted_probabilities = probabilities;
    }
    Ok(signature)
}

fn values<'a>(function: &'a Function, ids: &'a [ValueId]) -> impl Iterator<Item = &'a Value> {
    ids.iter().filter_map(|id| function.values.get(id.index()))
}

fn feature(value: &Value, kind: FeatureKind) -> Feature {
    Feature { name: value.name.clone(), short_description: String::new(), kind: Some(kind), optional: false }
}

fn output(ty: &Type) -> Result<FeatureKind, String> {
    match (ty, ty.as_tensor()) {
        (Type::Dict(key, _), _) => Ok(FeatureKind::Dictionary(match key.dtype() {
            Some(DType::String) => Some(Item::String),
            Some(DType::Int64) => Some(Item::Int64),
            _ => return Err(format!("is {ty}")),
        })),
        (_, Some(TensorType { dtype: DType::String, shape })) if shape.rank() == 0 => Ok(FeatureKind::String),
        (_, Some(TensorType { dtype: DType::Int64, shape })) if shape.rank() == 0 => Ok(FeatureKind::Int64),
        (_, Some(tensor)) => {
            let elements = elements(tensor.dtype)?;
            // The shape of an output is said only where it is known.
            let shape = known(&tensor, None).unwrap_or_default();
            Ok(FeatureKind::Array(ArrayFeature { shape, elements, shapes: Shapes::Fixed, default: None }))
        }
        _ => Err(format!("is {ty}; models give arrays")),
    }
}

fn array(ty: &TensorType, flexible: Option<&Flexible>) -> Result<ArrayFeature, String> {
    let elements = elements(ty.dtype)?;
    // An attribute that speaks of another rank says nothing of this.
    let rank = ty.shape.rank();
    let fits = |flexible: &&Flexible| {
        flexible.default.len() == rank
            && match &flexible.shapes {
                Shapes::Fixed => false,
                Shapes::Enumerated(shapes) => {
                    !shapes.is_empty() && shapes.iter().all(|shape| shape.len() == rank)
                }
                Shapes::Range(ranges) => ranges.len() == rank,
            }
    };
    if let Some(Flexible { default, shapes }) = flexible.filter(fits) {
        return Ok(ArrayFeature { shape: default.clone(), elements, shapes: shapes.clone(), default: None });
    }
    let shape = known(ty, Some(1)).ok_or_else(|| format!("is {ty}, which is too large"))?;
    let range = |(dim, &size): (&Dim, &i64)| match dim {
        Dim::Known(length) => SizeRange { lower: *length, upper: size },
        Dim::Unknown => SizeRange { lower: 1, upper: -1 },
    };
    let shapes = match ty.shape.0.contains(&Dim::Unknown) {
        true => Shapes::Range(ty.shape.0.iter().zip(&shape).map(range).collect()),
        false => Shapes::Fixed,
    };
    Ok(ArrayFeature { shape, elements, shapes, default: None })
}

/// The lengths of a type, with what stands for those that are not known.
fn known(ty: &TensorType, unknown: Option<i64>) -> Option<Vec<i64>> {
    let length = |dim: &Dim| match dim {
        Dim::Known(length) => i64::try_from(*length).ok(),
        Dim::Unknown => unknown,
    };
    ty.shape.0.iter().map(length).collect()
}

fn elements(dtype: DType) -> Result<ArrayType, String> {
    match dtype {
        DType::Fp16 => Ok(ArrayType::Float16),
        DType::Fp32 => Ok(ArrayType::Float32),
        DType::Fp64 => Ok(ArrayType::Double),
        DType::Int8 => Ok(ArrayType::Int8),
        DType::Int32 => Ok(ArrayType::Int32),
        other => {
            Err(format!("has elements of type {other}; those of models are fp16, fp32, fp64, int8 or int32"))
        }
    }
}
