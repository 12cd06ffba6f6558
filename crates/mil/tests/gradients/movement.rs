//! Cases of ops that move data.

use anemone_mil::builder::{BuildError, Tuple};
use anemone_mil::ops::call;
use anemone_mil::program::ValueId;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;

use super::case::{Case, Maker};

/// The cases, several for some ops.
pub const CASES: &[(&str, Maker)] = &[
    ("reshape", reshape),
    ("transpose", transpose),
    ("expand_dims", expand_dims),
    ("squeeze", squeeze),
    ("shape", shape),
    ("reverse", reverse),
    ("band_part", band_part),
    ("slice_by_index", slice_by_index),
    ("slice_by_size", slice_by_size),
    ("slice_by_size", slice_from_anywhere),
    ("slice_update", slice_update),
    ("pixel_shuffle", pixel_shuffle),
    ("pixel_unshuffle", pixel_unshuffle),
    ("depth_to_space", depth_to_space),
    ("space_to_depth", space_to_depth),
    ("batch_to_space", batch_to_space),
    ("space_to_batch", space_to_batch),
    ("flatten2d", |case| {
        let dims = case.dims_between(1, 4);
        let (x, axis) = (case.input(&dims), case.random.below(dims.len() + 1) as i32);
        case.bind(call::flatten2d(x).axis(axis))
    }),
    ("reshape_like", |case| {
        let [x, like] = [case.input(&[2, 6]), case.input(&[3, 4])];
        let masks = Tuple::from_iter([false]);
        case.bind(call::reshape_like(x, vec![like], Tuple::from_iter([0]), Tuple::from_iter([2]), masks))
    }),
    ("reverse_sequence", |case| {
        let x = case.input(&[2, 3, 2]);
        let lengths = case.int_input(&[2], 4);
        let batch = case.pick(&[0, -3]);
        case.bind(call::reverse_sequence(x, lengths).seq_axis(1).batch_axis(batch))
    }),
    ("sliding_windows", |case| {
        let mut dims = case.dims_between(1, 3);
        let axis = case.random.below(dims.len());
        let (size, stride) = (1 + case.random.below(3), 1 + case.random.below(3));
        dims[axis] = size + case.random.below(4);
        let x = case.input(&dims);
        case.bind(call::sliding_windows(x, axis as i32, size as i32).stride(stride as i32))
    }),
    ("concat", concat),
    ("concat", concat_in_turn),
    ("concat", concat_scalars),
    ("split", split),
    ("stack", stack),
    ("tile", tile),
    ("pad", pad),
    ("cumsum", cumsum),
    ("range_1d", range_1d),
    ("fill", fill),
    ("fill_like", |case| {
        let dims = case.dims_between(0, 3);
        let (x, value) = (case.input(&dims), case.constant(&[]));
        case.bind(call::mul(call::fill_like(x).value(value), x))
    }),
    ("quantize", |case| {
        let dims = case.dims_between(1, 3);
        let (x, scale) = (case.input(&dims), case.constant(&[]));
        case.bind(call::quantize(x, scale, "int8"))
    }),
    ("dequantize", dequantize),
    ("one_hot", one_hot),
];

type Result = std::result::Result<Vec<ValueId>, BuildError>;

fn integers(values: &[usize]) -> Vec<i32> {
    values.iter().map(|&value| value as i32).collect()
}

/// The sides of blocks, and what is before and behind.
fn blocks(case: &mut Case) -> ([usize; 2], [usize; 4]) {
    ([(); 2].map(|()| 1 + case.random.below(3)), [(); 4].map(|()| case.random.below(2)))
}

/// What is before and behind as a constant.
fn edges(values: [usize; 4]) -> Tensor {
    Tensor::from_values(&[2, 2], integers(&values)).unwrap()
}

fn batch_to_space(case: &mut Case) -> Result {
    let ([b, d], crops) = blocks(case);
    let images = b * d * (1 + case.random.below(2));
    let x = case.input(&[images, 2, 3, 3]);
    case.bind(call::batch_to_space(x, integers(&[b, d]), edges(crops)))
}

fn space_to_batch(case: &mut Case) -> Result {
    let ([b, d], [top, mut bottom, left, mut right]) = blocks(case);
    bottom += (b - (3 + top + bottom) % b) % b;
    right += (d - (2 + left + right) % d) % d;
    let images = 1 + case.random.below(2);
    let x = case.input(&[images, 2, 3, 2]);
    case.bind(call::space_to_batch(x, integers(&[b, d]), edges([top, bottom, left, right])))
}

/// Under another shape: two dimensions as one, or all as one.
fn reshape(case: &mut Case) -> Result {
    let mut dims = case.dims_between(0, 4);
    let x = case.input(&dims);
    if dims.len() > 1 && case.coin() {
        let first = dims.remove(0);
        dims[0] *= first;
        return case.bind(call::reshape(x, integers(&dims)));
    }
    case.bind(call::reshape(x, [1, -1]))
}

/// The dimensions in any order, some counted from the last.
fn order(case: &mut Case, rank: usize) -> Vec<i32> {
    let mut order = Vec::new();
    for axis in 0..rank as i32 {
        let at = case.random.below(order.len() + 1);
        order.insert(at, if case.coin() { axis } else { axis - rank as i32 });
    }
    order
}

fn transpose(case: &mut Case) -> Result {
    let dims = case.dims_between(0, 4);
    let x = case.input(&dims);
    let perm = order(case, dims.len());
    case.bind(call::transpose(x, perm))
}

fn expand_dims(case: &mut Case) -> Result {
    let dims = case.dims_between(0, 2);
    let x = case.input(&dims);
    let axes = case.axes(dims.len() + 1);
    let rank = (dims.len() + axes.len()) as i32;
    let axes = axes.iter().map(|&axis| if axis < 0 { axis.max(-rank) } else { axis });
    let axes: Vec<i32> = axes.collect();
    let twice = |axis: &i32| axes.iter().filter(|other| (*other - axis) % rank == 0).count() > 1;
    if axes.iter().any(twice) {
        return case.bind(call::expand_dims(x, [-1]));
    }
    case.bind(call::expand_dims(x, axes))
}

/// Of some axes, of all, and of those that are longer than 1 and stay.
fn squeeze(case: &mut Case) -> Result {
    let dims: Vec<usize> = case.dims_between(1, 4).into_iter().map(|dim| 1 + dim / 2).collect();
    let x = case.input(&dims);
    if case.coin() {
        return case.bind(call::squeeze(x));
    }
    let axes = case.axes(dims.len());
    case.bind(call::squeeze(x).axes(axes))
}

fn shape(case: &mut Case) -> Result {
    let x = case.input(&[2, 3]);
    case.bind(call::shape(x))
}

fn reverse(case: &mut Case) -> Result {
    let dims = case.dims_between(0, 3);
    let x = case.input(&dims);
    if dims.is_empty() || case.coin() {
        return case.bind(call::reverse(x));
    }
    let axes = case.axes(dims.len());
    case.bind(call::reverse(x).axes(axes))
}

fn band_part(case: &mut Case) -> Result {
    let dims = case.dims_between(2, 4);
    let x = case.input(&dims);
    let (lower, upper) = (case.pick(&[-1, 0, 1]), case.pick(&[-1, 0, 1]));
    case.bind(call::band_part(x).lower(lower).upper(upper))
}

/// A slice with strides either way, masks, and indices from either end.
struct Slice {
    dims: Vec<usize>,
    begin: Vec<i32>,
    end: Vec<i32>,
    stride: Vec<i32>,
    begin_mask: Vec<bool>,
    end_mask: Vec<bool>,
    squeeze_mask: Vec<bool>,
}

impl Slice {
    fn of(case: &mut Case) -> Slice {
        let dims: Vec<usize> = case.dims_between(1, 3).iter().map(|&dim| 2 * dim - 1).collect();
        let rank = dims.len();
        let mut slice = Slice {
            begin: Vec::new(),
            end: Vec::new(),
            stride: Vec::new(),
            begin_mask: (0..rank).map(|_| case.random.below(4) == 0).collect(),
            end_mask: (0..rank).map(|_| case.random.below(4) == 0).collect(),
            squeeze_mask: (0..rank).map(|_| case.random.below(4) == 0).collect(),
            dims,
        };
        // `slice_update` takes no scalars.
        slice.squeeze_mask[0] = false;
        for axis in 0..rank {
            let length = slice.dims[axis] as i32;
            let (start, step) = (case.random.below(length as usize) as i32, case.pick(&[1, 2, 3, -1, -2]));
            let end = start + step * (1 + case.random.below(3) as i32);
            slice.begin.push(if case.coin() { start } else { start - length });
            slice.end.push(end.clamp(0, length + 1));
            slice.end_mask[axis] |= end < 0;
            slice.stride.push(step);
        }
        slice
    }
}

fn slice_by_index(case: &mut Case) -> Result {
    let slice = Slice::of(case);
    let x = case.input(&slice.dims);
    let op = call::slice_by_index(x, slice.begin, slice.end).stride(slice.stride);
    case.bind(op.begin_mask(slice.begin_mask).end_mask(slice.end_mask).squeeze_mask(slice.squeeze_mask))
}

fn slice_update(case: &mut Case) -> Result {
    let slice = Slice::of(case);
    let x = case.input(&slice.dims);
    let part = call::slice_by_index(x, slice.begin.clone(), slice.end.clone()).stride(slice.stride.clone());
    let part = part.begin_mask(slice.begin_mask.clone()).end_mask(slice.end_mask.clone());
    let part = case.builder.bind("part", part.squeeze_mask(slice.squeeze_mask.clone()))?;
    let dims = case.builder.operand(part).and_then(|part| part.ty.shape.to_known());
    let update = case.input(&dims.unwrap_or_default());
    let op = call::slice_update(x, update, slice.begin, slice.end).stride(slice.stride);
    case.bind(op.begin_mask(slice.begin_mask).end_mask(slice.end_mask).squeeze_mask(slice.squeeze_mask))
}

fn slice_by_size(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 4);
    let x = case.input(&dims);
    let begin: Vec<usize> = dims.iter().map(|&dim| case.random.below(dim)).collect();
    let size = dims.iter().zip(&begin).map(|(&dim, &begin)| match case.random.below(3) {
        0 => -1,
        _ => 1 + case.random.below(dim - begin) as i32,
    });
    let size: Vec<i32> = size.collect();
    let begin = dims.iter().zip(&begin).map(|(&dim, &begin)| match case.coin() {
        true => begin as i32,
        false => begin as i32 - dim as i32,
    });
    let begin: Vec<i32> = begin.collect();
    case.bind(call::slice_by_size(x, begin, size))
}

/// A slice whose begin only the run knows.
fn slice_from_anywhere(case: &mut Case) -> Result {
    let x = case.input(&[2, 4, 3]);
    let begin = case.int_input(&[3], 2);
    case.bind(call::slice_by_size(x, begin, [1, 3, 2]))
}

fn axis(case: &mut Case, rank: usize) -> (usize, i32) {
    let axis = case.random.below(rank);
    (axis, if case.coin() { axis as i32 } else { axis as i32 - rank as i32 })
}

fn concat(case: &mut Case) -> Result {
    let mut dims = case.dims_between(1, 3);
    let (position, axis) = axis(case, dims.len());
    let mut values = Vec::new();
    for _ in 0..1 + case.random.below(3) {
        dims[position] = 1 + case.random.below(3);
        values.push(case.input(&dims));
    }
    // The same value twice.
    values.push(values[0]);
    case.bind(call::concat(Tuple::from(values), axis).interleave(false))
}

fn concat_in_turn(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 3);
    let (_, axis) = axis(case, dims.len());
    let values: Vec<ValueId> = (0..1 + case.random.below(3)).map(|_| case.input(&dims)).collect();
    case.bind(call::concat(Tuple::from(values), axis).interleave(true))
}

fn concat_scalars(case: &mut Case) -> Result {
    let values: Vec<ValueId> = (0..1 + case.random.below(3)).map(|_| case.input(&[])).collect();
    let interleave = case.coin();
    case.bind(call::concat(Tuple::from(values), 0).interleave(interleave))
}

/// Into equal parts or others, of which one has no part in the results.
fn split(case: &mut Case) -> Result {
    let mut dims = case.dims_between(1, 3);
    let (position, axis) = axis(case, dims.len());
    let equal = case.coin();
    let sizes: Vec<usize> = (0..3).map(|_| if equal { 2 } else { case.random.below(3) }).collect();
    dims[position] = sizes.iter().sum::<usize>().max(1);
    let x = case.input(&dims);
    let op = call::split(x, axis);
    let op = match (equal, dims[position] == sizes.iter().sum::<usize>()) {
        (true, _) => op.num_splits(3),
        (false, true) => op.split_sizes(integers(&sizes)),
        (false, false) => op.split_sizes([0, 1, 0]),
    };
    let parts = case.builder.bind_all(&["y_0", "y_1", "y_2"], op)?;
    let first = case.random.below(2);
    Ok(parts[first..first + 2].to_vec())
}

fn stack(case: &mut Case) -> Result {
    let dims = case.dims_between(0, 3);
    let (_, axis) = axis(case, dims.len() + 1);
    let values: Vec<ValueId> = (0..1 + case.random.below(3)).map(|_| case.input(&dims)).collect();
    case.bind(call::stack(Tuple::from(values), axis))
}

fn tile(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 4);
    let x = case.input(&dims);
    let reps = case.dims(dims.len());
    case.bind(call::tile(x, integers(&reps)))
}

/// Each mode, of all dimensions or the last ones; a constant may be differentiated by.
fn pad(case: &mut Case) -> Result {
    let dims: Vec<usize> = case.dims_between(1, 3).iter().map(|dim| dim + 1).collect();
    let x = case.input(&dims);
    let mode = case.pick(&["constant", "reflect", "replicate"]);
    let first = case.random.below(dims.len());
    let mut amounts = Vec::new();
    for &dim in &dims[first..] {
        let most = if mode == "reflect" { dim } else { 3 };
        amounts.extend([case.random.below(most), case.random.below(most)]);
    }
    let op = call::pad(x, integers(&amounts)).mode(mode);
    if mode == "constant" && case.coin() {
        let value = case.constant(&[]);
        return case.bind(op.constant_val(value));
    }
    case.bind(op.constant_val(0.0))
}

fn cumsum(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 4);
    let x = case.input(&dims);
    let axis = if case.coin() { -1 } else { case.random.below(dims.len()) as i32 };
    let (exclusive, reverse) = (case.coin(), case.coin());
    case.bind(call::cumsum(x).axis(axis).exclusive(exclusive).reverse(reverse))
}

/// So that neither a moved start nor a moved step changes the length.
fn range_1d(case: &mut Case) -> Result {
    let count = 1 + case.random.below(3);
    let (start, step) = (case.random.between(-1.0, 1.0), case.random.between(1.0, 1.5));
    let end = start + (count as f64 - 0.5) * step;
    if case.coin() {
        let dtype = case.dtype;
        let [end, start, step] = [end, start, step].map(|value| case.constant_of(dtype, &[], |_| value));
        return case.bind(call::range_1d(end, start, step));
    }
    // The length is known to the run alone, and second derivatives need it.
    case.kinked();
    let [end, start, step] = [end, start, step].map(|value| case.input_of(&[], |_| value));
    case.bind(call::range_1d(end, start, step))
}

fn fill(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 3);
    let value = case.constant(&[]);
    case.bind(call::fill(integers(&dims)).value(value))
}

fn dequantize(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 3);
    let bytes = |case: &mut Case, dims: &[usize]| {
        let values: Vec<i64> = (0..dims.iter().product()).map(|_| case.random.below(256) as i64).collect();
        Tensor::from_i64(DType::UInt8, dims, &values).unwrap()
    };
    let input = bytes(case, &dims);
    let (position, axis) = axis(case, dims.len());
    let along = if case.coin() { vec![dims[position]] } else { Vec::new() };
    let mut op = call::dequantize(input, case.constant(&along));
    if !along.is_empty() {
        op = op.axis(axis);
    }
    if case.coin() {
        op = op.zero_point(bytes(case, &along));
    }
    case.bind(op)
}

fn one_hot(case: &mut Case) -> Result {
    let dims = case.dims_between(0, 2);
    let indices = case.int_input(&dims, 4);
    let op = call::one_hot(indices, 3);
    let (_, axis) = axis(case, dims.len() + 1);
    let op = op.axis(axis).on_value(case.constant(&[]));
    let off = case.constant(&[]);
    case.bind(op.off_value(off))
}

fn pixel_shuffle(case: &mut Case) -> Result {
    let (dims, side) = (case.dims(4), 1 + case.random.below(3));
    let x = case.input(&[dims[0], dims[1] * side * side, dims[2], dims[3]]);
    case.bind(call::pixel_shuffle(x, side as i32))
}

fn pixel_unshuffle(case: &mut Case) -> Result {
    let (dims, side) = (case.dims(4), 1 + case.random.below(3));
    let x = case.input(&[dims[0], dims[1], dims[2] * side, dims[3] * side]);
    case.bind(call::pixel_unshuffle(x, Tensor::scalar(side as u32)))
}

fn depth_to_space(case: &mut Case) -> Result {
    let (dims, side) = (case.dims(4), 2 + case.random.below(2));
    let x = case.input(&[dims[0], dims[1] * side * side, dims[2], dims[3]]);
    case.bind(call::depth_to_space(x, side as i32))
}

fn space_to_depth(case: &mut Case) -> Result {
    let (dims, side) = (case.dims(4), 2 + case.random.below(2));
    let x = case.input(&[dims[0], dims[1], dims[2] * side, dims[3] * side]);
    case.bind(call::space_to_depth(x, side as i32))
}
