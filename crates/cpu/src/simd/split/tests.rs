use crate::memory::Floats;
use crate::not_run::not_run;
use crate::simd::matrix_unit::{Found, MatrixUnit, Numbers, Parts};

/// A unit that the processor has; all split alike.
fn unit() -> Result<MatrixUnit, crate::detect::Missing> {
    MatrixUnit::dots().or_else(|_| MatrixUnit::amx())
}

/// Splits every number in both orders, with tiles turned and not, and puts the parts together again.
fn check(unit: MatrixUnit, values: Floats<'_>, parts: Parts, (rows, terms): (usize, usize)) -> Found {
    let mut found = Found::NOTHING;
    for (row_stride, term_stride) in [(terms, 1), (1, rows)] {
        for turned in [false, true] {
            let mut words = [7u32; 3 * 3 * 512];
            let numbers = Numbers { values, row_stride, term_stride, rows, terms, turned, parts };
            found = found.or(unit.split(numbers, &mut words));
            let padded = terms.next_multiple_of(32);
            let beside = |&(i, _): &(usize, &u32)| i % 512 >= 256 || i >= 16 * parts.count() * padded;
            assert!(words.iter().enumerate().filter(beside).all(|(_, &word)| word == 7));
            for (i, j) in (0..16).flat_map(|i| (0..padded).map(move |j| (i, j))) {
                let sum: f64 = (0..parts.count())
                    .map(|part| {
                        let tile = 512 * (j / 32 * parts.count() + part);
                        let word = words[tile + if turned { 16 * (j % 16) + i } else { 16 * i + j % 16 }];
                        let half = if j % 32 < 16 { word << 16 } else { word & 0xffff_0000 };
                        let half = f32::from_bits(half);
                        assert!(found.has_small() || !half.is_subnormal());
                        f64::from(half)
                    })
                    .sum();
                let there = i < rows && j < terms;
                let expected = if there { values.get(i * row_stride + j * term_stride) } else { 0.0 };
                let exact = !found.has_large() && !found.has_small();
                assert!(!exact || sum == f64::from(expected), "{i} {j}: {sum:e}, not {expected:e}");
            }
        }
    }
    found
}

#[test]
fn numbers_are_the_sums_of_their_parts() {
    let unit = match unit() {
        Ok(unit) => unit,
        Err(missing) => return not_run(missing),
    };
    let halves: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).filter(|x| x.is_finite()).collect();
    let singles: Vec<f32> = (27u32 << 23..0x7f7f_8000).step_by(9973).map(f32::from_bits).collect();
    for (rows, terms) in [(16, 32), (16, 31), (3, 32), (1, 1), (15, 7), (16, 17), (16, 96), (16, 80), (9, 65)]
    {
        for halves in halves.chunks_exact(rows * terms).step_by(if rows * terms == 512 { 1 } else { 20 }) {
            assert!(!check(unit, Floats::F16(halves), Parts::Two, (rows, terms)).has_large());
            let magnitudes = halves.iter().map(|x| x.to_f32().abs().to_bits());
            let least = magnitudes.filter(|&bits| bits > 0).min().unwrap_or(u32::MAX);
            let found = check(unit, Floats::F16(halves), Parts::Three, (rows, terms));
            assert!(found.least == least);
        }
        for singles in singles.chunks_exact(rows * terms).step_by(7) {
            let found = check(unit, Floats::F32(singles), Parts::Three, (rows, terms));
            assert!(!found.has_large() && !found.has_small());
        }
    }
}

#[test]
fn fp16_numbers_are_taken_as_they_are() {
    let unit = match unit() {
        Ok(unit) => unit,
        Err(missing) => return not_run(missing),
    };
    let all: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).collect();
    for (rows, terms) in [(15, 31), (16, 64), (16, 40)] {
        let orders = [(terms, 1, false), (terms, 1, true), (1, rows, false), (1, rows, true)];
        for (halves, (row_stride, term_stride, turned)) in
            all.chunks_exact(rows * terms).flat_map(|halves| orders.map(|order| (halves, order)))
        {
            let mut words = [7u32; 2 * 512];
            let values = Floats::F16(halves);
            let parts = Parts::Half;
            unit.split(Numbers { values, row_stride, term_stride, rows, terms, turned, parts }, &mut words);
            for (i, j) in (0..16).flat_map(|i| (0..terms.next_multiple_of(32)).map(move |j| (i, j))) {
                let place = if turned { 16 * (j % 16) + i } else { 16 * i + j % 16 };
                let word = words[512 * (j / 32) + place];
                let found = half::f16::from_bits((word >> (16 * (j % 32 / 16))) as u16);
                let there = i < rows && j < terms;
                let expected = if there { halves[i * row_stride + j * term_stride] } else { half::f16::ZERO };
                let same = found.to_bits() == expected.to_bits();
                assert!(same || found.is_nan() && expected.is_nan(), "{i} {j}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn a_single_part_is_the_nearest_number_of_eight_bits() {
    let unit = match unit() {
        Ok(unit) => unit,
        Err(missing) => return not_run(missing),
    };
    let singles: Vec<f32> = (0u32..0x7f7f_8000).step_by(9973).map(f32::from_bits).collect();
    for singles in singles.chunks_exact(512) {
        let (values, parts) = (Floats::F32(singles), Parts::Nearest);
        let numbers =
            Numbers { values, row_stride: 32, term_stride: 1, rows: 16, terms: 32, turned: false, parts };
        let mut words = [7u32; 256];
        unit.split(numbers, &mut words);
        for (i, &x) in singles.iter().enumerate() {
            let word = words[16 * (i / 32) + i % 16];
            let found = if i % 32 < 16 { word << 16 } else { word & 0xffff_0000 };
            assert_eq!(found, (x.to_bits() + 0x8000) & 0xffff_0000, "{x:e}");
        }
    }
}

#[test]
fn what_has_no_parts_is_found() {
    let unit = match unit() {
        Ok(unit) => unit,
        Err(missing) => return not_run(missing),
    };
    let found = |value: f32| {
        let mut values = [1.5f32; 512];
        values[77] = value;
        check(unit, Floats::F32(&values), Parts::Three, (16, 32))
    };
    for large in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::from_bits(0xff7f_8000)] {
        assert!(found(large).has_large(), "{large:e}");
    }
    assert!(!found(f32::from_bits(0x7f7f_7fff)).has_large());
    for small in [f32::from_bits(1), 1e-38, -1e-31] {
        let found = found(small);
        assert!(found.has_small() && !found.has_large(), "{small:e}");
        assert_eq!(found, Found { largest: 1.5f32.to_bits(), least: small.abs().to_bits() });
    }
    assert_eq!(found(0.0), Found { largest: 1.5f32.to_bits(), least: 1.5f32.to_bits() });
    assert!(!found(-8e-31).has_small());
}
