//! Settling the types of one function.

use std::collections::HashSet;

use super::flexible::forget_inputs;
use super::{PassError, Rewritten, find, finish, unknown_name};
use crate::specialize;
use crate::types::{TensorType, Type};
use crate::verify::{Verified, count};

/// Settles the types of a function for inputs of these types, by name; an input that is not named keeps its type, whose
/// dimensions must be known. No dimension stays `?` that data does not decide: what follows from types and constants,
/// such as the shape that ops compute for a `reshape`, is computed here. Other functions stay as they are.
///
/// # Errors
///
/// When there is no such function or input, a type does not fit its input, an input's type is not known, or an op
/// refuses the dimensions.
pub fn specialize(
    program: &Verified,
    function: &str,
    inputs: &[(&str, TensorType)],
) -> Result<Rewritten, PassError> {
    let index = find(program.program(), function)?;
    let declared = &program.program().functions[index];
    let inputs_of = || declared.body.inputs.iter().map(|&id| declared.value(id));
    let names =
        inputs_of().filter(|input| !matches!(input.ty, Type::State(_))).map(|input| input.name.as_str());
    for (position, (name, _)) in inputs.iter().enumerate() {
        if !names.clone().any(|input| input == *name) {
            return Err(unknown_name("input", name, names));
        }
        if inputs[..position].iter().any(|(before, _)| before == name) {
            return Err(PassError::Request(format!("the type of the input `{name}` is given twice")));
        }
    }
    let mut types = Vec::with_capacity(inputs.len());
    for input in inputs_of() {
        let given = inputs.iter().find(|(name, _)| *name == input.name).map(|(_, ty)| ty.clone());
        let Some(ty) = input.ty.as_tensor() else { continue };
        if given.is_none() && ty.shape.elements().is_none() {
            let message = format!("the input `{}` is {ty}: its type must be given", input.name);
            return Err(PassError::Request(message));
        }
        types.push(given.unwrap_or(ty));
    }
    let settled = specialize::specialize(program, function, &types)?;
    let mut changed = settled.into_program();
    let after = &mut changed.functions[index];
    let pairs = declared.values.iter().zip(&after.values);
    let settled = pairs.filter(|(before, after)| before.ty != after.ty).count();
    let open = after.values.iter().filter(|value| is_open(&value.ty)).count();
    let all: HashSet<String> = after.body.inputs.iter().map(|&id| after.value(id).name.clone()).collect();
    forget_inputs(after, &all);
    let changes = match (settled, open) {
        (0, _) => Vec::new(),
        (settled, 0) => vec![format!("`{}`: {} settled", after.name, count(settled, "type"))],
        (settled, open) => {
            let open = format!("{} with dimensions that data decides", count(open, "value"));
            vec![format!("`{}`: {} settled; {open}", after.name, count(settled, "type"))]
        }
    };
    finish(changed, changes)
}

fn is_open(ty: &Type) -> bool {
    ty.held_tensor().is_some_and(|ty| ty.shape.0.iter().any(|dim| dim.known().is_none()))
}
