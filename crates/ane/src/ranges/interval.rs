//! Intervals of numbers, and arithmetic on them.

use std::fmt;

use anemone_mil::tensor::{Data, Tensor, round_to_bf16, round_to_f16};
use anemone_mil::types::DType;

/// The numbers from `low` to `high`, both included; either may be infinite. NaN lies in none, so a value's interval says
/// nothing of elements that are NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The least number.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

/// `a · b`, where 0 times an infinity is 0: an infinite end stands for finite numbers too.
pub(super) fn times(a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 { 0.0 } else { a * b }
}

impl Interval {
    /// Every number.
    pub const ALL: Interval = Interval { low: f64::NEG_INFINITY, high: f64::INFINITY };
    /// What a bool is as a number.
    pub const UNIT: Interval = Interval { low: 0.0, high: 1.0 };
    /// Zero.
    pub const ZERO: Interval = Interval { low: 0.0, high: 0.0 };

    /// The numbers from `low` to `high`; all where an end is NaN, as a difference of infinities is.
    pub fn new(low: f64, high: f64) -> Interval {
        Interval {
            low: if low.is_nan() { f64::NEG_INFINITY } else { low },
            high: if high.is_nan() { f64::INFINITY } else { high },
        }
    }

    /// From `-most` to `most`.
    pub fn symmetric(most: f64) -> Interval {
        Interval::new(-most, most)
    }

    /// One number.
    pub fn point(value: f64) -> Interval {
        Interval::new(value, value)
    }

    /// What an element type can hold; of floating point, every number.
    pub fn of_type(dtype: DType) -> Interval {
        match dtype.integer_range() {
            Some((least, most)) => Interval::new(least as f64, most as f64),
            None if dtype == DType::Bool => Interval::UNIT,
            None => Interval::ALL,
        }
    }

    /// From the least to the largest element of a tensor; of one without numbers, zero.
    pub fn of_tensor(tensor: &Tensor) -> Interval {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        let seen = each_element(tensor, |_, value| {
            low = low.min(value);
            high = high.max(value);
        });
        match seen {
            None => Interval::of_type(tensor.dtype()),
            Some(()) if low > high => Interval::ZERO,
            Some(()) => Interval::new(low, high),
        }
    }

    /// Whether the number lies in it.
    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Whether zero is among its numbers.
    pub fn has_zero(self) -> bool {
        self.contains(0.0)
    }

    /// The largest magnitude.
    pub fn largest(self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    /// Whether neither end is infinite.
    pub fn is_finite(self) -> bool {
        self.low.is_finite() && self.high.is_finite()
    }

    /// The least interval around both.
    #[must_use]
    pub fn hull(self, other: Interval) -> Interval {
        Interval::new(self.low.min(other.low), self.high.max(other.high))
    }

    /// The least interval around these numbers, those aside that are NaN; all where there is none.
    pub(super) fn around(values: impl IntoIterator<Item = f64>) -> Interval {
        let numbers = values.into_iter().filter(|value| !value.is_nan()).map(Interval::point);
        numbers.reduce(Interval::hull).unwrap_or(Interval::ALL)
    }

    /// What a function that never falls makes of it.
    pub(super) fn rising(self, function: impl Fn(f64) -> f64) -> Interval {
        Interval::new(function(self.low), function(self.high))
    }

    /// What a function of two numbers makes of two intervals, whose extremes are at their ends.
    pub(super) fn corners(self, other: Interval, function: impl Fn(f64, f64) -> f64) -> Interval {
        let ends = |interval: Interval| [interval.low, interval.high];
        Interval::around(ends(self).into_iter().flat_map(|a| ends(other).map(|b| function(a, b))))
    }

    /// `|x|`.
    pub(super) fn magnitude(self) -> Interval {
        let least = if self.has_zero() { 0.0 } else { self.low.abs().min(self.high.abs()) };
        Interval::new(least, self.largest())
    }

    /// `x + y`.
    pub(super) fn plus(self, other: Interval) -> Interval {
        Interval::new(self.low + other.low, self.high + other.high)
    }

    /// `−x`.
    pub(super) fn negated(self) -> Interval {
        Interval::new(-self.high, -self.low)
    }

    /// `x · y`.
    pub(super) fn times(self, other: Interval) -> Interval {
        self.corners(other, times)
    }

    /// `x / y`: all where `y` may be zero, of either sign.
    pub(super) fn over(self, divisor: Interval) -> Interval {
        if divisor.has_zero() { Interval::ALL } else { self.corners(divisor, |a, b| a / b) }
    }

    /// The sum of so many numbers of this interval; of an unknown number of them where `count` is `None`.
    pub(super) fn summed(self, count: Option<u64>) -> Interval {
        match count {
            Some(count) => {
                let sum = self.times(Interval::point(count as f64));
                let wider = sum.widened(sum.largest());
                // A sum of terms of one sign has that sign, however it is rounded.
                let low = if self.low >= 0.0 { wider.low.max(0.0) } else { wider.low };
                let high = if self.high <= 0.0 { wider.high.min(0.0) } else { wider.high };
                Interval::new(low, high)
            }
            None => self.hull(Interval::ZERO).stretched(),
        }
    }

    /// The interval with room for the roundings of a computation in f64 whose terms add up to `magnitude`.
    pub(super) fn widened(self, magnitude: f64) -> Interval {
        let slack = 1e-9 * magnitude;
        Interval::new(self.low - slack, self.high + slack)
    }

    /// As far as numbers of the same signs go: what the interval would be if nothing bounded its magnitudes.
    pub(super) fn stretched(self) -> Interval {
        let low = if self.low < 0.0 { f64::NEG_INFINITY } else { self.low };
        let high = if self.high > 0.0 { f64::INFINITY } else { self.high };
        Interval::new(low, high)
    }

    /// What becomes of it in an element type: ends are rounded to floating point, and integers beyond the type wrap to
    /// anything that it holds.
    pub(super) fn rounded(self, dtype: DType) -> Interval {
        match dtype {
            DType::Fp16 => self.rising(|value| round_to_f16(value).to_f64()),
            DType::Bf16 => self.rising(|value| round_to_bf16(value).to_f64()),
            DType::Fp32 => self.rising(|value| f64::from(value as f32)),
            DType::Fp64 => self,
            DType::Fp8E4M3FN | DType::Fp8E5M2 => Interval::ALL,
            other => {
                let whole = Interval::of_type(other);
                if self.low >= whole.low && self.high <= whole.high { self } else { whole }
            }
        }
    }
}

impl fmt::Display for Interval {
    /// `±10`, or `0..1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == -self.high && self.high > 0.0 {
            return write!(f, "±{}", self.high);
        }
        write!(f, "{}..{}", self.low, self.high)
    }
}

/// Calls `see` with the position and the number of every element that is not NaN; `None` where the elements are no
/// numbers that f64 holds.
pub(super) fn each_element(tensor: &Tensor, mut see: impl FnMut(usize, f64)) -> Option<()> {
    let mut each = |(position, value): (usize, f64)| {
        if !value.is_nan() {
            see(position, value);
        }
    };
    match tensor.data() {
        Data::F16(values) => values.iter().map(|value| value.to_f64()).enumerate().for_each(&mut each),
        Data::F32(values) => values.iter().map(|&value| f64::from(value)).enumerate().for_each(&mut each),
        Data::F64(values) => values.iter().copied().enumerate().for_each(&mut each),
        Data::Bf16(values) => values.iter().map(|value| value.to_f64()).enumerate().for_each(&mut each),
        _ if tensor.dtype().is_float() => tensor.to_f64()?.into_iter().enumerate().for_each(&mut each),
        _ => tensor.to_i64()?.into_iter().map(|value| value as f64).enumerate().for_each(&mut each),
    }
    Some(())
}
