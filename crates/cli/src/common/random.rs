//! Random tensors.

use anemone_lm::random::Random;
use anemone_mil::tensor::{Data, Tensor, TensorError, round_to_f16};
use anemone_mil::types::TensorType;

/// A tensor of fp16 or fp32 numbers from N(mean, sd²), each rounded once; `dims` are the type's.
///
/// # Errors
///
/// When the type is another, or does not have these dimensions.
pub fn normal(
    ty: &TensorType,
    dims: &[usize],
    mut random: Random,
    mean: f64,
    sd: f64,
) -> Result<Tensor, TensorError> {
    let count = dims.iter().product();
    let values = std::iter::repeat_with(|| mean + sd * random.normal()).take(count);
    let data = match Data::zeros(ty.dtype, 0) {
        Data::F16(_) => Data::F16(values.map(round_to_f16).collect()),
        _ => Data::F32(values.map(|value| value as f32).collect()),
    };
    Tensor::new(ty.dtype, dims, data)
}
