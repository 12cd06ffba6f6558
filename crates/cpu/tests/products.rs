//! Matrix products on the CPU against the reference, over awkward shapes.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use common::{Case, float, length, ordinary, special};
use proptest::prelude::*;

fn matrix(seed: u64, dtype: DType, batch: &[usize], rows: usize, columns: usize, turned: bool) -> Tensor {
    let mut shape = batch.to_vec();
    shape.extend(if turned { [columns, rows] } else { [rows, columns] });
    ordinary(seed, dtype, &shape)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn matmul(seed: u64, dtype in float(), m in length(), k in length(), n in length(),
              turned: [bool; 2], constant: [bool; 2], batches in 0..4usize) {
        let (x_batch, y_batch): (&[usize], &[usize]) =
            [(&[] as &[usize], &[] as &[usize]), (&[3], &[]), (&[2, 1], &[3]), (&[1], &[2, 2])][batches];
        let x = matrix(seed, dtype, x_batch, m, k, turned[0]);
        let y = matrix(seed ^ 1, dtype, y_batch, k, n, turned[1]);
        Case::new("matmul", vec![("x", x), ("y", y)])
            .with("transpose_x", Tensor::scalar(turned[0]))
            .with("transpose_y", Tensor::scalar(turned[1]))
            .constants(&constant)
            .check()?;
    }

    #[test]
    fn linear(seed: u64, dtype in float(), rows in length(), k in length(), n in length(), bias: bool) {
        let mut operands = vec![
            ("x", ordinary(seed, dtype, &[2, rows, k])), ("weight", ordinary(seed ^ 1, dtype, &[n, k])),
        ];
        if bias {
            operands.push(("bias", ordinary(seed ^ 2, dtype, &[n])));
        }
        Case::new("linear", operands).constants(&[false, true, true]).check()?;
    }

    #[test]
    fn pointwise_conv(seed: u64, dtype in float(), c_in in length(), c_out in length(), s in 1..40usize,
                      images in 0..3usize, bias: bool, constant: bool) {
        let mut operands = vec![
            ("x", ordinary(seed, dtype, &[images, c_in, 1, s])),
            ("weight", ordinary(seed ^ 1, dtype, &[c_out, c_in, 1, 1])),
        ];
        if bias {
            operands.push(("bias", ordinary(seed ^ 2, dtype, &[c_out])));
        }
        Case::new("conv", operands).constants(&[false, constant, true]).check()?;
    }

    #[test]
    fn conv_transpose(seed: u64, dtype in float(), images in 1..3usize, groups in 1..4usize, c_in in 1..6usize,
                      c_out in 1..6usize, lengths: [u8; 6], places: [u8; 9], spatial in 1..4usize, bias: bool) {
        let below = |value: u8, most: u8| usize::from(value % most);
        let all = |from: usize, most: u8| -> Vec<usize> {
            (0..spatial).map(|i| 1 + below(lengths[from + i], most)).collect()
        };
        let (input, kernel) = (all(0, 9), all(3, 4));
        let number = |from: usize, most: u8| -> Vec<i32> {
            (0..spatial).map(|i| 1 + below(places[from + i], most) as i32).collect()
        };
        let (strides, dilations) = (number(0, 4), number(3, 3));
        // No more is cut off than there is.
        let pad: Vec<i32> = (0..spatial)
            .flat_map(|i| {
                let full = (input[i] as i32 - 1) * strides[i] + (kernel[i] as i32 - 1) * dilations[i] + 1;
                let before = i32::from(places[6 + i]) % (full + 1) / 2;
                [before, (full - before).min(before / 2).max(0)]
            })
            .collect();
        let x = ordinary(seed, dtype, &[&[images, groups * c_in][..], &input].concat());
        let weight = ordinary(seed ^ 1, dtype, &[&[groups * c_in, c_out][..], &kernel].concat());
        let mut operands = vec![("x", x), ("weight", weight)];
        if bias {
            operands.push(("bias", ordinary(seed ^ 2, dtype, &[groups * c_out])));
        }
        let case = Case::new("conv_transpose", operands).constants(&[false, true, true]);
        case.with("strides", Tensor::vector(strides))
            .with("dilations", Tensor::vector(dilations))
            .with("groups", Tensor::scalar(groups as i32))
            .with("pad_type", Tensor::scalar("custom".to_string()))
            .with("pad", Tensor::vector(pad))
            .check()?;
    }

    #[test]
    fn special_values(seed: u64, dtype in float(), m in 1..20usize, n in 1..40usize) {
        // Sums of one product each, so that inf and NaN appear where the reference has them.
        let (x, y) = (special(seed, dtype, &[m, 1]), special(seed ^ 1, dtype, &[1, n]));
        Case::new("matmul", vec![("x", x), ("y", y)]).check()?;
    }
}

/// More products than are kept at a time: blocks of channels, the last of which has fewer.
#[test]
fn channels_of_a_large_conv_transpose() {
    let shapes: [(&[usize], &[usize]); 2] =
        [(&[1, 3, 120, 130], &[3, 11, 3, 2]), (&[2, 20, 50], &[20, 700, 9])];
    for (x, weight) in shapes {
        let x = ordinary(1, DType::Fp16, x);
        let weight = ordinary(2, DType::Fp16, weight);
        let bias = ordinary(3, DType::Fp16, &weight.shape()[1..2]);
        let strides = vec![2i32; weight.shape().len() - 2];
        let case = Case::new("conv_transpose", vec![("x", x), ("weight", weight), ("bias", bias)]);
        case.constants(&[false, true, true]).with("strides", Tensor::vector(strides)).check().unwrap();
    }
}

#[test]
fn blocks_of_every_kind() {
    // More rows, columns and terms than one block has.
    for (m, k, n) in
        [(500, 300, 70), (70, 300, 1100), (13, 600, 2000), (1, 700, 900), (300, 1, 600), (90, 2500, 50)]
    {
        for dtype in [DType::Fp16, DType::Fp32] {
            let (x, y) = (ordinary(1, dtype, &[m, k]), ordinary(2, dtype, &[k, n]));
            Case::new("matmul", vec![("x", x), ("y", y)]).check().unwrap();
        }
    }
}

/// Some numbers of a large product are such that the matrix unit cannot multiply their blocks.
#[test]
fn special_values_among_ordinary_ones() {
    let (m, k, n) = (130, 600, 70);
    for dtype in [DType::Fp16, DType::Fp32] {
        for value in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 3.4e38, 1e-35, 1e-42] {
            if dtype == DType::Fp16 && value.is_finite() {
                continue;
            }
            let planted = |tensor: Tensor, index: usize| {
                let mut values = tensor.to_f64().unwrap();
                values[index] = value;
                Tensor::from_f64(dtype, tensor.shape(), &values).unwrap()
            };
            let (x, y) = (ordinary(1, dtype, &[m, k]), ordinary(2, dtype, &[k, n]));
            let left = planted(x.clone(), 100 * k + 300);
            Case::new("matmul", vec![("x", left), ("y", y.clone())]).check().unwrap();
            let right = planted(y, 580 * n + 3);
            Case::new("matmul", vec![("x", x), ("y", right)]).check().unwrap();
        }
    }
}

/// Numbers that have bf16 parts, products of which would overflow, or be lost.
#[test]
fn products_at_the_ends_of_the_range() {
    let power = |exponent: i32| 2f64.powi(exponent);
    let tiny = (1.0 + power(-8) - power(-20)) * power(-60);
    let (high, low) = ((1.0 + power(-8)) * power(64), 1.988_281_25 * power(63));
    let cases: [(&[f64], &[f64]); 5] = [
        (&[tiny], &[tiny]),
        (&[1.234_567_8 * power(-58)], &[1.765_432_1 * power(-58)]),
        (&[high], &[low]),
        (&[high, high], &[low, -low]),
        (&[power(-99), 1.0], &[power(-20), 0.0]),
    ];
    for (x, y) in cases {
        let x = Tensor::from_f64(DType::Fp32, &[1, x.len()], x).unwrap();
        let y = Tensor::from_f64(DType::Fp32, &[y.len(), 1], y).unwrap();
        Case::new("matmul", vec![("x", x), ("y", y)]).check().unwrap();
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    use anemone_mil::builder::AnyCall;
    use common::paths::{cpu_on, paths};
    use common::{builder, prepare, program, run};
    // Sizes at which the number of threads decides how rows are shared, and which product is the transposed one.
    for (m, k, n) in [(211, 700, 130), (70, 300, 1100), (240, 256, 64)] {
        for dtype in [DType::Fp16, DType::Fp32] {
            let mut x = ordinary(1, dtype, &[m, k]).to_f64().unwrap();
            // Too small for the matrix unit, where it is fp32, and 0 in fp16.
            x[5] = 1e-35;
            let x = Tensor::from_f64(dtype, &[m, k], &x).unwrap();
            let y = ordinary(2, dtype, &[k, n]);
            let mut function = builder();
            let inputs = [function.input("x", x.ty()), function.input("y", y.ty())];
            let arguments = [("x", inputs[0].into()), ("y", inputs[1].into())];
            let product = function.bind("z", AnyCall::named("matmul", arguments)).unwrap();
            let program = program(function.finish([product]));
            for path in paths() {
                let results: Vec<Tensor> = [1, 2, 3]
                    .map(|threads| {
                        let cpu = cpu_on(path, threads);
                        run(prepare(&cpu, &program, &[&x, &y]).as_mut(), &[&x, &y]).remove(0)
                    })
                    .into();
                assert_eq!(results[0], results[1], "{path} {m} {k} {n} {dtype}");
                assert_eq!(results[0], results[2], "{path} {m} {k} {n} {dtype}");
            }
        }
    }
}
