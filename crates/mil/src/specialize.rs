//! Settling the types of a function's values for given inputs, and reading its constants.

use std::sync::Arc;

use crate::bind::{self, Facts, Scope};
use crate::error::ErrorKind;
use crate::ops::{OpDef, OpError, Operand, join_types, refine_type};
use crate::passes::remove_dead_code;
use crate::program::{BlobReference, Function, Op, OpId, Program, Value, ValueId};
use crate::runtime::{Port, RuntimeError};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType, Type};
use crate::verify::{CONST, Findings, Verified};
use crate::weights::WeightSource;

mod blocks;
mod constants;
mod known;

pub use blocks::BlockFunction;
pub use constants::ReadConstant;
use constants::{LeftConstants, Wanted, blob, read_constants};
use known::KnownValues;

/// The program with a function's types settled for inputs of these types, one per input that is not a state: every
/// dimension is known that data does not decide. Types follow from constants in the text, from dimensions, and from what
/// ops compute of both; constants in weight files are not read.
///
/// # Errors
///
/// When there is no such function, a type does not fit its input, or an op refuses the dimensions.
pub fn specialize(
    program: &Verified,
    function: &str,
    inputs: &[TensorType],
) -> Result<Verified, RuntimeError> {
    let index = find(program, function)?;
    let mut findings = program.findings().to_vec();
    let mut program = program.program().clone();
    let function = &mut program.functions[index];
    settle_inputs(function, &mut findings[index].facts, inputs)?;
    settle_constants(function, &mut findings[index].facts);
    infer(function, &mut findings[index], KnownValues::new(true))?;
    Ok(Verified::with_findings(program, findings))
}

/// A function with the types of its values settled for given inputs, without dead code, and its constants read.
#[derive(Debug, Clone)]
pub struct Specialized {
    /// The program, with the settled types declared.
    pub program: Arc<Verified>,
    /// The function's position.
    pub function: usize,
    /// What is known of its values: settled types, where dimensions that depend on data stay `?`, and constants,
    /// those in weight files read.
    pub facts: Facts,
    /// The inputs that a run takes.
    pub inputs: Vec<Port>,
    /// The ids of those inputs.
    pub input_ids: Vec<ValueId>,
    /// The inputs that are states.
    pub states: Vec<(ValueId, Port)>,
    /// The outputs.
    pub outputs: Vec<Port>,
    /// The constants whose values are left in weight files.
    left: LeftConstants,
}

impl Specialized {
    /// Settles a function for inputs of these types, one per input that is not a state. Weights of ops that nothing
    /// needs are not read.
    ///
    /// # Errors
    ///
    /// When there is no such function, a type does not fit its input, a weight cannot be read, or an op
    /// refuses the dimensions.
    pub fn new(
        program: &Verified,
        name: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Specialized, RuntimeError> {
        Specialized::with(program, name, inputs, weights, Wanted::All)
    }

    /// As [`Specialized::new`], but integers of at most eight bits that only ops of the body read which decompress
    /// constants are left in weight files, until [`Specialized::read_left`].
    ///
    /// # Errors
    ///
    /// As [`Specialized::new`].
    pub fn leaving_compressed(
        program: &Verified,
        name: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Specialized, RuntimeError> {
        Specialized::with(program, name, inputs, weights, Wanted::NotCompressed)
    }

    fn with(
        program: &Verified,
        name: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
        wanted: Wanted,
    ) -> Result<Specialized, RuntimeError> {
        let index = find(program, name)?;
        let mut findings = program.findings().to_vec();
        let mut program: Program = program.program().clone();
        let function = &mut program.functions[index];
        remove_dead_code(function);
        refuse_unknown_ops(function, &findings[index])?;
        settle_inputs(function, &mut findings[index].facts, inputs)?;
        let left = read_constants(function, &mut findings[index].facts, weights, wanted)?;
        infer(function, &mut findings[index], KnownValues::new(false))?;
        let facts = findings[index].facts.clone();
        let ports = |ids: &[ValueId], states: bool| {
            let chosen = ids.iter().filter(|id| matches!(function.value(**id).ty, Type::State(_)) == states);
            chosen.map(|&id| Ok((id, port(function, &facts, id)?))).collect::<Result<Vec<_>, _>>()
        };
        if let Some(&id) = function.body.inputs.iter().find(|id| matches!(facts.ty(**id), Type::Dict(..))) {
            return Err(no_tensor(function, id));
        }
        let (input_ids, input_ports) = ports(&function.body.inputs, false)?.into_iter().unzip();
        let states = ports(&function.body.inputs, true)?;
        let outputs = ports(&function.body.outputs, false)?.into_iter().map(|(_, port)| port).collect();
        let program = Arc::new(Verified::with_findings(program, findings));
        Ok(Specialized {
            program,
            function: index,
            facts,
            inputs: input_ports,
            input_ids,
            states,
            outputs,
            left,
        })
    }

    /// The function.
    pub fn function(&self) -> &Function {
        &self.program.program().functions[self.function]
    }

    /// The type of a value that is a tensor or a state; dimensions that depend on data are `?`.
    pub fn ty(&self, id: ValueId) -> Option<TensorType> {
        self.facts.ty(id).held_tensor()
    }

    /// The state of this name, if it can hold `value`.
    ///
    /// # Errors
    ///
    /// When no state has this name, or its type is another.
    pub fn state(&self, name: &str, value: &Tensor) -> Result<ValueId, RuntimeError> {
        match self.states.iter().find(|(_, port)| port.name == name) {
            Some((id, port)) if port.ty == value.ty() => Ok(*id),
            Some((_, port)) => {
                let given = value.ty();
                let message = format!("the state `{name}` is {}, {given} was given", port.ty);
                Err(RuntimeError::Interface(message))
            }
            None => Err(RuntimeError::Interface(format!("no state is named `{name}`"))),
        }
    }

    /// Refuses a value that does not have the type that the function declares for it. Where an arithmetic keeps more
    /// digits than are declared, floating-point values are fp64.
    ///
    /// # Errors
    ///
    /// When element type or dimensions are others.
    pub fn check_result(&self, id: ValueId, value: &Tensor) -> Result<(), RuntimeError> {
        let fits = |declared: &TensorType| {
            let kept = value.dtype() == DType::Fp64 && declared.dtype.is_float();
            let dims = declared.shape.0.iter().zip(value.shape());
            (value.dtype() == declared.dtype || kept)
                && declared.shape.rank() == value.shape().len()
                && dims.into_iter().all(|(dim, &length)| dim.agrees_with(Dim::from(length)))
        };
        if self.ty(id).as_ref().is_some_and(fits) {
            return Ok(());
        }
        let Value { name, ty } = self.function().value(id);
        let value = match ty {
            Type::List(..) => Type::list_of(value.ty()),
            _ => Type::Tensor(value.ty()),
        };
        Err(RuntimeError::Interface(format!("`{name}` is {value}, but it is declared as {ty}")))
    }

    /// Whether the value of a constant is left in a weight file.
    pub fn is_left(&self, id: ValueId) -> bool {
        self.left.contains_key(&id)
    }

    /// The row of an op; `None` for `const`, which has none.
    pub fn row(&self, op: OpId) -> Option<&'static OpDef> {
        self.program.row(self.function, op)
    }
}

fn find(program: &Verified, name: &str) -> Result<usize, RuntimeError> {
    let functions = &program.program().functions;
    functions.iter().position(|function| function.name == name).ok_or_else(|| {
        let present: Vec<&str> = functions.iter().map(|f| f.name.as_str()).collect();
        RuntimeError::NoFunction { name: name.to_string(), present: present.join(", ") }
    })
}

fn port(function: &Function, facts: &Facts, id: ValueId) -> Result<Port, RuntimeError> {
    let value = function.value(id);
    let ty = facts.ty(id).held_tensor();
    let ty = ty.filter(|_| !matches!(value.ty, Type::List(..))).ok_or_else(|| no_tensor(function, id))?;
    Ok(Port { name: value.name.clone(), ty })
}

fn no_tensor(function: &Function, id: ValueId) -> RuntimeError {
    let Value { name, ty } = function.value(id);
    RuntimeError::Interface(format!(
        "`{name}` is {ty}, and only tensors can be passed to a run or taken from it"
    ))
}

/// Declares the inputs of a function with these types: those that are tensors, for others have no types to settle.
fn settle_inputs(
    function: &mut Function,
    facts: &mut Facts,
    inputs: &[TensorType],
) -> Result<(), RuntimeError> {
    let mut given = inputs.iter();
    for id in function.body.inputs.clone() {
        let Value { name, ty } = function.value(id);
        let Some(declared) = ty.as_tensor() else { continue };
        let Some(given) = given.next() else {
            let message = format!("no type is given for the input `{name}`");
            return Err(RuntimeError::Interface(message));
        };
        let known = given.shape.to_known().is_some();
        if given.dtype != declared.dtype || !given.shape.agrees_with(&declared.shape) || !known {
            let message = format!("the input `{name}` is {declared}, {given} was given");
            return Err(RuntimeError::Interface(message));
        }
        settle(function, facts, id, given.shape.clone());
    }
    if given.next().is_some() {
        let is_tensor = |id: &&ValueId| function.value(**id).ty.as_tensor().is_some();
        let taken = function.body.inputs.iter().filter(is_tensor).count();
        let message = format!("the function takes {taken} inputs, {} were given", inputs.len());
        return Err(RuntimeError::Interface(message));
    }
    Ok(())
}

/// Declares constants in the text with the shapes that they have.
fn settle_constants(function: &mut Function, facts: &mut Facts) {
    let shapes = facts.constants().map(|(id, value)| (id, Shape::known(value.shape())));
    shapes.collect::<Vec<_>>().into_iter().for_each(|(id, shape)| settle(function, facts, id, shape));
}

/// Refuses a function that needs an op which is not known.
fn refuse_unknown_ops(function: &Function, findings: &Findings) -> Result<(), RuntimeError> {
    let is_unknown = |(id, op): &(OpId, &Op)| op.name != CONST && findings.rows[id.index()].is_none();
    match function.walk().find(is_unknown) {
        None => Ok(()),
        Some((id, _)) => {
            let message = "no op of this name can be verified or run";
            Err(op_error(function, id, OpError::new(ErrorKind::UnknownOp, None, message)))
        }
    }
}

/// Declares a tensor value with a shape; a scalar has none to settle.
fn settle(function: &mut Function, facts: &mut Facts, id: ValueId, shape: Shape) {
    if let Type::Tensor(declared) = &mut function.values[id.index()].ty {
        declared.shape = shape;
        facts.set_ty(id, function.value(id).ty.clone());
    }
}

/// Declares the results of every op as its type rule has them for the operands' types.
fn infer(function: &mut Function, findings: &mut Findings, known: KnownValues) -> Result<(), RuntimeError> {
    let declared = function.values.iter().map(|value| value.ty.clone()).collect();
    let body = function.body.ops.clone();
    Inference { function, findings, declared, known, depth: 0 }.ops(&body)
}

/// Types on their way from the inputs through a function.
struct Inference<'a> {
    function: &'a mut Function,
    findings: &'a mut Findings,
    /// The types that were written.
    declared: Vec<Type>,
    known: KnownValues,
    /// The number of blocks around the op at hand.
    depth: usize,
}

impl Inference<'_> {
    fn ops(&mut self, ops: &[OpId]) -> Result<(), RuntimeError> {
        ops.iter().try_for_each(|&id| self.op(id))
    }

    fn op(&mut self, id: OpId) -> Result<(), RuntimeError> {
        let Some(row) = self.findings.rows[id.index()] else { return Ok(()) };
        if let Some(rules) = row.blocks {
            let given = self.given(id, row)?;
            self.depth += 1;
            self.blocks(id, if rules.loops { given } else { Vec::new() })?;
            self.depth -= 1;
        }
        match self.results(id, row, true) {
            // A block need not run: what would go wrong in it counts only where it does.
            Err(_) if self.depth > 0 => self.results(id, row, false),
            result => result,
        }
    }

    /// Infers and declares the types of an op's results, from values that are known as well, or from constants alone.
    fn results(&mut self, id: OpId, row: &OpDef, with_known: bool) -> Result<(), RuntimeError> {
        let (op, facts) = (self.function.op(id), &self.findings.facts);
        let failed = |error| op_error(self.function, id, error);
        let operands = match with_known {
            true => bind::operands(op, row, &self.known.over(facts)),
            false => bind::operands(op, row, facts),
        };
        let operands = operands.map_err(failed)?;
        let inferred = row.result_types(&operands, &facts.block_types(op)).map_err(failed)?;
        self.known.compute(op, row, &operands, &inferred);
        for (result, ty) in op.results.clone().into_iter().zip(inferred) {
            self.declare(result, &ty)?;
        }
        Ok(())
    }

    /// The types of everything that an op is given.
    fn given(&self, id: OpId, row: &OpDef) -> Result<Vec<Type>, RuntimeError> {
        let operands = bind::operands(self.function.op(id), row, &self.findings.facts);
        let operands = operands.map_err(|error| op_error(self.function, id, error))?;
        Ok(operands.iter().map(Operand::held_type).collect())
    }

    /// Goes through the blocks of an op. Those that values of the types `carried` go round through are gone through
    /// until a round changes no type: a dimension that a round changes is `?`.
    fn blocks(&mut self, id: OpId, mut carried: Vec<Type>) -> Result<(), RuntimeError> {
        let blocks = self.function.op(id).blocks.clone();
        loop {
            for block in &blocks {
                for (&input, ty) in block.inputs.iter().zip(&carried) {
                    self.declare(input, ty)?;
                }
                self.ops(&block.ops)?;
            }
            let outputs =
                if carried.is_empty() { &[] } else { blocks.last().map_or(&[][..], |last| &last.outputs) };
            let yielded = outputs.iter().map(|&output| self.findings.facts.ty(output));
            let joined: Option<Vec<Type>> =
                carried.iter().zip(yielded).map(|(before, after)| join_types(before, after)).collect();
            match joined {
                Some(joined) if joined != carried && joined.len() == carried.len() => carried = joined,
                _ => return Ok(()),
            }
        }
    }

    /// Declares a value with what was written of it and what was inferred.
    fn declare(&mut self, id: ValueId, inferred: &Type) -> Result<(), RuntimeError> {
        let Some(refined) = refine_type(&self.declared[id.index()], inferred) else {
            return Err(RuntimeError::Interface(format!(
                "with these inputs `{}` has the type {inferred}, but it is declared as {}",
                self.function.value(id).name,
                self.declared[id.index()]
            )));
        };
        self.function.values[id.index()].ty = refined.clone();
        self.findings.facts.set_ty(id, refined);
        Ok(())
    }
}

/// An op's error with the op's name and its first result's.
pub fn op_error(function: &Function, id: OpId, error: OpError) -> RuntimeError {
    let op = function.op(id);
    let value = op.results.first().map_or(String::new(), |&result| function.value(result).name.clone());
    RuntimeError::Op { op: op.name.clone(), value, error: Box::new(error) }
}

impl Scope for Specialized {
    fn value(&self, id: ValueId) -> Option<Operand> {
        self.facts.value(id)
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.facts.blob(reference, ty)
    }
}
