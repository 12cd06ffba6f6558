//! Ops that enlarge the last two dimensions by factors.

use crate::eval::{Evaluation, Numbers, collect, filled, internal, room};
use crate::grad::Pullback;
use crate::ops::rules::free;
use crate::ops::{Accuracy, Constant, DTypeSet, FLOAT, OpError, Operand, call, copy, movement};
use crate::program::ValueId;
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

/// The elements of a dimension that an element of the result is made of, with their weights.
type Taps = [(usize, f64); 2];

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

/// The element nearest to each of `to`, of `from`.
fn nearest_taps(from: usize, to: usize) -> Result<Vec<Taps>, OpError> {
    let at = |i: usize| ((i as u128 * from as u128 / to as u128) as usize).min(from.saturating_sub(1));
    collect((0..to).map(|i| [(at(i), 1.0), (at(i), 0.0)]))
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

    /// What each of `to` elements is made of, of `from`.
    fn taps(&self, from: usize, to: usize) -> Result<Vec<Taps>, OpError> {
        let centers = self.centers()?;
        let place = |i: usize| match (self.align_corners, centers) {
            (true, _) if to == 1 => 0.0,
            (true, _) => i as f64 * (from as f64 - 1.0) / (to as f64 - 1.0),
            (false, true) => (i as f64 + 0.5) * from as f64 / to as f64 - 0.5,
            (false, false) => i as f64 * from as f64 / to as f64,
        };
        let last = from.saturating_sub(1);
        collect((0..to).map(|i| {
            let place = place(i).clamp(0.0, last as f64);
            let (low, part) = (place.floor() as usize, place.fract());
            [(low, 1.0 - part), ((low + 1).min(last), part)]
        }))
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

fn bilinear(row: &UpsampleBilinear, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(bilinear_type(row))?;
    let x = row.x.floats()?;
    let rank = dims.len();
    let (from, to) = (&row.x.dims()?[rank - 2..], &dims[rank - 2..]);
    let (rows, columns) = (row.taps(from[0], to[0])?, row.taps(from[1], to[1])?);
    let mut values = room(dims.iter().product())?;
    for plane in 0..dims[..rank - 2].iter().product() {
        for down in &rows {
            for across in &columns {
                let mut sum = 0.0;
                for &(i, height) in down {
                    for &(j, width) in across {
                        // What has no weight has no part, not even an infinity.
                        if height * width != 0.0 {
                            sum += height * width * x[(plane * from[0] + i) * from[1] + j];
                        }
                    }
                }
                values.push(sum);
            }
        }
    }
    Ok(vec![evaluation.tensor(row.x.dtype(), &dims, Numbers::Float(values))?])
}

/// The weights `[to, from]` of the elements of a dimension.
fn weights(taps: &[Taps], from: usize) -> Result<Tensor, OpError> {
    let mut values = filled(taps.len() * from, 0.0)?;
    for (i, taps) in taps.iter().enumerate() {
        taps.iter().for_each(|&(at, weight)| values[i * from + at] += weight);
    }
    Tensor::from_f64(DType::Fp32, &[taps.len(), from], &values).map_err(internal)
}

/// `dx = Aᵀ · dy · B` with the weights `A` of rows and `B` of columns, for `y = A · x · Bᵀ`.
fn give_back(
    x: &Operand,
    taps: impl Fn(usize, usize) -> Result<Vec<Taps>, OpError>,
    pullback: &mut Pullback<'_>,
) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let (from, to) = (pullback.dims(x)?, pullback.dims_of(dy)?);
    if from.contains(&0) || to.contains(&0) {
        return Ok(());
    }
    let rank = from.len();
    let rows = weights(&taps(from[rank - 2], to[rank - 2])?, from[rank - 2])?;
    let columns = weights(&taps(from[rank - 1], to[rank - 1])?, from[rank - 1])?;
    let dy: ValueId = pullback.widen(dy)?;
    let across = pullback.bind(call::matmul(dy, columns))?;
    pullback.give(x, call::matmul(rows, across).transpose_x(true))
}

fn nearest_vjp(row: &UpsampleNearestNeighbor, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    give_back(&row.x, nearest_taps, pullback)
}

fn bilinear_vjp(row: &UpsampleBilinear, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    give_back(&row.x, |from, to| row.taps(from, to), pullback)
}
