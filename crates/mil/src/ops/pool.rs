//! Pooling: one number for each window of a channel.

use crate::eval::{Evaluation, Numbers, room};
use crate::ops::convolution::{Volume, pads, per_dimension, steps, volume};
use crate::ops::elementwise::larger;
use crate::ops::{Accuracy, FLOAT, OpError, Operand, Row, rules};
use crate::tensor::Tensor;
use crate::types::{Dim, Shape, TensorType};

mod gradient;

crate::ops! {
    /// The largest of each window of `x [n, C, *D]`, over one, two or three spatial dimensions; NaN if any is. Padding
    /// counts as −∞; a window of nothing else is refused. `pad_type` and `pad` are as in `conv`, `strides` are 1 by
    /// default. With `ceil_mode`, a last window may reach beyond the padding.
    MaxPool = max_pool(x: Operand[T], kernel_sizes: Vec<i32>, pad_type: String; strides: Option<Vec<i32>>,
        pad: Option<Vec<i32>>, ceil_mode: bool = false) since IOS15 where [T: FLOAT]
        { infer: pool_type, eval: max_pool, accuracy: Accuracy::Exact; vjp: gradient::max_pool; flops: pool_flops::<_, 1> }

    /// The mean of each window, as `max_pool`. Padding counts as zeros, or with `exclude_padding_from_average` not at
    /// all. What `ceil_mode` adds beyond the padding is never counted, as in PyTorch.
    AvgPool = avg_pool(x: Operand[T], kernel_sizes: Vec<i32>, pad_type: String; strides: Option<Vec<i32>>,
        pad: Option<Vec<i32>>, ceil_mode: bool = false, exclude_padding_from_average: bool = false)
        since IOS15 where [T: FLOAT]
        { infer: pool_type, eval: avg_pool, accuracy: Accuracy::Sum(1); vjp: gradient::avg_pool; flops: pool_flops::<_, 1> }

    /// `√ Σ x²` over each window, as `max_pool`, over one or two spatial dimensions. Padding counts as zeros.
    L2Pool = l2_pool(x: Operand[T], kernel_sizes: Vec<i32>, pad_type: String; strides: Option<Vec<i32>>,
        pad: Option<Vec<i32>>, ceil_mode: bool = false) since IOS15 where [T: FLOAT]
        { infer: pool_type, eval: l2_pool, accuracy: Accuracy::Sum(2); vjp: gradient::l2_pool; flops: pool_flops::<_, 2> }
}

/// A row of pooling.
pub trait Pool: Row {
    /// The windows that it asks for.
    ///
    /// # Errors
    ///
    /// When shapes and parameters do not fit together.
    fn windows(&self) -> Result<PoolWindows<'_>, OpError>;
}

/// Implements [`Pool`]: the most spatial dimensions, and whether a window of padding alone has a meaning.
macro_rules! pooling {
    ($($row:ty, $most:literal, $of_nothing:expr;)*) => {$(
        impl Pool for $row {
            fn windows(&self) -> Result<PoolWindows<'_>, OpError> {
                let of_nothing: fn(&$row) -> bool = $of_nothing;
                let windows = PoolWindows::of(&Given {
                    x: &self.x,
                    kernel_sizes: &self.kernel_sizes,
                    strides: self.strides.as_deref(),
                    pad_type: &self.pad_type,
                    pad: self.pad.as_deref(),
                    ceil_mode: self.ceil_mode,
                }, $most)?;
                if !of_nothing(self) {
                    windows.refuse_nothing()?;
                }
                Ok(windows)
            }
        }
    )*};
}

pooling! {
    MaxPool, 3, |_| false;
    AvgPool, 3, |row| !row.exclude_padding_from_average;
    L2Pool, 2, |_| true;
}

/// What all rows of pooling are given.
struct Given<'a> {
    x: &'a Operand,
    kernel_sizes: &'a [i32],
    strides: Option<&'a [i32]>,
    pad_type: &'a str,
    pad: Option<&'a [i32]>,
    ceil_mode: bool,
}

/// The windows over the spatial dimensions of `x`, one entry per dimension.
#[derive(Debug, Clone)]
pub struct PoolWindows<'a> {
    /// `[n, C, *D]`.
    pub x: &'a Operand,
    /// Elements of a window.
    pub kernel: Vec<u64>,
    /// Distance between neighbouring windows.
    pub strides: Vec<u64>,
    /// Padding before and after; `None` where an unknown length decides it.
    pub pads: Vec<Option<(u64, u64)>>,
    /// `[n, C, *D_out]`.
    pub result: TensorType,
}

impl<'a> PoolWindows<'a> {
    fn of(given: &Given<'a>, most_spatial: usize) -> Result<PoolWindows<'a>, OpError> {
        let x = given.x;
        if !(3..=2 + most_spatial).contains(&x.rank()) {
            let error = OpError::rule("x", format!("must have rank 3 to {}: [n, C, *D]", 2 + most_spatial));
            return Err(error.found(format!("found {}", x.ty)));
        }
        let (spatial, input) = (x.rank() - 2, &x.shape().0[2..]);
        let kernel = per_dimension("kernel_sizes", Some(given.kernel_sizes), spatial)?;
        let strides = per_dimension("strides", given.strides, spatial)?;
        let taps: Vec<Dim> = kernel.iter().copied().map(Dim::Known).collect();
        let pads = pads((given.pad_type, given.pad), input, &taps, &strides, &vec![1; spatial])?;
        if given.ceil_mode {
            check_ceil_mode(given, spatial)?;
        }
        let mut dims = x.shape().0[..2].to_vec();
        for i in 0..spatial {
            dims.push(count(input[i], kernel[i], strides[i], pads[i], given.ceil_mode)?);
        }
        Ok(PoolWindows {
            x,
            kernel,
            strides,
            pads,
            result: TensorType { dtype: x.dtype(), shape: Shape(dims) },
        })
    }

    /// Refuses windows that meet nothing but padding.
    fn refuse_nothing(&self) -> Result<(), OpError> {
        for (i, (&input, &output)) in self.x.shape().0[2..].iter().zip(&self.result.shape.0[2..]).enumerate()
        {
            let (Dim::Known(input), Dim::Known(output), Some((before, _))) = (input, output, self.pads[i])
            else {
                continue;
            };
            let last = output.saturating_sub(1).saturating_mul(self.strides[i]);
            if output > 0 && (self.kernel[i] <= before || last >= before.saturating_add(input)) {
                let message = "a window would lie in the padding alone";
                let found = format!(
                    "found {before} before the dimension of {input}, and windows of {}",
                    self.kernel[i]
                );
                return Err(OpError::rule("kernel_sizes", message).found(found));
            }
        }
        Ok(())
    }

    /// The padding before, in three dimensions.
    fn before(&self) -> Volume {
        steps(&self.pads.iter().map(|pad| pad.map_or(0, |(before, _)| before)).collect::<Vec<_>>(), 0)
    }

    /// Calls `visit` for every result in order, with the places of what its window meets in `x`.
    fn for_each(
        &self,
        evaluation: &mut Evaluation,
        mut visit: impl FnMut([usize; 3], &[usize]) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let dims = rules::known_dims(&self.result.shape)?;
        let (input, output) = (volume(&self.x.dims()?[2..]), volume(&dims[2..]));
        let plane: usize = input.iter().product();
        let taps =
            self.kernel.iter().fold(1u64, |taps, &length| taps.saturating_mul(length)).min(plane as u64);
        let planes = dims[0] * dims[1];
        let places = output.iter().product::<usize>();
        evaluation.charge((planes as u64).saturating_mul(places as u64).saturating_mul(taps))?;
        let (kernel, strides, before) = (steps(&self.kernel, 1), steps(&self.strides, 1), self.before());
        let span = |axis: usize, at: usize| {
            let start = at.saturating_mul(strides[axis]);
            let from = start.saturating_sub(before[axis]).min(input[axis]);
            from..start.saturating_add(kernel[axis]).saturating_sub(before[axis]).clamp(from, input[axis])
        };
        let mut met = room(usize::try_from(taps).unwrap_or(plane))?;
        for index in 0..planes * places {
            let (first, place) = (index / places * plane, index % places);
            let at = [place / (output[1] * output[2]), place / output[2] % output[1], place % output[2]];
            met.clear();
            for i in span(0, at[0]) {
                for j in span(1, at[1]) {
                    let row = first + (i * input[1] + j) * input[2];
                    met.extend(span(2, at[2]).map(|k| row + k));
                }
            }
            visit(at, &met)?;
        }
        Ok(())
    }

    /// One number for each window, from the elements that it meets.
    fn fold(
        &self,
        evaluation: &mut Evaluation,
        number: impl Fn([usize; 3], &mut dyn Iterator<Item = f64>) -> f64,
    ) -> Result<Vec<Tensor>, OpError> {
        let x = self.x.floats()?;
        let dims = rules::known_dims(&self.result.shape)?;
        let mut results = room(dims.iter().product())?;
        self.for_each(evaluation, |at, met| {
            results.push(number(at, &mut met.iter().map(|&position| x[position])));
            Ok(())
        })?;
        Ok(vec![evaluation.tensor(self.result.dtype, &dims, Numbers::Float(results))?])
    }

    /// By how many elements the mean of the window at a place divides.
    fn divisor(&self, at: [usize; 3], input: Volume, exclude_padding: bool) -> f64 {
        let spatial = self.kernel.len();
        let along = |i: usize| {
            let axis = 3 - spatial + i;
            self.counted(i, at[axis] as u64, input[axis] as u64, exclude_padding) as f64
        };
        (0..spatial).map(along).product()
    }

    /// How many elements along a dimension of `length` count for the mean of the windows at a place: those of `x`, and of
    /// the padding too unless that is left out.
    pub fn counted(&self, dimension: usize, at: u64, length: u64, exclude_padding: bool) -> u64 {
        let (before, after) = self.pads[dimension].unwrap_or_default();
        let start = at.saturating_mul(self.strides[dimension]);
        let (from, to) = match exclude_padding {
            true => (before, before + length),
            false => (0, before + length + after),
        };
        start.saturating_add(self.kernel[dimension]).min(to).saturating_sub(start.max(from))
    }
}

/// Refuses what `ceil_mode` does not go with.
fn check_ceil_mode(given: &Given<'_>, spatial: usize) -> Result<(), OpError> {
    let refused = |message: &str| Err(OpError::rule("ceil_mode", message).found("found true"));
    if spatial > 2 {
        return refused("must be false over more than two spatial dimensions");
    }
    if given.pad_type.starts_with("same") {
        return refused("must be false with a `pad_type` of same or same_lower");
    }
    if given.pad.is_some_and(|pad| pad.chunks(2).any(|pair| pair.first() != pair.last())) {
        return refused("must be false where `pad` is not the same before and after a dimension");
    }
    Ok(())
}

/// The number of windows along one dimension.
fn count(input: Dim, kernel: u64, stride: u64, pad: Option<(u64, u64)>, ceil: bool) -> Result<Dim, OpError> {
    let (Dim::Known(input), Some((before, after))) = (input, pad) else { return Ok(Dim::Unknown) };
    let overflow = || OpError::rule("pad", "the padded input is too long");
    let padded = input.checked_add(before).and_then(|sum| sum.checked_add(after)).ok_or_else(overflow)?;
    let Some(rest) = padded.checked_sub(kernel) else {
        return Err(OpError::rule("kernel_sizes", format!("a window has {kernel} elements"))
            .found(format!("the padded input has {padded}")));
    };
    if !ceil {
        return Ok(Dim::Known(rest / stride + 1));
    }
    let windows = rest.div_ceil(stride);
    let last = windows.checked_mul(stride).ok_or_else(overflow)?;
    if last < input.saturating_add(before) {
        return Ok(Dim::Known(windows + 1));
    }
    if before + after == 0 {
        // The documented rule keeps such a window only where nothing is padded, and does not say what it holds.
        let error =
            OpError::rule("ceil_mode", "must be false: a last window would begin beyond the end of `x`");
        return Err(error.found(format!("found strides of {stride}, and windows of {kernel}")));
    }
    Ok(Dim::Known(windows))
}

/// `FACTOR` floating-point operations for each element of each window.
fn pool_flops<R: Pool, const FACTOR: u64>(row: &R) -> Option<u64> {
    let windows = row.windows().ok()?;
    let taps = windows.kernel.iter().try_fold(FACTOR, |taps, &length| taps.checked_mul(length))?;
    windows.result.shape.elements()?.checked_mul(taps)
}

fn pool_type<R: Pool>(row: &R) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![row.windows()?.result])
}

fn max_pool(row: &MaxPool, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    row.windows()?.fold(evaluation, |_, x| x.fold(f64::NEG_INFINITY, larger))
}

fn avg_pool(row: &AvgPool, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let (windows, input) = (row.windows()?, volume(&row.x.dims()?[2..]));
    let exclude = row.exclude_padding_from_average;
    windows.fold(evaluation, |at, x| x.sum::<f64>() / windows.divisor(at, input, exclude))
}

fn l2_pool(row: &L2Pool, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    row.windows()?.fold(evaluation, |_, x| x.map(|x| x * x).sum::<f64>().sqrt())
}
