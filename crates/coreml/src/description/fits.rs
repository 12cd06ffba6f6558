//! Whether a description is that of a program.

use std::collections::{HashMap, HashSet};

use anemone_mil::program::{Function, Program};
use anemone_mil::types::{Dim, TensorType, Type};

use super::{ArrayFeature, Feature, FeatureKind, ModelDescription, Shapes, Signature};

impl ModelDescription {
    /// Checks that a program's functions take and give what is described: the same names, and arrays of the same
    /// elements and of shapes that agree.
    ///
    /// # Errors
    ///
    /// The first that does not fit, in words.
    pub fn check(&self, program: &Program) -> Result<(), String> {
        let there: HashSet<&str> = program.functions.iter().map(|function| function.name.as_str()).collect();
        for (name, _) in &self.functions {
            if !there.contains(name.as_str()) {
                return Err(format!("it has no function `{name}`"));
            }
        }
        if self.functions.is_empty() && program.functions.len() > 1 {
            return Err(format!("it has {} functions, of which one is described", program.functions.len()));
        }
        let described = self.by_function();
        for function in &program.functions {
            let Some(signature) = described(&function.name) else {
                return Err(format!("its function `{}` is not described", function.name));
            };
            let checked = check(signature, function);
            checked.map_err(|what| format!("the function `{}`: {what}", function.name))?;
        }
        Ok(())
    }
}

fn check(signature: &Signature, function: &Function) -> Result<(), String> {
    let values = |ids: &[anemone_mil::program::ValueId]| -> Vec<(&str, &Type)> {
        let values = ids.iter().filter_map(|id| function.values.get(id.index()));
        values.map(|value| (value.name.as_str(), &value.ty)).collect()
    };
    let is_state = |(_, ty): &(&str, &Type)| matches!(ty, Type::State(_));
    let (states, inputs) = values(&function.body.inputs).into_iter().partition(is_state);
    let outputs = values(&function.body.outputs);
    for (what, described, there) in [
        ("input", &signature.inputs, inputs),
        ("state", &signature.states, states),
        ("output", &signature.outputs, outputs),
    ] {
        check_all(what, described, &there)?;
    }
    Ok(())
}

fn check_all(what: &str, described: &[Feature], there: &[(&str, &Type)]) -> Result<(), String> {
    // Of several with one name the first counts.
    let named: HashMap<&str, &Feature> =
        described.iter().rev().map(|feature| (feature.name.as_str(), feature)).collect();
    for (name, ty) in there {
        let feature = named.get(name);
        let feature = feature.ok_or_else(|| format!("its {what} `{name}` is not described"))?;
        if let Some(FeatureKind::Array(array) | FeatureKind::State(Some(array))) = &feature.kind
            && ty.held_tensor().is_some_and(|ty| !agrees(array, &ty))
        {
            return Err(format!("its {what} `{name}` is {ty}, and is described as {array}"));
        }
    }
    let there: HashSet<&str> = there.iter().map(|(name, _)| *name).collect();
    match described.iter().find(|feature| !there.contains(feature.name.as_str())) {
        Some(missing) => Err(format!("it has no {what} `{}`, which is described", missing.name)),
        None => Ok(()),
    }
}

fn agrees(array: &ArrayFeature, ty: &TensorType) -> bool {
    let Some(elements) = array.elements.dtype() else { return true };
    // Of a value that has several shapes, or whose shape is not described, only the number of dimensions is told.
    let dim = |(&size, dim): (&i64, &Dim)| dim.known().is_none_or(|length| i64::try_from(length) == Ok(size));
    let shape = match (&array.shapes, array.shape.as_slice()) {
        (_, []) => true,
        (Shapes::Fixed, shape) => shape.len() == ty.shape.rank() && shape.iter().zip(&ty.shape.0).all(dim),
        (_, shape) => shape.len() == ty.shape.rank(),
    };
    elements == ty.dtype && shape
}
