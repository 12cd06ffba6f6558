//! Programs for language models, in MIL.

pub mod head;
pub mod layer;
pub mod normalization;
pub mod rotary;

use std::ops::Range;

use anemone_mil::builder::{BuildError, FunctionBuilder};
use anemone_mil::error::Errors;
use anemone_mil::grad::GradError;
use anemone_mil::ops::call;
use anemone_mil::program::{Attributes, Dialect, Function, Literal, LiteralValue, Program, ValueId, Version};
use anemone_mil::tensor::{Tensor, TensorError};
use anemone_mil::types::{DType, Opset, Type};
use thiserror::Error;

use crate::config::DeviceDtype;

/// How programs are written, whatever they compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// The version in line 1, and with it the dialect.
    pub version: Version,
    /// The opset of every function.
    pub opset: Opset,
    /// Element type of activations and weights.
    pub dtype: DeviceDtype,
}

impl Target {
    /// program(1.3), ios18.
    pub fn new(dtype: DeviceDtype) -> Target {
        Target { version: Version::V1_3, opset: Opset::IOS18, dtype }
    }

    /// program(1.0), ios16: what the first engines' private interface reads.
    pub fn first_dialect(dtype: DeviceDtype) -> Target {
        Target { version: Version::V1_0, opset: Opset::IOS16, dtype }
    }

    /// The element type as MIL names it.
    pub fn mil_dtype(self) -> DType {
        match self.dtype {
            DeviceDtype::Fp16 => DType::Fp16,
            DeviceDtype::Fp32 => DType::Fp32,
        }
    }
}

/// Why a program cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// An op refuses what the program gives it.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A constant cannot be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A program that was written does not verify: a fault of this crate.
    #[error("a program is refused: {0}")]
    Verify(#[from] Errors),
    /// A program cannot be differentiated.
    #[error(transparent)]
    Gradient(#[from] GradError),
    /// A parameter that a layer of this kind does not have: a fault of this crate.
    #[error("the layer has no parameter `{0}`")]
    NoParameter(String),
    /// A dimension is 0.
    #[error("the dimension {0} is 0; it must be at least 1")]
    Empty(&'static str),
}

/// A program of one function, `main`, with the `buildInfo` that loaders expect.
fn program(target: Target, function: Function) -> Program {
    let mut program = Program::new(target.version);
    program.attributes = build_info(target.version.dialect());
    program.functions.push(function);
    program
}

/// `buildInfo`, a dictionary of strings. Loaders ask that it is there; it names the writer.
fn build_info(dialect: Dialect) -> Attributes {
    let string = |text: &str| LiteralValue::Tensor(std::sync::Arc::new(Tensor::scalar(text.to_string())));
    let ty = dialect.scalar_type(DType::String);
    let entries = [("component-anemone", env!("CARGO_PKG_VERSION")), ("coremlc-version", "3505.4.1")];
    let pairs = entries.map(|(key, value)| (string(key), string(value))).to_vec();
    let literal =
        Literal { ty: Type::Dict(Box::new(ty.clone()), Box::new(ty)), value: LiteralValue::Dict(pairs) };
    [("buildInfo", literal)].into_iter().collect()
}

/// A function builder for `main`.
fn main_function(target: Target) -> FunctionBuilder {
    FunctionBuilder::new("main", target.version, target.opset)
}

/// `x` in other dimensions; they are at most 2^24 (see [`crate::config::MAX_DIMENSION`]), so int32 holds them.
fn reshape(f: &mut FunctionBuilder, name: &str, x: ValueId, dims: &[usize]) -> Result<ValueId, ProgramError> {
    let shape: Vec<i32> = dims.iter().map(|&length| i32::try_from(length).unwrap_or(i32::MAX)).collect();
    Ok(f.bind(name, call::reshape(x, shape))?)
}

/// The vocabulary in tiles of `tile` rows, the last one perhaps shorter.
///
/// ```
/// let tiles: Vec<_> = anemone_lm::programs::vocabulary_tiles(1000, 400).collect();
/// assert_eq!(tiles, [0..400, 400..800, 800..1000]);
/// ```
pub fn vocabulary_tiles(vocab: usize, tile: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    let tile = tile.max(1);
    (0..vocab.div_ceil(tile)).map(move |i| i * tile..((i + 1) * tile).min(vocab))
}
