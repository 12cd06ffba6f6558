//! Products on vectors and threads against the reference, bit by bit. `ANEMONE_DOTS` says how many sums are compared.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use anemone_ane::arithmetic::fixed;
use anemone_ane::arithmetic::products::{Initial, Matrix, multiply};
use half::f16;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// A number of fp16 with an exponent from a range, now and then a zero.
    fn within(&mut self, exponents: std::ops::RangeInclusive<u16>) -> f16 {
        let count = usize::from(exponents.end() - exponents.start()) + 1;
        let exponent = exponents.start() + self.below(count) as u16;
        let bits = self.next() as u16;
        f16::from_bits(if bits & 0x7c00 == 0 { bits & 0x8000 } else { exponent << 10 | bits & 0x83ff })
    }

    /// A number of one of several kinds, by which a whole matrix is made.
    fn number(&mut self, kind: usize) -> f16 {
        match kind {
            // Any bits: infinities, NaN and subnormals among them.
            0 => f16::from_bits(self.next() as u16),
            1 => self.within(9..=16),
            // Where products are dropped.
            2 => self.within(0..=9),
            3 => self.within(4..=12),
            // Where sums pass the limit, or nearly.
            4 => self.within(19..=23),
            // Powers of two and their neighbours, for ties and limits.
            5 => f16::from_bits(
                (self.below(32) as u16) << 10 | [0, 1, 0x3ff][self.below(3)] | (self.next() as u16 & 0x8000),
            ),
            // A few great ones among small.
            _ if self.below(16) == 0 => self.within(26..=31),
            _ => self.within(0..=16),
        }
    }

    fn matrix(&mut self, count: usize) -> Vec<f16> {
        let kind = self.below(7);
        (0..count).map(|_| self.number(kind)).collect()
    }
}

#[test]
fn products_are_those_of_the_reference() {
    let wanted: usize = std::env::var("ANEMONE_DOTS").map_or(30_000, |count| count.parse().unwrap());
    let mut random = Random(12);
    let (mut compared, mut saturated, mut dropped, mut sensitive) = (0, 0, 0u64, 0);
    while compared < wanted {
        let [m, n] = [1 + random.below(12), 1 + random.below(140)];
        let k = if random.below(8) == 0 { random.below(4) } else { random.below(300) };
        let (x, y) = (random.matrix(m * k), random.matrix(k * n));
        let (transpose_x, transpose_y) = (random.below(2) == 1, random.below(2) == 1);
        let starts: Vec<i64> = random.matrix(m.max(n)).into_iter().map(fixed::initial).collect();
        let initial = match random.below(3) {
            0 => Initial::Zero,
            1 => Initial::Rows(&starts[..m]),
            _ => Initial::Columns(&starts[..n]),
        };
        let matrix = |values, transposed| Matrix { values, transposed };
        let results = multiply(matrix(&x, transpose_x), matrix(&y, transpose_y), initial, [m, k, n]).unwrap();
        for (at, result) in results.iter().enumerate() {
            let (i, j) = (at / n, at % n);
            let row: Vec<f16> = (0..k).map(|l| x[if transpose_x { l * m + i } else { i * k + l }]).collect();
            let column: Vec<f16> =
                (0..k).map(|l| y[if transpose_y { j * k + l } else { l * n + j }]).collect();
            let start = match initial {
                Initial::Zero => 0,
                Initial::Rows(starts) => starts[i],
                Initial::Columns(starts) => starts[j],
            };
            let expected = fixed::dot(start, &row, &column);
            assert_eq!(*result, expected, "{start} + {row:?} · {column:?}");
            compared += 1;
            saturated += u64::from(expected.saturated);
            dropped += u64::from(expected.dropped);
            sensitive += u64::from(expected.order_sensitive);
        }
    }
    println!(
        "{compared} sums, {saturated} saturated, {dropped} products dropped, {sensitive} depend on their order"
    );
    let compared = compared as u64;
    assert!(
        saturated > compared / 20
            && saturated < compared / 2
            && dropped > compared
            && sensitive > compared / 100
    );
}

#[test]
fn sums_without_terms_are_what_they_begin_with() {
    let none = Matrix { values: &[], transposed: false };
    let results = multiply(none, none, Initial::Rows(&[3 << 16, 1 << 31]), [2, 0, 1]).unwrap();
    assert_eq!(
        results.iter().map(|result| result.value().to_f32()).collect::<Vec<_>>(),
        [3.0, f32::INFINITY]
    );
}

#[test]
fn long_sums_are_right() {
    let k = (1 << 18) + 1;
    let values = vec![f16::from_f32(0.25); k];
    let matrix = Matrix { values: &values, transposed: false };
    let [result] = multiply(matrix, matrix, Initial::Zero, [1, k, 1]).unwrap()[..] else { unreachable!() };
    assert_eq!(result.value().to_f32(), 16384.0);
}
