//! Cases of ops that read and write at indices.

use anemone_mil::builder::{AnyCall, BuildError, Input};
use anemone_mil::ops::call;
use anemone_mil::program::ValueId;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, Opset};

use super::case::{Case, Maker};

/// The cases, several for some ops.
pub const CASES: &[(&str, Maker)] = &[
    ("topk", topk),
    ("argsort", |case| {
        let x = case.distinct_input(&[2, 3], 0.125);
        case.bind(call::argsort(x))
    }),
    ("non_zero", |case| {
        let x = case.input(&[2, 3]);
        case.bind(call::non_zero(x))
    }),
    ("gather", gather),
    ("gather", gather_in_batches),
    ("gather_along_axis", gather_along_axis),
    ("gather_nd", gather_nd),
    ("gather_nd", gather_nd_in_batches),
    ("scatter", scatter),
    ("scatter", scatter_apart),
    ("scatter_along_axis", scatter_along_axis),
    ("scatter_along_axis", scatter_along_axis_apart),
    ("scatter_nd", scatter_nd),
    ("scatter_nd", scatter_nd_apart),
];

type Result = std::result::Result<Vec<ValueId>, BuildError>;

/// Indices below the bound that `bounds` has for their place modulo its length: a constant or an input, before ios17 some
/// counted from the end.
fn indices(case: &mut Case, dims: &[usize], bounds: &[usize]) -> Input {
    let least = *bounds.iter().min().unwrap();
    if case.coin() {
        return case.int_input(dims, least).into();
    }
    let index = |(place, case): (usize, &mut Case)| {
        let bound = bounds[place % bounds.len()];
        let index = case.random.below(bound) as i64;
        if case.opset < Opset::IOS17 && case.coin() { index - bound as i64 } else { index }
    };
    let values: Vec<i64> = (0..dims.iter().product()).map(|place| index((place, case))).collect();
    int_constant(dims, &values)
}

fn int_constant(dims: &[usize], values: &[i64]) -> Input {
    Tensor::from_i64(DType::Int32, dims, values).unwrap().into()
}

fn axis(case: &mut Case, rank: usize) -> (usize, i32) {
    let axis = case.random.below(rank);
    (axis, if case.coin() { axis as i32 } else { axis as i32 - rank as i32 })
}

/// Values with their indices, or alone where the opset has that.
fn topk(case: &mut Case) -> Result {
    case.kinked();
    let dims = case.dims_between(1, 3);
    let x = case.distinct_input(&dims, 0.125);
    let (position, axis) = axis(case, dims.len());
    let k = 1 + case.random.below(dims[position]);
    let op = call::topk(x).k(k as i32).axis(axis).ascending(case.coin());
    if case.opset >= Opset::IOS16 && case.coin() {
        return case.bind(op.return_indices(false));
    }
    Ok(vec![case.builder.bind_all(&["y", "indices"], op)?[0]])
}

/// Any number of indices, which come more than once.
fn gather(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 3);
    let x = case.input(&dims);
    let (position, axis) = axis(case, dims.len());
    let index_dims = case.dims_between(0, 2);
    let indices = indices(case, &index_dims, &dims[position..position + 1]);
    case.bind(call::gather(x, indices).axis(axis))
}

/// With batches where the opset has them.
fn gather_in_batches(case: &mut Case) -> Result {
    let dims = case.dims(4);
    let x = case.input(&dims);
    if case.opset < Opset::IOS16 {
        return case.bind(call::gather(x, [0]));
    }
    let batch = case.random.below(3);
    let axis = batch + case.random.below(dims.len() - batch);
    let rest = case.dims_between(0, 2);
    let index_dims = [&dims[..batch], &rest].concat();
    let indices = indices(case, &index_dims, &dims[axis..axis + 1]);
    case.bind(call::gather(x, indices).axis(axis as i32).batch_dims(batch as i32))
}

fn gather_along_axis(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 3);
    let x = case.input(&dims);
    let (position, axis) = axis(case, dims.len());
    let mut index_dims = dims.clone();
    index_dims[position] = 1 + case.random.below(4);
    let indices = indices(case, &index_dims, &dims[position..position + 1]);
    case.bind(call::gather_along_axis(x, indices).axis(axis))
}

fn gather_nd(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 4);
    let x = case.input(&dims);
    let depth = 1 + case.random.below(dims.len());
    let mut index_dims = case.dims_between(0, 2);
    index_dims.push(depth);
    let indices = indices(case, &index_dims, &dims[..depth]);
    case.bind(call::gather_nd(x, indices))
}

fn gather_nd_in_batches(case: &mut Case) -> Result {
    let dims = case.dims(4);
    let x = case.input(&dims);
    let batch = if case.opset < Opset::IOS16 { 0 } else { case.random.below(3) };
    let depth = 1 + case.random.below(dims.len() - batch);
    let between = case.dims_between(0, 1);
    let index_dims = [&dims[..batch], &between, &[depth]].concat();
    let indices = indices(case, &index_dims, &dims[batch..batch + depth]);
    let op = call::gather_nd(x, indices);
    case.bind(if batch == 0 { op } else { op.batch_dims(batch as i32) })
}

/// An op that writes at these indices, in a mode of which updates may meet.
fn meeting(
    case: &mut Case,
    data: &[usize],
    updates: &[usize],
    op: impl Fn(ValueId, ValueId, &str) -> AnyCall,
) -> Result {
    let mode = case.pick(&["update", "add", "sub", "div", "max", "min"]);
    let (data, updates) = match mode {
        "max" | "min" => {
            case.kinked();
            // All of `data` and `updates` differ, by more than the steps of a difference.
            let count = |dims: &[usize]| dims.iter().product::<usize>();
            let all = case.distinct_input(&[count(data) + count(updates)], 0.125);
            let sizes = [count(data) as i32, count(updates) as i32];
            let parts =
                case.builder.bind_all(&["data", "updates"], call::split(all, 0).split_sizes(sizes))?;
            let shaped = |case: &mut Case, part, dims: &[usize]| {
                let dims: Vec<i32> = dims.iter().map(|&dim| dim as i32).collect();
                case.builder.bind("part", call::reshape(part, dims))
            };
            (shaped(case, parts[0], data)?, shaped(case, parts[1], updates)?)
        }
        _ => (case.input(data), case.input_between(updates, 1.0, 2.0)),
    };
    case.bind(op(data, updates, mode))
}

fn scatter(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 3);
    let (position, axis) = axis(case, dims.len());
    let mut update_dims = dims.clone();
    update_dims[position] = 1 + case.random.below(4);
    let indices = indices(case, &update_dims[position..position + 1], &dims[position..position + 1]);
    meeting(case, &dims, &update_dims, |data, updates, mode| {
        call::scatter(data, indices.clone(), updates).axis(axis).mode(mode).into()
    })
}

/// Indices of which none comes twice.
fn scatter_apart(case: &mut Case) -> Result {
    let (data, updates) = (case.input(&[2, 4, 3]), case.input(&[2, 2, 3]));
    let mode = case.pick(&["update", "mul"]);
    case.bind(call::scatter(data, [3, 1], updates).axis(1).mode(mode))
}

fn scatter_along_axis(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 3);
    let (position, axis) = axis(case, dims.len());
    let mut update_dims = dims.clone();
    update_dims[position] = 1 + case.random.below(4);
    let indices = indices(case, &update_dims, &dims[position..position + 1]);
    meeting(case, &dims, &update_dims, |data, updates, mode| {
        call::scatter_along_axis(data, indices.clone(), updates).axis(axis).mode(mode).into()
    })
}

fn scatter_along_axis_apart(case: &mut Case) -> Result {
    let (data, updates) = (case.input(&[2, 3]), case.input(&[2, 2]));
    let indices = int_constant(&[2, 2], &[2, 0, 1, 2]);
    let mode = case.pick(&["update", "mul"]);
    case.bind(call::scatter_along_axis(data, indices, updates).axis(1).mode(mode))
}

fn scatter_nd(case: &mut Case) -> Result {
    let dims = case.dims_between(1, 3);
    let depth = 1 + case.random.below(dims.len());
    let vectors = case.dims_between(1, 2);
    let update_dims = [&vectors[..], &dims[depth..]].concat();
    let index_dims = [&vectors[..], &[depth]].concat();
    let indices = indices(case, &index_dims, &dims[..depth]);
    meeting(case, &dims, &update_dims, |data, updates, mode| {
        call::scatter_nd(data, indices.clone(), updates).mode(mode).into()
    })
}

fn scatter_nd_apart(case: &mut Case) -> Result {
    let (data, updates) = (case.input(&[3, 2, 2]), case.input(&[2, 2]));
    let indices = int_constant(&[2, 2], &[2, 0, 0, 1]);
    let mode = case.pick(&["update", "mul"]);
    case.bind(call::scatter_nd(data, indices, updates).mode(mode))
}
