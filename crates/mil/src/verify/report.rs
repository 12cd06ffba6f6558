//! How the mistakes of a function are put into words, and which are left out.

use crate::bind::NAME_ATTRIBUTE;
use crate::error::{BlockPart, Error, ErrorKind, FunctionPart, OpPart, Place};
use crate::ops::{self, BlockFault, OpError};
use crate::program::{Argument, Dialect, Op, OpId, ValueId, Version};
use crate::suggest::nearest;
use crate::types::Opset;

use super::FunctionCheck;

impl FunctionCheck<'_, '_> {
    /// An error in a part of the function.
    pub(super) fn in_function(
        &self,
        kind: ErrorKind,
        part: FunctionPart,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Error {
        Error::in_place(kind, Place::Function(self.index, part), message, label)
    }

    pub(super) fn error(
        &mut self,
        kind: ErrorKind,
        part: FunctionPart,
        message: impl Into<String>,
        label: impl Into<String>,
    ) {
        self.errors.push(self.in_function(kind, part, message, label));
    }

    pub(super) fn unknown_op(&mut self, id: OpId, op: &Op, opset: Opset) {
        let first = ops::signatures(&op.name).map(|row| row.since).min();
        let kind = if first.is_some() { ErrorKind::Version } else { ErrorKind::UnknownOp };
        let place = Place::Function(self.index, FunctionPart::Op(id, OpPart::Name));
        let (version, function) = (self.version, self.function);
        self.missing_ops.report((op.name.clone(), opset), kind, self.errors, |kind| match first {
            Some(first) => {
                let message = format!("`{}` is not in {opset}", op.name);
                let label = format!("available since {first}");
                let in_program = if version.dialect() == Dialect::RankZero && first > Opset::IOS17 {
                    format!(" in program({})", Version::V1_3)
                } else {
                    String::new()
                };
                let help = match op.opset {
                    Some(_) => format!("write `{}<{first}>`{in_program}", op.name),
                    None => format!("declare the function `{}<{first}>`{in_program}", function.name),
                };
                Error::in_place(kind, place, message, label).with_help(help)
            }
            None => {
                let message = format!("unknown op `{}`", op.name);
                let error =
                    Error::in_place(kind, place, message, "no op of this name can be verified or run");
                match nearest(&op.name, ops::rows().map(|row| row.name)) {
                    Some(near) => error.with_help(format!("the nearest op is `{near}`")),
                    None => error,
                }
            }
        });
    }

    pub(super) fn op_error(&mut self, id: OpId, op: &Op, error: OpError) {
        // Finding the place takes a look at every argument.
        if self.errors.is_full() {
            self.errors.count(error.kind);
            return;
        }
        let of_block = error.block.map(|fault| match fault {
            BlockFault::Parameters(index) => OpPart::Block(index, BlockPart::Parameters),
            BlockFault::Outputs(index) => OpPart::Block(index, BlockPart::Outputs),
        });
        let of_parameter = error.parameter.as_deref().map(|name| {
            match (op.arguments.position(name), op.attributes.position(name)) {
                (Some(position), _) => OpPart::Argument(position),
                (None, Some(position)) if name != NAME_ATTRIBUTE => OpPart::Attribute(position),
                _ => OpPart::Name,
            }
        });
        let part = of_parameter.or(of_block).unwrap_or(OpPart::Name);
        let message = match &error.parameter {
            Some(parameter) => format!("`{}`, parameter `{parameter}`: {}", op.name, error.message),
            None => format!("`{}`: {}", op.name, error.message),
        };
        let found = self.in_function(error.kind, FunctionPart::Op(id, part), message, error.label);
        self.errors.push(Error { help: error.help, ..found });
    }

    /// The refusal of something that is no tensor, with its type where it has one.
    pub(super) fn naming_type(&self, op: &Op, error: OpError) -> OpError {
        let argument = error.parameter.as_deref().and_then(|name| op.arguments.get(name));
        match argument {
            Some(Argument::Value(id)) => error.found(format!("found {}", self.function.value(*id).ty)),
            Some(Argument::Literal(literal)) => error.found(format!("found {}", literal.ty)),
            _ => error,
        }
    }

    /// Whether an op may be refused only for a mistake that has been reported.
    pub(super) fn follows_from_another(&self, op: &Op, error: &OpError) -> bool {
        use ErrorKind::{MissingParameter, Redefinition, UnknownParameter, Version};
        if matches!(error.kind, MissingParameter | UnknownParameter | Redefinition | Version) {
            return false;
        }
        let of_parameter = error.parameter.as_deref().and_then(|name| op.arguments.get(name));
        let assumed = |id: ValueId| self.known.assumed_constant.contains(&id);
        self.has_doubtful_operand(op)
            || (error.kind == ErrorKind::NotConstant
                && of_parameter.is_some_and(|argument| argument.values().any(assumed)))
    }
}
