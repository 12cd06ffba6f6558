//! From an op as written to the operands that its row sees.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::ErrorKind;
use crate::ops::{self, BlockType, Given, OpDef, OpError, Operand, Operands};
use crate::program::{Argument, BlobReference, Function, Literal, LiteralValue, Op, ValueId};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType, Type};
use crate::verify::CONST;

/// Where operands come from: what is known of values, and of constants kept in blob files.
pub trait Scope {
    /// What is known of a value; `None` where it is neither tensor nor state.
    fn value(&self, id: ValueId) -> Option<Operand>;
    /// A constant kept in a blob file, where those are at hand.
    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>>;
}

/// What is known of a value beside its type.
#[derive(Debug, Clone, Default)]
enum Fact {
    /// Nothing: it is computed when the program runs.
    #[default]
    Computed,
    /// It is fixed before the program runs; its value is known unless a blob file keeps it.
    Constant(Option<Arc<Tensor>>),
}

/// What is known of the values of a function: their types, and which are constants.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    types: Vec<Type>,
    facts: Vec<Fact>,
    blobs: HashMap<(BlobReference, TensorType), Arc<Tensor>>,
    /// Where the function is a block of another: the states of the function that runs, by the block's ids of them.
    states: HashMap<ValueId, ValueId>,
}

impl Facts {
    /// What a function says of its values: declared types, and constants in its text.
    pub fn of(function: &Function) -> Facts {
        let mut facts = Facts::declared(function);
        for (_, op) in function.walk() {
            let Some(&result) = op.results.first() else { continue };
            let opset = op.opset.unwrap_or(function.opset);
            if op.name == CONST {
                facts.set_constant(result, op.attributes.get("val").and_then(held));
            } else if ops::lookup(&op.name, opset).is_some_and(|row| row.constexpr) {
                facts.set_constant(result, None);
            }
        }
        facts
    }

    /// The declared types of a function's values, and nothing else.
    pub fn declared(function: &Function) -> Facts {
        let types: Vec<Type> = function.values.iter().map(|value| value.ty.clone()).collect();
        Facts { facts: vec![Fact::Computed; types.len()], types, ..Facts::default() }
    }

    /// Adds a value.
    pub fn push(&mut self, ty: Type) {
        self.types.push(ty);
        self.facts.push(Fact::Computed);
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> &Type {
        &self.types[id.index()]
    }

    /// Replaces the type of a value.
    pub fn set_ty(&mut self, id: ValueId, ty: Type) {
        self.types[id.index()] = ty;
    }

    /// The types that the blocks of an op are entered with and yield.
    pub fn block_types(&self, op: &Op) -> Vec<BlockType> {
        let types = |ids: &[ValueId]| ids.iter().map(|&id| self.ty(id).clone()).collect();
        op.blocks
            .iter()
            .map(|block| BlockType { inputs: types(&block.inputs), outputs: types(&block.outputs) })
            .collect()
    }

    /// Whether a value is a constant.
    pub fn is_constant(&self, id: ValueId) -> bool {
        matches!(self.facts[id.index()], Fact::Constant(_))
    }

    /// The value of a constant, where it is at hand.
    pub fn constant(&self, id: ValueId) -> Option<&Arc<Tensor>> {
        match &self.facts[id.index()] {
            Fact::Constant(value) => value.as_ref(),
            Fact::Computed => None,
        }
    }

    /// Every constant whose value is at hand.
    pub fn constants(&self) -> impl Iterator<Item = (ValueId, &Arc<Tensor>)> {
        self.facts.iter().enumerate().filter_map(|(index, fact)| match fact {
            Fact::Constant(Some(value)) => Some((ValueId(index as u32), value)),
            _ => None,
        })
    }

    /// Makes a value a constant, with its value where that is at hand.
    pub fn set_constant(&mut self, id: ValueId, value: Option<Arc<Tensor>>) {
        self.facts[id.index()] = Fact::Constant(value);
    }

    /// Gives every constant whose value is at hand the dimensions that the value has.
    pub fn settle_constants(&mut self) {
        for (ty, fact) in self.types.iter_mut().zip(&self.facts) {
            if let (Type::Tensor(ty), Fact::Constant(Some(value))) = (ty, fact) {
                ty.shape = value.ty().shape;
            }
        }
    }

    /// Makes a value one that is computed when the program runs.
    pub fn set_computed(&mut self, id: ValueId) {
        self.facts[id.index()] = Fact::Computed;
    }

    /// The id that a state has in the function that runs.
    pub fn state(&self, id: ValueId) -> ValueId {
        self.states.get(&id).copied().unwrap_or(id)
    }

    /// Says which id a state has in the function that runs.
    pub fn set_state(&mut self, id: ValueId, running: ValueId) {
        self.states.insert(id, running);
    }

    /// Whether a constant of a blob file is kept.
    pub fn has_blob(&self, reference: &BlobReference, ty: &TensorType) -> bool {
        self.blobs.contains_key(&(reference.clone(), ty.clone()))
    }

    /// Keeps a constant of a blob file no longer.
    pub fn remove_blob(&mut self, reference: BlobReference, ty: TensorType) {
        self.blobs.remove(&(reference, ty));
    }

    /// Keeps a constant that was read from a blob file.
    pub fn set_blob(&mut self, reference: BlobReference, ty: TensorType, value: Arc<Tensor>) {
        self.blobs.insert((reference, ty), value);
    }
}

impl Scope for Facts {
    fn value(&self, id: ValueId) -> Option<Operand> {
        let declared = self.types.get(id.index())?;
        // No op takes a dictionary.
        if matches!(declared, Type::Dict(..)) {
            return None;
        }
        Some(Operand {
            ty: declared.held_tensor()?,
            constant: self.is_constant(id),
            value: self.constant(id).cloned(),
            id: Some(self.state(id)),
            is_state: matches!(declared, Type::State(_)),
            is_list: matches!(declared, Type::List(..)),
        })
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.blobs.get(&(reference.clone(), ty.clone())).cloned()
    }
}

/// The name of the attribute that names an op; every op may have it.
pub const NAME_ATTRIBUTE: &str = "name";

/// The operands of `op` as its row sees them: its arguments, and the attributes of an op that decompresses
/// a constant.
///
/// # Errors
///
/// When an operand is a dictionary or a tuple in a tuple, which no row takes.
pub fn operands<'a>(op: &'a Op, row: &OpDef, scope: &dyn Scope) -> Result<Operands<'a>, OpError> {
    let mut given = Vec::with_capacity(op.arguments.len());
    for (name, argument) in op.arguments.iter() {
        given.push((name, argument_given(argument, scope).map_err(|error| at(error, name))?));
    }
    if row.constexpr {
        for (name, literal) in op.attributes.iter().filter(|(name, _)| *name != NAME_ATTRIBUTE) {
            let operand = literal_operand(literal, scope).map_err(|error| at(error, name))?;
            given.push((name, Given::One(operand)));
        }
    }
    Ok(Operands(given))
}

fn at(mut error: OpError, parameter: &str) -> OpError {
    error.parameter = Some(parameter.to_string());
    error
}

fn argument_given(argument: &Argument, scope: &dyn Scope) -> Result<Given, OpError> {
    match argument {
        Argument::Tuple(items) => {
            items.iter().map(|item| operand(item, scope)).collect::<Result<_, _>>().map(Given::Tuple)
        }
        single => operand(single, scope).map(Given::One),
    }
}

fn operand(argument: &Argument, scope: &dyn Scope) -> Result<Operand, OpError> {
    match argument {
        Argument::Value(id) => scope.value(*id).ok_or_else(not_a_tensor),
        Argument::Literal(literal) => literal_operand(literal, scope),
        Argument::Tuple(_) => Err(OpError::new(ErrorKind::OperandKind, None, "tuples do not nest")),
    }
}

fn not_a_tensor() -> OpError {
    OpError::new(ErrorKind::OperandKind, None, "ops take tensors, scalars and states")
        .found("this is neither a tensor nor a state")
}

/// What is known of a literal.
///
/// # Errors
///
/// When it is a tuple, a dictionary, or a list of anything but strings or whole numbers of one type.
pub fn literal_operand(literal: &Literal, scope: &dyn Scope) -> Result<Operand, OpError> {
    match &literal.value {
        LiteralValue::Tensor(tensor) => Ok(Operand::constant(tensor.clone())),
        LiteralValue::Blob(reference) => {
            let ty = literal.ty.as_tensor().ok_or_else(not_a_tensor)?;
            let value = scope.blob(reference, &ty);
            Ok(Operand { ty, constant: true, value, id: None, is_state: false, is_list: false })
        }
        LiteralValue::List(_) => {
            let values = held(literal).ok_or_else(not_a_tensor)?;
            Ok(Operand { is_list: true, ..Operand::constant(values) })
        }
        _ => Err(not_a_tensor()),
    }
}

/// The tensor that a literal holds, unless a blob file does.
pub(crate) fn held(literal: &Literal) -> Option<Arc<Tensor>> {
    match &literal.value {
        LiteralValue::Tensor(tensor) => Some(tensor.clone()),
        LiteralValue::List(items) => vector_of(items).map(Arc::new),
        _ => None,
    }
}

/// A list of strings, or of whole numbers of one type, as a vector; `None` of anything else, and of nothing.
fn vector_of(items: &[LiteralValue]) -> Option<Tensor> {
    let tensors: Option<Vec<&Tensor>> = items
        .iter()
        .map(|item| match item {
            LiteralValue::Tensor(tensor) if tensor.shape().is_empty() => Some(tensor.as_ref()),
            _ => None,
        })
        .collect();
    let tensors = tensors?;
    let dtype = tensors.first()?.dtype();
    if dtype == DType::String {
        let words: Option<Vec<String>> =
            tensors.iter().map(|tensor| tensor.as_slice::<String>()?.first().cloned()).collect();
        return Tensor::from_values(&[items.len()], words?).ok();
    }
    let same = |tensor: &&&Tensor| tensor.dtype() == dtype && dtype.is_integer();
    let numbers = tensors.iter().filter(same).filter_map(|tensor| tensor.to_i64()?.first().copied());
    let numbers: Vec<i64> = numbers.collect();
    Tensor::from_i64(dtype, &[items.len()], &numbers).ok()
}
