//! What single chips compute otherwise than their arithmetic says. Each is a rule, by its number.

use std::sync::Arc;

use anemone_mil::eval::OpInFunction;
use anemone_mil::ops::{Given, Operand, Operands};
use anemone_mil::program::Op;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use half::f16;

use crate::chips::Chip;

/// R29 and R46: the largest magnitude that gets through.
const LARGEST: f32 = 4094.0;
/// R41: below this `log` and `rsqrt` are infinite.
const LEAST: f64 = 1.05 / 131_072.0;
/// R37: above this `softplus` is 0.
const SOFTPLUS_UP_TO: f64 = 10.4;

/// The value of a function where it is neither the exact one nor from a table.
pub(super) fn function(chip: Chip, op: &str, x: f64) -> Option<f64> {
    match op {
        // R41 does not say on which chips.
        "log" if (0.0..LEAST).contains(&x) => Some(f64::NEG_INFINITY),
        "rsqrt" if (0.0..LEAST).contains(&x) => Some(f64::INFINITY),
        "softplus" if matches!(chip, Chip::M3 | Chip::M5) && x > SOFTPLUS_UP_TO => Some(0.0),
        // R36.
        "round" if chip == Chip::M5 && x.is_finite() => {
            let more = if x.abs() >= 1024.0 { 1.0f64.copysign(x) } else { 0.0 };
            Some(x.round() + more)
        }
        _ => None,
    }
}

/// Changes the operands of an op to what the chip reads. R46: activations beside 8-bit weights of a product stay within
/// ±4094.
pub(super) fn before(chip: Chip, at: OpInFunction<'_>, operands: &mut Operands<'_>) {
    if !matches!(chip, Chip::M1 | Chip::M2 | Chip::M5) || !matches!(at.op.name.as_str(), "matmul" | "linear")
    {
        return;
    }
    let has_bytes = operands.iter().any(|operand| is_dequantized(at, operand));
    if has_bytes {
        for operand in operands.iter_mut().filter(|operand| !operand.constant) {
            if let Some(value) = &mut operand.value {
                change(Arc::make_mut(value), |x| x.clamp(-LARGEST, LARGEST));
            }
        }
    }
}

/// Changes the results of an op to what the chip gives; says how many became infinite.
pub(super) fn after(
    chip: Chip,
    at: OpInFunction<'_>,
    operands: &Operands<'_>,
    results: &mut [Tensor],
) -> u64 {
    let mut infinite = 0;
    match at.op.name.as_str() {
        // R35: the factor is lost.
        "mul" if chip == Chip::M5 => {
            if let Some(Given::One(rounded)) = lost_factor(at, operands)
                && let (Some(value), [result]) = (&rounded.value, results)
                && value.shape() == result.shape()
            {
                *result = value.as_ref().clone();
            }
        }
        // R29: on M2 elements are wrong, and how is not said.
        "slice_by_index" | "slice_by_size" if chip == Chip::M1 && begins_inside(operands) => {
            for result in results {
                change(result, |x| {
                    if x.abs() <= LARGEST || x.is_infinite() {
                        return x;
                    }
                    infinite += 1;
                    f32::INFINITY.copysign(x)
                });
            }
        }
        _ => {}
    }
    infinite
}

/// Changes the numbers of a tensor of fp16.
fn change(tensor: &mut Tensor, mut to: impl FnMut(f32) -> f32) {
    if let (DType::Fp16, Some(numbers)) = (tensor.dtype(), tensor.as_mut_slice::<f16>()) {
        numbers.iter_mut().for_each(|number| *number = f16::from_f32(to(number.to_f32())));
    }
}

/// The op that an operand is a result of.
fn origin<'a>(at: OpInFunction<'a>, operand: &Operand) -> Option<&'a Op> {
    let id = operand.id?;
    at.function.ops.iter().find(|op| op.results.contains(&id))
}

/// Whether an operand is decompressed from 8-bit integers.
fn is_dequantized(at: OpInFunction<'_>, operand: &Operand) -> bool {
    origin(at, operand).is_some_and(|op| op.name == "constexpr_affine_dequantize")
}

/// The operand that a product is given for its result, where the other is a number that is lost.
fn lost_factor<'a>(at: OpInFunction<'_>, operands: &'a Operands<'_>) -> Option<&'a Given> {
    let (x, y) = (operands.get("x")?, operands.get("y")?);
    let is_number = |given: &Given| matches!(given, Given::One(operand) if operand.constant && operand.shape().elements() == Some(1));
    let is_rounded = |given: &Given| match given {
        Given::One(operand) => {
            origin(at, operand).is_some_and(|op| ["floor", "ceil", "round"].contains(&op.name.as_str()))
        }
        Given::Tuple(_) => false,
    };
    match (is_rounded(x) && is_number(y), is_rounded(y) && is_number(x)) {
        (true, _) => Some(x),
        (_, true) => Some(y),
        _ => None,
    }
}

/// Whether a slice begins beyond the first element of the last axis.
fn begins_inside(operands: &Operands<'_>) -> bool {
    let last = |name: &str| match operands.get(name) {
        Some(Given::One(operand)) => operand.known_integers().and_then(|all| all.last().copied()),
        _ => None,
    };
    last("begin_mask").is_none_or(|masked| masked == 0) && last("begin").is_some_and(|begin| begin != 0)
}
