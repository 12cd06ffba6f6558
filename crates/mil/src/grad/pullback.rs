//! What an op's gradient rule builds with.

use std::collections::{HashMap, HashSet};

use crate::builder::{AnyCall, BuildError, FunctionBuilder, Input};
use crate::error::ErrorKind;
use crate::ops::{OpError, Operand, Writer, call};
use crate::program::{OpId, ValueId};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// The way from the gradients of an op's results to those of its operands.
///
/// A rule reads operands and results as values, builds with the typed calls of [`call`](crate::ops::call), and gives
/// each operand its part of the gradient:
///
/// ```text
/// fn mul_vjp(row: &Mul, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
///     let dy = pullback.dy()?;
///     pullback.give(&row.x, call::mul(dy, &row.y))?;
///     pullback.give(&row.y, call::mul(dy, &row.x))
/// }
/// ```
pub struct Pullback<'a> {
    builder: &'a mut FunctionBuilder,
    gradients: &'a mut HashMap<ValueId, ValueId>,
    active: &'a HashSet<ValueId>,
    results: &'a [ValueId],
    name: &'a str,
}

impl<'a> Pullback<'a> {
    pub(super) fn new(
        builder: &'a mut FunctionBuilder,
        gradients: &'a mut HashMap<ValueId, ValueId>,
        active: &'a HashSet<ValueId>,
        results: &'a [ValueId],
        name: &'a str,
    ) -> Pullback<'a> {
        Pullback { builder, gradients, active, results, name }
    }

    /// Whether the gradient of an operand is needed.
    pub fn wants(&self, operand: &Operand) -> bool {
        operand.id.is_some_and(|id| self.active.contains(&id))
    }

    /// The op's first result.
    pub fn y(&self) -> ValueId {
        self.results[0]
    }

    /// A result of the op.
    pub fn result(&self, position: usize) -> ValueId {
        self.results[position]
    }

    /// The number of results.
    pub fn results(&self) -> usize {
        self.results.len()
    }

    /// The gradient of the op's first result.
    ///
    /// # Errors
    ///
    /// As [`Pullback::d`].
    pub fn dy(&mut self) -> Result<ValueId, OpError> {
        self.d(0)
    }

    /// The gradient of a result; zeros where it has none.
    ///
    /// # Errors
    ///
    /// When the dimensions of a result without gradient are not known.
    pub fn d(&mut self, position: usize) -> Result<ValueId, OpError> {
        let result = self.results[position];
        if let Some(&gradient) = self.gradients.get(&result) {
            return Ok(gradient);
        }
        let ty = self.ty(result)?;
        let zeros = ty.shape.to_known().and_then(|dims| Tensor::zeros(ty.dtype, &dims));
        let zeros = zeros.ok_or_else(|| unknown("a result"))?;
        self.bind(call::identity(zeros))
    }

    /// The element type and shape of a value.
    ///
    /// # Errors
    ///
    /// When it is no tensor.
    pub fn ty(&self, id: ValueId) -> Result<TensorType, OpError> {
        let operand = self.builder.operand(id);
        operand
            .map(|operand| operand.ty)
            .ok_or_else(|| OpError::new(ErrorKind::OperandKind, None, "is no tensor"))
    }

    /// The dimensions of an operand.
    ///
    /// # Errors
    ///
    /// When one is not known.
    pub fn dims(&self, operand: &Operand) -> Result<Vec<usize>, OpError> {
        operand.shape().to_known().ok_or_else(|| {
            let name = operand.id.map(|id| self.builder.function().value(id).name.clone());
            unknown(&format!("`{}`, {},", name.unwrap_or_default(), operand.ty))
        })
    }

    /// The dimensions of a value.
    ///
    /// # Errors
    ///
    /// When it is no tensor, or one is not known.
    pub fn dims_of(&self, id: ValueId) -> Result<Vec<usize>, OpError> {
        let ty = self.ty(id)?;
        let name = &self.builder.function().value(id).name;
        ty.shape.to_known().ok_or_else(|| unknown(&format!("`{name}`, {ty},")))
    }

    /// Binds an op of the gradient, to be used more than once.
    ///
    /// # Errors
    ///
    /// When the op refuses what it is given.
    pub fn bind(&mut self, call: impl Into<AnyCall>) -> Result<ValueId, OpError> {
        let call = call.into();
        let name = format!("d_{}_{}", self.name, call.op());
        self.builder.bind(&name, call).map_err(refused)
    }

    /// As [`Pullback::bind`], for an op with several results.
    ///
    /// # Errors
    ///
    /// When the op refuses what it is given, or has another number of results.
    pub fn bind_all(&mut self, count: usize, call: impl Into<AnyCall>) -> Result<Vec<ValueId>, OpError> {
        let call = call.into();
        let names: Vec<String> = (0..count).map(|i| format!("d_{}_{}_{i}", self.name, call.op())).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.builder.bind_all(&names, call).map_err(refused)
    }

    /// Adds a part of an operand's gradient, unless it is not needed. A part that has the shape of what the operand
    /// broadcasts to is summed over what was broadcast, one of another element type is cast.
    ///
    /// # Errors
    ///
    /// When the ops of the gradient refuse what they are given, or a dimension that decides is not known.
    pub fn give(&mut self, operand: &Operand, gradient: impl Into<Input>) -> Result<(), OpError> {
        let Some(id) = operand.id.filter(|_| self.wants(operand)) else { return Ok(()) };
        let gradient = self.value(gradient)?;
        let gradient = self.unbroadcast(gradient, operand)?;
        let gradient = self.cast(gradient, operand.dtype())?;
        accumulate(self.builder, self.gradients, id, gradient).map_err(refused)
    }

    /// Gives the operands their gradients through simpler ops: those that `write_out` appends, which compute the results
    /// again from the operands and have rules of their own. It gives a value for each result.
    ///
    /// # Errors
    ///
    /// When an op refuses what it is given, or a gradient cannot go through it.
    pub fn through(
        &mut self,
        write_out: impl FnOnce(&mut Writer<'_>) -> Result<Vec<ValueId>, BuildError>,
    ) -> Result<(), OpError> {
        let first = self.builder.function().body.ops.len();
        let name = format!("d_{}_again", self.name);
        let written = write_out(&mut Writer::new(self.builder, "the op", &name)).map_err(refused)?;
        let added = self.builder.function().body.ops[first..].to_vec();
        let active = self.reached(&added);
        for (result, value) in self.results.iter().zip(written) {
            if let Some(&gradient) = self.gradients.get(result).filter(|_| active.contains(&value)) {
                accumulate(self.builder, self.gradients, value, gradient).map_err(refused)?;
            }
        }
        for id in added.into_iter().rev() {
            super::pull_back(self.builder, self.gradients, &active, id)
                .map_err(|error| OpError::new(ErrorKind::Rule, None, error.to_string()))?;
        }
        Ok(())
    }

    /// The values that need gradients, and those of floating point that these ops compute from them.
    fn reached(&self, ops: &[OpId]) -> HashSet<ValueId> {
        let mut active = self.active.clone();
        let function = self.builder.function();
        for op in ops.iter().map(|&id| function.op(id)) {
            if op.reads().any(|id| active.contains(&id)) {
                let is_float = |id: &ValueId| function.value(*id).ty.dtype().is_some_and(DType::is_float);
                active.extend(op.results.iter().copied().filter(is_float));
            }
        }
        active
    }

    /// The sum of a gradient over the dimensions along which the operand was repeated.
    fn unbroadcast(&mut self, gradient: ValueId, operand: &Operand) -> Result<ValueId, OpError> {
        let (from, to) = (self.ty(gradient)?.shape, operand.shape());
        // Two dimensions that are not known may differ all the same.
        if from == *to && from.to_known().is_some() {
            return Ok(gradient);
        }
        let missing = from.rank().checked_sub(to.rank()).ok_or_else(|| unknown("a gradient"))?;
        let mut axes: Vec<i32> = (0..missing as i32).collect();
        for (i, (&have, &want)) in from.0[missing..].iter().zip(&to.0).enumerate() {
            if have != want || have.known().is_none() {
                if have.known().is_none() || want.known().is_none() {
                    return Err(unknown(&format!("an operand, {}, that may be broadcast", operand.ty)));
                }
                axes.push((missing + i) as i32);
            }
        }
        let sum = self.bind(call::reduce_sum(gradient).axes(axes).keep_dims(true))?;
        if missing == 0 {
            return Ok(sum);
        }
        if to.rank() == 0 {
            let all: Vec<i32> = (0..from.rank() as i32).collect();
            return self.bind(call::squeeze(sum).axes(all));
        }
        self.bind(call::squeeze(sum).axes((0..missing as i32).collect::<Vec<_>>()))
    }

    /// A value of the same rank as `dims`, repeated along the dimensions in which its length is 1 and theirs is not.
    ///
    /// # Errors
    ///
    /// When the dimensions of the value are not known, or differ otherwise.
    pub fn broadcast(&mut self, x: ValueId, dims: &[usize]) -> Result<ValueId, OpError> {
        let from = self.ty(x)?.shape.to_known().ok_or_else(|| unknown("a gradient"))?;
        if from == dims {
            return Ok(x);
        }
        if dims.contains(&0) {
            let zeros = Tensor::zeros(self.ty(x)?.dtype, dims).ok_or_else(|| unknown("a gradient"))?;
            return self.bind(call::identity(zeros));
        }
        let reps = from.iter().zip(dims).map(|(&from, &to)| if from == to { 1 } else { to });
        self.bind(call::tile(x, lengths(&reps.collect::<Vec<_>>())?))
    }

    /// A value in fp32 where it is in fp16: what is computed of it may be larger or smaller than fp16 holds.
    /// [`Pullback::give`] casts back.
    ///
    /// # Errors
    ///
    /// When it is no tensor.
    pub fn widen(&mut self, x: impl Into<Input>) -> Result<ValueId, OpError> {
        let x = self.value(x)?;
        match self.ty(x)?.dtype {
            DType::Fp16 => self.cast(x, DType::Fp32),
            _ => Ok(x),
        }
    }

    /// A parameter whose dimensions are those of a tensor of `rank` at `axes`, in the order of both, widened, as one that
    /// broadcasts with that tensor.
    ///
    /// # Errors
    ///
    /// When its dimensions are not known.
    pub fn along(&mut self, parameter: &Operand, axes: &[usize], rank: usize) -> Result<ValueId, OpError> {
        let dims = self.dims(parameter)?;
        let mut all = vec![1; rank];
        axes.iter().zip(&dims).for_each(|(&axis, &length)| all[axis] = length);
        let parameter = self.widen(parameter)?;
        self.reshape(parameter, &all)
    }

    /// A value in an element type, cast where it has another.
    ///
    /// # Errors
    ///
    /// When it is no tensor.
    pub fn cast(&mut self, x: impl Into<Input>, dtype: DType) -> Result<ValueId, OpError> {
        let x = self.value(x)?;
        if self.ty(x)?.dtype == dtype { Ok(x) } else { self.bind(call::cast(x, dtype.name())) }
    }

    /// A tensor that holds one number everywhere.
    ///
    /// # Errors
    ///
    /// When a dimension is too long.
    pub fn filled(&mut self, dims: &[usize], number: Tensor) -> Result<ValueId, OpError> {
        match dims {
            [] => self.bind(call::identity(number)),
            dims => self.bind(call::fill(lengths(dims)?).value(number)),
        }
    }

    /// Zeros.
    ///
    /// # Errors
    ///
    /// When a dimension is too long.
    pub fn zeros(&mut self, dtype: DType, dims: &[usize]) -> Result<ValueId, OpError> {
        self.filled(dims, Tensor::zeros(dtype, &[]).ok_or_else(|| unknown("zeros"))?)
    }

    /// Indices as int32, which all ops take.
    ///
    /// # Errors
    ///
    /// When the opset has no cast from their element type.
    pub fn int32(&mut self, indices: &Operand) -> Result<Input, OpError> {
        if indices.dtype() == DType::Int32 {
            return Ok(indices.into());
        }
        match indices.value.as_ref().filter(|_| indices.constant) {
            Some(value) => {
                let tensor = Tensor::from_i64(DType::Int32, value.shape(), &indices.integers()?);
                Ok(tensor.map_err(crate::eval::internal)?.into())
            }
            None => Ok(call::cast(indices, DType::Int32.name()).into()),
        }
    }

    /// Indices of which negative ones count from the end of a dimension of this length, as positions.
    ///
    /// # Errors
    ///
    /// When the dimension is too long.
    pub fn wrapped(&mut self, indices: ValueId, length: usize) -> Result<ValueId, OpError> {
        let from_end = call::add(indices, lengths(&[length])?[0]);
        self.bind(call::select(call::less(indices, 0), from_end, indices))
    }

    /// What an op may be given, bound to a value.
    ///
    /// # Errors
    ///
    /// When an op in it refuses what it is given.
    pub fn value(&mut self, x: impl Into<Input>) -> Result<ValueId, OpError> {
        match x.into() {
            Input::Value(id) => Ok(id),
            Input::Call(call) => self.bind(*call),
            constant => self.bind(AnyCall::named("identity", [("x", constant)])),
        }
    }

    /// A value whose dimension `i` is dimension `order[i]` of another.
    ///
    /// # Errors
    ///
    /// When it has not as many dimensions.
    pub fn transpose(&mut self, x: ValueId, order: &[usize]) -> Result<ValueId, OpError> {
        if order.is_sorted() { Ok(x) } else { self.bind(call::transpose(x, lengths(order)?)) }
    }

    /// A value under another shape.
    ///
    /// # Errors
    ///
    /// When the elements do not fit it.
    pub fn reshape(&mut self, x: impl Into<Input>, dims: &[usize]) -> Result<ValueId, OpError> {
        let call = match dims {
            [] => {
                let id = self.value(x)?;
                let rank = self.ty(id)?.shape.rank() as i32;
                if rank == 0 {
                    return Ok(id);
                }
                AnyCall::from(call::squeeze(id).axes((0..rank).collect::<Vec<_>>()))
            }
            dims => {
                let id = self.value(x)?;
                if self.ty(id)?.shape.to_known().as_deref() == Some(dims) {
                    return Ok(id);
                }
                // In the shape for `reshape`, 0 is no length.
                if dims.contains(&0) {
                    return self.zeros(self.ty(id)?.dtype, dims);
                }
                AnyCall::from(call::reshape(id, lengths(dims)?))
            }
        };
        self.bind(call)
    }
}

/// Dimensions as int32 values, which shapes in programs are.
///
/// # Errors
///
/// When one is too long.
pub fn lengths(dims: &[usize]) -> Result<Vec<i32>, OpError> {
    let lengths: Option<Vec<i32>> = dims.iter().map(|&length| i32::try_from(length).ok()).collect();
    lengths.ok_or_else(|| OpError::new(ErrorKind::Rule, None, format!("{} is too large", Shape::known(dims))))
}

/// Adds a part to the gradient of a value.
pub(super) fn accumulate(
    builder: &mut FunctionBuilder,
    gradients: &mut HashMap<ValueId, ValueId>,
    id: ValueId,
    gradient: ValueId,
) -> Result<(), BuildError> {
    let sum = match gradients.get(&id) {
        None => gradient,
        Some(&other) => {
            let name = format!("d_{}_sum", builder.function().value(id).name);
            builder.bind(&name, call::add(other, gradient))?
        }
    };
    gradients.insert(id, sum);
    Ok(())
}

fn refused(error: BuildError) -> OpError {
    OpError::new(error.error.kind, None, error.to_string())
}

fn unknown(what: &str) -> OpError {
    let message = format!("the dimensions of {what} must be known");
    OpError::new(ErrorKind::NotConstant, None, message).with_help("settle the types of the inputs first")
}
