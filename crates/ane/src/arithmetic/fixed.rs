//! Sums of products as `conv`, `matmul` and `linear` form them: in 32-bit fixed point with 16 fractional bits.
//!
//! [`dot`] is the reference: one sum, term by term, in plain integers. What is faster must give the same bits.

use half::f16;

use super::rounding;

/// A sum reaches infinity at this magnitude, 32768, in units of 2⁻¹⁶.
pub const LIMIT: i64 = 1 << 31;
/// Products whose factors' exponents add up to this or less are dropped.
pub const DROPPED_FROM: i32 = -17;

/// A sum of products as the engine forms it, and what happened on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The result, in bits of fp16.
    pub bits: u16,
    /// Whether the sum reached ±32768, and the result is infinite therefore.
    pub saturated: bool,
    /// Whether adding up in some other order gives another result: infinity instead of a number, or of the other sign.
    pub order_sensitive: bool,
    /// The products other than zero that were dropped for their small exponents.
    pub dropped: u32,
}

impl Outcome {
    /// The result.
    pub fn value(self) -> f16 {
        f16::from_bits(self.bits)
    }
}

/// A number as the engine reads it: `± mantissa · 2^(exponent − 10)`, with exponent 31 as an ordinary one, so that
/// infinity is 2¹⁶.
#[derive(Debug, Clone, Copy)]
struct Decoded {
    negative: bool,
    mantissa: i64,
    exponent: i32,
}

impl Decoded {
    fn of(number: f16) -> Decoded {
        let bits = number.to_bits();
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), i64::from(bits & 1023));
        let negative = bits >> 15 == 1;
        match exponent {
            0 => Decoded { negative, mantissa: fraction, exponent: -14 },
            _ => Decoded { negative, mantissa: fraction + 1024, exponent: exponent - 15 },
        }
    }

    /// The number times 2¹⁶, rounded half away from zero.
    fn fixed(self) -> i64 {
        shifted(self.mantissa, self.exponent + 6, self.negative)
    }
}

/// `± magnitude · 2^shift`, rounded half away from zero.
fn shifted(magnitude: i64, shift: i32, negative: bool) -> i64 {
    let magnitude = match shift {
        0.. => magnitude << shift,
        _ => (magnitude + (1 << (-shift - 1))) >> -shift,
    };
    if negative { -magnitude } else { magnitude }
}

/// A product in units of 2⁻¹⁶; `None` where it is dropped.
fn product(x: f16, w: f16) -> Option<i64> {
    let (x, w) = (Decoded::of(x), Decoded::of(w));
    let mantissa = x.mantissa * w.mantissa;
    let exponent = x.exponent + w.exponent;
    if exponent <= DROPPED_FROM && mantissa != 0 {
        return None;
    }
    // Of zero factors the exponents may add up to less, and a shift by more than an integer has.
    Some(if mantissa == 0 { 0 } else { shifted(mantissa, exponent - 4, x.negative != w.negative) })
}

/// A bias as the accumulator begins with it, in units of 2⁻¹⁶.
pub fn initial(bias: f16) -> i64 {
    Decoded::of(bias).fixed()
}

/// `start + Σ x[i]·w[i]`, term by term; `start` is in units of 2⁻¹⁶.
pub fn dot(start: i64, x: &[f16], w: &[f16]) -> Outcome {
    let products = x.iter().zip(w).map(|(&x, &w)| product(x, w));
    let (mut sum, mut reached) = (start, None);
    let (mut highest, mut lowest, mut dropped) = (start, start, 0u32);
    let mut check = |sum: i64| {
        if sum.abs() >= LIMIT {
            reached = reached.or(Some(sum > 0));
        }
    };
    check(sum);
    for product in products {
        let Some(product) = product else {
            dropped = dropped.saturating_add(1);
            continue;
        };
        sum = sum.saturating_add(product);
        highest = highest.saturating_add(product.max(0));
        lowest = lowest.saturating_add(product.min(0));
        check(sum);
    }
    let order_sensitive = match (start.abs() >= LIMIT, highest >= LIMIT, lowest <= -LIMIT) {
        (true, ..) | (_, false, false) => false,
        (_, true, true) => true,
        (_, true, false) => sum < LIMIT,
        (_, false, true) => sum > -LIMIT,
    };
    let value = match reached {
        Some(true) => f16::INFINITY,
        Some(false) => f16::NEG_INFINITY,
        None => to_f16(sum),
    };
    Outcome { bits: value.to_bits(), saturated: reached.is_some(), order_sensitive, dropped }
}

/// A sum that did not reach the limit, in fp16. It has no −0.
pub(super) fn to_f16(sum: i64) -> f16 {
    rounding::to_f16(sum as f64 / 65536.0)
}

/// `scale · Σ x[i]·w[i]` of 8-bit integers: the sum is one of 32-bit integers, and infinite where it leaves their range.
pub fn dot_int8(scale: f64, x: &[i8], w: &[i8]) -> f16 {
    let mut sum = Some(0i32);
    for (&x, &w) in x.iter().zip(w) {
        let product = i32::from(x) * i32::from(w);
        match sum.and_then(|sum| sum.checked_add(product)) {
            Some(more) => sum = Some(more),
            None => return if product > 0 { f16::INFINITY } else { f16::NEG_INFINITY },
        }
    }
    rounding::to_f16(scale * f64::from(sum.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(start: f64, terms: &[f64]) -> Outcome {
        let terms: Vec<f16> = terms.iter().map(|&term| f16::from_f64(term)).collect();
        dot(initial(f16::from_f64(start)), &terms, &vec![f16::ONE; terms.len()])
    }

    #[test]
    fn other_orders_are_named_where_they_differ() {
        assert!(!sum(0.0, &[16384.0, 16376.0]).order_sensitive);
        // In this order the sum stays small.
        let mixed = sum(0.0, &[16384.0, -16384.0, 16384.0, 16.0]);
        assert_eq!((mixed.value().to_f32(), mixed.saturated, mixed.order_sensitive), (16400.0, false, true));
        // All orders end at infinity.
        let positive = sum(0.0, &[16384.0, 16384.0, 1.0]);
        assert_eq!((positive.saturated, positive.order_sensitive), (true, false));
        // The start is always first.
        let lowered = sum(-16384.0, &[16384.0, 16384.0]);
        assert_eq!((lowered.value().to_f32(), lowered.order_sensitive), (16384.0, false));
    }

    #[test]
    fn integers_overflow_to_infinity() {
        assert_eq!(dot_int8(0.5, &[3, -4], &[5, 6]).to_f32(), -4.5);
        let long = vec![127i8; 133_145];
        assert_eq!(dot_int8(1e-6, &long, &long), f16::INFINITY);
        assert_eq!(dot_int8(1e-6, &long[1..], &long[1..]).to_f32(), 2148.0);
    }
}
