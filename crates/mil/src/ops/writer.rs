//! What an op is written out with as simpler ones.

use crate::builder::{AnyCall, BuildError, FunctionBuilder, Input};
use crate::grad;
use crate::ops::{OpError, Operand, call};
use crate::program::ValueId;
use crate::types::DType;

/// Binds the ops that stand for another one.
pub struct Writer<'a> {
    build: &'a mut FunctionBuilder,
    op: &'static str,
    name: &'a str,
}

impl<'a> Writer<'a> {
    /// For an op of this name, whose first result is called `name`.
    pub fn new(build: &'a mut FunctionBuilder, op: &'static str, name: &'a str) -> Writer<'a> {
        Writer { build, op, name }
    }

    /// Binds an op's result, to be called `what` it is of the op that is written out; where that is nothing, as the
    /// result of that op is called.
    ///
    /// # Errors
    ///
    /// When the op refuses what it is given.
    pub fn bind(&mut self, what: &str, call: impl Into<AnyCall>) -> Result<ValueId, BuildError> {
        let name = self.name_of(what);
        self.build.bind(&name, call)
    }

    /// As [`Writer::bind`], for an op with so many results.
    ///
    /// # Errors
    ///
    /// When the op refuses what it is given, or has another number of results.
    pub fn bind_all(
        &mut self,
        what: &str,
        count: usize,
        call: impl Into<AnyCall>,
    ) -> Result<Vec<ValueId>, BuildError> {
        let names: Vec<String> = (0..count).map(|i| format!("{}_{i}", self.name_of(what))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.build.bind_all(&names, call)
    }

    /// An operand in an element type, cast where it has another.
    ///
    /// # Errors
    ///
    /// When the opset has no such cast.
    pub fn cast(&mut self, what: &str, operand: &Operand, dtype: DType) -> Result<Input, BuildError> {
        if operand.dtype() == dtype {
            return Ok(operand.into());
        }
        self.bind(what, call::cast(operand, dtype.name())).map(Input::from)
    }

    /// A value in an element type, cast where its own is another.
    ///
    /// # Errors
    ///
    /// When the opset has no such cast.
    pub fn cast_value(
        &mut self,
        what: &str,
        value: ValueId,
        from: DType,
        to: DType,
    ) -> Result<ValueId, BuildError> {
        if from == to { Ok(value) } else { self.bind(what, call::cast(value, to.name())) }
    }

    /// The dimensions of what is given for a parameter.
    ///
    /// # Errors
    ///
    /// When one is not known.
    pub fn dims(&self, parameter: &str, operand: &Operand) -> Result<Vec<usize>, BuildError> {
        operand.shape().to_known().ok_or_else(|| {
            let error = OpError::rule(parameter, "its dimensions must be known");
            self.refused(error.found(format!("found {}", operand.ty)))
        })
    }

    /// Lengths as programs write them.
    ///
    /// # Errors
    ///
    /// When one is too long.
    pub fn lengths(&self, dims: &[usize]) -> Result<Vec<i32>, BuildError> {
        grad::lengths(dims).map_err(|error| self.refused(error))
    }

    /// The error of the op that is written out.
    pub fn refused(&self, error: OpError) -> BuildError {
        BuildError { op: self.op.to_string(), name: self.name.to_string(), error: Box::new(error) }
    }

    fn name_of(&self, what: &str) -> String {
        if what.is_empty() { self.name.to_string() } else { format!("{}_{what}", self.name) }
    }
}
