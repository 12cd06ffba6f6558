//! Kernels of fp16 or fp32 results that ops which compute element by element may finish, and no more than that.

use anemone_mil::ops::Operand;
use anemone_mil::types::DType;
use half::f16;

use super::{Around, Choice, Elements, Kernel, Surrounded};
use crate::element::Float;
use crate::memory::Sources;
use crate::threads::Threads;

/// A kernel of floats.
pub(super) trait Finished: Send + Sync {
    /// The result's type, fp16 or fp32.
    fn dtype(&self) -> DType;

    /// The fp32 values of working memory that [`Finished::compute`] needs.
    fn values(&self) -> usize;

    /// Computes the result, as [`Kernel::run`] does, with the epilogue, if there is one, between sums and rounding.
    fn compute<T: Float>(
        &self,
        operands: Sources<'_>,
        result: &mut [T],
        scratch: &mut [f32],
        threads: &Threads,
        epilogue: Option<Elements<'_>>,
    );
}

impl Choice {
    /// A kernel of floats.
    pub(super) fn finished(kernel: impl Finished + 'static, operands: Vec<Operand>) -> Choice {
        Choice::kernel(OfFloats(kernel), operands)
    }
}

/// A kernel of floats as one of bytes.
struct OfFloats<K>(K);

impl<K: Finished> Kernel for OfFloats<K> {
    fn scratch(&self) -> usize {
        self.0.values().div_ceil(2)
    }

    fn run(&self, operands: Sources<'_>, result: &mut [u8], scratch: &mut [f64], threads: &Threads) {
        self.run_within(operands, result, scratch, threads, Around::default());
    }

    fn surrounded(&self) -> Option<&dyn Surrounded> {
        Some(self)
    }
}

impl<K: Finished> Surrounded for OfFloats<K> {
    fn run_within(
        &self,
        operands: Sources<'_>,
        result: &mut [u8],
        scratch: &mut [f64],
        threads: &Threads,
        around: Around<'_>,
    ) {
        let scratch: &mut [f32] = bytemuck::cast_slice_mut(scratch);
        match self.0.dtype() {
            DType::Fp16 => {
                let result: &mut [f16] = bytemuck::cast_slice_mut(result);
                self.0.compute(operands, result, scratch, threads, around.epilogue);
            }
            _ => {
                let result: &mut [f32] = bytemuck::cast_slice_mut(result);
                self.0.compute(operands, result, scratch, threads, around.epilogue);
            }
        }
    }
}
