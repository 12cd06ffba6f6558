//! Inputs that become constants.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bind_literals::constant;
use super::flexible::forget_inputs;
use super::{PassError, Rewritten, find, finish, unknown_name};
use crate::program::{BlobReference, Literal, LiteralValue, OpId, Program, ValueId};
use crate::tensor::Tensor;
use crate::types::Type;
use crate::verify::{CONST, Verified};

/// Makes constants of inputs of a function: each has the value given for its name, and stands at the beginning of the
/// body. The values stand in the program itself until [`store_constants`] takes them out.
///
/// # Errors
///
/// When there is no such function or input, an input is a state or named twice, a value does not fit its input, or an
/// op refuses what has become a constant.
pub fn bake(
    program: &Verified,
    function: &str,
    values: &[(&str, Arc<Tensor>)],
) -> Result<Rewritten, PassError> {
    let mut changed = program.program().clone();
    let dialect = changed.version.dialect();
    let index = find(&changed, function)?;
    let function = &mut changed.functions[index];
    let mut baked: HashMap<ValueId, Arc<Tensor>> = HashMap::new();
    for (name, value) in values {
        let inputs = function.body.inputs.iter().copied();
        let id = inputs
            .clone()
            .find(|&id| function.value(id).name == *name)
            .ok_or_else(|| unknown_name("input", name, inputs.map(|id| function.value(id).name.as_str())))?;
        let ty = &function.value(id).ty;
        if !value.fits(ty) {
            let reason = match ty {
                Type::State(_) => "a state keeps no constant".to_string(),
                ty => format!("it is {ty}, {} was given", value.ty()),
            };
            return Err(PassError::Request(format!("the input `{name}` cannot be baked: {reason}")));
        }
        if baked.insert(id, value.clone()).is_some() {
            return Err(PassError::Request(format!("the input `{name}` is given twice")));
        }
    }
    let mut constants = Vec::with_capacity(baked.len());
    for id in std::mem::take(&mut function.body.inputs) {
        let Some(value) = baked.get(&id) else {
            function.body.inputs.push(id);
            continue;
        };
        let ty = &mut function.values[id.index()].ty;
        if let Type::Tensor(ty) = ty {
            *ty = value.ty();
        }
        let literal = Literal { ty: ty.clone(), value: LiteralValue::Tensor(value.clone()) };
        let name = function.value(id).name.clone();
        constants.push(function.add_op(constant(dialect, name, literal, id)));
    }
    function.body.ops.splice(0..0, constants);
    let names: HashSet<String> = baked.keys().map(|&id| function.value(id).name.clone()).collect();
    forget_inputs(function, &names);
    let changes = if baked.is_empty() {
        Vec::new()
    } else {
        let mut names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
        names.sort_unstable();
        vec![format!("`{}`: {} made constant", function.name, names.join(", "))]
    };
    finish(changed, changes)
}

/// Takes constants out of a program: `store` is asked for each of them that stands in the text and is new, and may keep
/// it in a blob file. New are those that `before` does not hold as the same tensor.
///
/// # Errors
///
/// Those of `store`.
pub fn store_constants<E>(
    program: &mut Program,
    before: &Program,
    mut store: impl FnMut(&str, &Tensor) -> Result<Option<BlobReference>, E>,
) -> Result<(), E> {
    let old: HashSet<*const Tensor> = constants(before).map(|(_, _, tensor)| Arc::as_ptr(tensor)).collect();
    let new: Vec<(usize, OpId)> = constants(program)
        .filter(|(.., tensor)| !old.contains(&Arc::as_ptr(tensor)))
        .map(|(function, op, _)| (function, op))
        .collect();
    for (index, id) in new {
        let function = &mut program.functions[index];
        let name = function.op(id).results.first().map(|&result| function.value(result).name.clone());
        let Some(literal) = function.ops[id.index()].attributes.get_mut("val") else { continue };
        let (Some(name), Some(tensor)) = (name, literal.as_tensor()) else { continue };
        if let Some(reference) = store(&name, tensor)? {
            literal.value = LiteralValue::Blob(reference);
        }
    }
    Ok(())
}

/// The constants whose values a program holds.
fn constants(program: &Program) -> impl Iterator<Item = (usize, OpId, &Arc<Tensor>)> {
    program.functions.iter().enumerate().flat_map(|(index, function)| {
        let ops = function.walk().filter(|(_, op)| op.name == CONST);
        ops.filter_map(move |(id, op)| Some((index, id, op.attributes.get("val")?.as_tensor()?)))
    })
}
