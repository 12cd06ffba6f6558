//! Constants that become inputs.

use std::collections::HashSet;

use super::bind_literals::bind_literals;
use super::{PassError, Rewritten, find, finish, unknown_name};
use crate::program::{Dialect, FreeNames, Function, Literal, LiteralValue, Op, OpId, ValueId};
use crate::verify::{CONST, Verified, count};

/// A constant that became an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Unbaked {
    /// The input's name.
    pub name: String,
    /// The value that the constant had.
    pub value: Literal,
}

/// Makes inputs of constants of a function: of those named, or without names of all that blob files keep, but for those
/// that an op needs as constants. They follow the inputs that are there, in the order of the text, and are told with
/// the values that they had.
///
/// # Errors
///
/// When there is no such function or constant, or an op refuses what is no constant any more.
pub fn unbake(
    program: &Verified,
    function: &str,
    names: &[&str],
) -> Result<(Rewritten, Vec<Unbaked>), PassError> {
    let mut changed = program.program().clone();
    let dialect = changed.version.dialect();
    let index = find(&changed, function)?;
    let function = &mut changed.functions[index];
    bind_literals(function, dialect);
    let chosen = if names.is_empty() { in_blob_files(function) } else { named(function, names)? };
    let mut free = FreeNames::of(function);
    let mut unbaked = Vec::with_capacity(chosen.len());
    for &id in &chosen {
        let op = function.op(id);
        let (Some(&result), Some(value)) = (op.results.first(), op.attributes.get("val").cloned()) else {
            continue;
        };
        make_name_unique(function, result, &mut free, dialect);
        function.body.inputs.push(result);
        unbaked.push(Unbaked { name: function.value(result).name.clone(), value });
    }
    let gone: HashSet<OpId> = chosen.into_iter().collect();
    function.retain_ops(|id| !gone.contains(&id));
    let changes = match unbaked.len() {
        0 => Vec::new(),
        number => vec![format!("`{}`: {} made inputs", function.name, count(number, "constant"))],
    };
    Ok((finish(changed, changes)?, unbaked))
}

/// Renames what has the name of a value that becomes an input: an input is seen everywhere, what a nested block binds only
/// there. What the function itself binds keeps its name, which others may know.
fn make_name_unique(function: &mut Function, input: ValueId, free: &mut FreeNames, dialect: Dialect) {
    let name = function.value(input).name.clone();
    let has_name = |function: &Function, id: ValueId| id != input && function.value(id).name == name;
    if bound_by_function(function).any(|id| has_name(function, id)) {
        function.values[input.index()].name = free.free(&name);
        return;
    }
    let others = (0..function.values.len() as u32).map(ValueId).filter(|&id| has_name(function, id));
    let renamed = others.map(|id| (id, free.free(&name))).collect();
    function.rename_all(renamed, dialect);
}

/// The values that a function binds outside nested blocks.
fn bound_by_function(function: &Function) -> impl Iterator<Item = ValueId> {
    let results = function.body.ops.iter().flat_map(|&id| &function.op(id).results);
    function.body.inputs.iter().chain(results).copied()
}

/// The constants with these names: where the function binds one itself, that; otherwise those of nested blocks.
fn named(function: &Function, names: &[&str]) -> Result<Vec<OpId>, PassError> {
    let outside: HashSet<ValueId> = bound_by_function(function).collect();
    let constants: Vec<(OpId, ValueId, &str)> = function
        .walk()
        .filter(|(_, op)| op.name == CONST)
        .filter_map(|(id, op)| op.results.first().map(|&result| (id, result, &*function.value(result).name)))
        .collect();
    let mut found_outside = HashSet::new();
    for (position, name) in names.iter().enumerate() {
        if !constants.iter().any(|(_, _, found)| found == name) {
            return Err(unknown_name("constant", name, constants.iter().map(|(_, _, name)| *name)));
        }
        if names[..position].contains(name) {
            return Err(PassError::Request(format!("the constant `{name}` is named twice")));
        }
        if constants.iter().any(|(_, result, found)| found == name && outside.contains(result)) {
            found_outside.insert(*name);
        }
    }
    let asked = |&(id, result, name): &(OpId, ValueId, &str)| {
        let here = outside.contains(&result) || !found_outside.contains(name);
        (here && names.contains(&name)).then_some(id)
    };
    Ok(constants.iter().filter_map(asked).collect())
}

/// The constants that blob files keep, but for those that an op needs as constants.
fn in_blob_files(function: &Function) -> Vec<OpId> {
    let needed: HashSet<ValueId> =
        function.walk().flat_map(|(_, op)| needed_as_constants(function, op)).collect();
    let is_blob =
        |op: &Op| matches!(op.attributes.get("val"), Some(Literal { value: LiteralValue::Blob(_), .. }));
    let constants = function.walk().filter(|(_, op)| op.name == CONST && is_blob(op));
    constants.filter(|(_, op)| !op.results.iter().any(|id| needed.contains(id))).map(|(id, _)| id).collect()
}

/// The values that an op reads where it takes only constants, as far as it is known.
fn needed_as_constants(function: &Function, op: &Op) -> Vec<ValueId> {
    let row = crate::ops::lookup(&op.name, function.opset_of(op));
    let takes_only_constants = |name: &str| match row {
        Some(row) => row.parameter(name).is_some_and(|parameter| parameter.kind.constant),
        // An op that is not known keeps its weights.
        None => true,
    };
    let arguments = op.arguments.iter().filter(|(name, _)| takes_only_constants(name));
    arguments.flat_map(|(_, argument)| argument.values()).collect()
}
