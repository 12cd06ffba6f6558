//! Settling the types of a function's values for given inputs, and reading its constants.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::bind::{self, Scope};
use crate::ops::Operand;
use crate::program::{Argument, BlobReference, Function, Literal, LiteralValue, OpId, ValueId};
use crate::runtime::{Port, RuntimeError};
use crate::tensor::Tensor;
use crate::types::{Shape, TensorType, Type};
use crate::verify::{CONST, Verified};
use crate::weights::WeightSource;

/// A function with the types of its values settled for given inputs, and its constants read.
#[derive(Debug, Clone)]
pub struct Specialized {
    /// The program.
    pub program: Arc<Verified>,
    /// The function's position.
    pub function: usize,
    /// The type of every value that is a tensor or a state; dimensions that depend on data stay `?`.
    pub types: Vec<Option<TensorType>>,
    /// The values of `const` ops.
    pub constants: HashMap<ValueId, Arc<Tensor>>,
    /// Constants that arguments and attributes keep in blob files, and those of [`Specialized::constants`]
    /// that came from there.
    pub blobs: HashMap<(BlobReference, TensorType), Arc<Tensor>>,
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
    /// Settles a function for inputs of these types, one per input that is not a state.
    ///
    /// # Errors
    ///
    /// When there is no such function, a type does not fit its input, a weight cannot be read, or an op
    /// refuses the dimensions.
    pub fn new(
        program: &Arc<Verified>,
        name: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Specialized, RuntimeError> {
        let (index, function) = program.program().function(name).ok_or_else(|| {
            let present: Vec<&str> = program.program().functions.iter().map(|f| f.name.as_str()).collect();
            RuntimeError::NoFunction { name: name.to_string(), present: present.join(", ") }
        })?;
        let mut this = Specialized {
            program: program.clone(),
            function: index,
            types: function.values.iter().map(|value| value.ty.held_tensor()).collect(),
            constants: HashMap::new(),
            blobs: HashMap::new(),
            inputs: Vec::new(),
            input_ids: Vec::new(),
            states: Vec::new(),
            outputs: Vec::new(),
        };
        this.settle_inputs(function, inputs)?;
        this.read_constants(function, weights)?;
        this.infer(function)?;
        for &output in &function.body.outputs {
            let port = this.port(function, output)?;
            this.outputs.push(port);
        }
        Ok(this)
    }

    /// The function.
    pub fn function(&self) -> &Function {
        &self.program.program().functions[self.function]
    }

    fn port(&self, function: &Function, id: ValueId) -> Result<Port, RuntimeError> {
        let value = function.value(id);
        match &self.types[id.0 as usize] {
            Some(ty) => Ok(Port { name: value.name.clone(), ty: ty.clone() }),
            None => Err(RuntimeError::Interface(format!(
                "`{}` is {}, and only tensors can be passed to a run or taken from it",
                value.name, value.ty
            ))),
        }
    }

    fn settle_inputs(&mut self, function: &Function, inputs: &[TensorType]) -> Result<(), RuntimeError> {
        for &id in &function.body.inputs {
            let declared = self.port(function, id)?;
            if let Type::State(_) = function.value(id).ty {
                self.states.push((id, declared));
                continue;
            }
            let Some(given) = inputs.get(self.inputs.len()) else {
                let message = format!("no type is given for the input `{}`", declared.name);
                return Err(RuntimeError::Interface(message));
            };
            let known = given.shape.to_known().is_some();
            if given.dtype != declared.ty.dtype || !given.shape.agrees_with(&declared.ty.shape) || !known {
                let message = format!("the input `{}` is {}, {given} was given", declared.name, declared.ty);
                return Err(RuntimeError::Interface(message));
            }
            self.types[id.0 as usize] = Some(given.clone());
            self.inputs.push(Port { name: declared.name, ty: given.clone() });
            self.input_ids.push(id);
        }
        if inputs.len() > self.inputs.len() {
            let message =
                format!("the function takes {} inputs, {} were given", self.inputs.len(), inputs.len());
            return Err(RuntimeError::Interface(message));
        }
        Ok(())
    }

    fn read_constants(
        &mut self,
        function: &Function,
        weights: &dyn WeightSource,
    ) -> Result<(), RuntimeError> {
        for op in &function.ops {
            let name = op.results.first().map_or("", |&id| function.value(id).name.as_str());
            let literals = op.arguments.iter().flat_map(|(_, argument)| match argument {
                Argument::Literal(literal) => vec![literal],
                Argument::Tuple(items) => items.iter().filter_map(literal_of).collect(),
                Argument::Value(_) => Vec::new(),
            });
            let attributes = op.attributes.iter().map(|(_, literal)| literal);
            for literal in literals.chain(attributes) {
                self.read_blob(literal, weights, name)?;
            }
            if op.name == CONST
                && let (Some(&id), Some(literal)) = (op.results.first(), op.attributes.get("val"))
                && let Ok(operand) = bind::literal_operand(literal, self)
                && let Some(value) = operand.value
            {
                self.types[id.0 as usize] = Some(value.ty());
                self.constants.insert(id, value);
            }
        }
        Ok(())
    }

    fn read_blob(
        &mut self,
        literal: &Literal,
        weights: &dyn WeightSource,
        value: &str,
    ) -> Result<(), RuntimeError> {
        let (LiteralValue::Blob(reference), Some(ty)) = (&literal.value, literal.ty.as_tensor()) else {
            return Ok(());
        };
        let key = (reference.clone(), ty);
        if let Entry::Vacant(entry) = self.blobs.entry(key) {
            let (reference, ty) = entry.key();
            let tensor = weights
                .load(reference, ty)
                .map_err(|error| RuntimeError::Weight { value: value.to_string(), error: Box::new(error) })?;
            entry.insert(Arc::new(tensor));
        }
        Ok(())
    }

    fn infer(&mut self, function: &Function) -> Result<(), RuntimeError> {
        for &id in &function.body.ops {
            let Some(row) = self.program.row(self.function, id) else { continue };
            let op = function.op(id);
            let inferred = bind::operands(op, row, self).and_then(|operands| (row.infer)(&operands));
            let inferred = inferred.map_err(|error| op_error(function, id, error))?;
            for (&result, ty) in op.results.iter().zip(inferred) {
                let declared = function.value(result).ty.held_tensor();
                if let Some(declared) = declared
                    && declared.shape.agrees_with(&ty.shape)
                {
                    let dims = ty.shape.0.iter().zip(&declared.shape.0).map(|(a, b)| a.or(*b));
                    let shape = Shape(dims.collect());
                    self.types[result.0 as usize] = Some(TensorType { dtype: ty.dtype, shape });
                } else {
                    return Err(RuntimeError::Interface(format!(
                        "with these inputs `{}` has the type {ty}, but it is declared as {}",
                        function.value(result).name,
                        function.value(result).ty
                    )));
                }
            }
        }
        Ok(())
    }
}

/// An op's error with the op's name and its first result's.
pub fn op_error(function: &Function, id: OpId, error: crate::ops::OpError) -> RuntimeError {
    let op = function.op(id);
    let value = op.results.first().map_or(String::new(), |&result| function.value(result).name.clone());
    RuntimeError::Op { op: op.name.clone(), value, error: Box::new(error) }
}

fn literal_of(argument: &Argument) -> Option<&Literal> {
    match argument {
        Argument::Literal(literal) => Some(literal),
        _ => None,
    }
}

impl Scope for Specialized {
    fn value(&self, id: ValueId) -> Option<Operand> {
        let ty = self.types[id.0 as usize].clone()?;
        let value = self.constants.get(&id).cloned();
        let is_state = matches!(self.function().value(id).ty, Type::State(_));
        Some(Operand { ty, constant: value.is_some(), value, id: Some(id), is_state })
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.blobs.get(&(reference.clone(), ty.clone())).cloned()
    }
}
