//! Numbers: read into an element type and rounded once; written so that they read back the same.

use std::cmp::Ordering;
use std::fmt::Write;

use crate::tensor::{Data, round_to_bf16, round_to_f16, round_to_fp8};
use crate::types::DType;

/// Why a text is no number of an element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberError {
    /// Not a number in any form that MIL text has.
    Malformed,
    /// A point, an exponent, `inf` or `nan` where an integer is needed.
    NotInteger,
    /// Outside the type's range; floats do not overflow into an error where the type has an infinity.
    Range,
}

/// Reads a number and appends it to `data`, which stores `dtype`.
///
/// Whatever the notation, a float is rounded once, to nearest even.
pub(super) fn push_number(data: &mut Data, dtype: DType, text: &str) -> Result<(), NumberError> {
    match data {
        Data::F16(values) => values.push(read_narrow(text, round_to_f16)?),
        Data::F32(values) => values.push(read_f32(text)?),
        Data::F64(values) => values.push(read_f64(text)?),
        Data::Bf16(values) => values.push(read_narrow(text, round_to_bf16)?),
        Data::U8(values) if dtype.is_float() => {
            values.push(read_narrow(text, |value| round_to_fp8(dtype, value))?.ok_or(NumberError::Range)?);
        }
        Data::I8(values) => values.push(read_integer(text, dtype)?),
        Data::I16(values) => values.push(read_integer(text, dtype)?),
        Data::I32(values) => values.push(read_integer(text, dtype)?),
        Data::I64(values) => values.push(read_integer(text, dtype)?),
        Data::U8(values) => values.push(read_integer(text, dtype)?),
        Data::U16(values) => values.push(read_integer(text, dtype)?),
        Data::U32(values) => values.push(read_integer(text, dtype)?),
        Data::U64(values) => values.push(read_integer(text, dtype)?),
        Data::Bool(_) | Data::String(_) => return Err(NumberError::Malformed),
    }
    Ok(())
}

/// Reads an integer that must lie in the range of `dtype`, which `T` stores.
fn read_integer<T: TryFrom<i128>>(text: &str, dtype: DType) -> Result<T, NumberError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Number::read(text).map_or(NumberError::Malformed, |_| NumberError::NotInteger));
    }
    let value = match text.parse::<i64>() {
        Ok(value) => i128::from(value),
        Err(_) => text.parse::<i128>().map_err(|_| NumberError::Range)?,
    };
    let in_range = dtype.integer_range().is_some_and(|(least, most)| (least..=most).contains(&value));
    if in_range { T::try_from(value).map_err(|_| NumberError::Range) } else { Err(NumberError::Range) }
}

/// A number with its notation taken apart and its sign aside.
enum Magnitude<'a> {
    Infinity,
    Nan,
    /// A decimal in a form that [`str::parse`] reads too.
    Decimal(&'a str),
    /// `mantissa` × 2^`exponent`, plus something less than one unit of the mantissa if `inexact`.
    Binary {
        mantissa: u64,
        exponent: i64,
        inexact: bool,
    },
}

struct Number<'a> {
    negative: bool,
    magnitude: Magnitude<'a>,
}

impl<'a> Number<'a> {
    fn read(text: &'a str) -> Option<Number<'a>> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let magnitude = match rest.as_bytes() {
            b"inf" => Magnitude::Infinity,
            b"nan" => Magnitude::Nan,
            [b'0', b'x' | b'X', ..] => read_hexadecimal(&rest[2..])?,
            _ if is_decimal(rest) => Magnitude::Decimal(rest),
            _ => return None,
        };
        Some(Number { negative, magnitude })
    }

    fn with_sign(&self, value: f64) -> f64 {
        if self.negative { -value } else { value }
    }
}

/// Digits, perhaps with one point among them, perhaps an exponent.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_is_fine = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    mantissa.len() > usize::from(mantissa.contains('.'))
        && all_digits(whole)
        && all_digits(fraction)
        && exponent_is_fine
}

/// What follows `0x` in a C99 hexadecimal float.
fn read_hexadecimal(text: &str) -> Option<Magnitude<'static>> {
    let (digits, exponent) = match text.find(['p', 'P']) {
        Some(at) => (&text[..at], read_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (mut mantissa, mut exponent, mut inexact) = (0u64, exponent, false);
    let (mut any, mut fractional) = (false, false);
    for byte in digits.bytes() {
        if byte == b'.' && !fractional {
            fractional = true;
            continue;
        }
        let digit = u64::from(char::from(byte).to_digit(16)?);
        any = true;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | digit;
            exponent -= if fractional { 4 } else { 0 };
        } else {
            inexact |= digit != 0;
            exponent += if fractional { 0 } else { 4 };
        }
    }
    any.then_some(Magnitude::Binary { mantissa, exponent, inexact })
}

/// A signed decimal exponent; one too large for any float stays too large.
fn read_exponent(text: &str) -> Option<i64> {
    const BEYOND_ANY_TEXT: i64 = 1 << 40;
    let (negative, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, digit| {
        BEYOND_ANY_TEXT.min(value.saturating_mul(10).saturating_add(i64::from(digit - b'0')))
    });
    Some(if negative { -value } else { value })
}

fn read_f64(text: &str) -> Result<f64, NumberError> {
    let number = Number::read(text).ok_or(NumberError::Malformed)?;
    Ok(number.with_sign(match number.magnitude {
        Magnitude::Infinity => f64::INFINITY,
        Magnitude::Nan => return Ok(f64::NAN),
        Magnitude::Decimal(decimal) => decimal.parse().map_err(|_| NumberError::Malformed)?,
        Magnitude::Binary { mantissa, exponent, inexact } => {
            round_binary(mantissa, exponent, inexact, Rounding::NearestEven)
        }
    }))
}

fn read_f32(text: &str) -> Result<f32, NumberError> {
    match Number::read(text) {
        Some(Number { negative, magnitude: Magnitude::Decimal(decimal) }) => {
            let value: f32 = decimal.parse().map_err(|_| NumberError::Malformed)?;
            Ok(if negative { -value } else { value })
        }
        _ => read_narrow(text, |value| value as f32),
    }
}

/// Reads into a type with far fewer digits than f64, which `round` rounds an f64 to.
///
/// Rounding first to f64 and then to the type can go wrong where the first rounding lands on a tie of the
/// second. Hexadecimal floats avoid that by rounding to odd first. For decimals, the values next to the f64 on
/// both sides tell whether a boundary is near; only then the decimal is compared with the f64 exactly.
fn read_narrow<T: PartialEq>(text: &str, round: impl Fn(f64) -> T) -> Result<T, NumberError> {
    let number = Number::read(text).ok_or(NumberError::Malformed)?;
    let round_signed = |value: f64| round(number.with_sign(value));
    Ok(match number.magnitude {
        Magnitude::Infinity => round_signed(f64::INFINITY),
        Magnitude::Nan => round(f64::NAN),
        Magnitude::Binary { mantissa, exponent, inexact } => {
            round_signed(round_binary(mantissa, exponent, inexact, Rounding::Odd))
        }
        Magnitude::Decimal(decimal) => {
            let nearest: f64 = decimal.parse().map_err(|_| NumberError::Malformed)?;
            if nearest == 0.0 || nearest.is_infinite() {
                return Ok(round_signed(nearest));
            }
            let (below, above) = (round_signed(nearest.next_down()), round_signed(nearest.next_up()));
            if below == above {
                return Ok(below);
            }
            match compare_with_exact(decimal, nearest) {
                Ordering::Less => below,
                Ordering::Equal => round_signed(nearest),
                Ordering::Greater => above,
            }
        }
    })
}

/// Compares an unsigned decimal with a positive f64 that a narrow type represents or has as a midpoint.
fn compare_with_exact(decimal: &str, value: f64) -> Ordering {
    // A midpoint of bf16, the widest in exponent, is m·2^-134 with m < 2^9: fewer than 100 digits.
    let exact = format!("{value:.120e}");
    let (digits, exponent) = significant_digits(decimal);
    let (exact_digits, exact_exponent) = significant_digits(&exact);
    exponent.cmp(&exact_exponent).then_with(|| {
        let zeros = std::iter::repeat(b'0');
        let longest = digits.len().max(exact_digits.len());
        digits
            .iter()
            .copied()
            .chain(zeros.clone())
            .take(longest)
            .cmp(exact_digits.iter().copied().chain(zeros).take(longest))
    })
}

/// The digits of a decimal from the first that is not zero, and the exponent that puts the point before them.
fn significant_digits(decimal: &str) -> (Vec<u8>, i64) {
    let (mantissa, exponent) = match decimal.find(['e', 'E']) {
        Some(at) => (&decimal[..at], read_exponent(&decimal[at + 1..]).unwrap_or(0)),
        None => (decimal, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = whole.bytes().chain(fraction.bytes());
    let leading_zeros = digits.clone().take_while(|&digit| digit == b'0').count();
    (digits.skip(leading_zeros).collect(), exponent + whole.len() as i64 - leading_zeros as i64)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    NearestEven,
    /// What is not exact becomes the neighbour toward zero with its last bit set, and never infinite.
    Odd,
}

/// `mantissa` × 2^`exponent`, and a little more if `inexact`, as an f64.
fn round_binary(mantissa: u64, exponent: i64, inexact: bool, rounding: Rounding) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    let shift = mantissa.leading_zeros();
    let (mantissa, leading_exponent) = (mantissa << shift, exponent - i64::from(shift) + 63);
    if leading_exponent > 1023 {
        return if rounding == Rounding::Odd { f64::MAX } else { f64::INFINITY };
    }
    // Below 2^-1022 a value has fewer than 53 bits: one less for each step of the exponent.
    let normal = leading_exponent >= -1022;
    let dropped = if normal { 11 } else { (11 - 1022 - leading_exponent).min(65) as u32 };
    let kept = mantissa.checked_shr(dropped).unwrap_or(0);
    let rest = u128::from(mantissa) - (u128::from(kept) << dropped);
    let half = 1u128 << (dropped - 1);
    let round_up = match rounding {
        Rounding::Odd => kept & 1 == 0 && (rest > 0 || inexact),
        Rounding::NearestEven => rest > half || (rest == half && (inexact || kept & 1 == 1)),
    };
    let biased = if normal { (leading_exponent + 1022) as u64 } else { 0 };
    // `kept` has its leading bit at 52 where normal, which adds one to the exponent; so does a carry.
    f64::from_bits((biased << 52) + kept + u64::from(round_up))
}

/// Writes a float as C's `%a` does: `0x1.8p+1`, subnormal values normalised.
pub(super) fn write_hexadecimal(out: &mut String, value: f64) {
    if write_special(out, value) {
        return;
    }
    let bits = value.abs().to_bits();
    let (mut exponent, mut fraction) = ((bits >> 52) as i64 - 1023, bits & ((1 << 52) - 1));
    if exponent == -1023 {
        if fraction == 0 {
            out.push_str("0x0p+0");
            return;
        }
        let shift = fraction.leading_zeros() - 11;
        fraction = (fraction << shift) & ((1 << 52) - 1);
        exponent = -1022 - i64::from(shift);
    }
    out.push_str("0x1");
    if fraction != 0 {
        out.push('.');
        while fraction != 0 {
            out.push(char::from(b"0123456789abcdef"[(fraction >> 48) as usize]));
            fraction = (fraction << 4) & ((1 << 52) - 1);
        }
    }
    out.push('p');
    out.push(if exponent < 0 { '-' } else { '+' });
    write_integer(out, exponent.unsigned_abs());
}

/// Writes a float as C's `%.17g` does: 17 significant digits without trailing zeros.
pub(super) fn write_decimal(out: &mut String, value: f64) {
    if write_special(out, value) {
        return;
    }
    if value == 0.0 {
        out.push('0');
        return;
    }
    let scientific = format!("{:.16e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(|&c| c != '.').collect();
    let digits = digits.trim_end_matches('0');
    if !(-4..17).contains(&exponent) {
        out.push_str(&digits[..1]);
        if digits.len() > 1 {
            out.push('.');
            out.push_str(&digits[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        // Writing to a string cannot fail.
        let _ = write!(out, "e{sign}{:02}", exponent.abs());
        return;
    }
    let whole = usize::try_from(exponent + 1).unwrap_or(0);
    if whole == 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', exponent.unsigned_abs() as usize - 1));
        out.push_str(digits);
    } else if digits.len() <= whole {
        out.push_str(digits);
        out.extend(std::iter::repeat_n('0', whole - digits.len()));
    } else {
        out.push_str(&digits[..whole]);
        out.push('.');
        out.push_str(&digits[whole..]);
    }
}

/// Writes the sign, and all of the value if it is not finite. Text has one NaN, without sign or payload.
fn write_special(out: &mut String, value: f64) -> bool {
    if value.is_nan() {
        out.push_str("nan");
        return true;
    }
    if value.is_sign_negative() {
        out.push('-');
    }
    if value.is_infinite() {
        out.push_str("inf");
    }
    value.is_infinite()
}

/// Writes an unsigned integer.
pub(super) fn write_integer(out: &mut String, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|&digit| char::from(digit)));
}

/// Writes a signed integer.
pub(super) fn write_signed(out: &mut String, value: i64) {
    if value < 0 {
        out.push('-');
    }
    write_integer(out, value.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    fn read(dtype: DType, text: &str) -> Result<Data, NumberError> {
        let mut data = Data::empty(dtype);
        push_number(&mut data, dtype, text).map(|()| data)
    }

    /// A midpoint between two values of a narrow type, as exact decimals of itself and of neighbours nearer to
    /// it than any other f64.
    fn around(midpoint: f64, digits: usize) -> [String; 3] {
        let exact = format!("{midpoint:.digits$}");
        let exact = exact.trim_end_matches('0').trim_end_matches('.').to_string();
        let below = match exact.strip_suffix('5') {
            Some(rest) if exact.contains('.') => format!("{rest}4{}", "9".repeat(40)),
            _ => format!("{}.{}", midpoint - 1.0, "9".repeat(40)),
        };
        let point = if exact.contains('.') { "" } else { "." };
        let above = format!("{exact}{point}{}1", "0".repeat(40));
        [below, exact, above]
    }

    #[test]
    fn decimals_near_every_fp16_midpoint_round_once() {
        for bits in 0u16..0x7bff {
            let (low, high) = (f16::from_bits(bits), f16::from_bits(bits + 1));
            let even = if bits % 2 == 0 { low } else { high };
            let texts = around((low.to_f64() + high.to_f64()) / 2.0, 30);
            for (text, expected) in texts.iter().zip([low, even, high]) {
                assert_eq!(read(DType::Fp16, text), Ok(Data::F16(vec![expected])), "{text}");
                assert_eq!(read(DType::Fp16, &format!("-{text}")), Ok(Data::F16(vec![-expected])), "-{text}");
            }
        }
    }

    #[test]
    fn decimals_near_bf16_midpoints_round_once() {
        // The largest have more digits before the point than the helper can step down from.
        for bits in (0u16..0x4c00).step_by(7) {
            let (low, high) = (bf16::from_bits(bits), bf16::from_bits(bits + 1));
            let even = if bits % 2 == 0 { low } else { high };
            let texts = around((low.to_f64() + high.to_f64()) / 2.0, 140);
            for (text, expected) in texts.iter().zip([low, even, high]) {
                assert_eq!(read(DType::Bf16, text), Ok(Data::Bf16(vec![expected])), "{text}");
            }
        }
    }

    #[test]
    fn the_notation_of_a_decimal_does_not_matter() {
        let expected = Ok(Data::F16(vec![f16::from_bits(0x3c01)]));
        let zeros = "0".repeat(300);
        for text in [
            "1.000488281250000000000000000001",
            "0.1000488281250000000000000000001e1",
            "1000488281250000000000000000001E-30",
            &format!("0.{zeros}1000488281250000000000000000001e+301"),
            &format!("{zeros}1.000488281250000000000000000001{zeros}"),
            &format!("1000488281250000000000000000001{zeros}e-330"),
        ] {
            assert_eq!(read(DType::Fp16, text), expected, "{text}");
        }
    }

    #[test]
    fn hexadecimal_floats_round_to_nearest_even() {
        for bits in
            [0x3ff0_0000_0000_0000u64, 0x3ff0_0000_0000_0001, 0x4123_4567_89ab_cdef, 0x7fef_ffff_ffff_fffe]
        {
            let (low, high) = (f64::from_bits(bits), f64::from_bits(bits + 1));
            let even = if bits % 2 == 0 { low } else { high };
            let (fraction, exponent) = (bits & ((1 << 52) - 1), (bits >> 52) as i64 - 1023);
            for (tail, expected) in [("7ffffffffff", low), ("8", even), ("80000000001", high)] {
                let text = format!("0x1.{fraction:013x}{tail}p{exponent:+}");
                assert_eq!(read(DType::Fp64, &text), Ok(Data::F64(vec![expected])), "{text}");
            }
        }
    }

    #[test]
    fn hexadecimal_floats_are_as_short_as_c_writes_them() {
        for (value, expected) in [
            (1.0, "0x1p+0"),
            (70.0, "0x1.18p+6"),
            (-0.5, "-0x1p-1"),
            (0.0, "0x0p+0"),
            (-0.0, "-0x0p+0"),
            (f64::from(f32::from_bits(1)), "0x1p-149"),
            (f64::from_bits(1), "0x1p-1074"),
            (f64::from_bits(3), "0x1.8p-1073"),
            (f64::MIN_POSITIVE.next_down(), "0x1.ffffffffffffep-1023"),
            (f64::MAX, "0x1.fffffffffffffp+1023"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            let mut text = String::new();
            write_hexadecimal(&mut text, value);
            assert_eq!(text, expected);
        }
    }

    /// The expectations are those of C's `printf("%.17g")`.
    #[test]
    fn decimals_are_as_c_writes_them() {
        for (value, expected) in [
            (0.028904231306950648, "0.028904231306950648"),
            (4.096e-05, "4.0960000000000001e-05"),
            (0.0001, "0.0001"),
            (9.9999e-05, "9.9999000000000003e-05"),
            (1.2345678901234568e+17, "1.2345678901234568e+17"),
            (1e+16, "10000000000000000"),
            (1e+17, "1e+17"),
            (2.9802322387695312e-08, "2.9802322387695312e-08"),
            (0.1, "0.10000000000000001"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (-1.5e+300, "-1.5000000000000001e+300"),
            (100.0, "100"),
            (0.5, "0.5"),
            (1e+22, "1e+22"),
            (3.0000000000000004, "3.0000000000000004"),
            (9007199254740992.0, "9007199254740992"),
            (0.0, "0"),
            (-0.0, "-0"),
            (f64::INFINITY, "inf"),
        ] {
            let mut text = String::new();
            write_decimal(&mut text, value);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        use NumberError::{Malformed, NotInteger, Range};
        for text in [
            "", "-", ".", "-.", "1e", "1e+", "e1", "1.2.3", "0x", "0x.", "0xg", "0x1p", "0x1p1.5", "+1",
            "1f", "--1", "infinity", "1_0",
        ] {
            assert_eq!(read(DType::Fp16, text), Err(Malformed), "{text}");
            assert_eq!(read(DType::Fp32, text), Err(Malformed), "{text}");
            assert_eq!(read(DType::Fp64, text), Err(Malformed), "{text}");
            assert_eq!(read(DType::Int32, text), Err(Malformed), "{text}");
        }
        for text in ["1.0", "1e3", "0x1p+0", "inf", "nan"] {
            assert_eq!(read(DType::Int32, text), Err(NotInteger), "{text}");
        }
        assert_eq!(read(DType::Int32, "2147483648"), Err(Range));
        assert_eq!(read(DType::UInt64, &"9".repeat(1000)), Err(Range));
        assert_eq!(read(DType::Fp8E4M3FN, "465"), Err(Range));
    }
}
