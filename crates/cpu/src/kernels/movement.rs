//! Ops that move elements without looking at them: `transpose`, `concat`, `stack`, `split`, slices, and those that are a
//! [`Moved`]; and `cast`.

use std::sync::Arc;

use anemone_mil::ops::{
    Concat, Crop, Cut, DepthToSpace, Moved, OpDef, OpError, Operand, Operands, PixelShuffle, PixelUnshuffle,
    Reverse, Row, SliceByIndex, SliceBySize, SpaceToDepth, Split, Stack, Tile, Transpose,
};
use anemone_mil::types::{DType, TensorType};
use bytemuck::Pod;
use half::f16;

use super::elementwise::{CHUNK, Plain};
use super::{Choice, Kernel, Work, is_decided};
use crate::element::{Float, is_float};
use crate::memory::{Sources, element_bytes};
use crate::threads::Threads;

/// Rows and columns of a block of a matrix that is turned.
const TURNED_ROWS: usize = 32;
const TURNED_COLUMNS: usize = 64;

/// `transpose`: dimension i of the result is dimension `perm[i]` of `x`.
pub(super) fn transpose(row: &OpDef, operands: &Operands<'_>) -> Result<Option<Choice>, OpError> {
    let row = Transpose::bind(operands, row.since)?;
    let perm = row.permutation()?;
    let x = row.x;
    let Some(dims) = x.shape().to_known() else { return Ok(None) };
    let own = strides(&dims);
    let window = Window {
        bytes: element_bytes(x.dtype()),
        start: 0,
        dims: perm.iter().map(|&axis| (dims[axis], own[axis] as isize)).collect(),
    };
    Ok(Some(Choice::kernel(window.merged(), vec![x])))
}

/// The distance between neighbours along each dimension of a row-major tensor.
fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(dims[i]);
    }
    strides
}

/// `slice_by_index` and `slice_by_size`, where it is known which elements they take, and in ascending order.
pub(super) fn slice(row: &OpDef, operands: &Operands<'_>) -> Result<Option<Choice>, OpError> {
    let (x, cuts) = if row.name == "slice_by_index" {
        let row = SliceByIndex::bind(operands, row.since)?;
        (row.x.clone(), row.cuts()?)
    } else {
        let row = SliceBySize::bind(operands, row.since)?;
        (row.x.clone(), row.cuts()?)
    };
    let window =
        x.shape().to_known().and_then(|dims| Window::of_cuts(&cuts, &dims, element_bytes(x.dtype())));
    Ok(window.map(|window| Choice::kernel(window.merged(), vec![x])))
}

/// `split` along an axis: one window per part.
pub(super) fn split(
    row: &OpDef,
    operands: &Operands<'_>,
    results: &[TensorType],
) -> Result<Option<Choice>, OpError> {
    let row = Split::bind(operands, row.since)?;
    let Some(dims) = row.x.shape().to_known() else { return Ok(None) };
    let axis = row.position()?;
    let inner: usize = dims[axis + 1..].iter().product();
    let outer: usize = dims[..axis].iter().product();
    let mut start = 0;
    let mut works = Vec::with_capacity(results.len());
    for result in results {
        let Some(length) = result.shape.0[axis].known().and_then(|length| usize::try_from(length).ok())
        else {
            return Ok(None);
        };
        let window = Window {
            bytes: element_bytes(row.x.dtype()),
            start: start * inner,
            dims: vec![(outer, (dims[axis] * inner) as isize), (length * inner, 1)],
        };
        start += length;
        works.push(Work { kernel: Box::new(window.merged()), operands: vec![row.x.clone()] });
    }
    Ok(Some(Choice::Kernels(works)))
}

/// `crop`, `reverse`, `tile`, and ops that move elements between channels and planes.
pub(super) fn moved(
    row: &OpDef,
    operands: &Operands<'_>,
    results: &[TensorType],
) -> Result<Option<Choice>, OpError> {
    if !is_decided(row, operands, results)? {
        return Ok(None);
    }
    let since = row.since;
    let x: Operand = operands.bind("x", None)?;
    let Moved { start, dims, steps } = match row.name {
        "crop" => Crop::bind(operands, since)?.moved()?,
        "reverse" => Reverse::bind(operands, since)?.moved()?,
        "tile" => Tile::bind(operands, since)?.moved()?,
        "pixel_shuffle" => PixelShuffle::bind(operands, since)?.moved()?,
        "pixel_unshuffle" => PixelUnshuffle::bind(operands, since)?.moved()?,
        "depth_to_space" => DepthToSpace::bind(operands, since)?.moved()?,
        _ => SpaceToDepth::bind(operands, since)?.moved()?,
    };
    let dims = dims.into_iter().zip(steps).collect();
    let window = Window { bytes: element_bytes(x.dtype()), start, dims };
    Ok(Some(Choice::kernel(window.merged(), vec![x])))
}

/// `concat` along an axis, value after value.
pub(super) fn concat(
    row: &OpDef,
    operands: &Operands<'_>,
    results: &[TensorType],
) -> Result<Option<Choice>, OpError> {
    let row = Concat::bind(operands, row.since)?;
    let dims: Option<Vec<Vec<usize>>> = row.values.iter().map(|value| value.shape().to_known()).collect();
    let axis = row.position()?;
    let Some(dims) = dims else { return Ok(None) };
    if row.interleave {
        return Ok(None);
    }
    let bytes = results.first().map_or(1, |result| element_bytes(result.dtype));
    let runs = dims.iter().map(|dims| dims[axis..].iter().product::<usize>() * bytes).collect();
    Ok(Some(Choice::kernel(Join { runs }, row.values)))
}

/// `stack` along a new axis, value after value.
pub(super) fn stack(
    row: &OpDef,
    operands: &Operands<'_>,
    results: &[TensorType],
) -> Result<Option<Choice>, OpError> {
    let row = Stack::bind(operands, row.since)?;
    let [result] = results else { return Ok(None) };
    let (Some(dims), Ok(axis)) = (result.shape.to_known(), row.position()) else { return Ok(None) };
    let run = dims[axis + 1..].iter().product::<usize>() * element_bytes(result.dtype);
    Ok(Some(Choice::kernel(Join { runs: vec![run; row.values.len()] }, row.values)))
}

/// `cast` between fp16, fp32, int32 and bool.
pub(super) fn cast(operands: &Operands<'_>, results: &[TensorType]) -> Result<Option<Choice>, OpError> {
    let x: Operand = operands.bind("x", None)?;
    let Some(result) = results.first() else { return Ok(None) };
    if x.dtype() == result.dtype {
        return Ok(Some(Choice::Alias(x)));
    }
    if is_float(x.dtype()) && is_float(result.dtype) {
        return Ok(Some(Choice::Elementwise(Arc::new(Plain(1, |x| x)), vec![x])));
    }
    let known = |dtype| is_float(dtype) || matches!(dtype, DType::Int32 | DType::Bool);
    let kernel = Cast { from: x.dtype(), to: result.dtype };
    Ok((known(kernel.from) && known(kernel.to)).then(|| Choice::kernel(kernel, vec![x])))
}

/// Elements of an operand at distances of their own along each dimension.
#[derive(Debug)]
struct Window {
    /// Bytes of an element.
    bytes: usize,
    /// The first element.
    start: usize,
    /// Length of each dimension and distance between its elements in the operand.
    dims: Vec<(usize, isize)>,
}

impl Window {
    /// The elements that cuts take of a tensor of these dimensions; `None` where they are not known, or not in order.
    fn of_cuts(cuts: &[Cut], dims: &[usize], bytes: usize) -> Option<Window> {
        let mut window = Window { bytes, start: 0, dims: Vec::with_capacity(cuts.len()) };
        for (cut, stride) in cuts.iter().zip(strides(dims)) {
            let step = usize::try_from(cut.step).ok()?;
            let length = usize::try_from(cut.length.known()?).ok()?;
            window.start += usize::try_from(cut.start?).ok()?.checked_mul(stride)?;
            window.dims.push((length, isize::try_from(step.saturating_mul(stride)).unwrap_or(isize::MAX)));
        }
        Some(window)
    }

    /// The same window in as few dimensions as possible.
    fn merged(mut self) -> Window {
        let mut merged: Vec<(usize, isize)> = Vec::with_capacity(self.dims.len());
        for &(length, step) in self.dims.iter().filter(|&&(length, _)| length != 1) {
            match merged.last_mut() {
                Some(last) if last.1 == step.saturating_mul(length as isize) => {
                    *last = (last.0 * length, step);
                }
                _ => merged.push((length, step)),
            }
        }
        if merged.is_empty() {
            merged.push((1, 1));
        }
        self.dims = merged;
        self
    }

    /// The position in the operand of the element with a number among those of the first dimensions.
    fn at(&self, outer: &[(usize, isize)], number: usize) -> usize {
        let mut rest = number;
        let mut start = self.start;
        for &(length, step) in outer.iter().rev() {
            start = start.wrapping_add_signed((rest % length) as isize * step);
            rest /= length;
        }
        start
    }

    fn copy<T: Pod + Send + Sync>(&self, x: &[T], result: &mut [T], threads: &Threads) {
        let Some((&(run, step), outer)) = self.dims.split_last() else { return };
        if let (Some(&(rows, 1)), true) = (outer.last(), step > 1) {
            return self.turn(x, result, [rows, run, step.unsigned_abs()], threads);
        }
        threads.each_chunk(result, CHUNK, 2, |index, result| {
            let mut done = 0;
            while done < result.len() {
                let position = index * CHUNK + done;
                let (row, within) = (position / run, position % run);
                let start = self.at(outer, row).wrapping_add_signed(within as isize * step);
                let part = (run - within).min(result.len() - done);
                let to = &mut result[done..done + part];
                match step {
                    0 => to.fill(x[start]),
                    1 => to.copy_from_slice(&x[start..start + part]),
                    2.. => {
                        let from = x[start..].iter().step_by(step.unsigned_abs());
                        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                    }
                    _ => {
                        let from = x[..=start].iter().rev().step_by(step.unsigned_abs());
                        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                    }
                }
                done += part;
            }
        });
    }
}

impl Window {
    /// Copies matrices of which neighbours in the operand are neighbours along a column of the result: block by block, so
    /// that what is fetched of the operand is used before it leaves the first cache.
    fn turn<T: Pod + Send + Sync>(
        &self,
        x: &[T],
        result: &mut [T],
        [rows, columns, step]: [usize; 3],
        threads: &Threads,
    ) {
        let outer = &self.dims[..self.dims.len() - 2];
        threads.each_chunk(result, TURNED_ROWS * columns, 2, |index, result| {
            let (mut row, end) = (index * TURNED_ROWS, index * TURNED_ROWS + result.len() / columns);
            let mut result = result;
            while row < end {
                let (matrix, within) = (row / rows, row % rows);
                let start = self.at(outer, matrix) + within;
                let height = (rows - within).min(end - row);
                let (to, rest) = result.split_at_mut(height * columns);
                for first in (0..columns).step_by(TURNED_COLUMNS) {
                    for column in first..columns.min(first + TURNED_COLUMNS) {
                        let from = &x[start + column * step..][..height];
                        let to = to[column..].iter_mut().step_by(columns);
                        to.zip(from).for_each(|(to, from)| *to = *from);
                    }
                }
                (result, row) = (rest, row + height);
            }
        });
    }
}

impl Kernel for Window {
    fn run(&self, operands: Sources<'_>, result: &mut [u8], _: &mut [f64], threads: &Threads) {
        match self.bytes {
            1 => self.copy::<u8>(operands.values(0), result, threads),
            2 => self.copy::<u16>(operands.values(0), bytemuck::cast_slice_mut(result), threads),
            4 => self.copy::<u32>(operands.values(0), bytemuck::cast_slice_mut(result), threads),
            _ => self.copy::<u64>(operands.values(0), bytemuck::cast_slice_mut(result), threads),
        }
    }
}

/// Runs of bytes of each operand in turn.
struct Join {
    /// For each operand, the bytes of one run.
    runs: Vec<usize>,
}

impl Kernel for Join {
    fn run(&self, operands: Sources<'_>, result: &mut [u8], _: &mut [f64], threads: &Threads) {
        let row: usize = self.runs.iter().sum();
        threads.each_chunk(result, row, 1, |index, result| {
            let mut rest = result;
            for (operand, &run) in self.runs.iter().enumerate() {
                let (to, after) = rest.split_at_mut(run);
                to.copy_from_slice(&operands.bytes(operand)[index * run..][..run]);
                rest = after;
            }
        });
    }
}

struct Cast {
    from: DType,
    to: DType,
}

/// A value of a type that `cast` takes, from fp64 as the op converts: to floating point rounded to nearest,
/// to integers toward zero and to the nearest that there is, to bool whether it is not 0.
trait Number: Pod + Send + Sync {
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
}

impl Number for f16 {
    fn of(value: f64) -> f16 {
        <f16 as Float>::from_f64(value)
    }
    fn wide(self) -> f64 {
        self.to_f64()
    }
}

impl Number for f32 {
    fn of(value: f64) -> f32 {
        value as f32
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Number for i32 {
    fn of(value: f64) -> i32 {
        value as i32
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

/// A bool.
impl Number for u8 {
    fn of(value: f64) -> u8 {
        u8::from(value != 0.0)
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Cast {
    fn to<A: Number>(&self, x: &[A], result: &mut [u8], threads: &Threads) {
        match self.to {
            DType::Fp16 => convert::<A, f16>(x, bytemuck::cast_slice_mut(result), threads),
            DType::Fp32 => convert::<A, f32>(x, bytemuck::cast_slice_mut(result), threads),
            DType::Int32 => convert::<A, i32>(x, bytemuck::cast_slice_mut(result), threads),
            _ => convert::<A, u8>(x, result, threads),
        }
    }
}

fn convert<A: Number, B: Number>(x: &[A], result: &mut [B], threads: &Threads) {
    threads.each_chunk(result, CHUNK, 4, |index, result| {
        for (to, &from) in result.iter_mut().zip(&x[index * CHUNK..]) {
            *to = B::of(from.wide());
        }
    });
}

impl Kernel for Cast {
    fn run(&self, operands: Sources<'_>, result: &mut [u8], _: &mut [f64], threads: &Threads) {
        match (self.from, self.to) {
            (DType::Fp16, _) => self.to::<f16>(operands.values(0), result, threads),
            (DType::Fp32, _) => self.to::<f32>(operands.values(0), result, threads),
            (DType::Int32, _) => self.to::<i32>(operands.values(0), result, threads),
            _ => self.to::<u8>(operands.values(0), result, threads),
        }
    }
}
