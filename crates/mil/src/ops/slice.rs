//! Ops that cut a rectangular part out of a tensor.

use crate::ops::cut::{Slicing, window};
use crate::ops::rules::{self, free};
use crate::ops::{ANY, ANY_17, Accuracy, Cut, INDEX, INT32, OpError, Operand, copy, movement};
use crate::tensor::Tensor;
use crate::types::{Dim, Shape, TensorType};

mod gradient;

crate::ops! {
    /// The elements `begin, begin + stride, …` before `end` along each dimension of `x`. Negative `begin` and
    /// `end` count from the end of the dimension; what lies outside it is left out. `stride` is 1 unless
    /// given, and may be negative. Where `begin_mask` or `end_mask` holds, the slice begins or ends with the
    /// dimension; where `squeeze_mask` does, it is the one element at `begin`, and the dimension vanishes.
    SliceByIndex = slice_by_index(x: Operand[T], begin: Operand[U], end: Operand[U];
        stride: Option<Vec<i32>>[U], begin_mask: Option<Vec<bool>>, end_mask: Option<Vec<bool>>,
        squeeze_mask: Option<Vec<bool>>)
        since IOS15 where [T: ANY, U: INT32]
        since IOS17 where [T: ANY_17, U: INDEX]
        { infer: SliceByIndex::ty, eval: |row, _| row.evaluate(), accuracy: Accuracy::Exact; vjp: gradient::by_index; flops: free }

    /// `x` with a slice, which is given as to `slice_by_index`, replaced by `update`, which has its shape.
    SliceUpdate = slice_update(x: Operand[T], update: Operand[T], begin: Operand[U], end: Operand[U];
        stride: Option<Vec<i32>>[U], begin_mask: Option<Vec<bool>>, end_mask: Option<Vec<bool>>,
        squeeze_mask: Option<Vec<bool>>)
        since IOS18 where [T: ANY_17, U: INDEX]
        { infer: SliceUpdate::ty, eval: |row, _| row.evaluate(), accuracy: Accuracy::Exact; vjp: gradient::update; flops: free }

    /// `size` elements from `begin` on along each dimension of `x`; where `size` is -1, all the rest. A
    /// negative `begin` counts from the end.
    SliceBySize = slice_by_size(x: Operand[T], begin: Operand[U], size: Operand[U])
        since IOS15 where [T: ANY, U: INT32]
        since IOS17 where [T: ANY_17, U: INDEX]
        { infer: |row| sized_type(&row.x, &row.begin, &row.size),
          eval: |row, _| sized(&row.x, &row.begin, &row.size), accuracy: Accuracy::Exact; vjp: gradient::by_size; flops: free }
}

impl SliceByIndex {
    fn slicing(&self) -> Slicing<'_> {
        Slicing {
            x: &self.x,
            begin: &self.begin,
            end: &self.end,
            stride: self.stride.as_deref(),
            begin_mask: self.begin_mask.as_deref(),
            end_mask: self.end_mask.as_deref(),
            squeeze_mask: self.squeeze_mask.as_deref(),
        }
    }

    /// What the slice takes along each dimension of `x`, as far as that is known.
    ///
    /// # Errors
    ///
    /// When parameters have other lengths than `x` has dimensions, or a stride is 0.
    pub fn cuts(&self) -> Result<Vec<Cut>, OpError> {
        self.slicing().cuts()
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        movement::result("x", self.x.dtype(), self.slicing().dims()?)
    }

    fn evaluate(&self) -> Result<Vec<Tensor>, OpError> {
        let dims = movement::dims(self.ty())?;
        let x = self.x.tensor()?;
        Ok(vec![copy::read(&[x], &dims, window(&self.slicing().cuts()?, x.shape(), &dims))?])
    }
}

impl SliceUpdate {
    fn slicing(&self) -> Slicing<'_> {
        Slicing {
            x: &self.x,
            begin: &self.begin,
            end: &self.end,
            stride: self.stride.as_deref(),
            begin_mask: self.begin_mask.as_deref(),
            end_mask: self.end_mask.as_deref(),
            squeeze_mask: self.squeeze_mask.as_deref(),
        }
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let slice = Shape(self.slicing().dims()?);
        if self.update.rank() == 0 || !self.update.shape().agrees_with(&slice) {
            let wanted = match slice.rank() {
                0 => "must have at least one dimension: the slice has none".to_string(),
                _ => format!("must have the shape of the slice, {slice}"),
            };
            return Err(OpError::rule("update", wanted).found(format!("found {}", self.update.shape())));
        }
        movement::result("x", self.x.dtype(), self.x.shape().0.clone())
    }

    fn evaluate(&self) -> Result<Vec<Tensor>, OpError> {
        let (x, update) = (self.x.tensor()?, self.update.tensor()?);
        let slicing = self.slicing();
        // What the run alone knows may be another slice than was thought.
        let dims = rules::known_dims(&Shape(slicing.dims()?))?;
        if dims != update.shape() {
            let message = format!("must have the shape of the slice, {}", Shape::known(&dims));
            return Err(OpError::rule("update", message).found(format!("found {}", self.update.shape())));
        }
        Ok(vec![copy::replaced(x, update, window(&slicing.cuts()?, x.shape(), &dims))?])
    }
}

impl SliceBySize {
    /// What the slice takes along each dimension of `x`, as far as that is known.
    ///
    /// # Errors
    ///
    /// When it leaves `x`.
    pub fn cuts(&self) -> Result<Vec<Cut>, OpError> {
        sized_cuts(&self.x, &self.begin, &self.size)
    }
}

/// First elements and lengths of a slice by sizes, as far as they are known.
fn sized_cuts(x: &Operand, begin: &Operand, size: &Operand) -> Result<Vec<Cut>, OpError> {
    movement::check_rank("x", x.rank())?;
    let begin = movement::integers("begin", begin, Some(x.rank()))?;
    let size = movement::integers("size", size, Some(x.rank()))?;
    let cut = |i: usize| {
        let dim = x.shape().0[i];
        let start = match (begin.as_ref().map(|begin| begin[i]), dim) {
            (Some(at), Dim::Known(length)) => Some(sized_start(i, at, movement::length("x", length)?)?),
            // Where to begin counting back from is not known yet.
            (Some(at), Dim::Unknown) => (at >= 0).then_some(at),
            (None, _) => None,
        };
        let wanted = match size.as_ref().map(|size| size[i]) {
            Some(wanted) if wanted < -1 => {
                return Err(OpError::rule("size", "must be -1 or a length").found(format!("found {wanted}")));
            }
            wanted => wanted,
        };
        let left = match (start, dim) {
            (Some(start), Dim::Known(length)) => Some(movement::length("x", length)? - start),
            _ => None,
        };
        let length = match (wanted, left) {
            (Some(-1), Some(left)) => Dim::Known(left.unsigned_abs()),
            (Some(-1) | None, _) => Dim::Unknown,
            (Some(wanted), Some(left)) if wanted > left => {
                let message = format!("dimension {i} has {left} elements from there on");
                return Err(OpError::rule("size", message).found(format!("found {wanted}")));
            }
            (Some(wanted), _) => Dim::Known(wanted.unsigned_abs()),
        };
        Ok(Cut { start, step: 1, length, squeezed: false })
    };
    (0..x.rank()).map(cut).collect()
}

fn sized_start(dimension: usize, at: i64, length: i64) -> Result<i64, OpError> {
    let start = if at < 0 { at + length } else { at };
    if (0..=length).contains(&start) {
        return Ok(start);
    }
    Err(OpError::rule("begin", format!("dimension {dimension} has {length} elements"))
        .found(format!("there is none at {at}")))
}

fn sized_type(x: &Operand, begin: &Operand, size: &Operand) -> Result<Vec<TensorType>, OpError> {
    let dims = sized_cuts(x, begin, size)?.into_iter().map(|cut| cut.length);
    movement::result("x", x.dtype(), dims.collect())
}

fn sized(x: &Operand, begin: &Operand, size: &Operand) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(sized_type(x, begin, size))?;
    let cuts = sized_cuts(x, begin, size)?;
    let x = x.tensor()?;
    Ok(vec![copy::read(&[x], &dims, window(&cuts, x.shape(), &dims))?])
}

#[cfg(test)]
mod tests {
    use crate::ops::Given;
    use crate::ops::testing::*;
    use crate::types::{DType, Opset};

    fn by_index<'a>(x: Given, begin: &[i32], end: &[i32], stride: &[i32]) -> Vec<(&'a str, Given)> {
        vec![("x", x), ("begin", ints(begin)), ("end", ints(end)), ("stride", ints(stride))]
    }

    #[test]
    fn a_slice_by_index_clamps_to_the_dimension() {
        let cut = |begin, end, stride| {
            eval_ints("slice_by_index", Opset::IOS15, &by_index(counting(&[6]), &[begin], &[end], &[stride]))
                .1
        };
        // Each as `numpy.arange(6)[begin:end:stride]`.
        assert_eq!(cut(-100, 100, 4), [0, 4]);
        assert_eq!(cut(4, i32::MAX, 1), [4, 5]);
        assert_eq!(cut(i32::MIN, 2, i32::MAX), [0]);
        assert_eq!(cut(100, -5, -2), [5, 3]);
        assert_eq!(cut(9, 0, i32::MIN), [5]);
        assert_eq!(cut(2, 2, 1), [0; 0]);
        assert_eq!(cut(7, 9, 1), [0; 0]);
        assert_eq!(cut(-2, 1, 1), [0; 0]);
        assert_eq!(cut(1, 4, -1), [0; 0]);
    }

    #[test]
    fn masks_open_a_slice_whichever_way_it_walks() {
        let mut given = by_index(counting(&[2, 4]), &[0, 1], &[0, 2], &[-1, -3]);
        given.push(("begin_mask", bools(&[true, true])));
        given.push(("end_mask", bools(&[true, true])));
        assert_eq!(eval_ints("slice_by_index", Opset::IOS17, &given), (vec![2, 2], vec![7, 4, 3, 0]));
        given.push(("squeeze_mask", bools(&[true, false])));
        assert_eq!(eval_ints("slice_by_index", Opset::IOS17, &given), (vec![2], vec![3, 0]));
    }

    #[test]
    fn a_slice_by_index_of_unknown_lengths_knows_what_does_not_depend_on_them() {
        let ty = |begin, end, stride| {
            infer(
                "slice_by_index",
                Opset::IOS15,
                &by_index(typed(DType::Fp16, &[-1]), &[begin], &[end], &[stride]),
            )
        };
        assert_eq!(ty(3, 4, 1).unwrap(), "[1]");
        assert_eq!(ty(3, 3, 1).unwrap(), "[0]");
        assert_eq!(ty(-1, -3, -2).unwrap(), "[1]");
        assert_eq!(ty(0, 5, 1).unwrap(), "[?]");
        assert_eq!(ty(0, -1, 1).unwrap(), "[?]");
        assert!(ty(3, 2, 1).is_err());
        let open = [
            ("x", typed(DType::Fp16, &[-1, 4])),
            ("begin", ints(&[-1, 0])),
            ("end", typed(DType::Int32, &[2])),
            ("end_mask", bools(&[true, false])),
        ];
        assert_eq!(infer("slice_by_index", Opset::IOS15, &open).unwrap(), "[1, ?]");
    }

    #[test]
    fn hostile_slices_by_index_are_refused() {
        let refuse = |given: &[(&str, Given)]| refusal("slice_by_index", Opset::IOS15, given);
        let x = || counting(&[4]);
        assert!(refuse(&by_index(x(), &[0], &[4], &[0])).contains("must not be 0"));
        assert!(refuse(&by_index(x(), &[0, 0], &[4], &[1])).contains("`begin`: must hold 1 entry"));
        assert!(refuse(&by_index(x(), &[0], &[4], &[1, 1])).contains("`stride`"));
        assert!(refuse(&by_index(x(), &[3], &[i32::MIN], &[-1])).contains("none at -2147483648"));
        assert!(refuse(&[("x", x()), ("begin", int(0)), ("end", ints(&[1]))]).contains("must be a vector"));
        for begin in [4, -5, i32::MIN, i32::MAX] {
            let mut given = by_index(x(), &[begin], &[0], &[1]);
            given.push(("squeeze_mask", bools(&[true])));
            assert!(refuse(&given).contains(&format!("there is none at {begin}")));
        }
        let mut masked = by_index(x(), &[0], &[4], &[1]);
        masked.push(("end_mask", bools(&[])));
        assert!(refuse(&masked).contains("`end_mask`"));
    }

    #[test]
    fn an_empty_tensor_with_huge_dimensions_is_sliced_without_overflow() {
        let x = crate::tensor::Tensor::new(
            DType::Int32,
            &[1 << 20, 1 << 20, 0],
            crate::tensor::Data::I32(Vec::new()),
        );
        let given = |op_size| {
            [("x", constant(x.clone().unwrap())), ("begin", ints(&[5, 5, 0])), (op_size, ints(&[7, 7, 0]))]
        };
        assert_eq!(eval_ints("slice_by_index", Opset::IOS15, &given("end")).0, [2, 2, 0]);
        assert_eq!(eval_ints("slice_by_size", Opset::IOS15, &given("size")).0, [7, 7, 0]);
    }

    #[test]
    fn a_slice_by_size_counts_back_from_the_end() {
        let cut = |begin, size| {
            let given = [("x", counting(&[5])), ("begin", ints(&[begin])), ("size", ints(&[size]))];
            eval("slice_by_size", Opset::IOS17, &given)
        };
        assert_eq!(cut(-2, -1).unwrap().as_slice::<i32>().unwrap(), [3, 4]);
        assert_eq!(cut(-5, 2).unwrap().as_slice::<i32>().unwrap(), [0, 1]);
        assert_eq!(cut(2, 0).unwrap().as_slice::<i32>().unwrap(), [0; 0]);
        for (begin, size) in [(0, -2), (0, i32::MIN), (0, 6), (3, i32::MAX), (6, -1), (-6, 1), (i32::MIN, 1)]
        {
            assert!(cut(begin, size).is_err(), "{begin} {size}");
        }
    }

    #[test]
    fn a_slice_by_size_of_what_is_not_known_yet_has_the_known_sizes() {
        let x = || typed(DType::Fp16, &[-1, 4, 4]);
        let sizes = [("x", x()), ("begin", typed(DType::Int32, &[3])), ("size", ints(&[2, 3, -1]))];
        assert_eq!(infer("slice_by_size", Opset::IOS15, &sizes).unwrap(), "[2, 3, ?]");
        let begins = [("x", x()), ("begin", ints(&[1, 1, 1])), ("size", typed(DType::Int32, &[3]))];
        assert_eq!(infer("slice_by_size", Opset::IOS15, &begins).unwrap(), "[?, ?, ?]");
        let rest = [("x", x()), ("begin", ints(&[-1, 1, -3])), ("size", ints(&[-1, -1, -1]))];
        assert_eq!(infer("slice_by_size", Opset::IOS15, &rest).unwrap(), "[?, 3, 3]");
    }
}
