//! The tensors that a function takes, from what is given by name.

use anemone_coreml::description::{ArrayFeature, DefaultElement, Feature, FeatureKind};
use anemone_mil::program::{Function, Value};
use anemone_mil::tensor::{Tensor, TensorError};
use anemone_mil::types::{DType, TensorType, Type};

use super::{Given, OpenError, PredictError};
use crate::image;
use crate::numbers::convert;
use crate::source::list;

/// Arrays by name.
pub(super) type Arrays = Vec<(String, TensorType)>;

/// A function's inputs and its states.
pub(super) fn arrays(function: &Function) -> Result<(Arrays, Arrays), OpenError> {
    let (mut inputs, mut states) = (Vec::new(), Vec::new());
    for &id in &function.body.inputs {
        let Value { name, ty } = function.value(id);
        let held = match ty {
            Type::State(kept) => kept.as_tensor().map(|ty| states.push((name.clone(), ty))),
            other => other.as_tensor().map(|ty| inputs.push((name.clone(), ty))),
        };
        held.ok_or_else(|| OpenError::NotAnArray { name: name.clone(), ty: ty.clone() })?;
    }
    Ok((inputs, states))
}

/// The tensor for an input.
pub(super) fn input(
    name: &str,
    ty: &TensorType,
    feature: Option<&Feature>,
    given: Option<Given>,
) -> Result<Tensor, PredictError> {
    let Some(given) = given else {
        let missing = || PredictError::Missing(list(&[name.to_string()]));
        let (array, value) = feature.and_then(default).ok_or_else(missing)?;
        return filled(name, array, value, ty);
    };
    let kind = feature.and_then(|feature| feature.kind.as_ref());
    let name = name.to_string();
    match (given, kind) {
        (Given::Image(image), Some(FeatureKind::Image(feature))) => {
            image::to_tensor(&image, feature, ty).map_err(|what| PredictError::Image { name, what })
        }
        (Given::Array(_), Some(kind @ FeatureKind::Image(_))) => {
            Err(PredictError::Kind { name, kind: Box::new(kind.clone()), given: "an array" })
        }
        (Given::Image(_), Some(kind)) => {
            Err(PredictError::Kind { name, kind: Box::new(kind.clone()), given: "an image" })
        }
        (Given::Array(tensor), Some(kind)) => {
            if let FeatureKind::Array(array) = kind
                && !array.takes(tensor.shape())
            {
                let given = tensor.shape().to_vec();
                return Err(PredictError::Shape { name, kind: Box::new(kind.clone()), given });
            }
            let converted = convert(tensor, ty.dtype);
            converted.map_err(|error| PredictError::Values { name, kind: Box::new(kind.clone()), error })
        }
        (_, None) => Err(PredictError::Image { name, what: "is not described".to_string() }),
    }
}

/// What stands for an input that is left out: an array, and what each of its elements is.
pub(crate) fn default(feature: &Feature) -> Option<(&ArrayFeature, DefaultElement)> {
    match &feature.kind {
        Some(FeatureKind::Array(array)) if feature.optional => Some((array, array.default?)),
        _ => None,
    }
}

/// An input whose elements are all the same.
pub(super) fn filled(
    name: &str,
    array: &ArrayFeature,
    value: DefaultElement,
    ty: &TensorType,
) -> Result<Tensor, PredictError> {
    let described: Option<Vec<usize>> = array.shape.iter().map(|&size| usize::try_from(size).ok()).collect();
    let no_memory = || TensorError::Memory(ty.clone());
    let shape = described.ok_or_else(no_memory)?;
    let value = match value {
        DefaultElement::Int(value) => f64::from(value),
        DefaultElement::Float(value) => f64::from(value),
        DefaultElement::Double(value) => value,
    };
    let mut filled = Tensor::zeros(DType::Fp64, &shape).ok_or_else(no_memory)?;
    filled.as_mut_slice::<f64>().into_iter().for_each(|values| values.fill(value));
    convert(filled, ty.dtype).map_err(|error| {
        let kind = Box::new(FeatureKind::Array(array.clone()));
        PredictError::Values { name: name.to_string(), kind, error }
    })
}
