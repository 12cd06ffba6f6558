//! Warnings about floating-point numbers that may be meant otherwise than they are read.

use super::{Parser, quote};
use crate::error::{Error, ErrorKind};
use crate::tensor::{Data, Tensor};
use crate::text::lex::Token;
use crate::text::number::write_hexadecimal;
use crate::types::DType;

impl Parser<'_> {
    /// Warns of the number that has been read last: of a whole one in hexadecimal, which could be meant as bits, or of
    /// one that has become infinite.
    pub(super) fn doubt(&mut self, token: Token, dtype: DType, data: &Data) {
        if !dtype.is_float() {
            return;
        }
        let text = self.text(token);
        let is_infinite = last_is_infinite(dtype, data);
        if let Some((number, bits)) = hexadecimal_integer(text, dtype) {
            let message = format!("{} could be a number or the bits of one", quote(text));
            let infinite = if is_infinite { format!(", infinite in {dtype}") } else { String::new() };
            let label = format!("read as the number {number}{infinite}");
            let help = format!("write `{text}p+0` for this number, `{bits}` for what has these bits");
            self.warn(ErrorKind::AmbiguousNumber, dtype, token, message, label, help);
        } else if is_infinite && !text.ends_with("inf") {
            let message = format!("{} is infinite in {dtype}", quote(text));
            let label = format!("the largest {dtype} is {}", largest(dtype));
            let infinity = if text.starts_with('-') { "-inf" } else { "inf" };
            let help = format!("write `{infinity}` where an infinity is meant");
            self.warn(ErrorKind::Overflow, dtype, token, message, label, help);
        }
    }

    fn warn(
        &mut self,
        kind: ErrorKind,
        dtype: DType,
        token: Token,
        message: String,
        label: String,
        help: String,
    ) {
        self.doubtful_numbers.report((kind, dtype), kind, &mut self.warnings, |kind| {
            Error::at(kind, token.span(), message, label).with_help(help).as_warning()
        });
    }
}

/// A number that is `0x` and digits, with neither point nor exponent: in decimal, and as MIL writes what has these
/// bits. `None` where only one of them can be meant: it is zero, or has too many bits.
fn hexadecimal_integer(text: &str, dtype: DType) -> Option<(String, String)> {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let digits = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X"))?;
    let number = u64::from_str_radix(digits, 16).ok().filter(|&number| number != 0)?;
    let mut bits = sign.to_string();
    write_hexadecimal(&mut bits, from_bits(dtype, number)?);
    Some((format!("{sign}{number}"), bits))
}

fn last_is_infinite(dtype: DType, data: &Data) -> bool {
    match data {
        Data::F16(values) => values.last().is_some_and(|value| value.is_infinite()),
        Data::Bf16(values) => values.last().is_some_and(|value| value.is_infinite()),
        Data::F32(values) => values.last().is_some_and(|value| value.is_infinite()),
        Data::F64(values) => values.last().is_some_and(|value| value.is_infinite()),
        Data::U8(values) if dtype == DType::Fp8E5M2 => {
            values.last().is_some_and(|value| value & 0x7f == 0x7c)
        }
        _ => false,
    }
}

/// The value of a floating-point type that has these bits, if they are so few.
fn from_bits(dtype: DType, bits: u64) -> Option<f64> {
    let data = match dtype {
        DType::Fp16 => Data::F16(vec![half::f16::from_bits(bits.try_into().ok()?)]),
        DType::Bf16 => Data::Bf16(vec![half::bf16::from_bits(bits.try_into().ok()?)]),
        DType::Fp32 => Data::F32(vec![f32::from_bits(bits.try_into().ok()?)]),
        DType::Fp64 => Data::F64(vec![f64::from_bits(bits)]),
        _ => Data::U8(vec![bits.try_into().ok()?]),
    };
    Tensor::new(dtype, &[], data).ok()?.to_f64()?.first().copied()
}

/// The largest finite number of a floating-point type, as people write it.
fn largest(dtype: DType) -> &'static str {
    match dtype {
        DType::Fp16 => "65504",
        DType::Bf16 => "3.38953139e+38",
        DType::Fp32 => "3.40282347e+38",
        DType::Fp64 => "1.7976931348623157e+308",
        DType::Fp8E5M2 => "57344",
        _ => "448",
    }
}
