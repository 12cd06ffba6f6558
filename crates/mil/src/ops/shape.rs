//! Ops that change the shape of a tensor or the order of its dimensions.

use crate::eval::{Evaluation, Numbers};
use crate::ops::rules::{self, free, strides};
use crate::ops::{ANY, ANY_17, Accuracy, INDEX, INT32, OpError, Operand, copy, movement};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Opset, Shape, TensorType};

mod gradient;

crate::ops! {
    /// The elements of `x` under another `shape`. One entry may be -1, which the number of elements decides. Before
    /// ios17, 0 keeps the dimension of `x` at the same position, where both have the same rank; from then on it keeps the
    /// one at the same position from the right, whatever the ranks, and is 1 beyond the rank of `x`.
    Reshape = reshape(x: Operand[T], shape: Operand[U])
        since IOS15 where [T: ANY, U: INT32]
        since IOS17 where [T: ANY_17, U: INDEX]
        { infer: reshaped_type, eval: |row, _| reshaped(&row.x, reshaped_type(row)), accuracy: Accuracy::Exact; vjp: gradient::reshape;
          flops: free; [by_opset] }

    /// The dimensions of `x` in another order: dimension `i` of the result is dimension `perm[i]` of `x`.
    Transpose = transpose(x: Operand[T], perm: Vec<i32>)
        since IOS15 where [T: ANY]
        since IOS17 where [T: ANY_17]
        { infer: |row| transposed_type(&row.x, &row.perm), eval: |row, _| transposed(&row.x, &row.perm),
          accuracy: Accuracy::Exact; vjp: gradient::transpose; flops: free }

    /// `x` with dimensions of length 1 inserted, which stand at `axes` in the result.
    ExpandDims = expand_dims(x: Operand[T], axes: Vec<i32>)
        since IOS15 where [T: ANY]
        since IOS17 where [T: ANY_17]
        { infer: |row| expanded_type(&row.x, &row.axes),
          eval: |row, _| reshaped(&row.x, expanded_type(&row.x, &row.axes)),
          accuracy: Accuracy::Exact; vjp: gradient::expand_dims; flops: free }

    /// `x` without those of the dimensions `axes` that have length 1; without `axes`, all of them. A `?`
    /// stays.
    Squeeze = squeeze(x: Operand[T]; axes: Option<Vec<i32>>)
        since IOS15 where [T: ANY]
        since IOS17 where [T: ANY_17]
        { infer: |row| squeezed_type(&row.x, row.axes.as_deref()),
          eval: |row, _| reshaped(&row.x, squeezed_type(&row.x, row.axes.as_deref())),
          accuracy: Accuracy::Exact; vjp: gradient::squeeze; flops: free }

    /// The dimensions of `x`, as an int32 vector.
    ShapeOf = shape(x: Operand[T]) since IOS15 where [T: ANY]
        { infer: shape_type, eval: shape, accuracy: Accuracy::Exact; flops: free; [from_types] }
}

/// Which dimension of `x` a 0 in the shape for `reshape` keeps.
#[derive(Clone, Copy)]
enum Zeros {
    /// The one at the same position; the ranks must be equal. Before ios17.
    FromLeft,
    /// The one at the same distance from the last; 1 where there is none.
    FromRight,
}

impl Zeros {
    /// The dimension of an `x` of rank `from` that a 0 at `position` of `to` entries keeps.
    fn keeps(self, position: usize, from: usize, to: usize) -> Result<Option<usize>, OpError> {
        match self {
            Zeros::FromLeft if from == to => Ok(Some(position)),
            Zeros::FromLeft => Err(OpError::rule(
                "shape",
                format!("a 0 needs as many entries as `x` has dimensions, {from}"),
            )
            .found(format!("found {to} entries"))),
            Zeros::FromRight => Ok((position + from).checked_sub(to)),
        }
    }
}

/// The same elements under the dimensions of an inferred type.
fn reshaped(x: &Operand, ty: Result<Vec<TensorType>, OpError>) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(ty)?;
    Ok(vec![copy::whole(x.tensor()?, &dims)?])
}

fn reshaped_type(row: &Reshape) -> Result<Vec<TensorType>, OpError> {
    let (x, shape) = (&row.x, &row.shape);
    let zeros = if row.since < Opset::IOS17 { Zeros::FromLeft } else { Zeros::FromRight };
    let Some(wanted) = movement::integers("shape", shape, None)? else {
        return match shape.shape().0[0] {
            Dim::Known(rank) => movement::unknown_result("shape", x.dtype(), rank),
            Dim::Unknown => Err(OpError::rule("shape", "must have a known length, the rank of the result")
                .found(format!("found {}", shape.ty))),
        };
    };
    movement::check_rank("shape", wanted.len())?;
    // Dimensions of `x` that the shape keeps play no part in what its -1 stands for, known or not.
    let mut rest = x.shape().0.clone();
    let mut dims = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (position, &entry) in wanted.iter().enumerate() {
        dims.push(match entry {
            0 => match zeros.keeps(position, x.rank(), wanted.len())? {
                Some(kept) => std::mem::replace(&mut rest[kept], Dim::Known(1)),
                None => Dim::Known(1),
            },
            1.. => Dim::Known(entry.unsigned_abs()),
            -1 if open.is_none() => {
                open = Some(position);
                Dim::Known(1)
            }
            -1 => {
                return Err(OpError::rule("shape", "may hold one -1 only").found(format!("found {wanted:?}")));
            }
            _ => {
                return Err(OpError::rule("shape", "holds lengths, 0 and -1").found(format!("found {entry}")));
            }
        });
    }
    let new =
        Shape(wanted.iter().zip(&dims).filter(|(entry, _)| **entry != 0).map(|(_, &dim)| dim).collect());
    let quotient = elements_left(x, &Shape(rest), &new, open.is_some(), &wanted)?;
    if let Some(position) = open {
        dims[position] = quotient;
    }
    movement::result("shape", x.dtype(), dims)
}

/// How often the elements of the dimensions `new` fit those of `old`, the dimensions left of `x`.
///
/// # Errors
///
/// When it is not a whole number, or, unless a -1 is `open` to it, not 1.
fn elements_left(x: &Operand, old: &Shape, new: &Shape, open: bool, wanted: &[i64]) -> Result<Dim, OpError> {
    let too_large = || OpError::rule("shape", format!("{wanted:?} is too large"));
    let new = new.elements().ok_or_else(too_large)?;
    let Some(old) = old.elements() else {
        let known = Shape(old.0.iter().copied().filter(|dim| dim.known().is_some()).collect());
        let whole = known.elements().is_some_and(|known| new.checked_rem(known).unwrap_or(new) == 0);
        return if open || whole { Ok(Dim::Unknown) } else { Err(not_as_many(x, wanted)) };
    };
    match (old.checked_div(new), old.checked_rem(new)) {
        (Some(quotient), Some(0)) if open || quotient == 1 => Ok(Dim::Known(quotient)),
        _ => Err(not_as_many(x, wanted)),
    }
}

fn not_as_many(x: &Operand, wanted: &[i64]) -> OpError {
    let elements = x.shape().elements().map_or(String::new(), |elements| format!(", {elements} elements"));
    OpError::rule("shape", format!("must hold the elements of `x`, {}{elements}", x.shape()))
        .found(format!("found {wanted:?}"))
}

impl Transpose {
    /// For each dimension of the result, the position of that of `x`.
    ///
    /// # Errors
    ///
    /// When `perm` does not name each dimension once.
    pub fn permutation(&self) -> Result<Vec<usize>, OpError> {
        permutation(&self.x, &self.perm)
    }
}

fn permutation(x: &Operand, perm: &[i32]) -> Result<Vec<usize>, OpError> {
    movement::check_rank("x", x.rank())?;
    if perm.len() != x.rank() {
        return Err(OpError::rule("perm", format!("must name each of the {} dimensions of `x`", x.rank()))
            .found(format!("found {perm:?}")));
    }
    rules::axes("perm", perm, x.rank())
}

fn transposed_type(x: &Operand, perm: &[i32]) -> Result<Vec<TensorType>, OpError> {
    let dims = permutation(x, perm)?.into_iter().map(|from| x.shape().0[from]);
    movement::result("x", x.dtype(), dims.collect())
}

fn transposed(x: &Operand, perm: &[i32]) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(transposed_type(x, perm))?;
    let own = strides(x.dims()?);
    let steps: Vec<isize> = permutation(x, perm)?.into_iter().map(|from| own[from] as isize).collect();
    Ok(vec![copy::read(&[x.tensor()?], &dims, copy::window(&dims, 0, &steps))?])
}

fn expanded_type(x: &Operand, axes: &[i32]) -> Result<Vec<TensorType>, OpError> {
    let rank = x.rank() + axes.len();
    movement::check_rank("axes", rank)?;
    let inserted = rules::axes("axes", axes, rank)?;
    let mut old = x.shape().0.iter().copied();
    let dims = (0..rank).map(|i| if inserted.contains(&i) { Some(Dim::Known(1)) } else { old.next() });
    movement::result("x", x.dtype(), dims.flatten().collect())
}

fn squeezed_type(x: &Operand, axes: Option<&[i32]>) -> Result<Vec<TensorType>, OpError> {
    movement::check_rank("x", x.rank())?;
    let removable: Vec<usize> = match axes {
        Some(axes) => rules::axes("axes", axes, x.rank())?,
        None => (0..x.rank()).collect(),
    };
    let dims = x.shape().0.iter().enumerate();
    let dims = dims.filter(|(i, dim)| **dim != Dim::Known(1) || !removable.contains(i)).map(|(_, dim)| *dim);
    movement::result("x", x.dtype(), dims.collect())
}

fn shape_type(row: &ShapeOf) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![TensorType::new(DType::Int32, &[row.x.rank()])])
}

fn shape(row: &ShapeOf, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = match &row.x.value {
        Some(value) => value.shape().to_vec(),
        None => rules::known_dims(row.x.shape())?,
    };
    let fit: Option<Vec<i64>> = dims.iter().map(|&dim| i32::try_from(dim).ok().map(i64::from)).collect();
    let fit = fit.ok_or_else(|| OpError::rule("x", "has a dimension that int32 does not hold"))?;
    Ok(vec![evaluation.tensor(DType::Int32, &[dims.len()], Numbers::Integer(fit))?])
}

#[cfg(test)]
mod tests {
    use half::f16;

    use crate::ops::testing::*;
    use crate::ops::{Given, OpError};
    use crate::tensor::{Data, Tensor};
    use crate::types::{DType, Opset};

    fn reshape_ty(opset: Opset, x: &[i64], shape: &[i32]) -> Result<String, OpError> {
        infer("reshape", opset, &[("x", typed(DType::Fp16, x)), ("shape", ints(shape))])
    }

    #[test]
    fn reshape_finds_the_open_dimension() {
        let ty = |x: &[i64], shape: &[i32]| reshape_ty(Opset::IOS15, x, shape).unwrap();
        assert_eq!(ty(&[2, 3, 4], &[-1]), "[24]");
        assert_eq!(ty(&[2, 3, 4], &[0, -1, 2]), "[2, 6, 2]");
        assert_eq!(ty(&[], &[1, -1]), "[1, 1]");
        assert_eq!(ty(&[1, 1], &[]), "[]");
        assert_eq!(ty(&[0, 4], &[0, -1]), "[0, 4]");
        assert_eq!(ty(&[0, 4], &[-1, 2]), "[0, 2]");
        // The docstring of ios17's reshape in coremltools.
        assert_eq!(reshape_ty(Opset::IOS17, &[2, 50], &[1, 0, -1, 0]).unwrap(), "[1, 1, 2, 50]");
    }

    #[test]
    fn reshape_keeps_what_is_not_known() {
        let ty = |x: &[i64], shape: &[i32]| reshape_ty(Opset::IOS17, x, shape);
        assert_eq!(ty(&[-1, 4, 6], &[0, -1, 2]).unwrap(), "[?, 12, 2]");
        assert_eq!(ty(&[-1, 4, 6], &[-1, 12]).unwrap(), "[?, 12]");
        assert_eq!(ty(&[-1, -1], &[0, -1]).unwrap(), "[?, ?]");
        assert_eq!(ty(&[-1, 4], &[3, 8]).unwrap(), "[3, 8]");
        assert!(ty(&[-1, 4], &[3, 7]).is_err());
        let later = |length: i64| {
            infer(
                "reshape",
                Opset::IOS17,
                &[("x", counting(&[6])), ("shape", typed(DType::Int32, &[length]))],
            )
        };
        assert_eq!(later(2).unwrap(), "[?, ?]");
        assert!(later(-1).is_err() && later(i64::MAX).is_err());
    }

    #[test]
    fn hostile_shapes_are_refused() {
        let refuse =
            |x: Given, shape: &[i32]| refusal("reshape", Opset::IOS15, &[("x", x), ("shape", ints(shape))]);
        let x = || counting(&[2, 6]);
        assert!(refuse(x(), &[5, -1]).contains("must hold the elements of `x`, [2, 6], 12 elements"));
        assert!(refuse(x(), &[3, 5]).contains("found [3, 5]"));
        assert!(refuse(x(), &[-1, -1]).contains("one -1"));
        assert!(refuse(x(), &[i32::MIN]).contains("found -2147483648"));
        assert!(refuse(x(), &[0, 0, -1]).contains("found 3 entries"));
        assert!(refuse(x(), &[i32::MAX, i32::MAX, i32::MAX]).contains("too large"));
        assert!(refuse(x(), &[1; 1000]).contains("at most 64 dimensions"));
        assert!(refuse(counting(&[0]), &[3]).contains("[3]"));
        assert!(
            reshape_ty(Opset::IOS15, &[-1], &[i32::MAX, i32::MAX, -1]).unwrap_err().message.contains("large")
        );
    }

    #[test]
    fn movement_keeps_every_bit() {
        let bits = [0x7e01u16, 0x8000, 0xfdff, 0x0001, 0x7c00, 0xffff];
        let x =
            Tensor::new(DType::Fp16, &[2, 3], Data::F16(bits.iter().map(|&b| f16::from_bits(b)).collect()));
        let given = [("x", constant(x.unwrap())), ("perm", ints(&[-1, 0]))];
        let moved = eval("transpose", Opset::IOS15, &given).unwrap();
        let found: Vec<u16> = moved.as_slice::<f16>().unwrap().iter().map(|v| v.to_bits()).collect();
        assert_eq!(found, [0x7e01, 0x0001, 0x8000, 0x7c00, 0xfdff, 0xffff]);
    }

    #[test]
    fn transpose_permutes() {
        let given = |perm: &[i32]| [("x", counting(&[2, 1, 3])), ("perm", ints(perm))];
        assert_eq!(
            eval_ints("transpose", Opset::IOS17, &given(&[2, 1, 0])),
            (vec![3, 1, 2], vec![0, 3, 1, 4, 2, 5])
        );
        for wrong in [&[0, 1][..], &[0, 1, 1], &[0, 1, 3], &[0, 1, -4], &[i32::MIN, 0, 1], &[0; 1000]] {
            assert!(refusal("transpose", Opset::IOS17, &given(wrong)).contains("perm"));
        }
        let unknown = [("x", typed(DType::Fp16, &[-1, 2])), ("perm", ints(&[1, 0]))];
        assert_eq!(infer("transpose", Opset::IOS15, &unknown).unwrap(), "[2, ?]");
        let scalar = [("x", int(3)), ("perm", ints(&[]))];
        assert_eq!(eval_ints("transpose", Opset::IOS15, &scalar), (vec![], vec![3]));
    }

    #[test]
    fn dimensions_of_length_1_come_and_go() {
        let expand =
            |x: Given, axes: &[i32]| infer("expand_dims", Opset::IOS15, &[("x", x), ("axes", ints(axes))]);
        assert_eq!(expand(int(1), &[0, -1]).unwrap(), "[1, 1]");
        assert_eq!(expand(typed(DType::Fp16, &[-1, 3]), &[0, -2]).unwrap(), "[1, ?, 1, 3]");
        for wrong in [&[3][..], &[-4], &[0, 0], &[i32::MIN], &[i32::MAX], &[0; 100_000]] {
            assert!(expand(counting(&[2, 3]), wrong).is_err());
        }
        let squeeze = |x: &[i64], axes: &[i32]| {
            infer("squeeze", Opset::IOS15, &[("x", typed(DType::Fp16, x)), ("axes", ints(axes))])
        };
        assert_eq!(squeeze(&[1, -1, 1, 2], &[0, 1, 3]).unwrap(), "[?, 1, 2]");
        assert!(squeeze(&[1, 1], &[0, -2]).is_err() && squeeze(&[], &[0]).is_err());
        let all = [("x", typed(DType::Fp16, &[1, -1, 1]))];
        assert_eq!(infer("squeeze", Opset::IOS17, &all).unwrap(), "[?]");
    }

    #[test]
    fn shape_is_an_int32_vector() {
        assert_eq!(
            eval_ints("shape", Opset::IOS15, &[("x", counting(&[2, 0, 3]))]),
            (vec![3], vec![2, 0, 3])
        );
        assert_eq!(eval_ints("shape", Opset::IOS15, &[("x", int(7))]), (vec![0], vec![]));
        let long = Tensor::new(DType::Int32, &[1 << 31, 0], Data::I32(Vec::new())).unwrap();
        assert!(refusal("shape", Opset::IOS15, &[("x", constant(long))]).contains("int32"));
    }
}
