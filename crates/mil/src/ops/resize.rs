//! Ops that resize the last dimensions to given lengths.

use crate::eval::{Evaluation, Numbers, collect};
use crate::grad::Pullback;
use crate::ops::taps::{self, Resampled, SamplingMode, Taps, linear, single};
use crate::ops::{Accuracy, Constant, DTypeSet, FLOAT, NUMBER, OpError, Operand, copy, movement, rules};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};

/// Element types of the shape that `resize` takes.
const SHAPE: DTypeSet = DTypeSet::of(&[DType::Int16, DType::Int32, DType::UInt16, DType::UInt32]);
/// The element type of the number of dimensions that it resizes.
const COUNT: DTypeSet = DTypeSet::of(&[DType::UInt32]);

crate::ops! {
    /// `x [*D, H, W]` as `[*D, target_size_height, target_size_width]`: element `i` along a dimension is the one of `x` in
    /// which the middle of its pixel lies, `⌊(i + ½) · from / to⌋` of `from` elements, where `to` is their number in the
    /// result; as PyTorch's `nearest-exact`.
    ///
    /// Which element is nearest, coremltools' documentation does not say; its converter takes the op for TensorFlow's
    /// with `half_pixel_centers`, and its tests of `resize` hold only so.
    ResizeNearestNeighbor = resize_nearest_neighbor(x: Operand[T], target_size_height: i32, target_size_width: i32)
        since IOS15 where [T: FLOAT]
        { infer: |row| row.resizing()?.ty(), eval: |row, evaluation| row.resizing()?.evaluate(evaluation),
          accuracy: Accuracy::Exact; vjp: |row, pullback| row.resizing()?.give_back(pullback);
          flops: |row| row.resizing().ok()?.flops() }

    /// `x [*D, H, W]` as `[*D, target_size_height, target_size_width]`, both 1 by default: an element is made of the two
    /// neighbours of its place along each dimension, weighted by how near they are. Where element `i` of `to` lies among
    /// `from` elements, `sampling_mode` says:
    ///
    /// | mode | place, no less than 0, no more than `from − 1` |
    /// |---|---|
    /// | `STRICT_ALIGN_CORNERS` | `i · (from − 1) / (to − 1)`, or 0 where `to` is 1 |
    /// | `ALIGN_CORNERS` | the same, but `(from − 1) / 2` where `to` is 1 |
    /// | `DEFAULT` | `i · from / to` |
    /// | `OFFSET_CORNERS` | `(i + ½) · max(1, from − 1) / to` |
    /// | `UNALIGN_CORNERS` | `(i + ½) · from / to − ½` |
    ResizeBilinear = resize_bilinear(x: Operand[T]; target_size_height: i32 = 1, target_size_width: i32 = 1,
        sampling_mode: String = "DEFAULT") since IOS15 where [T: FLOAT]
        { infer: |row| row.resizing()?.ty(), eval: |row, evaluation| row.resizing()?.evaluate(evaluation),
          accuracy: Accuracy::Sum(1); vjp: |row, pullback| row.resizing()?.give_back(pullback);
          flops: |row| row.resizing().ok()?.flops() }

    /// `x` with its last `resized_dims` dimensions resized to the last of `shape`, where 0 stands for the length that the
    /// dimension has; `shape` has no more entries than `x` dimensions.
    ///
    /// With the `interpolation_mode` `LINEAR`, which is the default, as `resize_bilinear`, over any number of dimensions;
    /// what this makes of integers is rounded to the nearest, ties to even, of which the sources say nothing. With
    /// `NEAREST_NEIGHBOR` and the `DEFAULT` `sampling_mode`, as `resize_nearest_neighbor`. With another one, of which they
    /// say nothing either, an element is the one nearest to its place as `resize_bilinear` has it, of two the later.
    Resize = resize(x: Operand[T], shape: Operand[U], resized_dims: Constant[R];
        interpolation_mode: String = "LINEAR", sampling_mode: String = "DEFAULT")
        since IOS17 where [T: NUMBER, U: SHAPE, R: COUNT]
        { infer: |row| row.resizing()?.ty(), eval: |row, evaluation| row.resizing()?.evaluate(evaluation),
          accuracy: Accuracy::Sum(1); vjp: |row, pullback| row.resizing()?.give_back(pullback);
          flops: |row| row.resizing().ok()?.flops() }
}

/// How the elements of a resized dimension are chosen.
#[derive(Clone, Copy)]
enum Interpolation {
    Nearest(SamplingMode),
    Linear(SamplingMode),
}

impl Interpolation {
    /// What each of `to` elements is made of, of `from`.
    fn taps(self, from: usize, to: usize) -> Result<Vec<Taps>, OpError> {
        let last = from.saturating_sub(1);
        let place = |mode: SamplingMode, i: usize| mode.place(i, to, [0.0, last as f64]);
        collect((0..to).map(|i| match self {
            Interpolation::Linear(mode) => linear(place(mode, i), from),
            Interpolation::Nearest(SamplingMode::Default | SamplingMode::UnalignCorners) => {
                let middle = (2 * i as u128 + 1) * from as u128 / (2 * to as u128);
                single((middle as usize).min(last))
            }
            Interpolation::Nearest(mode) => single(((place(mode, i) + 0.5).floor() as usize).min(last)),
        }))
    }
}

/// Which dimensions of `x` are resized, to which lengths, and how.
struct Resizing<'a> {
    x: &'a Operand,
    /// The lengths of the last dimensions, each with the parameter that asks for it.
    lengths: Vec<(&'static str, Dim)>,
    interpolation: Interpolation,
}

impl ResizeNearestNeighbor {
    fn resizing(&self) -> Result<Resizing<'_>, OpError> {
        let interpolation = Interpolation::Nearest(SamplingMode::Default);
        plane(&self.x, self.target_size_height, self.target_size_width, interpolation)
    }
}

impl ResizeBilinear {
    fn resizing(&self) -> Result<Resizing<'_>, OpError> {
        let interpolation = Interpolation::Linear(SamplingMode::named(&self.sampling_mode)?);
        plane(&self.x, self.target_size_height, self.target_size_width, interpolation)
    }
}

/// The last two dimensions of `x` resized.
fn plane(
    x: &Operand,
    height: i32,
    width: i32,
    interpolation: Interpolation,
) -> Result<Resizing<'_>, OpError> {
    if x.rank() < 3 {
        let error = OpError::rule("x", "must have rank 3 or more: [*D, H, W]");
        return Err(error.found(format!("found {}", x.ty)));
    }
    let lengths = vec![
        ("target_size_height", movement::positive("target_size_height", height)?),
        ("target_size_width", movement::positive("target_size_width", width)?),
    ];
    Ok(Resizing { x, lengths, interpolation })
}

impl Resize {
    /// How many of the last dimensions are resized.
    ///
    /// # Errors
    ///
    /// When the parameters do not fit `x`.
    pub fn dimensions(&self) -> Result<usize, OpError> {
        Ok(self.lengths()?.len())
    }

    fn resizing(&self) -> Result<Resizing<'_>, OpError> {
        let mode = SamplingMode::named(&self.sampling_mode)?;
        let interpolation = match self.interpolation_mode.as_str() {
            "LINEAR" => Interpolation::Linear(mode),
            "NEAREST_NEIGHBOR" => Interpolation::Nearest(mode),
            other => {
                return Err(OpError::rule("interpolation_mode", "must be LINEAR or NEAREST_NEIGHBOR")
                    .found(format!("found \"{other}\"")));
            }
        };
        Ok(Resizing { x: &self.x, lengths: self.lengths()?, interpolation })
    }

    /// The lengths of the last dimensions of the result.
    fn lengths(&self) -> Result<Vec<(&'static str, Dim)>, OpError> {
        let (rank, given) = (self.x.rank(), movement::integers("shape", &self.shape, None)?);
        let entries = given.as_ref().map(Vec::len).or(self.shape.shape().to_known().map(|dims| dims[0]));
        if let Some(entries) = entries.filter(|&entries| entries > rank) {
            return Err(OpError::rule(
                "shape",
                format!("must have at most {rank} entries, as `x` dimensions"),
            )
            .found(format!("found {entries}")));
        }
        let count = movement::constant_scalar("resized_dims", &self.resized_dims)?;
        let most = entries.unwrap_or(rank);
        let count = usize::try_from(count).ok().filter(|&count| count <= most).ok_or_else(|| {
            OpError::rule("resized_dims", format!("must be at most {most}, the entries of `shape`"))
                .found(format!("found {count}"))
        })?;
        let Some(given) = given else { return Ok(vec![("shape", Dim::Unknown); count]) };
        let own = &self.x.shape().0[rank - count..];
        let lengths = given[given.len() - count..].iter().zip(own).map(|(&length, &own)| match length {
            0 => Ok(("shape", own)),
            _ => u64::try_from(length).map(|length| ("shape", Dim::Known(length))).map_err(|_| {
                OpError::rule("shape", "must have no negative entries").found(format!("found {length}"))
            }),
        });
        lengths.collect()
    }
}

macro_rules! resampled {
    ($($row:ty),*) => {$(
        impl $row {
            /// What the elements of the result are made of, where all dimensions are known.
            ///
            /// # Errors
            ///
            /// When the parameters do not fit `x`.
            pub fn resampled(&self) -> Result<Resampled<'_>, OpError> {
                self.resizing()?.resampled()
            }
        }
    )*};
}

resampled!(ResizeNearestNeighbor, ResizeBilinear, Resize);

impl<'a> Resizing<'a> {
    fn resampled(&self) -> Result<Resampled<'a>, OpError> {
        let (from, dims) = (rules::known_dims(self.x.shape())?, movement::dims(self.ty())?);
        Ok(Resampled { x: self.x, along: self.along(&from, &dims)?, dims })
    }

    /// The first dimension that is resized.
    fn first(&self) -> usize {
        self.x.rank() - self.lengths.len()
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let mut dims = self.x.shape().0.clone();
        let first = self.first();
        for (dim, &(parameter, length)) in dims[first..].iter_mut().zip(&self.lengths) {
            if *dim == Dim::Known(0) && length.known().is_some_and(|length| length > 0) {
                return Err(OpError::rule(parameter, "there is no element to make others of")
                    .found(format!("found {length} for {}", self.x.ty)));
            }
            *dim = length;
        }
        movement::result(self.lengths.first().map_or("x", |length| length.0), self.x.dtype(), dims)
    }

    /// What each element along the resized dimensions is made of.
    fn along(&self, from: &[usize], to: &[usize]) -> Result<Vec<(usize, Vec<Taps>)>, OpError> {
        let axes = self.first()..self.x.rank();
        axes.map(|axis| Ok((axis, self.interpolation.taps(from[axis], to[axis])?))).collect()
    }

    fn evaluate(&self, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let to = movement::dims(self.ty())?;
        let mut dims = self.x.dims()?.to_vec();
        let along = self.along(&dims, &to)?;
        if let Interpolation::Nearest(_) = self.interpolation {
            return Ok(vec![chosen(self.x.tensor()?, &to, &along)?]);
        }
        let values = taps::weigh(self.x.floats()?, &mut dims, along)?;
        let numbers = match self.x.dtype().is_float() {
            true => Numbers::Float(values),
            false => {
                Numbers::Integer(collect(values.into_iter().map(|value| value.round_ties_even() as i64))?)
            }
        };
        Ok(vec![evaluation.tensor(self.x.dtype(), &to, numbers)?])
    }

    /// A multiplication for each neighbour, and the additions, of each element of the result.
    fn flops(&self) -> Option<u64> {
        let Interpolation::Linear(_) = self.interpolation else { return Some(0) };
        let neighbours = 1u64.checked_shl(self.lengths.len() as u32)?;
        self.ty().ok()?.first()?.shape.elements()?.checked_mul(2 * neighbours - 1)
    }

    fn give_back(&self, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
        taps::give_back(self.x, pullback, |from, to| self.along(from, to))
    }
}

/// The elements of `x` that single taps along some axes choose.
fn chosen(x: &Tensor, to: &[usize], along: &[(usize, Vec<Taps>)]) -> Result<Tensor, OpError> {
    let mut positions = vec![0usize];
    for (axis, (&from, &length)) in x.shape().iter().zip(to).enumerate() {
        let taps = along.iter().find(|(other, _)| *other == axis).map(|(_, taps)| taps);
        let mut next = crate::eval::room(positions.len() * length)?;
        for position in positions {
            next.extend((0..length).map(|i| position * from + taps.map_or(i, |taps| taps[i][0].0)));
        }
        positions = next;
    }
    copy::read(&[x], to, positions.into_iter().map(|position| copy::Run::of(position, 1)))
}
