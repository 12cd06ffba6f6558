//! Functions as the engine has them: tables of 33 fp16 samples with straight lines between.
//!
//! Sigmoid, tanh and erf follow from what is published. Of the others the range and the step are; how numbers are
//! rounded on the way is not, so that they are right in kind, and their errors are near the published ones at best.
//! Beside the line from sample to sample nothing is rounded here but the argument of `exp`, without which its published
//! error could not come about.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E};
use std::sync::LazyLock;

use super::rounding::to_f16;

/// Samples in a table.
pub const SAMPLES: usize = 33;

/// A function between `first` and `first + 32 · step`.
struct Table {
    first: f64,
    step: f64,
    samples: [f64; SAMPLES],
}

impl Table {
    fn new(first: f64, step: f64, function: impl Fn(f64) -> f64) -> Table {
        let sample = |i: usize| to_f16(function(first + step * i as f64)).to_f64();
        Table { first, step, samples: std::array::from_fn(sample) }
    }

    /// The function at `x`, and beyond the table's ends what it is there.
    fn at(&self, x: f64) -> f64 {
        let place = ((x - self.first) / self.step).clamp(0.0, (SAMPLES - 1) as f64);
        let index = (place as usize).min(SAMPLES - 2);
        let (low, high) = (self.samples[index], self.samples[index + 1]);
        low + (high - low) * (place - index as f64)
    }

    /// The function at `x`, odd: the table holds it from 0 on.
    fn odd(&self, x: f64) -> f64 {
        self.at(x.abs()).copysign(x)
    }
}

struct Tables {
    sigmoid: Table,
    tanh: Table,
    erf: Table,
    gelu: Table,
    silu: Table,
    exp2: Table,
    log2: Table,
    /// `√m` by octave: of m in [1, 2), and of those in [2, 4) with steps twice as long.
    sqrt: [Table; 2],
    /// `1/√m`, in the same way.
    rsqrt: [Table; 2],
    inverse: Table,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    // Of 33 samples 16 steps reach from m to 2m; the others are never read.
    let octaves = |function: fn(f64) -> f64| {
        [Table::new(1.0, 1.0 / 16.0, function), Table::new(2.0, 1.0 / 8.0, function)]
    };
    Tables {
        sigmoid: Table::new(-8.0, 0.5, sigmoid),
        tanh: Table::new(0.0, 1.0 / 8.0, f64::tanh),
        erf: Table::new(0.0, 1.0 / 16.0, libm::erf),
        gelu: Table::new(-4.0, 0.25, |x| 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2)),
        silu: Table::new(-8.0, 0.5, |x| x * sigmoid(x)),
        exp2: Table::new(0.0, 1.0 / 32.0, f64::exp2),
        log2: Table::new(0.5, 1.0 / 64.0, f64::log2),
        sqrt: octaves(f64::sqrt),
        rsqrt: octaves(|m| 1.0 / m.sqrt()),
        inverse: Table::new(0.5, 1.0 / 64.0, f64::recip),
    }
});

/// The value of an op's table at `x`, not yet rounded to fp16; `None` where the op has no table, or `x` is none of its
/// numbers: not finite, or outside the domain.
pub fn value(op: &str, x: f64) -> Option<f64> {
    let tables = &*TABLES;
    if !x.is_finite() {
        return None;
    }
    let positive = x > 0.0;
    match op {
        "sigmoid" => Some(tables.sigmoid.at(x)),
        "tanh" => Some(tables.tanh.odd(x)),
        "erf" => Some(tables.erf.odd(x)),
        "gelu" => Some(activation(&tables.gelu, x, 4.0)),
        "silu" => Some(activation(&tables.silu, x, 8.0)),
        "exp" => Some(power_of_two(to_f16(x * to_f16(LOG2_E).to_f64()).to_f64())),
        "exp2" => Some(power_of_two(x)),
        "log" if positive => {
            let (mantissa, exponent) = libm::frexp(x);
            Some((tables.log2.at(mantissa) + f64::from(exponent)) * LN_2)
        }
        "sqrt" if positive => Some(by_octave(&tables.sqrt, x, 1)),
        "rsqrt" if positive => Some(by_octave(&tables.rsqrt, x, -1)),
        "inverse" if x != 0.0 => {
            let (mantissa, exponent) = libm::frexp(x.abs());
            Some((tables.inverse.at(mantissa) * 2f64.powi(-exponent)).copysign(x))
        }
        _ => None,
    }
}

/// A function that is nearly 0 below `−end` and nearly `x` above `end`.
fn activation(table: &Table, x: f64, end: f64) -> f64 {
    if x >= end {
        x
    } else if x <= -end {
        0.0
    } else {
        table.at(x)
    }
}

/// `2ˣ`: the power of the whole part, times that of the rest from the table.
fn power_of_two(x: f64) -> f64 {
    let whole = x.floor().clamp(-1074.0, 1023.0);
    TABLES.exp2.at(x - x.floor()) * 2f64.powi(whole as i32)
}

/// A root of `x`, from the table of its octave; the sign is that of the exponent's half in the result.
fn by_octave(tables: &[Table; 2], x: f64, sign: i32) -> f64 {
    let (mantissa, exponent) = libm::frexp(x);
    // x = (2·mantissa or 4·mantissa) · 4^half, from 1 up to 4.
    let (exponent, mantissa) = (exponent - 1, 2.0 * mantissa);
    let odd = exponent.rem_euclid(2);
    let half = (exponent - odd) / 2;
    tables[odd as usize].at(mantissa * f64::from(1 + odd)) * 2f64.powi(sign * half)
}

/// How far a function's table is from the function.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// The op.
    pub op: &'static str,
    /// The function.
    pub exact: fn(f64) -> f64,
    /// The arguments over which the error is taken, both ends included.
    pub range: (f64, f64),
    /// The largest error that was measured on the engine.
    pub error: f64,
    /// Whether errors are in units in the last place of the result, instead of absolute.
    pub in_ulps: bool,
}

/// The largest errors that were published, of the functions that have a table.
pub const PUBLISHED: [Published; 10] = {
    const fn absolute(op: &'static str, exact: fn(f64) -> f64, range: (f64, f64), error: f64) -> Published {
        Published { op, exact, range, error, in_ulps: false }
    }
    const fn ulps(op: &'static str, exact: fn(f64) -> f64, range: (f64, f64), error: f64) -> Published {
        Published { op, exact, range, error, in_ulps: true }
    }
    [
        absolute("sigmoid", |x| 1.0 / (1.0 + (-x).exp()), (-8.0, 8.0), 3.4e-3),
        absolute("tanh", f64::tanh, (-4.0, 4.0), 1.6e-3),
        absolute("erf", libm::erf, (-2.0, 2.0), 8.6e-4),
        absolute("silu", |x| x / (1.0 + (-x).exp()), (-8.0, 8.0), 1.5e-2),
        absolute("gelu", |x| 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2), (-4.0, 4.0), 6.2e-3),
        // Where the result is a normal number of fp16.
        ulps("exp", f64::exp, (-9.7, 11.0), 9.1),
        ulps("log", f64::ln, (6.2e-5, 65504.0), 91.0),
        ulps("inverse", f64::recip, (6.2e-5, 16384.0), 13.5),
        ulps("sqrt", f64::sqrt, (6.2e-5, 65504.0), 1.2),
        ulps("rsqrt", |x| 1.0 / x.sqrt(), (6.2e-5, 65504.0), 2.1),
    ]
};

impl Published {
    /// The largest error of the table here, over every fp16 number in the range.
    pub fn measured(&self) -> f64 {
        let numbers = (0..=u16::MAX).map(|bits| half::f16::from_bits(bits).to_f64());
        let within = numbers.filter(|x| (self.range.0..=self.range.1).contains(x));
        let error = |x: f64| {
            let (exact, found) = ((self.exact)(x), to_f16(value(self.op, x).unwrap_or(f64::NAN)).to_f64());
            let unit = if self.in_ulps { super::rounding::spacing(exact.abs()) } else { 1.0 };
            (found - exact).abs() / unit
        };
        within.map(error).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_the_published_ones() {
        for published in PUBLISHED {
            let measured = published.measured();
            println!("{:<8} here {measured:.3e}, published {:.3e}", published.op, published.error);
            // The others are no worse, but for exp, where the rounding of its argument is a guess.
            let bounds = match published.op {
                "sigmoid" | "tanh" | "erf" | "silu" | "gelu" => 0.9..=1.1,
                "exp" => 0.8..=1.2,
                _ => 0.0..=1.0,
            };
            assert!(bounds.contains(&(measured / published.error)), "{}: {measured}", published.op);
        }
    }

    #[test]
    fn ends_and_octaves_meet() {
        assert_eq!(value("sigmoid", 100.0), value("sigmoid", 8.0));
        assert_eq!(value("tanh", -9.0).map(|y| -y), value("tanh", 4.0));
        assert_eq!((value("gelu", -5.0), value("silu", 20.0)), (Some(0.0), Some(20.0)));
        for (x, root) in [(4.0, 2.0), (0.25, 0.5), (2f64.powi(-24), 2f64.powi(-12)), (16384.0, 128.0)] {
            assert_eq!((value("sqrt", x), value("rsqrt", x)), (Some(root), Some(1.0 / root)));
        }
        assert_eq!((value("log", 1.0), value("inverse", -4.0)), (Some(0.0), Some(-0.25)));
        assert_eq!((value("exp2", -3.0), value("exp", 0.0)), (Some(0.125), Some(1.0)));
        assert_eq!((value("log", 0.0), value("sqrt", -1.0), value("tanh", f64::NAN)), (None, None, None));
    }
}
