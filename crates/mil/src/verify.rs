//! Checks that a program is well formed and that every op accepts its operands.
//!
//! The checks are generic: what an op takes and gives comes from its row. Declared types are kept where the
//! type rule leaves a dimension open, so that one mistake does not show up again at every later use.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::bind::{self, NAME_ATTRIBUTE, Scope};
use crate::error::{Error, ErrorKind, Errors, FunctionPart, OpPart, Place};
use crate::ops::{self, OpDef, OpError, Operand};
use crate::program::{
    Argument, BlobReference, Block, Function, Literal, LiteralValue, Op, OpId, Program, ValueId,
};
use crate::suggest::nearest;
use crate::tensor::Tensor;
use crate::types::{Opset, Shape, TensorType, Type};
use crate::weights::WeightSource;

mod arguments;
mod declarations;

pub use arguments::check as check_arguments;
pub use declarations::is_identifier;

/// A program that every check accepts, with the row of each op.
#[derive(Debug, Clone)]
pub struct Verified {
    program: Program,
    rows: Vec<Vec<Option<&'static OpDef>>>,
}

impl Verified {
    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The row of an op; `None` for `const`, which has none.
    pub fn row(&self, function: usize, op: OpId) -> Option<&'static OpDef> {
        self.rows[function][op.0 as usize]
    }

    /// The program again, unverified.
    pub fn into_program(self) -> Program {
        self.program
    }
}

/// The name of the one op that the language itself defines.
pub const CONST: &str = "const";

/// Checks a program.
///
/// # Errors
///
/// Every mistake that does not follow from another.
pub fn verify(program: Program) -> Result<Verified, Errors> {
    let mut errors = Vec::new();
    declarations::check_program(&program, &mut errors);
    let mut rows = Vec::with_capacity(program.functions.len());
    for (index, function) in program.functions.iter().enumerate() {
        rows.push(check_function(&program, index, function, &mut errors));
    }
    if errors.is_empty() { Ok(Verified { program, rows }) } else { Err(Errors(errors)) }
}

/// Checks that every blob a program refers to is there and is what the program declares.
///
/// # Errors
///
/// One error per blob that cannot be read as its declared type.
pub fn verify_blobs(program: &Program, weights: &dyn WeightSource) -> Result<(), Errors> {
    let mut errors = Vec::new();
    for (index, function) in program.functions.iter().enumerate() {
        for (op_index, op) in function.ops.iter().enumerate() {
            let place = |part| Place::Function(index, FunctionPart::Op(OpId(op_index as u32), part));
            for (position, (_, literal)) in op.attributes.iter().enumerate() {
                check_blob(literal, place(OpPart::Attribute(position)), weights, &mut errors);
            }
            for (position, (_, argument)) in op.arguments.iter().enumerate() {
                let items = match argument {
                    Argument::Tuple(items) => items.as_slice(),
                    single => std::slice::from_ref(single),
                };
                for item in items {
                    if let Argument::Literal(literal) = item {
                        check_blob(literal, place(OpPart::Argument(position)), weights, &mut errors);
                    }
                }
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Errors(errors)) }
}

fn check_blob(literal: &Literal, place: Place, weights: &dyn WeightSource, errors: &mut Vec<Error>) {
    let (LiteralValue::Blob(reference), Some(ty)) = (&literal.value, literal.ty.as_tensor()) else { return };
    if let Err(error) = weights.load(reference, &ty) {
        errors.push(Error::in_place(
            ErrorKind::Blob,
            place,
            format!("the blob at offset {} of `{}` cannot be read", reference.offset, reference.path),
            error.to_string(),
        ));
    }
}

/// What verification knows of a function's values so far.
struct Known {
    types: Vec<Type>,
    constants: HashMap<ValueId, Option<Arc<Tensor>>>,
}

impl Scope for Known {
    fn value(&self, id: ValueId) -> Option<Operand> {
        let (ty, is_state) = match &self.types[id.0 as usize] {
            Type::State(inner) => (inner.as_tensor()?, true),
            other => (other.as_tensor()?, false),
        };
        let constant = self.constants.get(&id);
        let value = constant.cloned().flatten();
        Some(Operand { ty, constant: constant.is_some(), value, id: Some(id), is_state })
    }

    fn blob(&self, _: &BlobReference, _: &TensorType) -> Option<Arc<Tensor>> {
        None
    }
}

struct FunctionCheck<'a, 'e> {
    index: usize,
    function: &'a Function,
    known: Known,
    defined: HashSet<ValueId>,
    visited: HashSet<OpId>,
    rows: Vec<Option<&'static OpDef>>,
    errors: &'e mut Vec<Error>,
}

fn check_function(
    program: &Program,
    index: usize,
    function: &Function,
    errors: &mut Vec<Error>,
) -> Vec<Option<&'static OpDef>> {
    let none = vec![None; function.ops.len()];
    if let Err(error) = declarations::check_ids(index, function) {
        errors.push(error);
        return none;
    }
    declarations::check_function(program, index, function, errors);
    let types = function.values.iter().map(|value| value.ty.clone()).collect();
    let mut check = FunctionCheck {
        index,
        function,
        known: Known { types, constants: HashMap::new() },
        defined: function.body.inputs.iter().copied().collect(),
        visited: HashSet::new(),
        rows: none,
        errors,
    };
    check.block(&function.body);
    for (position, output) in function.body.outputs.iter().enumerate() {
        if !check.defined.contains(output) {
            let name = &function.value(*output).name;
            check.error(
                ErrorKind::UndefinedName,
                FunctionPart::Output(position),
                format!("nothing defines the output `{name}`"),
                "not defined in this function",
            );
        }
    }
    check.rows
}

impl FunctionCheck<'_, '_> {
    fn error(
        &mut self,
        kind: ErrorKind,
        part: FunctionPart,
        message: impl Into<String>,
        label: impl Into<String>,
    ) {
        self.errors.push(Error::in_place(kind, Place::Function(self.index, part), message, label));
    }

    fn block(&mut self, block: &Block) {
        for &id in &block.ops {
            let op = self.function.op(id);
            if !self.visited.insert(id) {
                self.error(
                    ErrorKind::Malformed,
                    FunctionPart::Op(id, OpPart::Name),
                    format!("the op `{}` stands in two places of the function", op.name),
                    "",
                );
                continue;
            }
            let operands_defined = self.check_uses(id, op);
            for nested in &op.blocks {
                self.defined.extend(&nested.inputs);
                self.block(nested);
            }
            if op.name == CONST {
                self.constant(id, op);
            } else if operands_defined {
                self.op(id, op);
            }
            self.define_results(id, op);
        }
    }

    fn check_uses(&mut self, id: OpId, op: &Op) -> bool {
        let mut all_defined = true;
        for (position, (_, argument)) in op.arguments.iter().enumerate() {
            for value in argument.values() {
                if !self.defined.contains(&value) {
                    all_defined = false;
                    let name = self.function.value(value).name.clone();
                    self.error(
                        ErrorKind::UseBeforeDefinition,
                        FunctionPart::Op(id, OpPart::Argument(position)),
                        format!("`{name}` is used before it is defined"),
                        "not defined yet",
                    );
                }
            }
        }
        all_defined
    }

    fn define_results(&mut self, id: OpId, op: &Op) {
        for (position, &result) in op.results.iter().enumerate() {
            if !self.defined.insert(result) {
                let name = self.function.value(result).name.clone();
                self.error(
                    ErrorKind::Redefinition,
                    FunctionPart::Op(id, OpPart::Result(position)),
                    format!("`{name}` is defined twice"),
                    "defined before",
                );
            }
        }
    }

    fn constant(&mut self, id: OpId, op: &Op) {
        match declarations::check_constant(self.function, op) {
            Ok((result, value)) => {
                self.known.constants.insert(result, value);
            }
            Err((part, message, label)) => {
                self.error(ErrorKind::Constant, FunctionPart::Op(id, part), message, label);
                self.assume_constant(op);
            }
        }
    }

    fn op(&mut self, id: OpId, op: &Op) {
        let opset = op.opset.unwrap_or(self.function.opset);
        let Some(row) = ops::lookup(&op.name, opset) else {
            self.unknown_op(id, op, opset);
            self.assume_constant(op);
            return;
        };
        self.rows[id.0 as usize] = Some(row);
        let before = self.errors.len();
        let inferred = match bind::operands(op, row, &self.known) {
            Ok(operands) => {
                let refused = arguments::check(op, row, opset, &operands);
                let stop = !refused.is_empty();
                for error in refused {
                    self.op_error(id, op, error);
                }
                if stop { None } else { Some((row.infer)(&operands)) }
            }
            Err(error) => {
                self.op_error(id, op, error);
                None
            }
        };
        match inferred {
            Some(Ok(types)) => self.results(id, op, &types),
            Some(Err(error)) => self.op_error(id, op, error),
            None => {}
        }
        // A faulty op may stand for a constant; what uses it is not at fault.
        if row.constexpr || self.errors.len() > before {
            self.assume_constant(op);
        }
    }

    fn assume_constant(&mut self, op: &Op) {
        for &result in &op.results {
            self.known.constants.entry(result).or_insert(None);
        }
    }

    fn unknown_op(&mut self, id: OpId, op: &Op, opset: Opset) {
        let part = FunctionPart::Op(id, OpPart::Name);
        if let Some(first) = ops::signatures(&op.name).map(|row| row.since).min() {
            self.error(
                ErrorKind::Version,
                part,
                format!("`{}` is not in {opset}", op.name),
                format!("available since {first}"),
            );
            return;
        }
        let mut error = Error::in_place(
            ErrorKind::UnknownOp,
            Place::Function(self.index, part),
            format!("unknown op `{}`", op.name),
            "no op of this name can be verified or run",
        );
        if let Some(near) = nearest(&op.name, ops::rows().map(|row| row.name)) {
            error = error.with_help(format!("the nearest op is `{near}`"));
        }
        self.errors.push(error);
    }

    fn op_error(&mut self, id: OpId, op: &Op, error: OpError) {
        let part = match error.parameter.as_deref() {
            Some(name) => match (op.arguments.position(name), op.attributes.position(name)) {
                (Some(position), _) => OpPart::Argument(position),
                (None, Some(position)) if name != NAME_ATTRIBUTE => OpPart::Attribute(position),
                _ => OpPart::Name,
            },
            None => OpPart::Name,
        };
        let message = match &error.parameter {
            Some(parameter) => format!("`{}`, parameter `{parameter}`: {}", op.name, error.message),
            None => format!("`{}`: {}", op.name, error.message),
        };
        self.errors.push(Error {
            kind: error.kind,
            message,
            location: crate::error::Location::Place(Place::Function(self.index, FunctionPart::Op(id, part))),
            label: error.label,
            help: error.help,
        });
    }

    fn results(&mut self, id: OpId, op: &Op, inferred: &[TensorType]) {
        if inferred.len() != op.results.len() {
            self.error(
                ErrorKind::DeclaredType,
                FunctionPart::Op(id, OpPart::Name),
                format!("`{}` gives {} here", op.name, count(inferred.len(), "result")),
                format!("bound to {}", count(op.results.len(), "name")),
            );
            return;
        }
        for (position, (&result, inferred)) in op.results.iter().zip(inferred).enumerate() {
            let value = self.function.value(result);
            let declared = value.ty.as_tensor();
            match declared {
                Some(declared)
                    if declared.dtype == inferred.dtype && declared.shape.agrees_with(&inferred.shape) =>
                {
                    let shape = declared.shape.0.iter().zip(&inferred.shape.0).map(|(a, b)| a.or(*b));
                    let refined = TensorType { dtype: declared.dtype, shape: Shape(shape.collect()) };
                    if let Type::Tensor(_) = value.ty {
                        self.known.types[result.0 as usize] = Type::Tensor(refined);
                    }
                }
                _ => {
                    let message = format!("`{}` is declared as {}", value.name, value.ty);
                    self.error(
                        ErrorKind::DeclaredType,
                        FunctionPart::Op(id, OpPart::Result(position)),
                        message,
                        format!("`{}` gives {inferred}", op.name),
                    );
                }
            }
        }
    }
}

pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
