//! Rounding half away from zero, as the engine rounds everywhere.

use half::f16;

/// The value of fp16's least subnormal, and so its spacing below 2⁻¹⁴.
const LEAST: f64 = 1.0 / 16_777_216.0;
/// From here on a value is nearer to 2¹⁶ than to the largest finite number, or as near.
const INFINITE_FROM: f64 = 65520.0;

/// `value` in fp16, of two numbers equally near the one farther from zero. NaN becomes infinity, as `NaN + 1` does.
pub fn to_f16(value: f64) -> f16 {
    let near = f16::from_f64(value);
    if near.to_f64() == value {
        return near;
    }
    if value.is_nan() {
        return f16::INFINITY;
    }
    let magnitude = value.abs();
    let rounded = if magnitude >= INFINITE_FROM {
        f64::INFINITY
    } else {
        let spacing = spacing(magnitude);
        (magnitude / spacing).round() * spacing
    };
    f16::from_f64(rounded.copysign(value))
}

/// The distance between neighbours in fp16 at a magnitude below 2¹⁶.
pub(super) fn spacing(magnitude: f64) -> f64 {
    let exponent = ((magnitude.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    if exponent < -14 { LEAST } else { 2f64.powi(exponent - 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_midpoint_goes_away_from_zero() {
        for bits in 0u16..0x7bff {
            let (low, high) = (f16::from_bits(bits).to_f64(), f16::from_bits(bits + 1).to_f64());
            let middle = (low + high) / 2.0;
            assert_eq!(to_f16(low).to_bits(), bits);
            assert_eq!(to_f16(middle).to_bits(), bits + 1);
            assert_eq!(to_f16(-middle).to_bits(), (bits + 1) | 0x8000);
            assert_eq!(to_f16(middle.next_down()).to_bits(), bits);
        }
        assert_eq!(to_f16(65519.99), f16::MAX);
        assert_eq!(to_f16(-65520.0), f16::NEG_INFINITY);
        assert_eq!(to_f16(f64::NAN), f16::INFINITY);
        assert_eq!(to_f16(1e-300).to_bits(), 0);
    }
}
