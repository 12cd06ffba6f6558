//! Products of buffers that end or begin at forbidden pages, on every path, against sums in f64.

use half::f16;

use super::{Bias, Gemm, Matrix, Output, Packed, Precision, Right};
use crate::ProductPrecision;
use crate::guarded::{End, Guarded};
use crate::memory::Floats;
use crate::not_run::{not_run, not_run_on};
use crate::path::InstructionPath;
use crate::simd::matrix_unit::MatrixUnit;
use crate::threads::Threads;

/// Edges of tiles and blocks.
const SHAPES: [[usize; 3]; 12] = [
    [1, 1, 1],
    [1, 17, 33],
    [12, 32, 256],
    [13, 33, 257],
    [15, 16, 31],
    [16, 31, 32],
    [32, 32, 64],
    [33, 65, 96],
    [70, 5, 300],
    [3, 200, 40],
    [40, 24, 1100],
    [97, 40, 0],
];

/// Numbers of a few bits, so that sums of them are exact in fp32.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 63) as f32 / 8.0 - 3.875).collect()
}

/// A matrix in the given order and type.
struct Stored {
    half: Guarded<f16>,
    single: Guarded<f32>,
    is_half: bool,
    strides: (usize, usize),
}

impl Stored {
    fn new(values: &[f32], columns: usize, turned: bool, is_half: bool, end: End) -> Stored {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        let at = |i: usize| if turned { values[i % rows * columns + i / rows] } else { values[i] };
        let single: Vec<f32> = (0..values.len()).map(at).collect();
        let half: Vec<f16> = single.iter().map(|&value| f16::from_f32(value)).collect();
        let strides = if turned { (1, rows) } else { (columns, 1) };
        Stored { half: Guarded::new(&half, end), single: Guarded::new(&single, end), is_half, strides }
    }

    fn matrix(&self) -> Matrix<'_> {
        let values = if self.is_half { Floats::F16(&self.half) } else { Floats::F32(&self.single) };
        Matrix { values, row_stride: self.strides.0, column_stride: self.strides.1 }
    }
}

fn check(threads: &Threads, size: [usize; 3], halves: bool, turned: [bool; 2], end: End) {
    let [m, n, k] = size;
    let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m, 3));
    let mut expected = vec![0.0; m * n];
    for (i, row) in expected.chunks_exact_mut(n).enumerate() {
        for (j, sum) in row.iter_mut().enumerate() {
            let terms = (0..k).map(|t| f64::from(a[i * k + t]) * f64::from(b[t * n + j]));
            *sum = (terms.sum::<f64>() + f64::from(bias[i])) as f32;
        }
    }
    let left = Stored::new(&a, k, turned[0], halves, end);
    let right = Stored::new(&b, n, turned[1], halves, end);
    let bias = Guarded::new(&bias, end);
    let precision = if halves { Precision::Half } else { Precision::Single };
    let what = || format!("{size:?}, fp16: {halves}, turned: {turned:?}, {end:?}");
    for packs in [false, true] {
        let gemm = if packs {
            Gemm::for_packed(size, precision, threads)
        } else {
            Gemm::new(size, precision, threads)
        };
        let mut scratch = Guarded::new(&vec![f32::NAN; gemm.scratch()], end);
        let mut packed = Guarded::new(&vec![f32::NAN; if packs { gemm.packed() } else { 0 }], end);
        let matrix = right.matrix();
        let mut right = Right::from(matrix);
        if packs {
            let found = gemm.pack(matrix, &mut packed, threads);
            right.packed = Some(Packed { values: &packed, found });
        }
        let bias = Bias::Rows(Floats::F32(&bias));
        let mut c = Guarded::new(&vec![0.5f32; m * n], end);
        gemm.run(left.matrix(), right, bias.into(), Output::F32(&mut c), &mut scratch, threads);
        assert_eq!(&*c, &*expected, "{}", what());
        gemm.run(left.matrix(), right, bias.into(), Output::Sum(&mut c), &mut scratch, threads);
        assert!(c.iter().zip(&expected).all(|(c, expected)| *c == 2.0 * expected), "{}", what());
        let mut c = Guarded::new(&vec![f16::NAN; m * n], end);
        gemm.run(left.matrix(), right, bias.into(), Output::F16(&mut c), &mut scratch, threads);
        assert!(
            c.iter().zip(&expected).all(|(c, &x)| c.to_bits() == f16::from_f32(x).to_bits()),
            "{}",
            what()
        );
    }
}

#[test]
fn nothing_beyond_a_buffer_is_touched() {
    not_run_on(InstructionPath::missing());
    if let Some(missing) = MatrixUnit::dots().err() {
        not_run(missing);
    }
    // All four products, and numbers that bf16 holds: the results are compared to the last bit.
    let precisions = [ProductPrecision::Exact, ProductPrecision::Bf16];
    for (path, products) in
        InstructionPath::available().into_iter().flat_map(|path| precisions.map(|products| (path, products)))
    {
        let instructions = path.instructions_for(products).expect("the path is available");
        let threads = Threads::new(1, instructions, products).expect("no thread is started");
        for size in SHAPES {
            for halves in [false, true] {
                for turned in [[false, false], [false, true], [true, false], [true, true]] {
                    for end in [End::First, End::Last] {
                        check(&threads, size, halves, turned, end);
                    }
                }
            }
        }
    }
}
