//! The check that a program is written in the dialect of its version: bare scalars and opsets from ios18 on need
//! program(1.3).

use crate::error::{BlockPart, Error, ErrorKind, Errors, FunctionPart, OpPart, Place, Repeated};
use crate::program::{BlobReference, Dialect, Function, Literal, LiteralValue, Program};
use crate::types::{DType, Opset, Type};

/// Reports the first place that needs a newer version, if any does: one changed number mends all of them.
pub(super) fn check(program: &Program, errors: &mut Errors) {
    if program.version.dialect() != Dialect::RankZero {
        return;
    }
    let mut check =
        DialectCheck { program, newer_opsets: Repeated::default(), scalars: Repeated::default(), errors };
    for (index, function) in program.functions.iter().enumerate() {
        check.opsets(index, function);
    }
    check.newer_opsets.finish(check.errors);
    // A program in a newer opset is meant as program(1.3), where bare scalars are right.
    if !check.newer_opsets.is_empty() {
        return;
    }
    for (position, (_, literal)) in program.attributes.iter().enumerate() {
        check.literal(literal, Place::ProgramAttribute(position));
    }
    for (index, function) in program.functions.iter().enumerate() {
        check.function(index, function);
    }
    check.scalars.finish(check.errors);
}

struct DialectCheck<'a> {
    program: &'a Program,
    newer_opsets: Repeated<()>,
    scalars: Repeated<()>,
    errors: &'a mut Errors,
}

impl DialectCheck<'_> {
    fn opsets(&mut self, index: usize, function: &Function) {
        self.opset(function.opset, Place::Function(index, FunctionPart::Opset));
        for (id, op) in function.walk() {
            if let Some(opset) = op.opset {
                let part = FunctionPart::Op(id, OpPart::Name);
                self.opset(opset, Place::Function(index, part));
            }
        }
    }

    fn opset(&mut self, opset: Opset, place: Place) {
        // One that nobody knows is reported as such.
        if opset > Opset::IOS17 && Opset::KNOWN.contains(&opset) {
            self.newer_opsets.report((), ErrorKind::Version, self.errors, |kind| {
                let message = format!("{opset} needs program(1.3)");
                let label = format!("this is program({})", self.program.version);
                let error = Error::in_place(kind, place, message, label);
                error.with_help("declare program(1.3), or an opset up to ios17")
            });
        }
    }

    fn function(&mut self, index: usize, function: &Function) {
        let place = |part| Place::Function(index, part);
        for (position, &input) in function.body.inputs.iter().enumerate() {
            self.ty(&function.value(input).ty, place(FunctionPart::Input(position)));
        }
        for (position, (_, literal)) in function.attributes.iter().enumerate() {
            self.literal(literal, place(FunctionPart::Attribute(position)));
        }
        for (id, op) in function.walk() {
            let part = |part| place(FunctionPart::Op(id, part));
            for (position, &result) in op.results.iter().enumerate() {
                self.ty(&function.value(result).ty, part(OpPart::Result(position)));
            }
            for (place, literal) in op.literals() {
                self.literal(literal, part(place.into()));
            }
            for (block_index, block) in op.blocks.iter().enumerate() {
                for (position, &input) in block.inputs.iter().enumerate() {
                    let block_part = OpPart::Block(block_index, BlockPart::Input(position));
                    self.ty(&function.value(input).ty, part(block_part));
                }
            }
        }
    }

    fn literal(&mut self, literal: &Literal, place: Place) {
        if first_bare_scalar(&literal.ty).is_some() {
            self.ty(&literal.ty, place);
        } else if let LiteralValue::Blob(BlobReference { dialect: Dialect::Scalar, .. }) = &literal.value {
            self.bare_scalar(DType::String, place);
        }
    }

    fn ty(&mut self, ty: &Type, place: Place) {
        if let Some(dtype) = first_bare_scalar(ty) {
            self.bare_scalar(dtype, place);
        }
    }

    fn bare_scalar(&mut self, dtype: DType, place: Place) {
        self.scalars.report((), ErrorKind::Version, self.errors, |kind| {
            let message = format!("program({}) has no bare scalars", self.program.version);
            let error = Error::in_place(kind, place, message, format!("`{dtype}` stands alone"));
            error.with_help(format!("write `tensor<{dtype}, []>`, or declare program(1.3)"))
        });
    }
}

fn first_bare_scalar(ty: &Type) -> Option<DType> {
    match ty {
        Type::Scalar(dtype) => Some(*dtype),
        Type::Tensor(_) | Type::TensorBuffer { .. } => None,
        Type::List(inner, _) | Type::State(inner) => first_bare_scalar(inner),
        Type::Tuple(items) => items.iter().find_map(first_bare_scalar),
        Type::Dict(key, value) => first_bare_scalar(key).or_else(|| first_bare_scalar(value)),
    }
}
