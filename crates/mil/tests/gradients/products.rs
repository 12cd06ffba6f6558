//! Cases of products of matrices, and convolutions.

use anemone_mil::builder::{BuildError, Input};
use anemone_mil::ops::call;
use anemone_mil::program::ValueId;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::Opset;

use super::case::{Case, Maker, Random};

/// The cases, several for some ops.
pub const CASES: &[(&str, Maker)] = &[
    ("matmul", matmul),
    ("matmul", matmul_of_two_types),
    ("matmul", attention),
    ("scaled_dot_product_attention", scaled_dot_product_attention),
    ("einsum", einsum),
    ("linear", linear),
    ("conv", conv),
    ("conv", pointwise),
    ("conv_transpose", conv_transpose),
    ("max_pool", max_pool),
    ("max_pool", max_pool_of_all),
    ("avg_pool", avg_pool),
    ("l2_pool", l2_pool),
    ("upsample_nearest_neighbor", upsample_nearest_neighbor),
    ("upsample_bilinear", upsample_bilinear),
];

/// The parameters of a pool over so many spatial dimensions at most, and the dimensions of its `x`.
struct Pool {
    x: Vec<usize>,
    kernel: Vec<i32>,
    strides: Vec<i32>,
    pad_type: &'static str,
    pad: Vec<i32>,
    ceil_mode: bool,
}

fn pool(case: &mut Case, most: usize) -> Pool {
    let spatial = 1 + case.random.below(most);
    let each = |case: &mut Case, most: usize| -> Vec<usize> {
        (0..spatial).map(|_| 1 + case.random.below(most)).collect()
    };
    let (kernel, strides) = (each(case, if spatial == 3 { 2 } else { 3 }), each(case, 3));
    let more = each(case, if spatial == 3 { 2 } else { 4 });
    let mut x = vec![1 + case.random.below(2), 1 + case.random.below(2)];
    x.extend(kernel.iter().zip(&more).map(|(kernel, more)| kernel + more));
    let mut pad_type = case.pick(&["valid", "same", "same_lower", "custom", "custom"]);
    let mut pad: Vec<usize> = (0..2 * spatial).map(|i| case.random.below(kernel[i / 2])).collect();
    // The last window begins in `x` where strides are no longer than windows.
    let ceil_mode =
        spatial < 3 && strides.iter().zip(&kernel).all(|(stride, kernel)| stride <= kernel) && case.coin();
    if ceil_mode {
        pad_type = case.pick(&["valid", "custom"]);
        (0..spatial).for_each(|i| pad[2 * i + 1] = pad[2 * i]);
    }
    let integers = |values: &[usize]| values.iter().map(|&value| value as i32).collect();
    Pool {
        x,
        kernel: integers(&kernel),
        strides: integers(&strides),
        pad_type,
        pad: integers(&pad),
        ceil_mode,
    }
}

fn max_pool(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    case.kinked();
    let pool = pool(case, 3);
    let x = case.distinct_input(&pool.x, 0.0625);
    let op = call::max_pool(x, pool.kernel, pool.pad_type).strides(pool.strides).pad(pool.pad);
    case.bind(op.ceil_mode(pool.ceil_mode))
}

fn max_pool_of_all(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    case.kinked();
    let dims = case.dims_between(3, 5);
    let x = case.distinct_input(&dims, 0.0625);
    let kernel: Vec<i32> = dims[2..].iter().map(|&length| length as i32).collect();
    case.bind(call::max_pool(x, kernel, "valid"))
}

fn avg_pool(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let pool = pool(case, 3);
    let x = case.input(&pool.x);
    let op = call::avg_pool(x, pool.kernel, pool.pad_type).strides(pool.strides).pad(pool.pad);
    let exclude = case.coin();
    case.bind(op.ceil_mode(pool.ceil_mode).exclude_padding_from_average(exclude))
}

fn l2_pool(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let pool = pool(case, 2);
    let x = case.input(&pool.x);
    let op = call::l2_pool(x, pool.kernel, pool.pad_type).strides(pool.strides).pad(pool.pad);
    case.bind(op.ceil_mode(pool.ceil_mode))
}

/// Whole factors, or others.
fn factors(case: &mut Case) -> [Tensor; 2] {
    if case.coin() {
        return [(); 2].map(|()| Tensor::scalar(1 + case.random.below(3) as i32));
    }
    [(); 2].map(|()| Tensor::scalar(case.pick(&[1.0f32, 1.5, 2.0, 2.6])))
}

fn upsample_nearest_neighbor(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let dims = case.dims_between(3, 5);
    let x = case.input(&dims);
    let [height, width] = factors(case);
    case.bind(call::upsample_nearest_neighbor(x).scale_factor_height(height).scale_factor_width(width))
}

fn upsample_bilinear(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let dims = case.dims_between(3, 5);
    let x = case.input(&dims);
    let [height, width] = factors(case);
    let op = call::upsample_bilinear(x).scale_factor_height(height).scale_factor_width(width);
    let align = case.coin();
    let op = op.align_corners(align);
    if align || case.opset < Opset::IOS16 || case.coin() {
        return case.bind(op);
    }
    let centers = case.coin();
    case.bind(op.half_pixel_centers(centers))
}

/// Both equations, with dimensions that broadcast.
fn einsum(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let [b, c, h, w, u] = [(); 5].map(|()| 1 + case.random.below(3));
    let maybe = |case: &mut Case, length| if case.coin() { 1 } else { length };
    let dims = [maybe(case, b), c, maybe(case, h), w, maybe(case, b), maybe(case, h)];
    if case.coin() {
        let (x, y) = (case.input(&[dims[0], c, dims[2], w]), case.input(&[dims[4], w, dims[5], u]));
        return case.bind(call::einsum(vec![x, y], "nchw,nwhu->nchu"));
    }
    let (x, y) = (case.input(&[c, dims[2], w]), case.input(&[w, dims[5], u]));
    case.bind(call::einsum(vec![x, y], "chw,whr->chr"))
}

/// Attention of a few heads, with each kind of mask or without one.
fn scaled_dot_product_attention(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    // The factor 1/√E.
    case.has_rounded_factors();
    let batch = case.dims_between(1, 2);
    let [queries, keys, features, columns] = [(); 4].map(|()| 1 + case.random.below(3));
    let matrix = |case: &mut Case, rows, columns| case.input(&[&batch[..], &[rows, columns]].concat());
    let q = matrix(case, queries, features);
    let k = matrix(case, keys, features);
    let v = matrix(case, keys, columns);
    let op = call::scaled_dot_product_attention(q, k, v);
    match case.random.below(3) {
        0 => case.bind(op),
        1 => {
            let mask = case.input(&[queries, keys]);
            case.bind(op.attn_mask(mask))
        }
        _ => {
            // Every query sees the first key.
            let hidden = case.bool_input(&[queries, keys]);
            let first = Tensor::from_values(&[1, keys], (0..keys).map(|key| key == 0).collect()).unwrap();
            let mask = case.builder.bind("mask", call::logical_or(hidden, first))?;
            case.bind(op.attn_mask(mask))
        }
    }
}

/// Products of vectors, of matrices, and of batches that broadcast.
fn matmul(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let (x_batch, y_batch) = case.broadcast_dims();
    let [m, k, n] = [1 + case.random.below(3), 1 + case.random.below(3), 1 + case.random.below(3)];
    let matrices = |case: &mut Case, batch: Vec<usize>, [rows, columns]: [usize; 2], vector: usize| {
        if case.random.below(4) == 0 {
            return (vec![vector], false);
        }
        let transposed = case.coin();
        let last = if transposed { [columns, rows] } else { [rows, columns] };
        ([&batch[..], &last].concat(), transposed)
    };
    let (x, transpose_x) = matrices(case, x_batch, [m, k], k);
    let (y, transpose_y) = matrices(case, y_batch, [k, n], k);
    let x = case.input(&x);
    let y = if case.coin() { case.input(&y) } else { case.constant(&y) };
    case.bind(call::matmul(x, y).transpose_x(transpose_x).transpose_y(transpose_y))
}

/// A constant on either side, of another element type where the opset lets it be.
fn matmul_of_two_types(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let dtype = case.parameter_dtype();
    let x = case.input(&[2, 3, 2]);
    let w = case.constant_of(dtype, &[2, 2], Random::signed);
    if case.coin() {
        return case.bind(call::matmul(x, w).transpose_y(true));
    }
    case.bind(call::matmul(w, x).transpose_y(true))
}

/// Attention of several queries to one key, masked or not.
fn attention(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let [batch, groups, size] = [(); 3].map(|()| 1 + case.random.below(2));
    let [queries, keys] = [(); 2].map(|()| 1 + case.random.below(3));
    let q = case.input(&[batch, groups, size, queries]);
    let k = case.input(&[batch, 1, size, keys]);
    let v = case.input(&[batch, 1, size, keys]);
    let mut scores: Input = call::matmul(q, k).transpose_x(true).into();
    if case.coin() {
        let positions = |dims: &[usize]| {
            let values = (0..dims.iter().product::<usize>() as i32).collect();
            Tensor::from_values(dims, values).expect("as many values as the dimensions hold")
        };
        let later = call::greater(positions(&[1, 1, 1, keys]), positions(&[1, 1, queries, 1]));
        let low = Tensor::from_f64(case.dtype, &[], &[-100.0]).expect("one value");
        scores = call::select(later, low, scores).into();
    }
    case.bind(call::matmul(v, call::softmax(scores)).transpose_y(true))
}

fn linear(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let x = case.dims_between(1, 4);
    let (d_in, d_out, dtype) = (x[x.len() - 1], 1 + case.random.below(3), case.parameter_dtype());
    let x = case.input(&x);
    let op = call::linear(x, case.constant_of(dtype, &[d_out, d_in], Random::signed));
    if case.coin() {
        return case.bind(op);
    }
    let bias = case.constant_of(dtype, &[d_out], Random::signed);
    case.bind(op.bias(bias))
}

/// Any number of dimensions, strides, dilations, groups and paddings, also wider than the kernel.
fn conv(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let spatial = 1 + case.random.below(3);
    let most = if spatial == 3 { 2 } else { 3 };
    let each = |case: &mut Case, most: usize| (0..spatial).map(|_| 1 + case.random.below(most)).collect();
    let (kernel, strides, dilations): (Vec<usize>, Vec<usize>, Vec<usize>) =
        (each(case, most), each(case, 3), each(case, 2));
    let (groups, n) = (1 + case.random.below(3), 1 + case.random.below(2));
    let (c_in, c_out) = (1 + case.random.below(2), 1 + case.random.below(2));
    let pads: Vec<usize> = (0..2 * spatial).map(|_| case.random.below(4)).collect();
    let input = (0..spatial).map(|i| (kernel[i] - 1) * dilations[i] + 1 + case.random.below(most));
    let x = [vec![n, groups * c_in], input.collect()].concat();
    let weight = [vec![groups * c_out, c_in], kernel].concat();
    let dtype = case.parameter_dtype();
    let x = case.input(&x);
    let weight = match case.opset >= Opset::IOS17 || case.coin() {
        true => case.constant_of(dtype, &weight, Random::signed),
        false => case.input(&weight),
    };
    let integers = |values: &[usize]| values.iter().map(|&value| value as i32).collect::<Vec<_>>();
    let mut op = call::conv(x, weight).groups(groups as i32);
    op = op.strides(integers(&strides)).dilations(integers(&dilations));
    op = match case.pick(&["valid", "same", "same_lower", "custom", "custom", "custom"]) {
        "custom" => op.pad_type("custom").pad(integers(&pads)),
        other => op.pad_type(other),
    };
    if case.coin() {
        return case.bind(op);
    }
    let bias = case.constant_of(dtype, &[groups * c_out], Random::signed);
    case.bind(op.bias(bias))
}

/// One tap, so that a convolution is a matrix product.
fn pointwise(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let mut x = case.dims_between(3, 5);
    x[0] = 1 + case.random.below(2);
    let mut weight = vec![1; x.len()];
    (weight[0], weight[1]) = (1 + case.random.below(3), x[1]);
    let dtype = case.parameter_dtype();
    let x = case.input(&x);
    let op = call::conv(x, case.constant_of(dtype, &weight, Random::signed));
    let bias = case.constant_of(dtype, &weight[..1], Random::signed);
    case.bind(op.bias(bias))
}

/// As `conv`; with an output shape where strides leave a choice.
fn conv_transpose(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let spatial = 1 + case.random.below(3);
    let each = |case: &mut Case, most: usize| (0..spatial).map(|_| 1 + case.random.below(most)).collect();
    let (kernel, strides, dilations): (Vec<usize>, Vec<usize>, Vec<usize>) =
        (each(case, 3), each(case, 3), each(case, 2));
    let input: Vec<usize> = each(case, if spatial == 3 { 2 } else { 3 });
    let (groups, n) = (1 + case.random.below(3), 1 + case.random.below(2));
    let (c_in, c_out) = (1 + case.random.below(2), 1 + case.random.below(2));
    let weight = [vec![groups * c_in, c_out], kernel.clone()].concat();
    let dtype = case.parameter_dtype();
    let x = case.input(&[vec![n, groups * c_in], input.clone()].concat());
    let weight = match case.opset < Opset::IOS17 || case.coin() {
        true => case.constant_of(dtype, &weight, Random::signed),
        false => case.input(&weight),
    };
    let integers = |values: &[usize]| values.iter().map(|&value| value as i32).collect::<Vec<_>>();
    let op = call::conv_transpose(x, weight).groups(groups as i32);
    let op = op.strides(integers(&strides)).dilations(integers(&dilations));
    let full = |i: usize| {
        (input[i] - 1) * strides[i] + (if kernel[i] > 1 { (kernel[i] - 1) * dilations[i] } else { 0 }) + 1
    };
    let mut output = vec![n, groups * c_out];
    let op = match case.pick(&["valid", "same", "custom", "custom"]) {
        "custom" => {
            let mut pads = Vec::new();
            for i in 0..spatial {
                let before = case.random.below(full(i).min(3));
                pads.extend([before, case.random.below((full(i) - before).min(2))]);
                output.push(full(i) - pads[2 * i] - pads[2 * i + 1] + case.random.below(strides[i]));
            }
            op.pad_type("custom").pad(integers(&pads))
        }
        "same" => {
            output.extend((0..spatial).map(|i| input[i] * strides[i] - case.random.below(strides[i])));
            op.pad_type("same")
        }
        other => {
            output.extend((0..spatial).map(|i| full(i) + case.random.below(strides[i])));
            op.pad_type(other)
        }
    };
    let op = if case.coin() { op.output_shape(integers(&output)) } else { op };
    if case.coin() {
        return case.bind(op);
    }
    let bias = case.constant_of(dtype, &[groups * c_out], Random::signed);
    case.bind(op.bias(bias))
}
