//! Device tensors as the host holds them: by element type, with room or an error, and weights that prepared
//! programs share.

use std::sync::Arc;

use anemone_mil::program::BlobReference;
use anemone_mil::runtime::Port;
use anemone_mil::tensor::{self, Tensor};
use anemone_mil::types::{DType, TensorType};
use anemone_mil::weights::{BlobError, BlobFile, WeightSource};
use rayon::prelude::*;
use thiserror::Error;

use crate::element::DeviceElement;

/// Runs `$body` with `$element` standing for the element type that a device dtype stores.
macro_rules! with_element {
    ($dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            $crate::config::DeviceDtype::Fp16 => {
                type $element = half::f16;
                $body
            }
            $crate::config::DeviceDtype::Fp32 => {
                type $element = f32;
                $body
            }
        }
    };
}
pub(crate) use with_element;

/// A device tensor for which the system has no memory.
#[derive(Debug, Error)]
#[error("{0} does not fit in memory")]
pub struct OutOfMemory(pub TensorType);

/// Zeros, or the error that there is no room for them.
pub(crate) fn zeros(dtype: DType, dims: &[usize]) -> Result<Tensor, OutOfMemory> {
    Tensor::zeros(dtype, dims).ok_or_else(|| OutOfMemory(TensorType::new(dtype, dims)))
}

/// Zeros for an input or output of a prepared function, whose dimensions are known.
pub(crate) fn zeros_for(port: &Port) -> Result<Tensor, OutOfMemory> {
    let zeros = port.ty.shape.to_known().and_then(|dims| Tensor::zeros(port.ty.dtype, &dims));
    zeros.ok_or_else(|| OutOfMemory(port.ty.clone()))
}

/// A tensor's values as the element type that its program declares; empty if it had another.
pub(crate) fn values<E: DeviceElement + tensor::Element>(tensor: &Tensor) -> &[E] {
    tensor.as_slice().unwrap_or_default()
}

/// Weights that are all zero: what programs are prepared with before they are given others.
pub(crate) struct NoWeights;

impl WeightSource for NoWeights {
    fn file(&self, path: &str) -> Result<Arc<BlobFile>, BlobError> {
        Err(BlobError::PathRefused { path: path.to_string(), reason: "is not a file: weights come later" })
    }

    fn load(&self, _: &BlobReference, ty: &TensorType) -> Result<Tensor, BlobError> {
        let dims = ty.shape.to_known();
        dims.and_then(|dims| Tensor::zeros(ty.dtype, &dims)).ok_or_else(|| BlobError::UnknownSize(ty.clone()))
    }
}

/// Rounds fp32 values to a device tensor of as many elements, on all cores.
pub(crate) fn narrow(from: &[f32], to: &mut Tensor) {
    match to.dtype() {
        DType::Fp16 => narrow_elements::<half::f16>(from, to),
        _ => narrow_elements::<f32>(from, to),
    }
}

fn narrow_elements<E: DeviceElement + tensor::Element>(from: &[f32], to: &mut Tensor) {
    let to = to.as_mut_slice::<E>().unwrap_or_default();
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| E::narrow(from, to));
}

/// Adds the values of a device tensor to fp32 numbers, or puts them there where these are the first; on all cores.
pub(crate) fn accumulate(from: &Tensor, to: &mut [f32], first: bool) {
    match from.dtype() {
        DType::Fp16 => accumulate_elements::<half::f16>(values(from), to, first),
        _ => accumulate_elements::<f32>(values(from), to, first),
    }
}

fn accumulate_elements<E: DeviceElement>(from: &[E], to: &mut [f32], first: bool) {
    to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| {
        if first {
            return E::widen(from, to);
        }
        let mut wide = [0.0; 256];
        for (to, from) in to.chunks_mut(wide.len()).zip(from.chunks(wide.len())) {
            let wide = &mut wide[..from.len()];
            E::widen(from, wide);
            to.iter_mut().zip(wide).for_each(|(to, from)| *to += *from);
        }
    });
}

/// Elements handled as one piece of parallel work.
const PIECE: usize = 1 << 14;

/// Copies between the layers' `[B, D, 1, T]` and the head's `[1, D, 1, B·T]`: `from` has its outer two dimensions as
/// `rows` of `columns` rows of T, `to` gets them transposed.
pub(crate) fn exchange_outer(from: &Tensor, to: &mut Tensor, [rows, columns]: [usize; 2]) {
    fn exchange<E: DeviceElement>(from: &[E], to: &mut [E], [rows, columns]: [usize; 2]) {
        let length = from.len().checked_div(rows * columns).unwrap_or(0).max(1);
        to.par_chunks_mut(length).enumerate().for_each(|(place, to)| {
            let (column, row) = (place / rows, place % rows);
            if let Some(from) = from.chunks(length).nth(row * columns + column) {
                to.copy_from_slice(from);
            }
        });
    }
    match from.dtype() {
        DType::Fp16 => {
            exchange::<half::f16>(values(from), to.as_mut_slice().unwrap_or_default(), [rows, columns])
        }
        _ => exchange::<f32>(values(from), to.as_mut_slice().unwrap_or_default(), [rows, columns]),
    }
}

/// One position of `[1, C, 1, S]`, as `[1, C, 1, 1]`.
pub(crate) fn copy_position(from: &Tensor, position: usize, to: &mut Tensor) {
    fn copy<E: DeviceElement>(from: &[E], position: usize, to: &mut [E]) {
        let positions = from.len().checked_div(to.len()).unwrap_or(1).max(1);
        to.iter_mut().zip(from.iter().skip(position).step_by(positions)).for_each(|(to, from)| *to = *from);
    }
    match from.dtype() {
        DType::Fp16 => copy::<half::f16>(values(from), position, to.as_mut_slice().unwrap_or_default()),
        _ => copy::<f32>(values(from), position, to.as_mut_slice().unwrap_or_default()),
    }
}

/// A weight that is written anew after every update, and shared with the programs that read it.
///
/// Programs keep the tensor that they were given until they get the next one. So there are two, written by turns.
#[derive(Debug)]
pub(crate) struct SharedWeight {
    present: Arc<Tensor>,
    previous: Option<Arc<Tensor>>,
}

impl SharedWeight {
    /// Zeros.
    pub(crate) fn new(dtype: DType, dims: &[usize]) -> Result<SharedWeight, OutOfMemory> {
        Ok(SharedWeight { present: Arc::new(zeros(dtype, dims)?), previous: None })
    }

    /// The present values.
    pub(crate) fn get(&self) -> &Arc<Tensor> {
        &self.present
    }

    /// Writes new values by `write`, which must write all of them, and gives the tensor to hand to programs.
    pub(crate) fn replace(&mut self, write: impl FnOnce(&mut Tensor)) -> Result<&Arc<Tensor>, OutOfMemory> {
        if Arc::get_mut(&mut self.present).is_none() {
            let unshared = self.previous.take().filter(|tensor| Arc::strong_count(tensor) == 1);
            let next = match unshared {
                Some(tensor) => tensor,
                None => Arc::new(zeros(self.present.dtype(), self.present.shape())?),
            };
            self.previous = Some(std::mem::replace(&mut self.present, next));
        }
        // Nobody else has it now, so nothing is copied.
        write(Arc::make_mut(&mut self.present));
        Ok(&self.present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(weight: &mut SharedWeight, value: f32) -> Arc<Tensor> {
        let fill = |tensor: &mut Tensor| tensor.as_mut_slice::<f32>().unwrap().fill(value);
        weight.replace(fill).unwrap().clone()
    }

    #[test]
    fn what_a_program_reads_stays_until_it_has_the_next() {
        let mut weight = SharedWeight::new(DType::Fp32, &[2, 3]).unwrap();
        let mut held = write(&mut weight, 1.0);
        let mut places = vec![Arc::as_ptr(&held)];
        for value in [2.0, 3.0, 4.0] {
            let next = write(&mut weight, value);
            assert_eq!(values::<f32>(&held), [value - 1.0; 6]);
            assert_eq!(values::<f32>(weight.get()), [value; 6]);
            held = next;
            places.push(Arc::as_ptr(&held));
        }
        // Two tensors by turns.
        assert_eq!((places[0], places[1]), (places[2], places[3]));
        assert_ne!(places[0], places[1]);
        // A program that keeps the one before the last is not written under either.
        let kept = held.clone();
        let last = write(&mut weight, 5.0);
        write(&mut weight, 6.0);
        assert_eq!((values::<f32>(&kept), values::<f32>(&last)), (&[4.0; 6][..], &[5.0; 6][..]));
    }
}
