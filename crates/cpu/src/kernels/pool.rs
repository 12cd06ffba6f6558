//! `max_pool` and `avg_pool`, over one or two dimensions.

use anemone_mil::ops::{AvgPool, MaxPool, OpDef, OpError, Operands, Pool, PoolWindows, Row};

use super::Choice;
use super::convolution::{MOST_STRIDE, before, dimension, is_planar, spatial};
use super::finished::Finished;
use super::planes::{Finish, Fold, Largest, Planes, Total};
use crate::element::is_float;
use crate::gemm::WindowShape;
use crate::threads::Threads;

/// More elements of a window than these are left to the op's meaning, which adds in fp64.
const MOST_TAPS: usize = 4096;

pub(super) fn pool(
    row: &OpDef,
    operands: &Operands<'_>,
    threads: &Threads,
) -> Result<Option<Choice>, OpError> {
    match row.name {
        "max_pool" => {
            let row = MaxPool::bind(operands, row.since)?;
            Ok(choice(Largest, &row.windows()?, threads, |_, _| Some(Finish::None)))
        }
        _ => {
            let row = AvgPool::bind(operands, row.since)?;
            let (windows, exclude) = (row.windows()?, row.exclude_padding_from_average);
            Ok(choice(Total, &windows, threads, |shape, moved| divide(&windows, (shape, moved), exclude)))
        }
    }
}

/// What windows are divided by, which lie so when their dimensions are moved by as many places.
fn divide(
    windows: &PoolWindows<'_>,
    (shape, moved): (&WindowShape, usize),
    exclude_padding: bool,
) -> Option<Finish> {
    let dimensions = windows.kernel.len();
    let along = |axis: usize| -> Vec<f32> {
        let counted = |at: usize| match (axis + dimensions).checked_sub(3 + moved) {
            Some(dimension) => {
                windows.counted(dimension, at as u64, shape.input[axis] as u64, exclude_padding) as f32
            }
            None => 1.0,
        };
        (0..shape.output[axis]).map(counted).collect()
    };
    Some(Finish::Divide { rows: along(1), columns: along(2) })
}

fn choice<F: Fold + 'static>(
    fold: F,
    windows: &PoolWindows<'_>,
    threads: &Threads,
    finish: impl Fn(&WindowShape, usize) -> Option<Finish>,
) -> Option<Choice>
where
    Planes<F>: Finished,
{
    let dtype = Some(windows.result.dtype).filter(|&dtype| is_float(dtype))?;
    let (shape, moved) = window_shape(windows)?.without_last_single();
    if !is_planar(&shape) || shape.strides[2] > MOST_STRIDE {
        return None;
    }
    let taps = shape.kernel[1].checked_mul(shape.kernel[2]).filter(|&taps| taps <= MOST_TAPS);
    let finish = taps.and_then(|_| finish(&shape, moved))?;
    let kernel = Planes::new(fold, (shape, dtype), finish, threads)?;
    Some(Choice::finished(kernel, vec![windows.x.clone()]))
}

/// How the windows lie; `None` where lengths are not known, or no `usize`.
fn window_shape(windows: &PoolWindows<'_>) -> Option<WindowShape> {
    let length = |&length: &u64| usize::try_from(length).ok();
    Some(WindowShape {
        input: spatial(&windows.x.shape().0[2..], 1, dimension)?,
        output: spatial(&windows.result.shape.0[2..], 1, dimension)?,
        kernel: spatial(&windows.kernel, 1, length)?,
        strides: spatial(&windows.strides, 1, length)?,
        dilations: [1; 3],
        before: spatial(&windows.pads, 0, before)?,
    })
}
