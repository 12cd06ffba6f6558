//! The warning about parameters that are left out because they have a default.
//!
//! coremltools' builder fills them in before it writes a program, and so does Apple's compiler; the loader of text
//! knows no defaults, and refuses an op that lacks one of them.

use crate::bind;
use crate::error::{Error, ErrorKind, Errors, FunctionPart, OpPart, Place, Repeated};
use crate::ops::{Given, OpDef, Operand, Operands, ParameterDef};
use crate::program::{Dialect, Op, OpId};
use crate::types::{DType, Type};

use super::FunctionCheck;

/// The warnings of a program so far.
#[derive(Default)]
pub struct Warnings {
    list: Errors,
    /// By the op, and the parameters that it is not given.
    omitted: Repeated<(&'static str, Vec<&'static str>)>,
}

impl Warnings {
    /// All of them.
    pub fn finish(mut self) -> Errors {
        self.omitted.finish(&mut self.list);
        self.list
    }
}

/// The optional parameters whose default is one number for each spatial dimension of `x`, or each end of one, so that
/// no row can write it: name, number, and how many per dimension.
const PER_SPATIAL_DIMENSION: [(&str, &str, usize); 3] =
    [("dilations", "1", 1), ("pad", "0", 2), ("strides", "1", 1)];

/// Parameters that Apple's compiler leaves out, too.
const NOT_WANTED: [&str; 1] = ["batch_dims"];

impl FunctionCheck<'_, '_> {
    /// Warns of an op that relies on defaults.
    pub(super) fn warn_of_omissions(&mut self, id: OpId, op: &Op, row: &'static OpDef) {
        let Ok(operands) = bind::operands(op, row, &self.known.facts) else { return };
        let absent = row.parameters.iter().filter(|parameter| {
            operands.get(parameter.name).is_none() && !NOT_WANTED.contains(&parameter.name)
        });
        let mut omitted: Vec<(&'static str, String)> = absent
            .filter_map(|parameter| {
                let default = default(row, parameter, &operands, self.version.dialect())?;
                Some((parameter.name, default))
            })
            .collect();
        if omitted.is_empty() {
            return;
        }
        // As Apple's compiler orders arguments.
        omitted.sort_unstable();
        let names: Vec<&'static str> = omitted.iter().map(|(name, _)| *name).collect();
        let place = Place::Function(self.index, FunctionPart::Op(id, OpPart::Name));
        let key = (row.name, names.clone());
        let Warnings { list, omitted: known } = &mut *self.warnings;
        known.report(key, ErrorKind::OmittedParameter, list, |kind| {
            let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("`{}` is not given {}", row.name, listed(&quoted));
            let (them, defaults) = if names.len() == 1 { ("it", "default") } else { ("them", "defaults") };
            let label = format!("Core ML's loader of text wants {them} written");
            let lines: Vec<String> =
                omitted.iter().map(|(name, default)| format!("{name} = {default}")).collect();
            let error = Error::in_place(kind, place, message, label).as_warning();
            error.with_help(format!("write the {defaults}: `{}`", lines.join(", ")))
        });
    }
}

/// The default of a parameter as a literal, if it has one.
fn default(
    row: &OpDef,
    parameter: &ParameterDef,
    operands: &Operands<'_>,
    dialect: Dialect,
) -> Option<String> {
    if let Some(text) = parameter.default {
        let dtype = dtype(row, parameter, operands).filter(|&dtype| is_scalar(text, dtype))?;
        return Some(format!("{}({text})", dialect.scalar_type(dtype)));
    }
    let (_, number, count) = PER_SPATIAL_DIMENSION.iter().find(|(name, ..)| *name == parameter.name)?;
    let Given::One(x) = operands.get("x")? else { return None };
    let numbers = vec![*number; count * x.rank().checked_sub(2)?];
    let ty = Type::tensor(DType::Int32, &[numbers.len()]);
    parameter.optional.then(|| format!("{ty}([{}])", numbers.join(", ")))
}

/// Whether a default, as a row writes it, is also how MIL text writes a value of this type.
fn is_scalar(text: &str, dtype: DType) -> bool {
    match dtype {
        DType::Bool => text.parse::<bool>().is_ok(),
        DType::String => text.len() > 1 && text.starts_with('"') && text.ends_with('"'),
        _ => text.parse::<f64>().is_ok(),
    }
}

/// The element type that a parameter's default has: the only one that it can have, else that of an operand which must
/// have the same.
fn dtype(row: &OpDef, parameter: &ParameterDef, operands: &Operands<'_>) -> Option<DType> {
    let mut of_row = row.domain(parameter)?.iter();
    if let (Some(only), None) = (of_row.next(), of_row.next()) {
        return Some(only);
    }
    let alike = row.parameters.iter().filter(|other| other.variable == parameter.variable);
    alike.filter_map(|other| operands.get(other.name)).find_map(|given| match given {
        Given::One(operand) => Some(operand.dtype()),
        Given::Tuple(items) => items.first().map(Operand::dtype),
    })
}

/// "a", "a and b", "a, b and c".
fn listed(items: &[String]) -> String {
    match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => items.concat(),
    }
}
