//! Random tensors.

use anemone_lm::random::Random;
use anemone_mil::tensor::{Data, Tensor, TensorError, round_to_f16};
use anemone_mil::types::TensorType;

/// A tensor of fp16 or fp32 numbers from N(mean, sd²), each rounded once; `dims` are the type's.
///
/// # Errors
///
/// When the type is another, does not have these dimensions, or there is no memory for it.
pub(crate) fn normal(
    ty: &TensorType,
    dims: &[usize],
    mut random: Random,
    mean: f64,
    sd: f64,
) -> Result<Tensor, TensorError> {
    let mut data = Tensor::zeros(ty.dtype, dims).ok_or_else(|| TensorError::Memory(ty.clone()))?;
    let values = std::iter::repeat_with(|| mean + sd * random.normal());
    match data.data_mut() {
        Data::F16(to) => to.iter_mut().zip(values).for_each(|(to, value)| *to = round_to_f16(value)),
        Data::F32(to) => to.iter_mut().zip(values).for_each(|(to, value)| *to = value as f32),
        _ => return Err(TensorError::Storage(ty.dtype)),
    }
    Ok(data)
}
