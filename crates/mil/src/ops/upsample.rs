//! Ops that enlarge the last two dimensions by factors.

use crate::eval::{Evaluation, Numbers, collect};
use crate::grad::Pullback;
use crate::ops::rules::{free, known_dims};
use crate::ops::taps::{self, Resampled, Taps, linear, single};
use crate::ops::{Accuracy, Constant, DTypeSet, FLOAT, OpError, Operand, copy, movement};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};

/// Element types of factors.
const FACTOR: DTypeSet = DTypeSet::of(&[DType::Fp32, DType::Int32]);

crate::ops! {
    /// `x [*D, H, W]` as `[*D, ⌊H·h⌋, ⌊W·w⌋]` with the factors `h` and `w`, 1 by default: element `i` along a dimension
    /// is element `⌊i · from / to⌋` of its `from` elements, where `to` is their number in the result. For whole factors,
    /// that repeats each; for others, the sources do not say which is nearest.
    UpsampleNearestNeighbor = upsample_nearest_neighbor(x: Operand[T]; scale_factor_height: Option<Constant>[U],
        scale_factor_width: Option<Constant>[U]) since IOS15 where [T: FLOAT, U: FACTOR]
        { infer: nearest_type, eval: nearest, accuracy: Accuracy::Exact; vjp: nearest_vjp; flops: free }

    /// As `upsample_nearest_neighbor`, from the two neighbours of a place along each dimension, weighted by how near
    /// they are. Element `i` lies at `i · (from − 1) / (to − 1)` with `align_corners`, else at
    /// `(i + ½) · from / to − ½` with `half_pixel_centers`, else at `i · from / to`; beyond the ends, at the end.
    /// `half_pixel_centers` is by default what `align_corners` is not; not both may be true.
    UpsampleBilinear = upsample_bilinear(x: Operand[T]; scale_factor_height: Option<Constant>[U],
        scale_factor_width: Option<Constant>[U], align_corners: bool = true,
        #[since = IOS16] half_pixel_centers: Option<bool>)
        since IOS15 where [T: FLOAT, U: FACTOR]
        since IOS16 where [T: FLOAT, U: FACTOR]
        { infer: bilinear_type, eval: bilinear, accuracy: Accuracy::Sum(1); vjp: bilinear_vjp; flops: bilinear_flops }
}

/// The length of an enlarged dimension, with the arithmetic of fp32, in which factors are given.
fn enlarged(name: &str, factor: Option<&Operand>, length: Dim) -> Result<Dim, OpError> {
    let Some(factor) = factor else { return Ok(length) };
    movement::check_scalar(name, factor)?;
    if factor.value.is_none() {
        return Ok(Dim::Unknown);
    }
    let refused = |number: f64| {
        OpError::rule(name, "must be positive, and not too large").found(format!("found {number}"))
    };
    let number = match factor.numbers()? {
        Numbers::Float(values) => values.first().copied().unwrap_or(f64::NAN),
        Numbers::Integer(values) => {
            let whole = values.first().copied().unwrap_or(0);
            let Some(factor) = u64::try_from(whole).ok().filter(|&factor| factor > 0) else {
                return Err(refused(whole as f64));
            };
            let Dim::Known(length) = length else { return Ok(Dim::Unknown) };
            return length.checked_mul(factor).map(Dim::Known).ok_or_else(|| refused(whole as f64));
        }
    };
    if !(number > 0.0 && number.is_finite()) {
        return Err(refused(number));
    }
    let Dim::Known(length) = length else { return Ok(Dim::Unknown) };
    let enlarged = (number as f32 * length as f32).floor();
    match enlarged < 9e18 && (enlarged >= 1.0 || length == 0) {
        true => Ok(Dim::Known(enlarged as u64)),
        false => Err(refused(number)),
    }
}

fn enlarged_type(
    x: &Operand,
    height: Option<&Operand>,
    width: Option<&Operand>,
) -> Result<Vec<TensorType>, OpError> {
    let mut dims = x.shape().0.clone();
    let [.., _, h, w] = &mut dims[..] else {
        return Err(
            OpError::rule("x", "must have rank 3 or more: [*D, H, W]").found(format!("found {}", x.ty))
        );
    };
    *h = enlarged("scale_factor_height", height, *h)?;
    *w = enlarged("scale_factor_width", width, *w)?;
    movement::result("x", x.dtype(), dims)
}

fn nearest_type(row: &UpsampleNearestNeighbor) -> Result<Vec<TensorType>, OpError> {
    enlarged_type(&row.x, row.scale_factor_height.as_deref(), row.scale_factor_width.as_deref())
}

impl UpsampleNearestNeighbor {
    /// What the elements of the result are made of, where all dimensions are known.
    ///
    /// # Errors
    ///
    /// When the factors do not fit `x`.
    pub fn resampled(&self) -> Result<Resampled<'_>, OpError> {
        let (from, dims) = (known_dims(self.x.shape())?, movement::dims(nearest_type(self))?);
        Ok(Resampled { x: &self.x, along: plane(&from, &dims, nearest_taps)?, dims })
    }
}

/// The element nearest to each of `to`, of `from`.
fn nearest_taps(from: usize, to: usize) -> Result<Vec<Taps>, OpError> {
    let at = |i: usize| ((i as u128 * from as u128 / to as u128) as usize).min(from.saturating_sub(1));
    collect((0..to).map(|i| single(at(i))))
}

fn nearest(row: &UpsampleNearestNeighbor, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(nearest_type(row))?;
    let x = row.x.tensor()?;
    let rank = dims.len();
    let (from, to) = (&x.shape()[rank - 2..], &dims[rank - 2..]);
    let (rows, columns) = (nearest_taps(from[0], to[0])?, nearest_taps(from[1], to[1])?);
    let planes = dims[..rank - 2].iter().product::<usize>();
    let lines = (0..planes).flat_map(|plane| rows.iter().map(move |taps| plane * from[0] + taps[0].0));
    let runs =
        lines.flat_map(|line| columns.iter().map(move |taps| copy::Run::of(line * from[1] + taps[0].0, 1)));
    Ok(vec![copy::read(&[x], &dims, runs)?])
}

impl UpsampleBilinear {
    /// Whether elements have their places at the middles of pixels.
    fn centers(&self) -> Result<bool, OpError> {
        match self.half_pixel_centers {
            Some(true) if self.align_corners => {
                let error = OpError::rule("half_pixel_centers", "must be false with `align_corners`");
                Err(error.found("both are true"))
            }
            Some(given) => Ok(given),
            None => Ok(!self.align_corners),
        }
    }

    /// What the elements of the result are made of, where all dimensions are known.
    ///
    /// # Errors
    ///
    /// When the factors do not fit `x`.
    pub fn resampled(&self) -> Result<Resampled<'_>, OpError> {
        let (from, dims) = (known_dims(self.x.shape())?, movement::dims(bilinear_type(self))?);
        Ok(Resampled { x: &self.x, along: plane(&from, &dims, |from, to| self.taps(from, to))?, dims })
    }

    /// What each of `to` elements is made of, of `from`.
    fn taps(&self, from: usize, to: usize) -> Result<Vec<Taps>, OpError> {
        let centers = self.centers()?;
        let place = |i: usize| match (self.align_corners, centers) {
            (true, _) if to == 1 => 0.0,
            (true, _) => i as f64 * (from as f64 - 1.0) / (to as f64 - 1.0),
            (false, true) => (i as f64 + 0.5) * from as f64 / to as f64 - 0.5,
            (false, false) => i as f64 * from as f64 / to as f64,
        };
        collect((0..to).map(|i| linear(place(i), from)))
    }
}

fn bilinear_type(row: &UpsampleBilinear) -> Result<Vec<TensorType>, OpError> {
    row.centers()?;
    enlarged_type(&row.x, row.scale_factor_height.as_deref(), row.scale_factor_width.as_deref())
}

/// Four multiplications and three additions for each element.
fn bilinear_flops(row: &UpsampleBilinear) -> Option<u64> {
    bilinear_type(row).ok()?.first()?.shape.elements()?.checked_mul(7)
}

/// What each element along the last two dimensions is made of.
fn plane(
    from: &[usize],
    to: &[usize],
    taps: impl Fn(usize, usize) -> Result<Vec<Taps>, OpError>,
) -> Result<Vec<(usize, Vec<Taps>)>, OpError> {
    (from.len() - 2..from.len()).map(|axis| Ok((axis, taps(from[axis], to[axis])?))).collect()
}

fn bilinear(row: &UpsampleBilinear, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let to = movement::dims(bilinear_type(row))?;
    let mut dims = row.x.dims()?.to_vec();
    let along = plane(&dims, &to, |from, to| row.taps(from, to))?;
    let values = taps::weigh(row.x.floats()?, &mut dims, along)?;
    Ok(vec![evaluation.tensor(row.x.dtype(), &to, Numbers::Float(values))?])
}

fn nearest_vjp(row: &UpsampleNearestNeighbor, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    taps::give_back(&row.x, pullback, |from, to| plane(from, to, nearest_taps))
}

fn bilinear_vjp(row: &UpsampleBilinear, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    taps::give_back(&row.x, pullback, |from, to| plane(from, to, |from, to| row.taps(from, to)))
}
