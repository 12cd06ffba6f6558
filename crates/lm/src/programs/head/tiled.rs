//! The head in vocabulary tiles, as the engine takes it: every program works on the rows `V_i` of E that it is given,
//! and the host [merges](crate::head::merge) what the tiles give.
//!
//! | program | inputs | outputs |
//! |---|---|---|
//! | [`Tile::final_rmsnorm`] | `gain`, `x` | `xn` |
//! | [`Tile::rmsnorm_backward`] | `dxn`, `gain`, `x` | `dx`, and `dgain_mean` = Σ_s dxn·x̂ / S `[1, 1, 1, D]` |
//! | [`Tile::forward`] | `embed`, `xn` | `logits` = E_i·xn `[1, V_i, 1, S]` |
//! | [`Tile::softmax`] | `logits` | `largest` = max z, `sum` = Σ u `[1, 1, 1, S]`, `weights` = u = exp(z − max z) `[1, V_i, 1, S]` |
//! | [`Tile::backward`] | `dlogits`, `embed` | `dxn` = E_iᵀ·dlogits `[1, D, 1, S]` |
//! | [`Tile::weight_gradient`] | `dlogits`, `xn` | `dembed` = dlogits·xnᵀ `[1, 1, V_i, D]` |
//! | [`Tile::fused_forward`] | `embed`, `xn` | `largest`, `sum`, and `mixture` = E_iᵀ·u `[1, D, 1, S]` |
//! | [`Tile::fused_weight_gradient`] | `embed`, `largest`, `scaled_xn`, `xn` | `dembed` = u·scaled_xnᵀ `[1, 1, V_i, D]` |
//!
//! `embed`, the rows `[1, 1, V_i, D]`, is an input, so that one program serves every tile of its size and nothing is
//! compiled again, or a constant read from a blob file at offset 64.

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops::call;
use anemone_mil::program::{Program, ValueId};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;

use super::{BLOB_OFFSET, EMBED, GAIN, Head, reshape, weight_path};
use crate::programs::ProgramError;
use crate::programs::normalization::engine::{
    NormalizedOnEngine, normalize_backward_on_engine, normalize_on_engine,
};

/// Where a tile's rows of E come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rows<'a> {
    /// An input.
    Input,
    /// A constant in this file under `weights/`.
    Blob(&'a str),
}

/// The programs of one vocabulary tile.
///
/// ```
/// use anemone_lm::config::DeviceDtype;
/// use anemone_lm::programs::{Target, head::{Head, tiled::{Rows, Tile}}};
/// let head = Head { vocab: 500, dim: 64, positions: 32, eps: 1e-5, target: Target::new(DeviceDtype::Fp16) };
/// let text = anemone_mil::text::write(&Tile { head, rows: Rows::Input }.fused_forward()?);
/// assert!(text.contains("tensor<fp16, [1, 1, 500, 64]> embed"));
/// # Ok::<(), anemone_lm::programs::ProgramError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tile<'a> {
    /// The head's dimensions; its vocabulary is that of the tile, V_i.
    pub head: Head,
    /// Where the rows of E come from.
    pub rows: Rows<'a>,
}

/// u = exp(z − max z), with the maximum and the sum over the rows of z `[1, 1, V_i, S]`.
struct Exponentials {
    largest: ValueId,
    sum: ValueId,
    weights: ValueId,
}

impl Tile<'_> {
    fn embed(&self, f: &mut FunctionBuilder) -> ValueId {
        let ty = TensorType::new(self.head.target.mil_dtype(), &[1, 1, self.head.vocab, self.head.dim]);
        match self.rows {
            Rows::Input => f.input(EMBED, ty),
            Rows::Blob(file) => f.blob(EMBED, ty, &weight_path(file), BLOB_OFFSET),
        }
    }

    /// `[1, C, 1, S]` as the matrix `[1, 1, C, S]`.
    fn matrix(
        &self,
        f: &mut FunctionBuilder,
        name: &str,
        x: ValueId,
        channels: usize,
    ) -> Result<ValueId, ProgramError> {
        reshape(f, name, x, &[1, 1, channels, self.head.positions])
    }

    /// The matrix `[1, 1, C, S]` as `[1, C, 1, S]`.
    fn channels(
        &self,
        f: &mut FunctionBuilder,
        name: &str,
        x: ValueId,
        channels: usize,
    ) -> Result<ValueId, ProgramError> {
        reshape(f, name, x, &[1, channels, 1, self.head.positions])
    }

    /// E_i·xn as a matrix `[1, 1, V_i, S]`.
    fn product(&self, f: &mut FunctionBuilder, embed: ValueId, xn: ValueId) -> Result<ValueId, ProgramError> {
        let xn = self.matrix(f, "xn_matrix", xn, self.head.dim)?;
        let product = call::matmul(embed, xn).transpose_x(false).transpose_y(false);
        Ok(f.bind("logits_matrix", product)?)
    }

    fn exponentials(&self, f: &mut FunctionBuilder, z: ValueId) -> Result<Exponentials, ProgramError> {
        let largest = f.bind("largest", call::reduce_max(z).axes([2]).keep_dims(true))?;
        let shifted = f.bind("shifted", call::sub(z, largest))?;
        let weights = f.bind("exponentials", call::exp(shifted))?;
        // A product with ones: the engine adds up a reduction in fp16, a product in fixed point.
        let ones = self.filled(f, "ones", self.head.vocab, 1.0)?;
        let sum = f.bind("sum", call::matmul(ones, weights).transpose_x(false).transpose_y(false))?;
        Ok(Exponentials { largest, sum, weights })
    }

    /// A row `[1, 1, 1, n]` of equal numbers.
    fn filled(
        &self,
        f: &mut FunctionBuilder,
        name: &str,
        length: usize,
        number: f64,
    ) -> Result<ValueId, ProgramError> {
        let number = Tensor::from_f64(self.head.target.mil_dtype(), &[], &[number])?;
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        Ok(f.bind(name, call::fill([1, 1, 1, length]).value(number))?)
    }

    /// g `[1, D, 1, 1]`.
    fn gain(&self, f: &mut FunctionBuilder) -> ValueId {
        let ty = TensorType::new(self.head.target.mil_dtype(), &[1, self.head.dim, 1, 1]);
        match self.rows {
            Rows::Input => f.input(GAIN, ty),
            Rows::Blob(file) => f.blob(GAIN, ty, &weight_path(file), BLOB_OFFSET),
        }
    }

    fn normalize(&self, f: &mut FunctionBuilder, x: ValueId) -> Result<NormalizedOnEngine, ProgramError> {
        normalize_on_engine(f, x, self.head.target.mil_dtype(), self.head.dim, self.head.eps)
    }

    /// x `[1, D, 1, S]` → xn = x·(mean(x²) + ε)^-½·g, in the form for the engine; g, `gain` `[1, D, 1, 1]`, comes
    /// as E does.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn final_rmsnorm(&self) -> Result<Program, ProgramError> {
        let mut f = self.head.start()?;
        let gain = self.gain(&mut f);
        let x = f.input("x", self.head.activation(self.head.dim));
        let normalized = self.normalize(&mut f, x)?;
        let xn = f.bind("xn", call::mul(normalized.x_hat, gain))?;
        Ok(self.head.finish(f, [xn]))
    }

    /// dxn, x `[1, D, 1, S]` → dx `[1, D, 1, S]`, and the mean over the positions of dxn·x̂ `[1, 1, 1, D]`: the gain's
    /// gradient over S. The mean does not overflow where the sum would.
    ///
    /// dxn comes [scaled](crate::head::merge::scaled_for_rmsnorm_backward), and both results are scaled as it is.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn rmsnorm_backward(&self) -> Result<Program, ProgramError> {
        let mut f = self.head.start()?;
        let dxn = f.input("dxn", self.head.activation(self.head.dim));
        let gain = self.gain(&mut f);
        let x = f.input("x", self.head.activation(self.head.dim));
        let normalized = self.normalize(&mut f, x)?;
        let d_gain = f.bind("dgain_products", call::mul(dxn, normalized.x_hat))?;
        let d_gain = self.matrix(&mut f, "dgain_terms", d_gain, self.head.dim)?;
        let positions = self.head.positions;
        let parts = self.filled(&mut f, "position_weights", positions, 1.0 / positions as f64)?;
        let d_gain =
            f.bind("dgain_mean", call::matmul(parts, d_gain).transpose_x(false).transpose_y(true))?;
        let d_x_hat = f.bind("dx_hat", call::mul(dxn, gain))?;
        let dx = normalize_backward_on_engine(&mut f, &normalized, d_x_hat, "dx")?;
        Ok(self.head.finish(f, [dx, d_gain]))
    }

    /// The tile's logits.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn forward(&self) -> Result<Program, ProgramError> {
        let mut f = self.head.start()?;
        let embed = self.embed(&mut f);
        let xn = f.input("xn", self.head.activation(self.head.dim));
        let product = self.product(&mut f, embed, xn)?;
        let logits = self.channels(&mut f, "logits", product, self.head.vocab)?;
        Ok(self.head.finish(f, [logits]))
    }

    /// What the tile adds to a softmax: its probabilities are `weights` times exp(largest − max) / Σ over all tiles.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn softmax(&self) -> Result<Program, ProgramError> {
        let mut f = self.head.start()?;
        let logits = f.input("logits", self.head.activation(self.head.vocab));
        let z = self.matrix(&mut f, "logits_matrix", logits, self.head.vocab)?;
        let found = self.exponentials(&mut f, z)?;
        let weights = self.channels(&mut f, "weights", found.weights, self.head.vocab)?;
        Ok(self.head.finish(f, [found.largest, found.sum, weights]))
    }

    /// The tile's part of dxn; the parts of all tiles add up to it.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn backward(&self) -> Result<Program, ProgramError> {
        let mut f = self.head.start()?;
        let dlogits = f.input("dlogits", self.head.activation(self.head.vocab));
        let embed = self.embed(&mut f);
        let matrix = self.matrix(&mut f, "dlogits_matrix", dlogits, self.head.vocab)?;
        let product =
            f.bind("dxn_matrix", call::matmul(embed, matrix).transpose_x(true).transpose_y(false))?;
        let dxn = self.channels(&mut f, "dxn", product, self.head.dim)?;
        Ok(self.head.finish(f, [dxn]))
    }

    /// The tile's rows of dE.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn weight_gradient(&self) -> Result<Program, ProgramError> {
        let mut f = self.head.start()?;
        let dlogits = f.input("dlogits", self.head.activation(self.head.vocab));
        let xn = f.input("xn", self.head.activation(self.head.dim));
        let left = self.matrix(&mut f, "dlogits_matrix", dlogits, self.head.vocab)?;
        let right = self.matrix(&mut f, "xn_matrix", xn, self.head.dim)?;
        let product = call::matmul(left, right).transpose_x(false).transpose_y(true);
        let gradient = f.bind("dembed", product)?;
        Ok(self.head.finish(f, [gradient]))
    }

    /// What the tile adds to the loss and to dxn, without its logits leaving the engine.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn fused_forward(&self) -> Result<Program, ProgramError> {
        let mut f = self.head.start()?;
        let embed = self.embed(&mut f);
        let xn = f.input("xn", self.head.activation(self.head.dim));
        let z = self.product(&mut f, embed, xn)?;
        let found = self.exponentials(&mut f, z)?;
        let mixture = call::matmul(embed, found.weights).transpose_x(true).transpose_y(false);
        let mixture = f.bind("mixture_matrix", mixture)?;
        let mixture = self.channels(&mut f, "mixture", mixture, self.head.dim)?;
        Ok(self.head.finish(f, [found.largest, found.sum, mixture]))
    }

    /// The tile's rows of dE but for the targets' part: u is computed again, from the maximum that
    /// [`Tile::fused_forward`] gave.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn fused_weight_gradient(&self) -> Result<Program, ProgramError> {
        let mut f = self.head.start()?;
        let embed = self.embed(&mut f);
        let largest = f.input("largest", self.head.activation(1));
        let scaled = f.input("scaled_xn", self.head.activation(self.head.dim));
        let xn = f.input("xn", self.head.activation(self.head.dim));
        let z = self.product(&mut f, embed, xn)?;
        let shifted = f.bind("shifted", call::sub(z, largest))?;
        let weights = f.bind("exponentials", call::exp(shifted))?;
        let scaled = self.matrix(&mut f, "scaled_xn_matrix", scaled, self.head.dim)?;
        let product = call::matmul(weights, scaled).transpose_x(false).transpose_y(true);
        let gradient = f.bind("dembed", product)?;
        Ok(self.head.finish(f, [gradient]))
    }
}
