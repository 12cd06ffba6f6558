//! Ops that read elements at indices.

use crate::ops::copy::{self, Run};
use crate::ops::index::{IndexVectors, Indices};
use crate::ops::rules::{self, free};
use crate::ops::{Accuracy, DTypeSet, INT32, NUMBER, OpError, Operand, SMALL_INTEGER, movement};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// What elements may be gathered of from ios17 on.
const NUMBER_17: DTypeSet = NUMBER.and(SMALL_INTEGER);
/// Element types of indices in ios16.
const INDEX_16: DTypeSet = DTypeSet::of(&[DType::Int16, DType::Int32, DType::UInt16]);
/// Element types of indices from ios17 on.
const INDEX_17: DTypeSet = INT32.and(SMALL_INTEGER);

mod gradient;

crate::ops! {
    /// The slices of `x` at `indices` along `axis`: dimension `axis` of `x` is replaced by the dimensions of
    /// `indices`. The first `batch_dims` dimensions, which `x` and `indices` share, pair slices with the indices that
    /// apply to them. Before ios17 negative indices count from the end; from then on an index must not be negative, and
    /// with `validate_indices` one out of range is, where it is a constant, an error of the program.
    Gather = gather(x: Operand[T], indices: Operand[I]; axis: i32 = 0, #[since = IOS16] batch_dims: i32 = 0,
        #[since = IOS17] validate_indices: bool = false)
        since IOS15 where [T: NUMBER, I: INT32]
        since IOS16 where [T: NUMBER, I: INDEX_16]
        since IOS17 where [T: NUMBER_17, I: INDEX_17]
        { infer: |row| row.slices().ty(), eval: |row, _| row.slices().evaluate(),
          accuracy: Accuracy::Exact; vjp: gradient::gather; flops: free; [by_opset] }

    /// For each place of `indices`, the element of `x` there whose coordinate along `axis` is the index. In
    /// every other dimension both have the same length. Before ios17 negative indices count from the end; from then on
    /// an index must not be negative, and with `validate_indices` one out of range is, where it is a constant, an error
    /// of the program.
    GatherAlongAxis = gather_along_axis(x: Operand[T], indices: Operand[I]; axis: i32 = 0,
        #[since = IOS17] validate_indices: bool = false)
        since IOS15 where [T: NUMBER, I: INT32]
        since IOS16 where [T: NUMBER, I: INDEX_16]
        since IOS17 where [T: NUMBER_17, I: INDEX_17]
        { infer: |row| row.elements().ty(), eval: |row, _| row.elements().evaluate(),
          accuracy: Accuracy::Exact; vjp: gradient::along_axis; flops: free; [by_opset] }

    /// For each vector along the last dimension of `indices`, the slice of `x` with these coordinates in its first
    /// dimensions. The first `batch_dims` dimensions, which `x` and `indices` share, pair slices with the vectors that
    /// apply to them. Negative indices and `validate_indices` are as those of `gather`.
    GatherNd = gather_nd(x: Operand[T], indices: Operand[I]; #[since = IOS16] batch_dims: i32 = 0,
        #[since = IOS17] validate_indices: bool = false)
        since IOS15 where [T: NUMBER, I: INT32]
        since IOS16 where [T: NUMBER, I: INDEX_16]
        since IOS17 where [T: NUMBER_17, I: INDEX_17]
        { infer: |row| row.ty(), eval: |row, _| row.evaluate(), accuracy: Accuracy::Exact; vjp: gradient::nd; flops: free; [by_opset] }
}

/// What a `gather` asks for.
struct Slices<'a> {
    x: &'a Operand,
    indices: Indices<'a>,
    axis: i32,
    batch_dims: i32,
}

impl Gather {
    fn slices(&self) -> Slices<'_> {
        let indices = Indices::new(&self.indices, self.since, self.validate_indices);
        Slices { x: &self.x, indices, axis: self.axis, batch_dims: self.batch_dims }
    }
}

impl Slices<'_> {
    /// The axis and the number of batch dimensions, which come before it.
    fn axis_and_batch(&self) -> Result<(usize, usize), OpError> {
        let axis = rules::axis("axis", self.axis, self.x.rank())?;
        let most = axis.min(self.indices.operand.rank());
        match usize::try_from(self.batch_dims) {
            Ok(batch) if batch <= most => Ok((axis, batch)),
            _ => Err(OpError::rule(
                "batch_dims",
                format!("must lie between 0 and {most}: at most `axis` and the rank of `indices`"),
            )
            .found(format!("found {}", self.batch_dims))),
        }
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let (axis, batch) = self.axis_and_batch()?;
        let (x, indices) = (&self.x.shape().0, &self.indices.operand.shape().0);
        if let Some(i) = (0..batch).find(|&i| !x[i].agrees_with(indices[i])) {
            return Err(OpError::rule("indices", format!("must agree with `x` in batch dimension {i}"))
                .found(format!("found {} and {}", self.indices.operand.shape(), self.x.shape())));
        }
        self.indices.check(x[axis])?;
        let shared = (0..batch).map(|i| x[i].or(indices[i]));
        let dims = shared.chain(x[batch..axis].iter().copied()).chain(indices[batch..].iter().copied());
        movement::result("indices", self.x.dtype(), dims.chain(x[axis + 1..].iter().copied()).collect())
    }

    fn evaluate(&self) -> Result<Vec<Tensor>, OpError> {
        let dims = movement::dims(self.ty())?;
        let (axis, batch) = self.axis_and_batch()?;
        let x = self.x.dims()?;
        let at = self.indices.positions(x[axis])?;
        if dims.contains(&0) {
            return Ok(vec![copy::read(&[self.x.tensor()?], &dims, std::iter::empty())?]);
        }
        let per_batch = at.len() / x[..batch].iter().product::<usize>();
        let between: usize = x[batch..axis].iter().product();
        let inner: usize = x[axis + 1..].iter().product();
        let runs = at.chunks_exact(per_batch).enumerate().flat_map(|(number, indices)| {
            (number * between..(number + 1) * between).flat_map(move |outer| {
                indices.iter().map(move |index| Run::of((outer * x[axis] + index) * inner, inner))
            })
        });
        Ok(vec![copy::read(&[self.x.tensor()?], &dims, runs)?])
    }
}

/// What a `gather_along_axis` asks for.
struct Elements<'a> {
    x: &'a Operand,
    indices: Indices<'a>,
    axis: i32,
}

impl GatherAlongAxis {
    fn elements(&self) -> Elements<'_> {
        let indices = Indices::new(&self.indices, self.since, self.validate_indices);
        Elements { x: &self.x, indices, axis: self.axis }
    }
}

impl Elements<'_> {
    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let (x, indices) = (self.x.shape(), self.indices.operand.shape());
        let axis = rules::axis("axis", self.axis, x.rank())?;
        let agree = |i: usize| i == axis || x.0[i].agrees_with(indices.0[i]);
        if x.rank() != indices.rank() || !(0..x.rank()).all(agree) {
            return Err(OpError::rule("indices", format!("must agree with `x`, {x}, but along axis {axis}"))
                .found(format!("found {indices}")));
        }
        self.indices.check(x.0[axis])?;
        let dim = |i: usize| if i == axis { indices.0[i] } else { indices.0[i].or(x.0[i]) };
        movement::result("indices", self.x.dtype(), (0..x.rank()).map(dim).collect())
    }

    fn evaluate(&self) -> Result<Vec<Tensor>, OpError> {
        let dims = movement::dims(self.ty())?;
        let x = self.x.dims()?;
        let axis = rules::axis("axis", self.axis, x.len())?;
        let places = self.indices.along(axis, x[axis], &dims)?;
        let runs = places.into_iter().map(|place| Run::of(place, 1));
        Ok(vec![copy::read(&[self.x.tensor()?], &dims, runs)?])
    }
}

impl GatherNd {
    /// The vectors of indices, and the number of batch dimensions.
    fn vectors(&self) -> Result<IndexVectors<'_>, OpError> {
        let most = self.x.rank().min(self.indices.rank().saturating_sub(1));
        let batch =
            usize::try_from(self.batch_dims).ok().filter(|&batch| batch <= most).ok_or_else(|| {
                let message =
                    format!("must lie between 0 and {most}: `x` and `indices` share these dimensions");
                OpError::rule("batch_dims", message).found(format!("found {}", self.batch_dims))
            })?;
        Ok(IndexVectors { indices: Indices::new(&self.indices, self.since, self.validate_indices), batch })
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let vectors = self.vectors()?;
        let dims = vectors.slices(&self.x)?;
        movement::result("indices", self.x.dtype(), dims)
    }

    fn evaluate(&self) -> Result<Vec<Tensor>, OpError> {
        let dims = movement::dims(self.ty())?;
        let x = self.x.tensor()?;
        if dims.contains(&0) {
            return Ok(vec![copy::read(&[x], &dims, std::iter::empty())?]);
        }
        let (starts, length) = self.vectors()?.starts(x.shape())?;
        let runs = starts.into_iter().map(|start| Run::of(start, length));
        Ok(vec![copy::read(&[x], &dims, runs)?])
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::Given;
    use crate::ops::testing::*;
    use crate::tensor::{Data, Tensor};
    use crate::types::{DType, Opset};

    fn tensor(dims: &[usize], values: &[i32]) -> Given {
        constant(Tensor::from_values(dims, values.to_vec()).unwrap())
    }

    fn gather<'a>(x: Given, indices: Given, axis: i32) -> Vec<(&'a str, Given)> {
        vec![("x", x), ("indices", indices), ("axis", int(axis))]
    }

    #[test]
    fn gather_replaces_the_axis_by_the_indices() {
        let run =
            |indices, axis| eval_ints("gather", Opset::IOS15, &gather(counting(&[2, 3]), indices, axis));
        assert_eq!(run(ints(&[1, -2]), 0), (vec![2, 3], vec![3, 4, 5, 0, 1, 2]));
        assert_eq!(run(tensor(&[1, 2], &[2, -3]), -1), (vec![2, 1, 2], vec![2, 0, 5, 3]));
        assert_eq!(run(int(1), 1), (vec![2], vec![1, 4]));
        assert_eq!(run(ints(&[]), 1), (vec![2, 0], vec![]));
        assert_eq!(eval_ints("gather", Opset::IOS15, &gather(ints(&[7, 8]), int(1), 0)), (vec![], vec![8]));
    }

    #[test]
    fn batch_dims_pair_slices_with_their_indices() {
        // tf.gather(tf.reshape(tf.range(12), [2, 2, 3]), [[2], [0]], axis=2, batch_dims=1)
        let mut given = gather(counting(&[2, 2, 3]), tensor(&[2, 1], &[2, 0]), 2);
        given.push(("batch_dims", int(1)));
        assert_eq!(eval_ints("gather", Opset::IOS16, &given), (vec![2, 2, 1], vec![2, 5, 6, 9]));
        for wrong in [-1, 3, i32::MIN, i32::MAX] {
            given[3].1 = int(wrong);
            assert!(refusal("gather", Opset::IOS16, &given).contains(&format!("found {wrong}")));
        }
        let mut apart = gather(counting(&[2, 3]), tensor(&[3, 1], &[0, 0, 0]), 1);
        apart.push(("batch_dims", int(1)));
        assert!(refusal("gather", Opset::IOS17, &apart).contains("batch dimension 0"));
    }

    #[test]
    fn an_index_out_of_range_is_an_error() {
        for (opset, index) in [(15, 3), (15, -4), (16, i32::MIN), (16, i32::MAX), (17, 3), (17, -1)] {
            for op in ["gather", "gather_along_axis"] {
                let given = gather(counting(&[3]), ints(&[0, index]), 0);
                let message = refusal(op, Opset(opset), &given);
                assert!(message.contains(&format!("the index {index} is out of range")), "{message}");
                // Unless validated, the program stands, and only the run fails.
                assert_eq!(infer(op, Opset(opset), &given).unwrap(), "[2]");
            }
        }
        let mut validated = gather(counting(&[3]), ints(&[-1]), 0);
        validated.push(("validate_indices", constant(Tensor::scalar(true))));
        for op in ["gather", "gather_along_axis"] {
            assert!(infer(op, Opset::IOS17, &validated).unwrap_err().label.contains("since ios17"));
        }
        assert!(
            refusal("gather", Opset::IOS15, &gather(counting(&[0, 2]), int(0), 0)).contains("dimension of 0")
        );
    }

    #[test]
    fn gathered_types_keep_what_is_not_known() {
        let ty = |op, x: &[i64], indices: &[i64], axis| {
            infer(op, Opset::IOS17, &gather(typed(DType::Fp16, x), typed(DType::Int32, indices), axis))
        };
        assert_eq!(ty("gather", &[-1, 4], &[2, -1], 0).unwrap(), "[2, ?, 4]");
        assert_eq!(ty("gather_along_axis", &[-1, 4], &[3, -1], 1).unwrap(), "[3, ?]");
        assert_eq!(ty("gather_along_axis", &[5, 4], &[-1, 2], 1).unwrap(), "[5, 2]");
        assert!(ty("gather_along_axis", &[5, 4], &[4, 2], 1).is_err());
        assert!(ty("gather_along_axis", &[5, 4], &[5], 1).is_err());
        assert!(ty("gather_along_axis", &[], &[], 0).is_err());
        assert!(ty("gather", &[], &[2], 0).is_err());
        assert!(ty("gather", &[2], &[2], i32::MIN).is_err());
        assert!(ty("gather", &[1 << 40, 2], &[1 << 40], 1).unwrap_err().message.contains("too large"));
    }

    #[test]
    fn gather_along_axis_reads_one_element_per_index() {
        // numpy.take_along_axis(numpy.arange(6).reshape(2, 3), [[2, 0], [-1, 1]], 1)
        let given = gather(counting(&[2, 3]), tensor(&[2, 2], &[2, 0, -1, 1]), 1);
        assert_eq!(eval_ints("gather_along_axis", Opset::IOS15, &given), (vec![2, 2], vec![2, 0, 5, 4]));
        let given = gather(counting(&[2, 3]), tensor(&[1, 3], &[1, 0, 1]), 0);
        assert_eq!(eval_ints("gather_along_axis", Opset::IOS17, &given), (vec![1, 3], vec![3, 1, 5]));
    }

    #[test]
    fn an_empty_tensor_with_huge_dimensions_is_gathered_at_once() {
        let x = Tensor::new(DType::Int32, &[1 << 40, 3, 0], Data::I32(Vec::new())).unwrap();
        let given = gather(constant(x), ints(&[0, 1, 2]), 1);
        assert_eq!(eval_ints("gather", Opset::IOS17, &given).0, [1 << 40, 3, 0]);
    }
}
