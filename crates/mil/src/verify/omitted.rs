//! The warning about parameters that are left out because they have a default.
//!
//! coremltools' builder fills them in before it writes a program, and so does Apple's compiler; the loader of text
//! knows no defaults, and refuses an op that lacks one of them.

use crate::bind;
use crate::error::{Error, ErrorKind, Errors, FunctionPart, OpPart, Place, Repeated};
use crate::ops::{Given, OpDef, Operand, Operands, ParameterDef};
use crate::program::{Dialect, Op, OpId};
use crate::tensor::Tensor;
use crate::types::{DType, Type};

use super::FunctionCheck;

/// The warnings of a program so far.
#[derive(Default)]
pub(super) struct Warnings {
    list: Errors,
    /// By the op, and the parameters that it is not given.
    omitted: Repeated<(&'static str, Vec<&'static str>)>,
}

impl Warnings {
    /// All of them.
    pub(super) fn finish(mut self) -> Errors {
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
        let omitted = omitted(row, &operands);
        if omitted.is_empty() {
            return;
        }
        let names: Vec<&'static str> = omitted.iter().map(|(name, _)| *name).collect();
        let place = Place::Function(self.index, FunctionPart::Op(id, OpPart::Name));
        let key = (row.name, names.clone());
        let dialect = self.version.dialect();
        let Warnings { list, omitted: known } = &mut *self.warnings;
        known.report(key, ErrorKind::OmittedParameter, list, |kind| {
            let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("`{}` is not given {}", row.name, listed(&quoted));
            let (them, defaults) = if names.len() == 1 { ("it", "default") } else { ("them", "defaults") };
            let label = format!("Core ML's loader of text wants {them} written");
            let lines: Vec<String> = omitted
                .iter()
                .map(|(name, default)| format!("{name} = {}", default.literal(dialect)))
                .collect();
            let error = Error::in_place(kind, place, message, label).as_warning();
            error.with_help(format!("write the {defaults}: `{}`", lines.join(", ")))
        });
    }
}

/// What Core ML wants written for a parameter that may be left out.
pub struct Omission {
    dtype: DType,
    /// A scalar as text writes it, and how many of them a vector holds; none for a scalar.
    number: &'static str,
    count: Option<usize>,
}

impl Omission {
    /// The default as text writes it.
    pub fn literal(&self, dialect: Dialect) -> String {
        match self.count {
            None => format!("{}({})", dialect.scalar_type(self.dtype), self.number),
            Some(count) => {
                format!("{}([{}])", Type::tensor(self.dtype, &[count]), vec![self.number; count].join(", "))
            }
        }
    }

    /// The default as a tensor.
    pub fn tensor(&self) -> Option<Tensor> {
        let dims: Vec<usize> = self.count.into_iter().collect();
        let count = self.count.unwrap_or(1);
        match self.dtype {
            DType::Bool => Some(Tensor::scalar(self.number.parse::<bool>().ok()?)),
            DType::String => Some(Tensor::scalar(self.number.trim_matches('"').to_string())),
            dtype if dtype.is_float() => {
                Tensor::from_f64(dtype, &dims, &vec![self.number.parse().ok()?; count]).ok()
            }
            dtype => Tensor::from_i64(dtype, &dims, &vec![self.number.parse().ok()?; count]).ok(),
        }
    }
}

/// The parameters that an op relies on a default of, though Core ML wants them written, as the compiler orders them.
pub fn omitted(row: &OpDef, operands: &Operands<'_>) -> Vec<(&'static str, Omission)> {
    let absent = row
        .parameters
        .iter()
        .filter(|parameter| operands.get(parameter.name).is_none() && !NOT_WANTED.contains(&parameter.name));
    let defaults = absent.filter_map(|parameter| Some((parameter.name, default(row, parameter, operands)?)));
    let mut omitted: Vec<(&'static str, Omission)> = defaults.collect();
    omitted.sort_unstable_by_key(|(name, _)| *name);
    omitted
}

/// The default of a parameter, if it has one.
fn default(row: &OpDef, parameter: &ParameterDef, operands: &Operands<'_>) -> Option<Omission> {
    if let Some(text) = parameter.default {
        let dtype = dtype(row, parameter, operands).filter(|&dtype| is_scalar(text, dtype))?;
        return Some(Omission { dtype, number: text, count: None });
    }
    let (_, number, count) = PER_SPATIAL_DIMENSION.iter().find(|(name, ..)| *name == parameter.name)?;
    let Given::One(x) = operands.get("x")? else { return None };
    let count = count * x.rank().checked_sub(2)?;
    parameter.optional.then_some(Omission { dtype: DType::Int32, number, count: Some(count) })
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
