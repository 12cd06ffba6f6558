//! Normalisations by sums of squares: of three dimensions together, and of neighbouring channels.

use crate::eval::{Evaluation, Numbers, filled};
use crate::grad::Pullback;
use crate::ops::reduce::Grouping;
use crate::ops::rules::per_element;
use crate::ops::{Accuracy, FLOAT, OpError, Operand, call};
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

crate::ops! {
    /// `x / √(Σ x² + epsilon)` with the sum over the last three dimensions of `x`, which has at least as many; `epsilon`
    /// is 1e-6 by default. From ios17 on it may have another floating-point type than `x`.
    L2Norm = l2_norm(x: Operand[T]; epsilon: Option<f64>[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: l2_norm_type, eval: l2_norm, accuracy: Accuracy::Sum(2); vjp: l2_norm_vjp; flops: per_element::<_, 3> }

    /// `x / (k + alpha / size · Σ x²)^beta` for `x [n, C, *D]` of rank 3 or 4, with the sum over `size` neighbouring
    /// channels at the same place: those of them that there are from `⌊size / 2⌋` before it on. Which side has more where
    /// `size` is even the sources do not say; here it is the one before, as in PyTorch. `alpha` is 1e-4 by default,
    /// `beta` 0.75 and `k` 1. From ios17 on they may have another floating-point type than `x`.
    LocalResponseNorm = local_response_norm(x: Operand[T], size: i32; alpha: Option<f64>[U], beta: Option<f64>[U],
        k: Option<f64>[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: response_type, eval: local_response_norm, accuracy: Accuracy::Sum(4); vjp: response_vjp;
          flops: response_flops }
}

/// The defaults that coremltools passes as fp32, whatever the type of `x`.
const DEFAULT_EPSILON: f32 = 1e-6;
const DEFAULT_ALPHA: f32 = 1e-4;

impl L2Norm {
    /// What is added to the sum of squares.
    pub fn shift(&self) -> f64 {
        self.epsilon.unwrap_or(f64::from(DEFAULT_EPSILON))
    }
}

fn l2_norm_type(row: &L2Norm) -> Result<Vec<TensorType>, OpError> {
    if row.x.rank() >= 3 {
        return Ok(vec![row.x.ty.clone()]);
    }
    Err(OpError::rule("x", "must have at least rank 3").found(format!("found {}", row.x.ty)))
}

fn l2_norm(row: &L2Norm, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    l2_norm_type(row)?;
    let dims = row.x.dims()?;
    let mut values = row.x.floats()?;
    let grouping = Grouping::new(dims, &[dims.len() - 3, dims.len() - 2, dims.len() - 1]);
    let mut norms = grouping.fold(&values, 0.0, |sum, x| sum + x * x)?;
    norms.iter_mut().for_each(|norm| *norm = (*norm + row.shift()).sqrt());
    grouping.for_each(|element, result| values[element] /= norms[result]);
    Ok(vec![evaluation.tensor(row.x.dtype(), dims, Numbers::Float(values))?])
}

/// With `σ = √(Σ x² + ε)`: `dx = (dy − y · Σ y · dy) / σ`. In fp32, since squares may be too large for fp16.
fn l2_norm_vjp(row: &L2Norm, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let sum = |of| call::reduce_sum(of).axes([-3, -2, -1]).keep_dims(true);
    let dy = pullback.dy()?;
    let (dy, x) = (pullback.widen(dy)?, pullback.widen(&row.x)?);
    let squares = pullback.bind(call::square(x))?;
    let sigma = pullback.bind(call::sqrt(call::add(sum(squares), row.shift())))?;
    let y = pullback.bind(call::real_div(x, sigma))?;
    let projection = pullback.bind(call::mul(y, dy))?;
    pullback.give(&row.x, call::real_div(call::sub(dy, call::mul(y, sum(projection))), sigma))
}

impl LocalResponseNorm {
    /// `alpha`, `beta` and `k`.
    pub fn parameters(&self) -> [f64; 3] {
        let alpha = self.alpha.unwrap_or(f64::from(DEFAULT_ALPHA));
        [alpha, self.beta.unwrap_or(0.75), self.k.unwrap_or(1.0)]
    }
}

/// What normalises by neighbouring channels.
struct Response {
    /// Channels that belong to a window.
    size: usize,
    /// How many of them are before the one that is normalised.
    before: usize,
    alpha: f64,
    beta: f64,
    k: f64,
}

impl Response {
    fn of(row: &LocalResponseNorm) -> Result<Response, OpError> {
        let size = usize::try_from(row.size).ok().filter(|&size| size > 0);
        let size = size.ok_or_else(|| {
            OpError::rule("size", "must be at least 1").found(format!("found {}", row.size))
        })?;
        let [alpha, beta, k] = row.parameters();
        Ok(Response { size, before: size / 2, alpha, beta, k })
    }

    /// What the sum of squares is multiplied by.
    fn scale(&self) -> f64 {
        self.alpha / self.size as f64
    }

    /// The channels, of so many, in the window of one of them.
    fn window(&self, channel: usize, channels: usize) -> std::ops::Range<usize> {
        let first = channel.saturating_sub(self.before);
        first..(channel + self.size - self.before).min(channels)
    }
}

fn response_type(row: &LocalResponseNorm) -> Result<Vec<TensorType>, OpError> {
    Response::of(row)?;
    if (3..=4).contains(&row.x.rank()) {
        return Ok(vec![row.x.ty.clone()]);
    }
    Err(OpError::rule("x", "must have rank 3 or 4: [n, C, *D]").found(format!("found {}", row.x.ty)))
}

/// A multiply-add for each channel of a window, and the power.
fn response_flops(row: &LocalResponseNorm) -> Option<u64> {
    let channels = row.x.shape().0.get(1)?.known()?;
    let window = channels.min(u64::try_from(row.size).ok()?);
    row.x.shape().elements()?.checked_mul(window.checked_mul(2)?.checked_add(3)?)
}

fn local_response_norm(row: &LocalResponseNorm, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    response_type(row)?;
    let response = Response::of(row)?;
    let dims = row.x.dims()?;
    let (channels, places) = (dims[1], dims[2..].iter().product::<usize>());
    let mut values = row.x.floats()?;
    evaluation.charge((values.len() as u64).saturating_mul(response.size.min(channels) as u64))?;
    let mut sums = filled(if values.is_empty() { 0 } else { channels * places }, 0.0)?;
    for image in values.chunks_exact_mut((channels * places).max(1)) {
        sums.fill(0.0);
        for (channel, sums) in sums.chunks_exact_mut(places).enumerate() {
            for other in response.window(channel, channels) {
                let squares = image[other * places..(other + 1) * places].iter().map(|x| x * x);
                sums.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
            }
        }
        for (x, sum) in image.iter_mut().zip(&sums) {
            *x /= (response.k + response.scale() * sum).powf(response.beta);
        }
    }
    Ok(vec![evaluation.tensor(row.x.dtype(), dims, Numbers::Float(values))?])
}

/// The matrix `[C, C]` that has 1 where the second channel is in the window of the first.
fn windows(pullback: &mut Pullback<'_>, response: &Response, channels: usize) -> Result<ValueId, OpError> {
    let cells = channels.checked_mul(channels);
    let cells = cells.ok_or_else(|| OpError::rule("x", "has too many channels for the gradient"))?;
    let mut matrix = filled(cells, 0.0)?;
    for channel in 0..channels {
        let line = &mut matrix[channel * channels..(channel + 1) * channels];
        line[response.window(channel, channels)].fill(1.0);
    }
    let matrix = Tensor::from_f64(DType::Fp32, &[channels, channels], &matrix);
    pullback.value(matrix.map_err(crate::eval::internal)?)
}

/// With `s = k + alpha / size · W x²`, where the matrix `W` adds up windows: `dx = dy · s^−β −
/// 2 · alpha · beta / size · x · Wᵀ(dy · x · s^(−β − 1))`. In fp32, since squares may be too large for fp16.
fn response_vjp(row: &LocalResponseNorm, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let response = Response::of(row)?;
    let dims = pullback.dims(&row.x)?;
    if dims.contains(&0) {
        return Ok(());
    }
    let flat = [dims[0], dims[1], dims[2..].iter().product()];
    let dy = pullback.dy()?;
    let (dy, x) = (pullback.widen(dy)?, pullback.widen(&row.x)?);
    let (dy, x) = (pullback.reshape(dy, &flat)?, pullback.reshape(x, &flat)?);
    let windows = windows(pullback, &response, dims[1])?;
    let squares = call::matmul(windows, call::square(x));
    let s = pullback.bind(call::add(call::mul(squares, response.scale()), response.k))?;
    let power = pullback.bind(call::pow(s, -response.beta))?;
    let parts = call::real_div(call::mul(call::mul(dy, x), power), s);
    let gathered = call::matmul(windows, parts).transpose_x(true);
    let through = call::mul(call::mul(x, gathered), -2.0 * response.beta * response.scale());
    let dx = pullback.bind(call::add(call::mul(dy, power), through))?;
    let dx = pullback.reshape(dx, &dims)?;
    pullback.give(&row.x, dx)
}
