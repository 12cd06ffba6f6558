//! Constants that stand in arguments, bound to values of their own.

use std::collections::HashMap;

use crate::bind::NAME_ATTRIBUTE;
use crate::program::{Argument, Dialect, FreeNames, Function, Literal, LiteralValue, Op, OpId, ValueId};
use crate::verify::CONST;

/// Binds every weight that an argument keeps in a blob file by a `const` before the op, as older compilers write it,
/// so that it has a name. Gives the number of those bound.
pub fn bind_literals(function: &mut Function, dialect: Dialect) -> usize {
    bind_literals_if(function, dialect, |_, literal| matches!(literal.value, LiteralValue::Blob(_)))
}

/// As [`bind_literals`], for the literals in arguments of ops that `chosen` accepts.
pub fn bind_literals_if(
    function: &mut Function,
    dialect: Dialect,
    chosen: impl Fn(&Op, &Literal) -> bool,
) -> usize {
    let ids: Vec<OpId> = function.walk().map(|(id, _)| id).collect();
    let mut insertions: HashMap<OpId, Vec<OpId>> = HashMap::new();
    let mut names = FreeNames::of(function);
    let mut bound = 0;
    for id in ids {
        let is_chosen = |item: &Argument| match item {
            Argument::Literal(literal) => chosen(function.op(id), literal),
            _ => false,
        };
        if !function.op(id).arguments.iter().any(|(_, argument)| argument.items().iter().any(is_chosen)) {
            continue;
        }
        let op = function.op(id).clone();
        let base = op.results.first().map_or(&op.name, |&result| &function.value(result).name).clone();
        let mut arguments = op.arguments.clone();
        for (parameter, argument) in arguments.iter_mut() {
            for item in argument.items_mut() {
                let Argument::Literal(literal) = &*item else { continue };
                if !chosen(&op, literal) {
                    continue;
                }
                let name = names.free(&format!("{base}_{parameter}"));
                let (constant, value) = add_constant(function, dialect, name, literal.clone());
                *item = Argument::Value(value);
                insertions.entry(id).or_default().push(constant);
                bound += 1;
            }
        }
        function.ops[id.index()].arguments = arguments;
    }
    function.insert_before(&insertions);
    bound
}

/// Adds a `const` to the arena, without placing it in a block; gives it and what it binds.
pub(super) fn add_constant(
    function: &mut Function,
    dialect: Dialect,
    name: String,
    literal: Literal,
) -> (OpId, ValueId) {
    let value = function.add_value(name.clone(), literal.ty.clone());
    (function.add_op(constant(dialect, name, literal, value)), value)
}

/// The `const` that binds a value.
pub(super) fn constant(dialect: Dialect, name: String, literal: Literal, value: ValueId) -> Op {
    let attributes =
        [(NAME_ATTRIBUTE, Literal::string(dialect, name)), ("val", literal)].into_iter().collect();
    Op { name: CONST.to_string(), attributes, results: vec![value], ..Op::default() }
}
