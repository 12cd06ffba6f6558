//! The head at work: its programs prepared on runtimes, with weights that follow the optimizer.

use std::sync::Arc;

use anemone_mil::error::Errors;
use anemone_mil::program::{BlobReference, Program};
use anemone_mil::runtime::{Executable, Runtime, RuntimeError, allocate_outputs};
use anemone_mil::tensor::{self, Tensor};
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::verify;
use anemone_mil::weights::{BlobError, BlobFile, WeightSource};
use thiserror::Error;

use crate::config::DeviceDtype;
use crate::element::Element;
use crate::loss::{self, Loss, LossError};
use crate::programs::ProgramError;
use crate::programs::head::{EMBED, EMBED_T, GAIN, Head};

/// Why the head cannot be prepared or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// A program cannot be written.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A program that was written does not verify: a fault of this crate.
    #[error("a program of the head is refused: {0}")]
    Verify(#[from] Errors),
    /// A runtime refuses or fails.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Targets that the loss refuses.
    #[error(transparent)]
    Loss(#[from] LossError),
    /// Weights of another size than the head's.
    #[error("`{what}` has {found} values, not {expected}")]
    Size {
        /// Which weights.
        what: &'static str,
        /// Their number.
        found: usize,
        /// The head's.
        expected: usize,
    },
    /// A tensor does not fit in memory.
    #[error("{0} does not fit in memory")]
    Memory(TensorType),
}

/// Which runtime does what.
#[derive(Clone, Copy)]
pub struct Runtimes<'a> {
    /// Runs the head's programs.
    pub head: &'a dyn Runtime,
    /// Runs products that belong to the host, as dE.
    pub products: &'a dyn Runtime,
}

/// One program, prepared, with room for its outputs.
struct Prepared {
    executable: Box<dyn Executable>,
    outputs: Vec<Tensor>,
}

/// Weights that are all zero: what programs are prepared with before the first [`HeadRunner::set_weights`].
struct Zeros;

impl WeightSource for Zeros {
    fn file(&self, path: &str) -> Result<Arc<BlobFile>, BlobError> {
        Err(BlobError::PathRefused { path: path.to_string(), reason: "is not a file: weights come later" })
    }

    fn load(&self, _: &BlobReference, ty: &TensorType) -> Result<Tensor, BlobError> {
        let dims = ty.shape.to_known();
        dims.and_then(|dims| Tensor::zeros(ty.dtype, &dims)).ok_or_else(|| BlobError::UnknownSize(ty.clone()))
    }
}

impl Prepared {
    fn new(program: Program, runtime: &dyn Runtime) -> Result<Prepared, HeadError> {
        let verified = Arc::new(verify(program)?);
        let function = &verified.program().functions[0];
        let inputs: Vec<TensorType> =
            function.body.inputs.iter().filter_map(|&id| function.value(id).ty.as_tensor()).collect();
        let executable = runtime.prepare(&verified, &function.name, &inputs, &Zeros)?;
        let outputs = allocate_outputs(executable.as_ref())?;
        Ok(Prepared { executable, outputs })
    }

    fn run(&mut self, inputs: &[&Tensor]) -> Result<&Tensor, HeadError> {
        self.executable.run(inputs, &mut self.outputs)?;
        Ok(&self.outputs[0])
    }
}

/// The head of a model, ready to compute losses and gradients.
///
/// Every device step is one of the [programs](crate::programs::head); weights are constants of theirs, which
/// [`HeadRunner::set_weights`] replaces.
pub struct HeadRunner {
    head: Head,
    final_rmsnorm: Prepared,
    classifier_forward: Prepared,
    softmax: Prepared,
    classifier_backward: Prepared,
    rmsnorm_backward: Prepared,
    weight_gradient: Prepared,
    dlogits: Tensor,
    gain: Tensor,
    embed: Tensor,
    embed_t: Tensor,
}

/// The gradients of a step, each times the loss scale.
pub struct HeadGradients<'a> {
    /// `[1, D, 1, S]`.
    pub dx: &'a Tensor,
    /// `[1, D, 1, 1]`.
    pub dgain: &'a Tensor,
    /// `[V, D]`.
    pub dembed: &'a Tensor,
}

/// Runs `$body` with `$element` standing for the element type that a device dtype stores.
macro_rules! with_element {
    ($dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            DeviceDtype::Fp16 => {
                type $element = half::f16;
                $body
            }
            DeviceDtype::Fp32 => {
                type $element = f32;
                $body
            }
        }
    };
}
pub(crate) use with_element;

/// Zeros, or the error that there is no room for them.
pub(crate) fn zeros(dtype: DType, dims: &[usize]) -> Result<Tensor, HeadError> {
    Tensor::zeros(dtype, dims).ok_or_else(|| HeadError::Memory(TensorType::new(dtype, dims)))
}

impl HeadRunner {
    /// Prepares the programs of `head`. All weights are zero until they are set.
    ///
    /// # Errors
    ///
    /// A dimension is 0, a tensor does not fit in memory, or a runtime refuses a program.
    pub fn new(head: Head, runtimes: Runtimes<'_>) -> Result<HeadRunner, HeadError> {
        let dtype = head.target.mil_dtype();
        Ok(HeadRunner {
            head,
            final_rmsnorm: Prepared::new(head.final_rmsnorm()?, runtimes.head)?,
            classifier_forward: Prepared::new(head.classifier_forward()?, runtimes.head)?,
            softmax: Prepared::new(head.softmax()?, runtimes.head)?,
            classifier_backward: Prepared::new(head.classifier_backward()?, runtimes.head)?,
            rmsnorm_backward: Prepared::new(head.rmsnorm_backward()?, runtimes.head)?,
            weight_gradient: Prepared::new(head.classifier_weight_gradient()?, runtimes.products)?,
            dlogits: zeros(dtype, &[1, head.vocab, 1, head.positions])?,
            gain: zeros(dtype, &[1, head.dim, 1, 1])?,
            embed: zeros(dtype, &[head.vocab, head.dim, 1, 1])?,
            embed_t: zeros(dtype, &[1, head.dim, head.vocab])?,
        })
    }

    /// The dimensions and the way the programs are written.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Takes over fp32 weights, rounded once to the device's dtype: g `[D]` and E `[V, D]`.
    ///
    /// # Errors
    ///
    /// Sizes that are not the head's, or a runtime that cannot replace a constant.
    pub fn set_weights(&mut self, gain: &[f32], embed: &[f32]) -> Result<(), HeadError> {
        let (vocab, dim) = (self.head.vocab, self.head.dim);
        check_size("gain", gain.len(), dim)?;
        check_size("embed", embed.len(), vocab * dim)?;
        with_element!(self.head.target.dtype, E => {
            let slices = (self.gain.as_mut_slice::<E>(), self.embed.as_mut_slice::<E>());
            if let (Some(to_gain), Some(to_embed)) = slices {
                E::narrow(gain, to_gain);
                E::narrow(embed, to_embed);
            }
            if let (Some(from), Some(to)) = (self.embed.as_slice::<E>(), self.embed_t.as_mut_slice::<E>()) {
                transpose(from, to, vocab, dim);
            }
        });
        for program in [&mut self.final_rmsnorm, &mut self.rmsnorm_backward] {
            program.executable.set_constant(GAIN, &self.gain)?;
        }
        self.classifier_forward.executable.set_constant(EMBED, &self.embed)?;
        self.classifier_backward.executable.set_constant(EMBED_T, &self.embed_t)?;
        Ok(())
    }

    /// The logits `[1, V, 1, S]` for x `[1, D, 1, S]`.
    ///
    /// # Errors
    ///
    /// An input of another type, or a failing runtime.
    pub fn logits(&mut self, x: &Tensor) -> Result<&Tensor, HeadError> {
        let xn = self.final_rmsnorm.run(&[x])?;
        self.classifier_forward.run(&[xn])
    }

    /// The loss of x `[1, D, 1, S]` against one target per position, computed from the logits.
    ///
    /// # Errors
    ///
    /// An input of another type, a target out of range, or a failing runtime.
    pub fn loss(&mut self, x: &Tensor, targets: &[i32]) -> Result<Loss, HeadError> {
        let (vocab, dtype) = (self.head.vocab, self.head.target.dtype);
        let logits = self.logits(x)?;
        with_element!(dtype, E => Ok(loss::from_logits(values::<E>(logits), vocab, targets, 1.0, None)?))
    }

    /// The loss and its gradients, which carry `loss_scale`.
    ///
    /// # Errors
    ///
    /// As [`HeadRunner::loss`].
    pub fn step(
        &mut self,
        x: &Tensor,
        targets: &[i32],
        loss_scale: f32,
    ) -> Result<(Loss, HeadGradients<'_>), HeadError> {
        let vocab = self.head.vocab;
        let xn = self.final_rmsnorm.run(&[x])?;
        let logits = self.classifier_forward.run(&[xn])?;
        let probabilities = self.softmax.run(&[logits])?;
        // The loss itself comes from the logits: a probability may underflow, its logarithm must not.
        let loss = with_element!(self.head.target.dtype, E => {
            let gradient = self.dlogits.as_mut_slice::<E>();
            loss::from_probabilities(values::<E>(probabilities), vocab, targets, loss_scale, gradient)?;
            loss::from_logits(values::<E>(logits), vocab, targets, 1.0, None)?
        });
        let dxn = self.classifier_backward.run(&[&self.dlogits])?;
        self.rmsnorm_backward.run(&[dxn, x])?;
        self.weight_gradient.run(&[&self.dlogits, xn])?;
        let [dx, dgain] = self.rmsnorm_backward.outputs.as_slice() else {
            unreachable!("RMSNorm backward has two outputs");
        };
        Ok((loss, HeadGradients { dx, dgain, dembed: &self.weight_gradient.outputs[0] }))
    }
}

fn check_size(what: &'static str, found: usize, expected: usize) -> Result<(), HeadError> {
    if found == expected { Ok(()) } else { Err(HeadError::Size { what, found, expected }) }
}

/// A tensor's values as the element type that its program declares; empty if it had another.
pub(crate) fn values<E: Element + tensor::Element>(tensor: &Tensor) -> &[E] {
    tensor.as_slice().unwrap_or_default()
}

/// `to[d, v] = from[v, d]` for E `[V, D]`, in blocks that stay in the cache.
///
/// # Panics
///
/// When one of the slices is shorter than V·D.
pub fn transpose<E: Copy>(from: &[E], to: &mut [E], vocab: usize, dim: usize) {
    const BLOCK: usize = 32;
    for v0 in (0..vocab).step_by(BLOCK) {
        for d0 in (0..dim).step_by(BLOCK) {
            for v in v0..(v0 + BLOCK).min(vocab) {
                for d in d0..(d0 + BLOCK).min(dim) {
                    to[d * vocab + v] = from[v * dim + d];
                }
            }
        }
    }
}
