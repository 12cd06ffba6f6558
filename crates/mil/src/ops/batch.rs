//! Ops that move elements between the batch and the plane of `[n, C, H, W]`.

use crate::error::ErrorKind;
use crate::eval::room;
use crate::grad::Pullback;
use crate::ops::copy::{self, Run};
use crate::ops::rules::free;
use crate::ops::{Accuracy, Constant, FLOAT, INT32, OpError, Operand, call, movement};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};

crate::ops! {
    /// `x [n·b·d, C, H, W]` as `[n, C, H·b, W·d]` with `[b, d] = block_shape`, less what `crops`, `[[top, bottom], [left,
    /// right]]`, takes from the edges: images `n` apart become the blocks of `b` by `d` of one, row by row; as
    /// TensorFlow's `batch_to_space`.
    BatchToSpace = batch_to_space(x: Operand[T], block_shape: Vec<i32>, crops: Constant[I]) since IOS15
        where [T: FLOAT, I: INT32]
        { infer: |row| row.blocks()?.ty(), eval: |row, _| row.blocks()?.evaluate(), accuracy: Accuracy::Exact;
          vjp: batch_to_space_vjp; flops: free }

    /// `x [n, C, H, W]`, with zeros around it as `paddings`, `[[top, bottom], [left, right]]`, says, as `[n·b·d, C, H/b,
    /// W/d]`; without them, the inverse of `batch_to_space`.
    SpaceToBatch = space_to_batch(x: Operand[T], block_shape: Vec<i32>, paddings: Constant[I]) since IOS15
        where [T: FLOAT, I: INT32]
        { infer: |row| row.blocks()?.ty(), eval: |row, _| row.blocks()?.evaluate(), accuracy: Accuracy::Exact;
          vjp: space_to_batch_vjp; flops: free }
}

/// What either op asks for.
struct Blocks<'a> {
    x: &'a Operand,
    /// Whether images become blocks.
    to_space: bool,
    /// The sides of a block.
    sides: [u64; 2],
    /// Before and behind, for rows and for columns: what is taken from the edges, or put there.
    edges: [[u64; 2]; 2],
    /// The parameter that says so.
    parameter: &'static str,
}

impl BatchToSpace {
    fn blocks(&self) -> Result<Blocks<'_>, OpError> {
        Blocks::new(&self.x, true, &self.block_shape, ("crops", &self.crops))
    }
}

impl SpaceToBatch {
    fn blocks(&self) -> Result<Blocks<'_>, OpError> {
        Blocks::new(&self.x, false, &self.block_shape, ("paddings", &self.paddings))
    }
}

impl<'a> Blocks<'a> {
    fn new(
        x: &'a Operand,
        to_space: bool,
        block_shape: &[i32],
        (parameter, edges): (&'static str, &Operand),
    ) -> Result<Blocks<'a>, OpError> {
        if x.rank() != 4 {
            return Err(OpError::rule("x", "must have rank 4: [n, C, H, W]").found(format!("found {}", x.ty)));
        }
        let sides: Vec<u64> = block_shape
            .iter()
            .filter_map(|&side| u64::try_from(side).ok())
            .filter(|&side| side > 0)
            .collect();
        let &[b, d] = &sides[..] else {
            return Err(OpError::rule("block_shape", "must hold two lengths of at least 1")
                .found(format!("found {block_shape:?}")));
        };
        let shape = crate::types::Shape::known(&[2, 2]);
        if !edges.shape().agrees_with(&shape) {
            return Err(OpError::rule(parameter, format!("must have the shape {shape}"))
                .found(format!("found {}", edges.shape())));
        }
        let values = edges.value.as_ref().and_then(|value| value.to_i64()).ok_or_else(|| {
            OpError::new(ErrorKind::NotConstant, Some(parameter), "must be a constant whose value is written")
        })?;
        let lengths: Vec<u64> = values.iter().filter_map(|&length| u64::try_from(length).ok()).collect();
        let &[top, bottom, left, right] = &lengths[..] else {
            return Err(OpError::rule(parameter, "must not be negative").found(format!("found {values:?}")));
        };
        Ok(Blocks { x, to_space, sides: [b, d], edges: [[top, bottom], [left, right]], parameter })
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let dims = &self.x.shape().0;
        let count = self.sides[0] * self.sides[1];
        let mut result = vec![self.images(dims[0], count)?, dims[1]];
        for (i, &dim) in dims[2..].iter().enumerate() {
            result.push(match dim {
                Dim::Known(length) => Dim::Known(self.length(length, i)?),
                Dim::Unknown => Dim::Unknown,
            });
        }
        movement::result("block_shape", self.x.dtype(), result)
    }

    /// The number of images in the result.
    fn images(&self, images: Dim, count: u64) -> Result<Dim, OpError> {
        let Dim::Known(images) = images else { return Ok(Dim::Unknown) };
        let there = match self.to_space {
            true if !images.is_multiple_of(count) => {
                return Err(OpError::rule("block_shape", format!("its product must divide {images}"))
                    .found(format!("found {count}")));
            }
            true => Some(images / count),
            false => images.checked_mul(count),
        };
        there.map(Dim::Known).ok_or_else(|| OpError::rule("block_shape", "the result is too large"))
    }

    /// The length of the rows or columns of the result.
    fn length(&self, length: u64, i: usize) -> Result<u64, OpError> {
        let (side, edges) = (self.sides[i], self.edges[i][0] + self.edges[i][1]);
        let too_large = || OpError::rule("block_shape", "the result is too large");
        if self.to_space {
            let whole = length.checked_mul(side).ok_or_else(too_large)?;
            return whole.checked_sub(edges).ok_or_else(|| {
                OpError::rule(self.parameter, format!("leave nothing of {whole}"))
                    .found(format!("they take {edges}"))
            });
        }
        let whole = length.checked_add(edges).ok_or_else(too_large)?;
        if !whole.is_multiple_of(side) {
            return Err(OpError::rule("block_shape", format!("must divide the padded length, {whole}"))
                .found(format!("found {side}")));
        }
        Ok(whole / side)
    }

    fn evaluate(&self) -> Result<Vec<Tensor>, OpError> {
        let dims = movement::dims(self.ty())?;
        let x = self.x.tensor()?;
        let zero = Tensor::zeros(x.dtype(), &[])
            .ok_or_else(|| OpError::rule("x", "a zero does not fit in memory"))?;
        let [rows, columns] = [x.shape()[2], x.shape()[3]];
        let mut runs = room(dims.iter().product())?;
        for image in 0..dims[0] {
            for channel in 0..dims[1] {
                for (i, j) in (0..dims[2]).flat_map(|i| (0..dims[3]).map(move |j| (i, j))) {
                    let from = self.source(image, [i, j], [dims[0], x.shape()[0]]);
                    let inside = |&[_, row, column]: &[usize; 3]| row < rows && column < columns;
                    runs.push(match from.filter(inside) {
                        Some([image, row, column]) => {
                            Run::of(((image * dims[1] + channel) * rows + row) * columns + column, 1)
                        }
                        None => Run { source: 1, ..Run::of(0, 1) },
                    });
                }
            }
        }
        Ok(vec![copy::read(&[x, &zero], &dims, runs.into_iter())?])
    }

    /// The image, row and column of `x` that an element of the result is taken from; `None` where it lies in the padding
    /// before it.
    fn source(&self, image: usize, [i, j]: [usize; 2], [images, x_images]: [usize; 2]) -> Option<[usize; 3]> {
        let [b, d] = self.sides.map(|side| side as usize);
        let [top, left] = [self.edges[0][0] as usize, self.edges[1][0] as usize];
        if self.to_space {
            let (row, column) = (i + top, j + left);
            let block = row % b * d + column % d;
            return Some([block * images + image, row / b, column / d]);
        }
        let block = image / x_images;
        let (row, column) = (i * b + block / d, j * d + block % d);
        Some([image % x_images, row.checked_sub(top)?, column.checked_sub(left)?])
    }
}

/// What was cropped has no gradient: it is padded with zeros.
fn batch_to_space_vjp(row: &BatchToSpace, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::space_to_batch(dy, row.block_shape.clone(), &*row.crops))
}

fn space_to_batch_vjp(row: &SpaceToBatch, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::batch_to_space(dy, row.block_shape.clone(), &*row.paddings))
}
