//! Whole matrix products in the engine's fixed point, on vectors and threads, bit for bit as [`fixed::dot`].
//!
//! Each product is exact in f32, has its small ones dropped, is rounded to an integer of units 2⁻¹⁶ and added to an i32.
//! Beside it the magnitudes are added up: while they stay below the limit no order of the terms reaches it, and the
//! integer is right. The few sums for which they do not are formed anew by the reference.

use anemone_mil::mapped::room_for;
use half::f16;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::fixed::{self, LIMIT, Outcome};

/// Products of powers of two up to this are dropped: 2 to the power of [`fixed::DROPPED_FROM`].
const DROPPED_UP_TO: f32 = 1.0 / 131_072.0;
/// What stands for the power of two of a zero, so that no product with one counts as dropped.
const NEVER_DROPPED: f32 = 1e30;
/// Sums of more terms go to the reference: the magnitudes are added up in f32, whose error grows with their number.
const MOST_TERMS: usize = 1 << 18;

/// A factor, row-major; `transposed` when its dimensions stand the other way round in memory.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// The numbers.
    pub values: &'a [f16],
    /// Whether rows and columns change places.
    pub transposed: bool,
}

/// What the sums begin with, in units of 2⁻¹⁶.
#[derive(Debug, Clone, Copy)]
pub enum Initial<'a> {
    /// Zero.
    Zero,
    /// A number for each row.
    Rows(&'a [i64]),
    /// A number for each column.
    Columns(&'a [i64]),
}

impl Initial<'_> {
    fn at(self, row: usize, column: usize) -> i64 {
        match self {
            Initial::Zero => 0,
            Initial::Rows(numbers) => numbers[row],
            Initial::Columns(numbers) => numbers[column],
        }
    }
}

/// A number as the kernel reads it: its value, and the power of two that decides whether products are dropped.
#[derive(Debug, Clone, Copy, Default)]
struct Term {
    value: f32,
    power: f32,
}

impl Term {
    /// `scale · number`, exponent 31 read as an ordinary one.
    #[inline]
    fn of(number: f16, scale: f32) -> Term {
        let bits = u32::from(number.to_bits());
        let (sign, exponent, fraction) = (bits >> 15, bits >> 10 & 31, bits & 1023);
        let power = f32::from_bits((exponent.max(1) + 112) << 23);
        let mantissa = if exponent == 0 { fraction } else { fraction + 1024 };
        let magnitude = mantissa as f32 * (power / 1024.0) * scale;
        let value = if sign == 1 { -magnitude } else { magnitude };
        Term { value, power: if mantissa == 0 { NEVER_DROPPED } else { power } }
    }
}

/// Neighbouring columns of the right factor that are worked on together; few enough that their sums stay in the first
/// cache, and many enough for the compiler to make a loop over vectors of them.
const WIDTH: usize = 64;
/// Indices of the sum that one pass over the columns takes.
const DEPTH: usize = 4;

/// `WIDTH` columns of the right factor at one index of the sum.
#[derive(Clone, Copy)]
struct Lane {
    values: [f32; WIDTH],
    powers: [f32; WIDTH],
}

const ZEROS: Lane = Lane { values: [0.0; WIDTH], powers: [NEVER_DROPPED; WIDTH] };

/// The product of `m × k` by `k × n`, row-major; `None` where there is no memory for it. `x` holds `m·k` numbers, `y` `k·n`, and `initial` as many as it names.
///
/// # Panics
///
/// When they do not.
pub fn multiply(
    x: Matrix<'_>,
    y: Matrix<'_>,
    initial: Initial<'_>,
    sizes: [usize; 3],
) -> Option<Vec<Outcome>> {
    let [m, k, n] = sizes;
    assert!(x.values.len() == m * k && y.values.len() == k * n, "the factors are not of these sizes");
    let mut results = filled(m.checked_mul(n)?, Outcome::default())?;
    if results.is_empty() {
        return Some(results);
    }
    let whole = Whole { x, y, initial, sizes };
    if k > MOST_TERMS {
        results.par_iter_mut().enumerate().for_each(|(at, result)| *result = whole.reference(at / n, at % n));
        return Some(results);
    }
    let (panels, depth) = (whole.panels()?, k.next_multiple_of(DEPTH));
    let arch = Arch::new();
    results.par_chunks_mut(n).enumerate().for_each(|(row, results)| {
        let terms = whole.row(row);
        for (panel, results) in results.chunks_mut(WIDTH).enumerate() {
            let lanes = &panels[panel * depth..][..depth];
            let sums = arch.dispatch(Row { terms: &terms, lanes });
            for (j, result) in results.iter_mut().enumerate() {
                let column = panel * WIDTH + j;
                let start = initial.at(row, column);
                *result = sums.outcome(j, start, k).unwrap_or_else(|| whole.reference(row, column));
            }
        }
    });
    Some(results)
}

/// One value, so many times, if there is memory for them.
fn filled<T: Clone>(count: usize, value: T) -> Option<Vec<T>> {
    let mut all = room_for(count)?;
    all.resize(count, value);
    Some(all)
}

struct Whole<'a> {
    x: Matrix<'a>,
    y: Matrix<'a>,
    initial: Initial<'a>,
    sizes: [usize; 3],
}

impl Whole<'_> {
    fn x(&self, row: usize, l: usize) -> f16 {
        let [m, k, _] = self.sizes;
        self.x.values[if self.x.transposed { l * m + row } else { row * k + l }]
    }

    fn y(&self, l: usize, column: usize) -> f16 {
        let [_, k, n] = self.sizes;
        self.y.values[if self.y.transposed { column * k + l } else { l * n + column }]
    }

    /// One sum, by the reference.
    fn reference(&self, row: usize, column: usize) -> Outcome {
        let x: Vec<f16> = (0..self.sizes[1]).map(|l| self.x(row, l)).collect();
        let y: Vec<f16> = (0..self.sizes[1]).map(|l| self.y(l, column)).collect();
        fixed::dot(self.initial.at(row, column), &x, &y)
    }

    /// A row of the left factor, in units of 2⁻¹⁶, with zeros up to a multiple of [`DEPTH`].
    fn row(&self, row: usize) -> Vec<Term> {
        let k = self.sizes[1];
        let mut terms: Vec<Term> = (0..k).map(|l| Term::of(self.x(row, l), 65536.0)).collect();
        terms.resize(k.next_multiple_of(DEPTH), Term { value: 0.0, power: NEVER_DROPPED });
        terms
    }

    /// The right factor, [`WIDTH`] columns side by side and then the next, with zeros after the last column and index.
    fn panels(&self) -> Option<Vec<Lane>> {
        let [_, k, n] = self.sizes;
        let depth = k.next_multiple_of(DEPTH);
        let mut lanes = filled(n.div_ceil(WIDTH).checked_mul(depth)?, ZEROS)?;
        lanes.par_iter_mut().enumerate().filter(|(index, _)| index % depth < k).for_each(|(index, lane)| {
            let (panel, l) = (index / depth, index % depth);
            for (j, column) in (panel * WIDTH..n.min((panel + 1) * WIDTH)).enumerate() {
                let term = Term::of(self.y(l, column), 1.0);
                (lane.values[j], lane.powers[j]) = (term.value, term.power);
            }
        });
        Some(lanes)
    }
}

/// Sums of `WIDTH` columns: of the products, of their magnitudes, and of how many were dropped.
struct Sums {
    sums: [i32; WIDTH],
    magnitudes: [f32; WIDTH],
    dropped: [u32; WIDTH],
}

/// A row of the left factor by a panel of the right one.
struct Row<'a> {
    terms: &'a [Term],
    lanes: &'a [Lane],
}

impl WithSimd for Row<'_> {
    type Output = Sums;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Sums {
        let mut all = Sums { sums: [0; WIDTH], magnitudes: [0.0; WIDTH], dropped: [0; WIDTH] };
        let (terms, _) = self.terms.as_chunks::<DEPTH>();
        let (lanes, _) = self.lanes.as_chunks::<DEPTH>();
        for (terms, lanes) in terms.iter().zip(lanes) {
            for j in 0..WIDTH {
                let (mut sum, mut magnitude, mut count) = (all.sums[j], all.magnitudes[j], all.dropped[j]);
                for l in 0..DEPTH {
                    let product = terms[l].value * lanes[l].values[j];
                    let is_dropped = terms[l].power * lanes[l].powers[j] <= DROPPED_UP_TO;
                    let product = if is_dropped { 0.0 } else { product };
                    sum = sum.wrapping_add(rounded(product));
                    magnitude += product.abs();
                    count += u32::from(is_dropped);
                }
                (all.sums[j], all.magnitudes[j], all.dropped[j]) = (sum, magnitude, count);
            }
        }
        all
    }
}

/// A product below 2³⁰ in magnitude as an integer, rounded half away from zero; for greater ones, some integer.
///
/// It is what `(product + 0.5f32.copysign(product)) as i32` says, in operations that compilers put on vectors.
#[inline(always)]
fn rounded(product: f32) -> i32 {
    // A product has 22 significant bits, so that half of one is added exactly wherever it matters.
    let bits = (product.abs() + 0.5).to_bits();
    let mantissa = (bits << 7 & 0x3fff_ff80) | 0x4000_0000;
    // Exponent 30 needs no shift; −1, the least that there is, leaves nothing.
    let magnitude = mantissa.wrapping_shr(157u32.wrapping_sub(bits >> 23)) as i32;
    let sign = product.to_bits() as i32 >> 31;
    (magnitude ^ sign).wrapping_sub(sign)
}

impl Sums {
    /// The result, where it is certain that no order of the `k` terms reaches the limit.
    fn outcome(&self, j: usize, start: i64, k: usize) -> Option<Outcome> {
        // Rounding moved each product by half a unit at most, and f32 errs by less than a 32nd over all its terms.
        let most = f64::from(self.magnitudes[j]) * (1.0 + 1.0 / 32.0) + k as f64 + start.abs() as f64;
        (most < LIMIT as f64).then(|| Outcome {
            bits: fixed::to_f16(start + i64::from(self.sums[j])).to_bits(),
            dropped: self.dropped[j],
            ..Outcome::default()
        })
    }
}
