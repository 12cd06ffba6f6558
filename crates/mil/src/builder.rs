//! Building functions op by op, with result types inferred on the way.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bind::{self, NAME_ATTRIBUTE, Scope};
use crate::error::ErrorKind;
use crate::ops::{self, OpError, Operand};
use crate::program::{
    Argument, BlobReference, Dialect, Function, Literal, LiteralValue, Named, Op, ValueId, Version,
};
use crate::suggest::nearest;
use crate::tensor::{ScalarElement, Tensor};
use crate::types::{Opset, TensorType, Type};
use crate::verify::{self, CONST};

/// Why an op cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op}, to be bound to `{name}`: {error}")]
pub struct BuildError {
    /// The op.
    pub op: String,
    /// The name that its result was to have.
    pub name: String,
    /// What it refuses.
    pub error: Box<OpError>,
}

/// What an op is given for one parameter while building.
#[derive(Debug, Clone)]
pub enum Input {
    /// A value of the function.
    Value(ValueId),
    /// A constant, which the builder names and binds before the op.
    Constant(Tensor),
    /// Several values.
    Tuple(Vec<ValueId>),
}

impl From<ValueId> for Input {
    fn from(id: ValueId) -> Input {
        Input::Value(id)
    }
}

impl From<Tensor> for Input {
    fn from(tensor: Tensor) -> Input {
        Input::Constant(tensor)
    }
}

impl From<Vec<ValueId>> for Input {
    fn from(ids: Vec<ValueId>) -> Input {
        Input::Tuple(ids)
    }
}

impl From<&str> for Input {
    fn from(text: &str) -> Input {
        Input::Constant(Tensor::scalar(text.to_string()))
    }
}

macro_rules! inputs_from_elements {
    ($($element:ty),*) => {$(
        impl From<$element> for Input {
            fn from(value: $element) -> Input {
                Input::Constant(Tensor::scalar(value))
            }
        }
        impl From<&[$element]> for Input {
            fn from(values: &[$element]) -> Input {
                Input::Constant(Tensor::vector(values.to_vec()))
            }
        }
        impl<const N: usize> From<[$element; N]> for Input {
            fn from(values: [$element; N]) -> Input {
                Input::Constant(Tensor::vector(values.to_vec()))
            }
        }
    )*};
}

inputs_from_elements!(i32, bool);

/// Builds one function.
///
/// # Examples
///
/// ```
/// use anemone_mil::builder::FunctionBuilder;
/// use anemone_mil::program::{Program, Version};
/// use anemone_mil::types::{DType, Opset, TensorType};
///
/// let mut f = FunctionBuilder::new("main", Version::V1_3, Opset::IOS18);
/// let x = f.input("x", TensorType::new(DType::Fp16, &[1, 8, 1, 4]));
/// let y = f.op("reduce_sum", "y", [("x", x.into()), ("axes", [1].into()), ("keep_dims", true.into())])?;
/// let mut program = Program::new(Version::V1_3);
/// program.functions.push(f.finish([y]));
/// anemone_mil::verify::verify(program).unwrap();
/// # Ok::<(), anemone_mil::builder::BuildError>(())
/// ```
#[derive(Debug, Clone)]
pub struct FunctionBuilder {
    function: Function,
    dialect: Dialect,
    constants: HashMap<ValueId, Option<Arc<Tensor>>>,
    names: HashMap<String, ValueId>,
}

impl Scope for FunctionBuilder {
    fn value(&self, id: ValueId) -> Option<Operand> {
        let declared = &self.function.values.get(id.0 as usize)?.ty;
        let (ty, is_state) = (declared.held_tensor()?, matches!(declared, Type::State(_)));
        let constant = self.constants.get(&id);
        let value = constant.cloned().flatten();
        Some(Operand { ty, constant: constant.is_some(), value, id: Some(id), is_state })
    }

    fn blob(&self, _: &BlobReference, _: &TensorType) -> Option<Arc<Tensor>> {
        None
    }
}

impl FunctionBuilder {
    /// A function without inputs or ops, for a program of this version.
    pub fn new(name: impl Into<String>, version: Version, opset: Opset) -> FunctionBuilder {
        FunctionBuilder {
            function: Function::new(name, opset),
            dialect: version.dialect(),
            constants: HashMap::new(),
            names: HashMap::new(),
        }
    }

    /// Adds an input. A name that is taken, or that text cannot write, is made free and writable.
    pub fn input(&mut self, name: &str, ty: impl Into<Type>) -> ValueId {
        let id = self.value(name, ty.into());
        self.function.body.inputs.push(id);
        id
    }

    /// Binds a constant.
    pub fn constant(&mut self, name: &str, value: Tensor) -> ValueId {
        let literal = Literal::tensor(self.dialect, value);
        let known = literal.as_tensor().cloned();
        self.literal(name, literal, known)
    }

    /// Binds a constant that a blob file keeps: `offset` is the position of its metadata record.
    pub fn blob(&mut self, name: &str, ty: TensorType, path: &str, offset: u64) -> ValueId {
        let reference = BlobReference { path: path.to_string(), offset, dialect: self.dialect };
        let literal = Literal { ty: Type::Tensor(ty), value: LiteralValue::Blob(reference) };
        self.literal(name, literal, None)
    }

    /// Adds an op with one result.
    ///
    /// # Errors
    ///
    /// When no such op is in the function's opset, its row refuses what it is given, or it does not have one
    /// result.
    pub fn op<'a>(
        &mut self,
        op: &str,
        name: &str,
        inputs: impl IntoIterator<Item = (&'a str, Input)>,
    ) -> Result<ValueId, BuildError> {
        let results = self.op_with_results(op, &[name], inputs)?;
        Ok(results[0])
    }

    /// Adds an op with as many results as there are names.
    ///
    /// # Errors
    ///
    /// As [`FunctionBuilder::op`]. What was added before the error stays, so the builder is best dropped.
    pub fn op_with_results<'a>(
        &mut self,
        op: &str,
        names: &[&str],
        inputs: impl IntoIterator<Item = (&'a str, Input)>,
    ) -> Result<Vec<ValueId>, BuildError> {
        let name = names.first().copied().unwrap_or(op);
        let fail = |error| BuildError { op: op.to_string(), name: name.to_string(), error: Box::new(error) };
        let opset = self.function.opset;
        let row = ops::lookup(op, opset).ok_or_else(|| fail(unknown_op(op, opset)))?;
        let mut arguments = Named::default();
        for (parameter, input) in inputs {
            arguments.insert(parameter, self.argument(name, parameter, input));
        }
        arguments.sort();
        let mut added = Op { name: op.to_string(), arguments, ..Op::default() };
        added.attributes.insert(NAME_ATTRIBUTE, Literal::string(self.dialect, name));
        let operands = bind::operands(&added, row, self).map_err(fail)?;
        if let Some(error) = verify::check_arguments(&added, row, opset, &operands).into_iter().next() {
            return Err(fail(error));
        }
        let types = (row.infer)(&operands).map_err(fail)?;
        if types.len() != names.len() {
            let message = format!("it has {}", verify::count(types.len(), "result"));
            return Err(fail(OpError::new(ErrorKind::DeclaredType, None, message)));
        }
        let results: Vec<ValueId> =
            names.iter().zip(types).map(|(name, ty)| self.value(name, self.written(ty))).collect();
        if row.constexpr {
            self.constants.extend(results.iter().map(|&id| (id, None)));
        }
        added.results.clone_from(&results);
        self.push(added);
        Ok(results)
    }

    /// The declared type of a value.
    pub fn ty(&self, id: ValueId) -> Option<&Type> {
        self.function.values.get(id.0 as usize).map(|value| &value.ty)
    }

    /// The function, yielding these values.
    pub fn finish(mut self, outputs: impl IntoIterator<Item = ValueId>) -> Function {
        self.function.body.outputs = outputs.into_iter().collect();
        self.function
    }

    /// A type as this dialect writes it.
    fn written(&self, ty: TensorType) -> Type {
        if ty.shape.rank() == 0 { self.dialect.scalar_type(ty.dtype) } else { Type::Tensor(ty) }
    }

    fn argument(&mut self, op_name: &str, parameter: &str, input: Input) -> Argument {
        match input {
            Input::Value(id) => Argument::Value(id),
            Input::Tuple(ids) => Argument::Tuple(ids.into_iter().map(Argument::Value).collect()),
            Input::Constant(tensor) => {
                Argument::Value(self.constant(&format!("{op_name}_{parameter}_0"), tensor))
            }
        }
    }

    fn literal(&mut self, name: &str, literal: Literal, known: Option<Arc<Tensor>>) -> ValueId {
        let id = self.value(name, literal.ty.clone());
        self.constants.insert(id, known);
        let written = Literal::string(self.dialect, self.function.value(id).name.clone());
        let attributes = [(NAME_ATTRIBUTE, written), ("val", literal)].into_iter().collect();
        self.push(Op { name: CONST.to_string(), attributes, results: vec![id], ..Op::default() });
        id
    }

    fn push(&mut self, op: Op) {
        let id = self.function.add_op(op);
        self.function.body.ops.push(id);
    }

    fn value(&mut self, name: &str, ty: Type) -> ValueId {
        let mut base: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if !base.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            base.insert(0, '_');
        }
        let mut free = base.clone();
        let mut number = 1;
        while self.names.contains_key(&free) {
            free = format!("{base}_{number}");
            number += 1;
        }
        let id = self.function.add_value(free.clone(), ty);
        self.names.insert(free, id);
        id
    }
}

fn unknown_op(op: &str, opset: Opset) -> OpError {
    let error = OpError::new(ErrorKind::UnknownOp, None, format!("no such op is in {opset}"));
    match nearest(op, ops::rows().map(|row| row.name)) {
        Some(near) => error.with_help(format!("the nearest op is `{near}`")),
        None => error,
    }
}

/// A scalar of a floating-point type, rounded once from f64; `None` for other types.
pub fn float_scalar(dtype: crate::types::DType, value: f64) -> Option<Tensor> {
    Tensor::from_f64(dtype, &[], &[value]).ok()
}

/// A constant vector of a type that has a single element type.
pub fn vector<T: ScalarElement>(values: Vec<T>) -> Input {
    Input::Constant(Tensor::vector(values))
}
