//! The classifier head: final RMSNorm, logits, softmax, and the way back.
//!
//! Activations are channel-first, `[1, C, 1, S]`; every weight is its own blob file, read at offset 64:
//!
//! | file | constant | shape | is |
//! |---|---|---|---|
//! | `weights/rms_w.bin` | `gain` | `[1, D, 1, 1]` | the gain g |
//! | `weights/embed.bin` | `embed` | `[V, D, 1, 1]` | the classifier's matrix E, as a convolution's weight |
//! | `weights/embed_t.bin` | `embed_t` | `[1, D, V]` | Eᵀ, as a matrix product's left side |
//!
//! Programs for one vocabulary tile name their files `embed_0.bin`, `embed_t_0.bin` and so on.

pub mod tiled;

use std::ops::Range;

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops::call;
use anemone_mil::program::{Program, ValueId};
use anemone_mil::types::TensorType;

use super::normalization::{normalize, normalize_backward};
use super::{ProgramError, Target, main_function, program, reshape};

/// Position of the one blob's metadata record in each weight file.
pub const BLOB_OFFSET: u64 = 64;
/// ε of RMSNorm.
pub const EPS: f64 = 1e-5;
/// The constant that holds g, in [`Head::final_rmsnorm`] and [`Head::rmsnorm_backward`].
pub const GAIN: &str = "gain";
/// The constant that holds E, in [`Head::classifier_forward`].
pub const EMBED: &str = "embed";
/// The constant that holds Eᵀ, in [`Head::classifier_backward`].
pub const EMBED_T: &str = "embed_t";

/// The head's programs for given dimensions.
///
/// ```
/// use anemone_lm::config::DeviceDtype;
/// use anemone_lm::programs::{Target, head::Head};
/// let head = Head { vocab: 1000, dim: 64, positions: 32, eps: 1e-5, target: Target::new(DeviceDtype::Fp16) };
/// let text = anemone_mil::text::write(&head.classifier_forward()?);
/// assert!(text.contains("tensor<fp16, [1, 1000, 1, 32]> logits = conv("));
/// # Ok::<(), anemone_lm::programs::ProgramError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    /// Vocabulary V.
    pub vocab: usize,
    /// Model dimension D.
    pub dim: usize,
    /// Positions S.
    pub positions: usize,
    /// ε of RMSNorm.
    pub eps: f64,
    /// How the programs are written.
    pub target: Target,
}

/// The path of a weight file as programs write it.
pub fn weight_path(file: &str) -> String {
    format!("@model_path/weights/{file}")
}

impl Head {
    fn check(&self) -> Result<(), ProgramError> {
        let dims = [("V", self.vocab), ("D", self.dim), ("S", self.positions)];
        match dims.into_iter().find(|(_, length)| *length == 0) {
            Some((letter, _)) => Err(ProgramError::Empty(letter)),
            None => Ok(()),
        }
    }

    /// `[1, C, 1, S]`.
    fn activation(&self, channels: usize) -> TensorType {
        TensorType::new(self.target.mil_dtype(), &[1, channels, 1, self.positions])
    }

    fn start(&self) -> Result<FunctionBuilder, ProgramError> {
        self.check()?;
        Ok(main_function(self.target))
    }

    fn finish(&self, f: FunctionBuilder, outputs: impl IntoIterator<Item = ValueId>) -> Program {
        program(self.target, f.finish(outputs))
    }

    fn gain(&self, f: &mut FunctionBuilder) -> ValueId {
        let ty = TensorType::new(self.target.mil_dtype(), &[1, self.dim, 1, 1]);
        f.blob(GAIN, ty, &weight_path("rms_w.bin"), BLOB_OFFSET)
    }

    /// x `[1, D, 1, S]` → xn = x·(mean(x²) + ε)^-½·g `[1, D, 1, S]`.
    ///
    /// In fp16 right to 4 units in the last place for every finite x and |g| ≤ 7. A larger gain multiplies what
    /// rounding x̂ to a subnormal costs: up to |g|/2 units, of 2^-24 each, where x̂ is below 2^-14.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn final_rmsnorm(&self) -> Result<Program, ProgramError> {
        let mut f = self.start()?;
        let x = f.input("x", self.activation(self.dim));
        let normalized = normalize(&mut f, x, self.dim, self.eps, self.target.dtype, false)?;
        let gain = self.gain(&mut f);
        let xn = f.bind("xn", call::mul(normalized.x_hat, gain))?;
        Ok(self.finish(f, [xn]))
    }

    /// x, dxn `[1, D, 1, S]` → dx `[1, D, 1, S]` and dgain = Σ_s dxn·x̂ `[1, D, 1, 1]`.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn rmsnorm_backward(&self) -> Result<Program, ProgramError> {
        let mut f = self.start()?;
        let dxn = f.input("dxn", self.activation(self.dim));
        let x = f.input("x", self.activation(self.dim));
        let gain = self.gain(&mut f);
        let normalized = normalize(&mut f, x, self.dim, self.eps, self.target.dtype, true)?;
        let d_gain_terms = f.bind("dgain_terms", call::mul(dxn, normalized.x_hat))?;
        let d_gain = f.bind("dgain", call::reduce_sum(d_gain_terms).axes([3]).keep_dims(true))?;
        let d_x_hat = f.bind("dx_hat", call::mul(dxn, gain))?;
        let dx = normalize_backward(&mut f, &normalized, d_x_hat, self.dim, "dx")?;
        Ok(self.finish(f, [dx, d_gain]))
    }

    /// xn `[1, D, 1, S]` → logits = E·xn `[1, V, 1, S]`, as one 1×1 convolution.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn classifier_forward(&self) -> Result<Program, ProgramError> {
        self.forward_rows(self.vocab, "embed.bin")
    }

    /// The logits of one vocabulary tile, `[1, V_i, 1, S]`: the rows `tile` of E, in `weights/embed_I.bin`.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn classifier_forward_tile(
        &self,
        index: usize,
        tile: &Range<usize>,
    ) -> Result<Program, ProgramError> {
        check_tile(tile)?;
        self.forward_rows(tile.len(), &format!("embed_{index}.bin"))
    }

    fn forward_rows(&self, rows: usize, file: &str) -> Result<Program, ProgramError> {
        let mut f = self.start()?;
        let xn = f.input("xn", self.activation(self.dim));
        let ty = TensorType::new(self.target.mil_dtype(), &[rows, self.dim, 1, 1]);
        let embed = f.blob(EMBED, ty, &weight_path(file), BLOB_OFFSET);
        let conv = call::conv(xn, embed).strides([1, 1]).pad_type("valid").pad([0, 0, 0, 0]);
        let logits = f.bind("logits", conv.dilations([1, 1]).groups(1))?;
        Ok(self.finish(f, [logits]))
    }

    /// logits `[1, V, 1, S]` → probabilities `[1, V, 1, S]`, softmax over the vocabulary.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn softmax(&self) -> Result<Program, ProgramError> {
        let mut f = self.start()?;
        let logits = f.input("logits", self.activation(self.vocab));
        let probabilities = f.bind("probabilities", call::softmax(logits).axis(1))?;
        Ok(self.finish(f, [probabilities]))
    }

    /// dlogits `[1, V, 1, S]` → dxn = Eᵀ·dlogits `[1, D, 1, S]`, as a matrix product: the engine refuses a
    /// convolution with V input channels.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn classifier_backward(&self) -> Result<Program, ProgramError> {
        self.backward_rows(self.vocab, "embed_t.bin")
    }

    /// One vocabulary tile's part of dxn, from its dlogits `[1, V_i, 1, S]`; the parts of all tiles add up to
    /// dxn. Eᵀ's columns `tile` are in `weights/embed_t_I.bin`.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn classifier_backward_tile(
        &self,
        index: usize,
        tile: &Range<usize>,
    ) -> Result<Program, ProgramError> {
        check_tile(tile)?;
        self.backward_rows(tile.len(), &format!("embed_t_{index}.bin"))
    }

    fn backward_rows(&self, rows: usize, file: &str) -> Result<Program, ProgramError> {
        let mut f = self.start()?;
        let dlogits = f.input("dlogits", self.activation(rows));
        let ty = TensorType::new(self.target.mil_dtype(), &[1, self.dim, rows]);
        let embed_t = f.blob(EMBED_T, ty, &weight_path(file), BLOB_OFFSET);
        let matrix = reshape(&mut f, "dlogits_matrix", dlogits, &[1, rows, self.positions])?;
        let product = call::matmul(embed_t, matrix).transpose_x(false).transpose_y(false);
        let product = f.bind("dxn_matrix", product)?;
        let dxn = reshape(&mut f, "dxn", product, &[1, self.dim, 1, self.positions])?;
        Ok(self.finish(f, [dxn]))
    }

    /// dlogits `[1, V, 1, S]`, xn `[1, D, 1, S]` → dE = dlogits·xnᵀ `[V, D]`.
    ///
    /// # Errors
    ///
    /// A dimension is 0.
    pub fn classifier_weight_gradient(&self) -> Result<Program, ProgramError> {
        let mut f = self.start()?;
        let dlogits = f.input("dlogits", self.activation(self.vocab));
        let xn = f.input("xn", self.activation(self.dim));
        let left = reshape(&mut f, "dlogits_matrix", dlogits, &[self.vocab, self.positions])?;
        let right = reshape(&mut f, "xn_matrix", xn, &[self.dim, self.positions])?;
        let gradient = call::matmul(left, right).transpose_x(false).transpose_y(true);
        let gradient = f.bind("dembed", gradient)?;
        Ok(self.finish(f, [gradient]))
    }
}

fn check_tile(tile: &Range<usize>) -> Result<(), ProgramError> {
    if tile.is_empty() { Err(ProgramError::Empty("V")) } else { Ok(()) }
}
