//! xʸ.

use std::sync::Arc;

use anemone_mil::ops::Operand;
use pulp::{Arch, Simd, WithSimd};

use super::elementwise::{OfOne, One, StripFunction};
use crate::functions::Real;

/// The function that computes xʸ of operands x and y.
pub(super) fn power(y: &Operand) -> Arc<dyn StripFunction> {
    let values = y.value.as_ref().filter(|_| y.constant).and_then(|value| value.to_f64());
    if values.is_some_and(|values| values.iter().all(|&y| y == -0.5)) {
        return Arc::new(One(InverseRoot));
    }
    Arc::new(Power)
}

/// x^(−½), which of −0 is ∞ and of −∞ is 0.
#[derive(Clone, Copy)]
struct InverseRoot;

impl OfOne for InverseRoot {
    const WIDE: bool = true;
    const WORK: usize = 8;

    #[inline(always)]
    fn apply<R: Real, S: Simd>(self, x: R) -> R {
        let magnitude = x.magnitude();
        let edge = x == R::of(0.0) || magnitude == R::of(f64::INFINITY);
        (if edge { magnitude } else { x }).inverse_root::<S>()
    }
}

/// xʸ, computed in fp64.
struct Power;

/// Whether e^(y·ln x) is xʸ. A number's result does not depend on those beside it, of which there are others where work
/// is cut up in another way.
#[inline(always)]
fn is_simple(x: f32, y: f32) -> bool {
    (x > 0.0) & (x < f32::INFINITY) & (y.abs() < f32::INFINITY)
}

struct Powers<'a> {
    x: &'a [f32],
    y: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Powers<'_> {
    /// Whether all were simple.
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let Powers { x, y, to } = self;
        for (to, (&x, &y)) in to.iter_mut().zip(x.iter().zip(y)) {
            *to = (f64::from(y) * f64::from(x).logarithm::<S>()).exponential::<S>() as f32;
        }
        // Not `all`, which would stop early and so go one by one.
        x.iter().zip(y).fold(true, |all, (&x, &y)| all & is_simple(x, y))
    }
}

impl StripFunction for Power {
    fn apply(&self, arch: Arch, operands: &[&[f32]], _: bool, to: &mut [f32]) {
        let (x, y) = (operands[0], operands[1]);
        if arch.dispatch(Powers { x, y, to: &mut *to }) {
            return;
        }
        for (to, (&x, &y)) in to.iter_mut().zip(x.iter().zip(y)) {
            if !is_simple(x, y) {
                *to = f64::from(x).powf(f64::from(y)) as f32;
            }
        }
    }

    fn work(&self) -> usize {
        16
    }
}
