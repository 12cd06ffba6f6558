//! Settling the types of a function's values for given inputs, and reading its constants.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::bind::{self, Facts, Scope};
use crate::error::ErrorKind;
use crate::ops::{OpDef, OpError, Operand};
use crate::passes::remove_dead_code;
use crate::program::{BlobReference, Function, Literal, LiteralValue, Op, OpId, Program, ValueId};
use crate::runtime::{Port, RuntimeError};
use crate::tensor::Tensor;
use crate::types::{Shape, TensorType, Type};
use crate::verify::{CONST, Findings, Verified};
use crate::weights::WeightSource;

mod known;

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
        let index = find(program, name)?;
        let mut findings = program.findings().to_vec();
        let mut program: Program = program.program().clone();
        let function = &mut program.functions[index];
        remove_dead_code(function);
        refuse_unknown_ops(function, &findings[index])?;
        settle_inputs(function, &mut findings[index].facts, inputs)?;
        read_constants(function, &mut findings[index].facts, weights)?;
        infer(function, &mut findings[index], KnownValues::new(false))?;
        let facts = findings[index].facts.clone();
        let ports = |ids: &[ValueId], states: bool| {
            let chosen = ids.iter().filter(|id| matches!(function.value(**id).ty, Type::State(_)) == states);
            chosen.map(|&id| Ok((id, port(function, &facts, id)?))).collect::<Result<Vec<_>, _>>()
        };
        let (input_ids, input_ports) = ports(&function.body.inputs, false)?.into_iter().unzip();
        let states = ports(&function.body.inputs, true)?;
        let outputs = ports(&function.body.outputs, false)?.into_iter().map(|(_, port)| port).collect();
        let program = Arc::new(Verified::with_findings(program, findings));
        Ok(Specialized { program, function: index, facts, inputs: input_ports, input_ids, states, outputs })
    }

    /// The function.
    pub fn function(&self) -> &Function {
        &self.program.program().functions[self.function]
    }

    /// The type of a value that is a tensor or a state; dimensions that depend on data are `?`.
    pub fn ty(&self, id: ValueId) -> Option<TensorType> {
        self.facts.ty(id).held_tensor()
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
    match facts.ty(id).held_tensor() {
        Some(ty) => Ok(Port { name: value.name.clone(), ty }),
        None => Err(RuntimeError::Interface(format!(
            "`{}` is {}, and only tensors can be passed to a run or taken from it",
            value.name, value.ty
        ))),
    }
}

/// Declares the inputs of a function with these types.
fn settle_inputs(
    function: &mut Function,
    facts: &mut Facts,
    inputs: &[TensorType],
) -> Result<(), RuntimeError> {
    let mut given = inputs.iter();
    for id in function.body.inputs.clone() {
        let declared = port(function, facts, id)?;
        if let Type::State(_) = function.value(id).ty {
            continue;
        }
        let Some(given) = given.next() else {
            let message = format!("no type is given for the input `{}`", declared.name);
            return Err(RuntimeError::Interface(message));
        };
        let known = given.shape.to_known().is_some();
        if given.dtype != declared.ty.dtype || !given.shape.agrees_with(&declared.ty.shape) || !known {
            let message = format!("the input `{}` is {}, {given} was given", declared.name, declared.ty);
            return Err(RuntimeError::Interface(message));
        }
        settle(function, facts, id, given.shape.clone());
    }
    if given.next().is_some() {
        let states =
            function.body.inputs.iter().filter(|id| matches!(function.value(**id).ty, Type::State(_)));
        let taken = function.body.inputs.len() - states.count();
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

/// Reads the constants that the ops of a function keep in weight files.
fn read_constants(
    function: &mut Function,
    facts: &mut Facts,
    weights: &dyn WeightSource,
) -> Result<(), RuntimeError> {
    let mut read: HashMap<(&BlobReference, TensorType), Arc<Tensor>> = HashMap::new();
    let mut shapes = Vec::new();
    for (_, op) in function.walk() {
        let name = op.results.first().map_or("", |&id| function.value(id).name.as_str());
        let mut load = |reference, ty: TensorType| match read.entry((reference, ty)) {
            Entry::Occupied(entry) => Ok(entry.get().clone()),
            Entry::Vacant(entry) => match weights.load(reference, &entry.key().1) {
                Ok(tensor) => Ok(entry.insert(Arc::new(tensor)).clone()),
                Err(error) => Err(RuntimeError::Weight { value: name.to_string(), error: Box::new(error) }),
            },
        };
        if op.name == CONST {
            let (Some(&id), Some(literal)) = (op.results.first(), op.attributes.get("val")) else { continue };
            let value = match blob(literal) {
                Some((reference, ty)) => Some(load(reference, ty)?),
                None => literal.as_tensor().cloned(),
            };
            if let Some(value) = value {
                shapes.push((id, Shape::known(value.shape())));
                facts.set_constant(id, Some(value));
            }
            continue;
        }
        for (reference, ty) in op.literals().filter_map(|(_, literal)| blob(literal)) {
            let value = load(reference, ty.clone())?;
            facts.set_blob(reference.clone(), ty, value);
        }
    }
    shapes.into_iter().for_each(|(id, shape)| settle(function, facts, id, shape));
    Ok(())
}

/// The blob that a literal refers to, with its type.
fn blob(literal: &Literal) -> Option<(&BlobReference, TensorType)> {
    match &literal.value {
        LiteralValue::Blob(reference) => Some((reference, literal.ty.as_tensor()?)),
        _ => None,
    }
}

/// Declares the results of every op as its type rule has them for the operands' types.
fn infer(
    function: &mut Function,
    findings: &mut Findings,
    mut known: KnownValues,
) -> Result<(), RuntimeError> {
    let order: Vec<OpId> = function.walk().map(|(id, _)| id).collect();
    let Findings { rows, facts } = findings;
    for id in order {
        let Some(row) = rows[id.index()] else { continue };
        let op = function.op(id);
        let operands = bind::operands(op, row, &known.over(facts));
        let operands = operands.map_err(|error| op_error(function, id, error))?;
        let inferred = (row.infer)(&operands).map_err(|error| op_error(function, id, error))?;
        known.compute(op, row, &operands, &inferred);
        for (result, ty) in op.results.clone().into_iter().zip(inferred) {
            let value = function.value(result);
            let declared = value.ty.held_tensor().filter(|declared| declared.shape.agrees_with(&ty.shape));
            let Some(declared) = declared else {
                return Err(RuntimeError::Interface(format!(
                    "with these inputs `{}` has the type {ty}, but it is declared as {}",
                    value.name, value.ty
                )));
            };
            let dims = ty.shape.0.iter().zip(&declared.shape.0).map(|(a, b)| a.or(*b));
            settle(function, facts, result, Shape(dims.collect()));
        }
    }
    Ok(())
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
