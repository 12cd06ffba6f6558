//! Constants that stand in arguments, bound to values of their own.

use std::collections::HashMap;

use crate::bind::NAME_ATTRIBUTE;
use crate::program::{Argument, Dialect, Function, Literal, LiteralValue, Op, OpId};
use crate::verify::CONST;

/// Binds every weight that an argument keeps in a blob file by a `const` before the op, as older compilers write it,
/// so that it has a name.
pub fn bind_literals(function: &mut Function, dialect: Dialect) {
    let ids: Vec<OpId> = function.walk().map(|(id, _)| id).collect();
    let mut insertions: HashMap<OpId, Vec<OpId>> = HashMap::new();
    for id in ids {
        let base = function.op(id).results.first().map(|&result| function.value(result).name.clone());
        let base = base.unwrap_or_else(|| function.op(id).name.clone());
        let mut arguments = std::mem::take(&mut function.ops[id.index()].arguments);
        for (name, argument) in arguments.iter_mut() {
            for item in argument.items_mut() {
                let Argument::Literal(Literal { ty, value: LiteralValue::Blob(_) }) = &*item else {
                    continue;
                };
                let value = function.add_value(function.free_name(&format!("{base}_{name}")), ty.clone());
                let Argument::Literal(literal) = std::mem::replace(item, Argument::Value(value)) else {
                    continue;
                };
                let written = Literal::string(dialect, function.value(value).name.clone());
                let attributes = [(NAME_ATTRIBUTE, written), ("val", literal)].into_iter().collect();
                let constant =
                    Op { name: CONST.to_string(), attributes, results: vec![value], ..Op::default() };
                insertions.entry(id).or_default().push(function.add_op(constant));
            }
        }
        function.ops[id.index()].arguments = arguments;
    }
    function.insert_before(&insertions);
}
