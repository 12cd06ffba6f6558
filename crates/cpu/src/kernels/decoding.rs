//! A constant that is decoded in each run, just before what reads it.

use std::sync::Arc;

use anemone_mil::types::DType;

use super::{Choice, Kernel};
use crate::compressed::Compressed;
use crate::memory::Sources;
use crate::threads::Threads;

/// The constant.
struct Decoding(Arc<Compressed>);

impl Kernel for Decoding {
    fn run(&self, _: Sources<'_>, result: &mut [u8], _: &mut [f64], threads: &Threads) {
        match self.0.dtype() {
            DType::Fp16 => self.0.decode_all::<half::f16>(bytemuck::cast_slice_mut(result), threads),
            _ => self.0.decode_all::<f32>(bytemuck::cast_slice_mut(result), threads),
        }
    }
}

/// The way to run an op that decompresses this constant.
pub(crate) fn decoding(compressed: Arc<Compressed>) -> Choice {
    Choice::kernel(Decoding(compressed), Vec::new())
}
