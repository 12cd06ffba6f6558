//! Ops that move elements between channels and the plane of `[n, C, H, W]`.

use crate::grad::Pullback;
use crate::ops::copy::Moved;
use crate::ops::rules::{self, free};
use crate::ops::{Accuracy, Constant, DTypeSet, FLOAT, OpError, Operand, call, movement};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};

/// The element type of the factor of `pixel_unshuffle`.
const FACTOR: DTypeSet = DTypeSet::of(&[DType::UInt32]);

crate::ops! {
    /// `x [n, C·f², H, W]` as `[n, C, H·f, W·f]`: the `f²` channels that follow one another become a square of `f` by
    /// `f`, row by row; as PyTorch's `PixelShuffle`.
    PixelShuffle = pixel_shuffle(x: Operand[T], upscale_factor: i32) since IOS15 where [T: FLOAT]
        { infer: |row| row.ty(), eval: |row, _| row.evaluate(), accuracy: Accuracy::Exact; vjp: pixel_shuffle_vjp; flops: free }

    /// `x [n, C, H·f, W·f]` as `[n, C·f², H, W]`, the inverse of `pixel_shuffle`.
    PixelUnshuffle = pixel_unshuffle(x: Operand[T], downscale_factor: Constant[F]) since IOS16 where [T: FLOAT, F: FACTOR]
        { infer: |row| row.ty(), eval: |row, _| row.evaluate(), accuracy: Accuracy::Exact; vjp: pixel_unshuffle_vjp; flops: free }

    /// `x [n, C·b², H, W]` as `[n, C, H·b, W·b]` with `b = block_size`: channels `C` apart become a square of `b` by `b`,
    /// row by row; as TensorFlow's `depth_to_space`.
    DepthToSpace = depth_to_space(x: Operand[T], block_size: i32) since IOS15 where [T: FLOAT]
        { infer: |row| row.ty(), eval: |row, _| row.evaluate(), accuracy: Accuracy::Exact; vjp: depth_to_space_vjp; flops: free }

    /// `x [n, C, H·b, W·b]` as `[n, C·b², H, W]`, the inverse of `depth_to_space`.
    SpaceToDepth = space_to_depth(x: Operand[T], block_size: i32) since IOS15 where [T: FLOAT]
        { infer: |row| row.ty(), eval: |row, _| row.evaluate(), accuracy: Accuracy::Exact; vjp: space_to_depth_vjp; flops: free }
}

/// A row that moves squares of elements into channels, or back.
trait Squares {
    /// Whether channels become squares.
    const TO_SPACE: bool;
    /// Whether the channels of a square follow one another.
    const TOGETHER: bool;
    /// The parameter that says how long the side of a square is.
    const SIDE: &'static str;
    /// The least side.
    const LEAST: i64;
    fn x(&self) -> &Operand;
    fn given_side(&self) -> Result<i64, OpError>;

    /// The side of a square.
    fn side(&self) -> Result<u64, OpError> {
        let side = self.given_side()?;
        // Its square must not overflow.
        u64::try_from(side).ok().filter(|_| (Self::LEAST..=i64::from(i32::MAX)).contains(&side)).ok_or_else(
            || {
                OpError::rule(Self::SIDE, format!("must be at least {}", Self::LEAST))
                    .found(format!("found {side}"))
            },
        )
    }

    /// The type of the result.
    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let (x, side) = (self.x(), self.side()?);
        let [n, c, h, w] = x.shape().0[..] else {
            return Err(OpError::rule("x", "must have rank 4: [n, C, H, W]").found(format!("found {}", x.ty)));
        };
        let divide = |dim: Dim, by: u64| match dim {
            Dim::Known(length) if length % by != 0 => {
                let message =
                    format!("does not fit `x`: a dimension of {length} has no {by} parts of one length");
                Err(OpError::rule(Self::SIDE, message).found(format!("found {side} for {}", x.ty)))
            }
            Dim::Known(length) => Ok(Dim::Known(length / by)),
            Dim::Unknown => Ok(Dim::Unknown),
        };
        let multiply = |dim: Dim, by: u64| match dim.known() {
            Some(length) => length.checked_mul(by).map(Dim::Known).ok_or_else(|| {
                OpError::rule(Self::SIDE, "the result is too large").found(format!("found {side}"))
            }),
            None => Ok(Dim::Unknown),
        };
        let dims = match Self::TO_SPACE {
            true => vec![n, divide(c, side * side)?, multiply(h, side)?, multiply(w, side)?],
            false => vec![n, multiply(c, side * side)?, divide(h, side)?, divide(w, side)?],
        };
        movement::result(Self::SIDE, x.dtype(), dims)
    }

    /// The result.
    fn evaluate(&self) -> Result<Vec<Tensor>, OpError> {
        let dims = movement::dims(self.ty())?;
        Ok(vec![self.elements()?.read(self.x().tensor()?, &dims)?])
    }

    /// The elements in the result's order, of an `x` whose dimensions are known.
    fn elements(&self) -> Result<Moved, OpError> {
        let dims = movement::dims(self.ty())?;
        let (side, from) = (self.side()? as usize, rules::known_dims(self.x().shape())?);
        // In the order of `order`, the dimensions of `x` split at its squares are those of the result.
        let (split, order) = match (Self::TO_SPACE, Self::TOGETHER) {
            (true, true) => ([from[0], dims[1], side, side, from[2], from[3]], [0, 1, 4, 2, 5, 3]),
            (true, false) => ([from[0], side, side, dims[1], from[2], from[3]], [0, 3, 4, 1, 5, 2]),
            (false, true) => ([from[0], from[1], dims[2], side, dims[3], side], [0, 1, 3, 5, 2, 4]),
            (false, false) => ([from[0], from[1], dims[2], side, dims[3], side], [0, 3, 5, 1, 2, 4]),
        };
        let strides = rules::strides(&split);
        let (dims, steps) = order.iter().map(|&i| (split[i], strides[i] as isize)).unzip();
        Ok(Moved { start: 0, dims, steps })
    }
}

macro_rules! squares {
    ($($row:ty, $side:ident, $to_space:literal, $together:literal, $least:literal, $read:expr;)*) => {$(
        impl Squares for $row {
            const TO_SPACE: bool = $to_space;
            const TOGETHER: bool = $together;
            const SIDE: &'static str = stringify!($side);
            const LEAST: i64 = $least;
            fn x(&self) -> &Operand {
                &self.x
            }
            fn given_side(&self) -> Result<i64, OpError> {
                let read: fn(&$row) -> Result<i64, OpError> = $read;
                read(self)
            }
        }

        impl $row {
            /// The elements in the result's order, of an `x` whose dimensions are known.
            ///
            /// # Errors
            ///
            /// When the factor does not fit them.
            pub fn moved(&self) -> Result<Moved, OpError> {
                self.elements()
            }
        }
    )*};
}

squares! {
    PixelShuffle, upscale_factor, true, true, 1, |row| Ok(row.upscale_factor.into());
    PixelUnshuffle, downscale_factor, false, true, 1, |row| movement::constant_scalar("downscale_factor", &row.downscale_factor);
    DepthToSpace, block_size, true, false, 2, |row| Ok(row.block_size.into());
    SpaceToDepth, block_size, false, false, 2, |row| Ok(row.block_size.into());
}

fn depth_to_space_vjp(row: &DepthToSpace, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::space_to_depth(dy, row.block_size))
}

fn space_to_depth_vjp(row: &SpaceToDepth, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::depth_to_space(dy, row.block_size))
}

/// With one channel in each image, both orders of channels are one; ios15 has no `pixel_unshuffle`.
fn pixel_shuffle_vjp(row: &PixelShuffle, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, dims) = (pullback.dy()?, pullback.dims(&row.x)?);
    if row.upscale_factor == 1 || dims.contains(&0) {
        return pullback.give(&row.x, dy);
    }
    let result = rules::known_dims(&row.ty()?[0].shape)?;
    let dy = pullback.reshape(dy, &[result[0] * result[1], 1, result[2], result[3]])?;
    let dx = pullback.bind(call::space_to_depth(dy, row.upscale_factor))?;
    let dx = pullback.reshape(dx, &dims)?;
    pullback.give(&row.x, dx)
}

/// As that of `pixel_shuffle`.
fn pixel_unshuffle_vjp(row: &PixelUnshuffle, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, dims) = (pullback.dy()?, pullback.dims(&row.x)?);
    let side = row.side()? as i32;
    if side == 1 || dims.contains(&0) {
        return pullback.give(&row.x, dy);
    }
    let result = rules::known_dims(&row.ty()?[0].shape)?;
    let channels = result[1] / dims[1];
    let dy = pullback.reshape(dy, &[dims[0] * dims[1], channels, result[2], result[3]])?;
    let dx = pullback.bind(call::depth_to_space(dy, side))?;
    let dx = pullback.reshape(dx, &dims)?;
    pullback.give(&row.x, dx)
}
