//! What ops make of the blocks nested in them.

use std::sync::Arc;

use crate::ops::{OpError, Operands};
use crate::tensor::Tensor;
use crate::types::{Dim, Shape, TensorType, Type};

/// The types that a block is entered with and yields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockType {
    /// Its parameters.
    pub inputs: Vec<Type>,
    /// Its results.
    pub outputs: Vec<Type>,
}

/// The blocks of an op, ready to run.
pub trait RunBlocks {
    /// Runs a block once.
    ///
    /// # Errors
    ///
    /// When an op in it refuses its operands, or the budget does not suffice.
    fn run(&mut self, block: usize, inputs: Vec<Arc<Tensor>>) -> Result<Vec<Arc<Tensor>>, OpError>;

    /// Takes the cost of one more round from the budget, so that no loop goes on for ever.
    ///
    /// # Errors
    ///
    /// When the budget does not suffice.
    fn round(&mut self) -> Result<(), OpError>;
}

/// The meaning of an op with nested blocks.
pub type BlockMeaning = fn(&Operands<'_>, &mut dyn RunBlocks) -> Result<Vec<Arc<Tensor>>, OpError>;

/// What the row of an op with nested blocks says of them.
#[derive(Debug, Clone, Copy)]
pub struct BlockRules {
    /// What each block is called in messages.
    pub names: &'static [&'static str],
    /// Whether the blocks are entered, again and again, with what the op was given and the last of them yields.
    pub loops: bool,
    /// The types of the results.
    pub infer: fn(&Operands<'_>, &[BlockType]) -> Result<Vec<Type>, OpError>,
    /// The meaning.
    pub eval: BlockMeaning,
}

/// The type that covers two, a dimension in which they differ being `?`; `None` where they differ otherwise.
pub fn join(a: &Type, b: &Type) -> Option<Type> {
    let dim = |a: Dim, b: Dim| if a == b { a } else { Dim::Unknown };
    match (a, b) {
        (Type::List(a, m), Type::List(b, n)) => Some(Type::List(Box::new(join(a, b)?), dim(*m, *n))),
        (Type::Dict(a, x), Type::Dict(b, y)) => {
            Some(Type::Dict(Box::new(join(a, b)?), Box::new(join(x, y)?)))
        }
        (Type::Tensor(a), Type::Tensor(b)) if a.dtype == b.dtype && a.shape.rank() == b.shape.rank() => {
            let dims = a.shape.0.iter().zip(&b.shape.0).map(|(&a, &b)| dim(a, b)).collect();
            Some(Type::Tensor(TensorType { dtype: a.dtype, shape: Shape(dims) }))
        }
        // One value is written in two ways.
        _ if a.as_tensor()? == b.as_tensor()? => Some(a.clone()),
        _ => None,
    }
}

/// Whether one value can have both types.
pub(super) fn agree(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::List(a, m), Type::List(b, n)) => m.agrees_with(*n) && agree(a, b),
        (Type::Dict(a, x), Type::Dict(b, y)) => agree(a, b) && agree(x, y),
        _ => match (a.as_tensor(), b.as_tensor()) {
            (Some(a), Some(b)) => a.dtype == b.dtype && a.shape.agrees_with(&b.shape),
            _ => false,
        },
    }
}

/// The declared type with what an inferred one adds to it: dimensions that the declaration leaves open, or, where it
/// does not, what it says. `None` where one value cannot have both.
pub fn refine(declared: &Type, inferred: &Type) -> Option<Type> {
    if !agree(declared, inferred) {
        return None;
    }
    Some(match (declared, inferred) {
        (Type::List(declared, m), Type::List(inferred, n)) => {
            Type::List(Box::new(refine(declared, inferred)?), n.or(*m))
        }
        (Type::Tensor(declared), inferred) => {
            let dims = inferred.as_tensor()?.shape.0;
            let dims = dims.iter().zip(&declared.shape.0).map(|(a, b)| a.or(*b)).collect();
            Type::Tensor(TensorType { dtype: declared.dtype, shape: Shape(dims) })
        }
        _ => declared.clone(),
    })
}
