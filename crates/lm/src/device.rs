//! Device tensors as the host holds them: by element type, with room or an error, and weights that prepared
//! programs share.

use std::sync::Arc;

use anemone_mil::tensor::{self, Tensor};
use anemone_mil::types::{DType, TensorType};
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

/// A tensor's values as the element type that its program declares; empty if it had another.
pub(crate) fn values<E: DeviceElement + tensor::Element>(tensor: &Tensor) -> &[E] {
    tensor.as_slice().unwrap_or_default()
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
