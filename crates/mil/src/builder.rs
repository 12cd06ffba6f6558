//! Building functions op by op, with result types inferred on the way.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bind::{self, Facts, NAME_ATTRIBUTE, Scope as _};
use crate::error::ErrorKind;
use crate::ops::{self, OpDef, OpError, Operand};
use crate::program::{
    Argument, BlobReference, Dialect, FreeNames, Function, Literal, LiteralValue, Named, Op, OpId, ValueId,
    Version,
};
use crate::suggest::nearest;
use crate::tensor::Tensor;
use crate::types::{DType, Opset, TensorType, Type};
use crate::verify::{self, CONST};

mod input;

pub use input::{AnyCall, Call, Input, Tuple};

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

/// Builds one function, or goes on with one that exists.
///
/// # Examples
///
/// ```
/// use anemone_mil::builder::FunctionBuilder;
/// use anemone_mil::ops::call;
/// use anemone_mil::program::{Program, Version};
/// use anemone_mil::types::{DType, Opset, TensorType};
///
/// let mut f = FunctionBuilder::new("main", Version::V1_3, Opset::IOS18);
/// let x = f.input("x", TensorType::new(DType::Fp16, &[1, 8, 1, 4]));
/// let y = f.bind("y", call::reduce_sum(call::mul(x, 0.5)).axes([1]).keep_dims(true))?;
/// let mut program = Program::new(Version::V1_3);
/// program.functions.push(f.finish([y]));
/// anemone_mil::verify::verify(program).unwrap();
/// # Ok::<(), anemone_mil::builder::BuildError>(())
/// ```
#[derive(Debug, Clone)]
pub struct FunctionBuilder {
    function: Function,
    dialect: Dialect,
    facts: Facts,
    names: FreeNames,
    /// The op before which new ones go; the end of the body without one.
    before: Option<OpId>,
    insertions: HashMap<OpId, Vec<OpId>>,
}

impl FunctionBuilder {
    /// A function without inputs or ops, for a program of this version.
    pub fn new(name: impl Into<String>, version: Version, opset: Opset) -> FunctionBuilder {
        FunctionBuilder::resume(Function::new(name, opset), version)
    }

    /// Goes on with a function of a program of this version, at the end of its body.
    pub fn resume(function: Function, version: Version) -> FunctionBuilder {
        FunctionBuilder {
            facts: Facts::of(&function),
            names: FreeNames::of(&function),
            function,
            dialect: version.dialect(),
            before: None,
            insertions: HashMap::new(),
        }
    }

    /// Makes ops that are added from here on stand before one that the function has, or without one, at the end of the
    /// body. What they read must be bound before that.
    pub fn insert_before(&mut self, op: Option<OpId>) {
        self.before = op;
    }

    /// Adds an input. A name that is taken, or that text cannot write, is made free and writable.
    pub fn input(&mut self, name: &str, ty: impl Into<Type>) -> ValueId {
        let id = self.value(name, ty.into());
        self.function.body.inputs.push(id);
        id
    }

    /// Binds a constant.
    pub fn constant(&mut self, name: &str, value: impl Into<Arc<Tensor>>) -> ValueId {
        let literal = Literal::tensor(self.dialect, value);
        self.literal(name, literal)
    }

    /// Binds a constant that a blob file keeps: `offset` is the position of its metadata record.
    pub fn blob(&mut self, name: &str, ty: TensorType, path: &str, offset: u64) -> ValueId {
        let reference = BlobReference { path: path.to_string(), offset, dialect: self.dialect };
        self.literal(name, Literal { ty: Type::Tensor(ty), value: LiteralValue::Blob(reference) })
    }

    /// Adds an op with one result, and the ops that its operands call. Parameters that are left out are written where
    /// Core ML wants them to be, though they have a default.
    ///
    /// # Errors
    ///
    /// When an op is not in the function's opset, its row refuses what it is given, or it does not have one result.
    /// What was added before the error stays, so the builder is best dropped.
    pub fn bind(&mut self, name: &str, call: impl Into<AnyCall>) -> Result<ValueId, BuildError> {
        Ok(self.bind_all(&[name], call)?[0])
    }

    /// Adds an op with as many results as there are names.
    ///
    /// # Errors
    ///
    /// As [`FunctionBuilder::bind`].
    pub fn bind_all(&mut self, names: &[&str], call: impl Into<AnyCall>) -> Result<Vec<ValueId>, BuildError> {
        let call = call.into();
        let name = names.first().copied().unwrap_or(call.op);
        let fail =
            |error| BuildError { op: call.op.to_string(), name: name.to_string(), error: Box::new(error) };
        let opset = self.function.opset;
        let row = ops::lookup(call.op, opset).ok_or_else(|| fail(unknown_op(call.op, opset)))?;
        let mut added = Op { name: call.op.to_string(), ..Op::default() };
        added.arguments = self.arguments(row, name, call.arguments.clone())?;
        added.attributes.insert(NAME_ATTRIBUTE, Literal::string(self.dialect, name));
        let operands = bind::operands(&added, row, &self.facts).map_err(fail)?;
        if let Some(error) = verify::check_arguments(&added, row, opset, &operands).into_iter().next() {
            return Err(fail(error));
        }
        let types = row.result_types(&operands, &[]).map_err(fail)?;
        if types.len() != names.len() {
            let message = format!("it has {}", verify::count(types.len(), "result"));
            return Err(fail(OpError::new(ErrorKind::DeclaredType, None, message)));
        }
        for (parameter, default) in verify::omitted(row, &operands) {
            if let Some(tensor) = default.tensor() {
                let argument = self.argument(&format!("{name}_{parameter}"), tensor.into())?;
                added.arguments.insert(parameter, argument);
            }
        }
        added.arguments.sort();
        let results: Vec<ValueId> =
            names.iter().zip(types).map(|(name, ty)| self.value(name, self.written(ty))).collect();
        if row.constexpr {
            results.iter().for_each(|&id| self.facts.set_constant(id, None));
        }
        if let Some(&first) = results.first() {
            let bound = Literal::string(self.dialect, self.function.value(first).name.clone());
            added.attributes.insert(NAME_ATTRIBUTE, bound);
        }
        added.results.clone_from(&results);
        self.push(added);
        Ok(results)
    }

    /// Replaces the inputs of the function; ops may go on to read values that are none any more.
    pub(crate) fn set_inputs(&mut self, inputs: Vec<ValueId>) {
        self.function.body.inputs = inputs;
    }

    /// Keeps a name from being given to what is added.
    pub(crate) fn reserve(&mut self, name: String) {
        self.names.reserve(name);
    }

    /// What is known of the function's values.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The declared type of a value.
    pub fn ty(&self, id: ValueId) -> Option<&Type> {
        self.function.values.get(id.index()).map(|value| &value.ty)
    }

    /// What is known of a value, as an op that reads it sees it.
    pub fn operand(&self, id: ValueId) -> Option<Operand> {
        self.facts.value(id)
    }

    /// The function so far. What was inserted before ops stands in its place only when it is finished.
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// The function, yielding these values.
    pub fn finish(mut self, outputs: impl IntoIterator<Item = ValueId>) -> Function {
        self.function.insert_before(&self.insertions);
        self.function.body.outputs = outputs.into_iter().collect();
        self.function
    }

    /// A type as this dialect writes it.
    fn written(&self, ty: Type) -> Type {
        match ty {
            Type::Tensor(ty) if ty.shape.rank() == 0 => self.dialect.scalar_type(ty.dtype),
            Type::List(element, length) => Type::List(Box::new(self.written(*element)), length),
            ty => ty,
        }
    }

    /// What an op is given, in the order of the parameters' names. Values come first, since numbers follow their types.
    fn arguments(
        &mut self,
        row: &OpDef,
        name: &str,
        inputs: Vec<(&'static str, Input)>,
    ) -> Result<Named<Argument>, BuildError> {
        let mut arguments = Named::default();
        let mut numbers = Vec::new();
        for (parameter, input) in inputs {
            match input {
                Input::Number(number) => numbers.push((parameter, number)),
                input => {
                    let argument = self.argument(&format!("{name}_{parameter}"), input)?;
                    arguments.insert(parameter, argument);
                }
            }
        }
        for (parameter, number) in numbers {
            let dtype = self.number_type(row, parameter, &arguments);
            let tensor = number_tensor(dtype, number).ok_or_else(|| BuildError {
                op: row.name.to_string(),
                name: name.to_string(),
                error: Box::new(OpError::rule(parameter, format!("{dtype} cannot hold {number}"))),
            })?;
            arguments.insert(parameter, self.argument(&format!("{name}_{parameter}"), tensor.into())?);
        }
        arguments.sort();
        Ok(arguments)
    }

    /// The element type that what is given for other parameters of the same type variable has, or else that of the
    /// first floating-point operand.
    fn number_type(&self, row: &OpDef, parameter: &str, given: &Named<Argument>) -> DType {
        let variable = row.parameter(parameter).and_then(|parameter| parameter.variable);
        let dtype = |name: &str| match given.get(name)?.items().first()? {
            Argument::Value(id) => self.facts.value(*id).map(|operand| operand.dtype()),
            Argument::Literal(literal) => literal.ty.dtype(),
            Argument::Tuple(_) => None,
        };
        let alike = row.parameters.iter().filter(|other| variable.is_some() && other.variable == variable);
        let floats = || row.parameters.iter().filter_map(|other| dtype(other.name)).find(|d| d.is_float());
        let same = alike.filter_map(|other| dtype(other.name)).next();
        same.or_else(floats).unwrap_or(DType::Fp32)
    }

    /// An argument; what has to be bound first has names that begin with `base`.
    fn argument(&mut self, base: &str, input: Input) -> Result<Argument, BuildError> {
        Ok(match input {
            Input::Value(id) => Argument::Value(id),
            Input::Literal(literal) => Argument::Literal(literal),
            Input::Constant(tensor) => Argument::Value(self.constant(&format!("{base}_0"), tensor)),
            Input::Number(number) => {
                Argument::Value(self.constant(&format!("{base}_0"), Tensor::scalar(number as f32)))
            }
            Input::Tuple(Tuple(items)) => {
                let items = items.into_iter().enumerate();
                let argument = |(position, item)| self.argument(&format!("{base}_{position}"), item);
                Argument::Tuple(items.map(argument).collect::<Result<_, _>>()?)
            }
            Input::Call(call) => Argument::Value(self.bind(base, *call)?),
        })
    }

    fn literal(&mut self, name: &str, literal: Literal) -> ValueId {
        let id = self.value(name, literal.ty.clone());
        self.facts.set_constant(id, literal.as_tensor().cloned());
        let written = Literal::string(self.dialect, self.function.value(id).name.clone());
        let attributes = [(NAME_ATTRIBUTE, written), ("val", literal)].into_iter().collect();
        self.push(Op { name: CONST.to_string(), attributes, results: vec![id], ..Op::default() });
        id
    }

    fn push(&mut self, op: Op) {
        let id = self.function.add_op(op);
        match self.before {
            Some(before) => self.insertions.entry(before).or_default().push(id),
            None => self.function.body.ops.push(id),
        }
    }

    fn value(&mut self, name: &str, ty: Type) -> ValueId {
        let mut base: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if !base.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            base.insert(0, '_');
        }
        let free = self.names.free(&base);
        self.facts.push(ty.clone());
        self.function.add_value(free, ty)
    }
}

fn unknown_op(op: &str, opset: Opset) -> OpError {
    let error = OpError::new(ErrorKind::UnknownOp, None, format!("no such op is in {opset}"));
    match nearest(op, ops::rows().map(|row| row.name)) {
        Some(near) => error.with_help(format!("the nearest op is `{near}`")),
        None => error,
    }
}

/// A scalar of a number type; `None` for an integer type that cannot hold the number.
fn number_tensor(dtype: DType, number: f64) -> Option<Tensor> {
    match dtype.integer_range() {
        Some((least, most)) => {
            let fits = number.fract() == 0.0 && number >= least as f64 && number <= most as f64;
            fits.then(|| Tensor::from_i64(dtype, &[], &[number as i64]).ok()).flatten()
        }
        None => Tensor::from_f64(dtype, &[], &[number]).ok(),
    }
}
