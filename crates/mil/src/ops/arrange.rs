//! Ops that keep the shape of a tensor and move or clear its elements.

use crate::grad::Pullback;
use crate::ops::copy::{self, Moved, Run};
use crate::ops::rules::{self, free, same_as_first, strides};
use crate::ops::{ANY, ANY_17, Accuracy, OpError, Operand, call, movement};
use crate::tensor::Tensor;
use crate::types::TensorType;

crate::ops! {
    /// `x` with the order of its elements reversed along `axes`; along all of them, where none are given.
    Reverse = reverse(x: Operand[T]; axes: Option<Vec<i32>>)
        since IOS15 where [T: ANY]
        since IOS17 where [T: ANY_17]
        { infer: |row| row.ty(), eval: |row, _| row.evaluate(), accuracy: Accuracy::Exact; vjp: reverse_vjp; flops: free }

    /// `x` with zeros outside a band of its innermost matrices: of row `m`, the columns from `m − lower` to `m + upper`
    /// stay. Where `lower` or `upper` is negative, the band has no bound there.
    BandPart = band_part(x: Operand[T]; lower: i32 = -1, upper: i32 = -1) since IOS15 where [T: ANY]
        { infer: band_type, eval: |row, _| row.evaluate(), accuracy: Accuracy::Exact; vjp: band_vjp; flops: free }
}

impl Reverse {
    /// Whether each dimension is reversed.
    fn reversed(&self) -> Result<Vec<bool>, OpError> {
        let rank = self.x.rank();
        movement::check_rank("x", rank)?;
        let Some(axes) = &self.axes else { return Ok(vec![true; rank]) };
        let axes = rules::axes("axes", axes, rank)?;
        Ok((0..rank).map(|i| axes.contains(&i)).collect())
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        self.reversed()?;
        same_as_first(self)
    }

    fn evaluate(&self) -> Result<Vec<Tensor>, OpError> {
        let x = self.x.tensor()?;
        Ok(vec![self.moved()?.read(x, x.shape())?])
    }

    /// The elements in the result's order, of an `x` whose dimensions are known.
    ///
    /// # Errors
    ///
    /// When the axes are none of `x`.
    pub fn moved(&self) -> Result<Moved, OpError> {
        let dims = rules::known_dims(self.x.shape())?;
        let (mut start, mut steps) = (0, Vec::with_capacity(dims.len()));
        for ((&length, stride), reversed) in dims.iter().zip(strides(&dims)).zip(self.reversed()?) {
            if reversed {
                start += length.saturating_sub(1) * stride;
            }
            steps.push(if reversed { -(stride as isize) } else { stride as isize });
        }
        Ok(Moved { start, dims, steps })
    }
}

fn reverse_vjp(row: &Reverse, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let mut reversed = call::reverse(dy);
    if let Some(axes) = &row.axes {
        reversed = reversed.axes(axes.clone());
    }
    pullback.give(&row.x, reversed)
}

fn band_type(row: &BandPart) -> Result<Vec<TensorType>, OpError> {
    if row.x.rank() < 2 {
        return Err(OpError::rule("x", "must have at least two dimensions, those of the matrices")
            .found(format!("found {}", row.x.ty)));
    }
    same_as_first(row)
}

impl BandPart {
    fn evaluate(&self) -> Result<Vec<Tensor>, OpError> {
        let x = self.x.tensor()?;
        let [.., rows, columns] = *x.shape() else {
            return Err(OpError::rule("x", "must have two dimensions"));
        };
        let zero = Tensor::zeros(x.dtype(), &[])
            .ok_or_else(|| OpError::rule("x", "a zero does not fit in memory"))?;
        let [lower, upper] =
            [self.lower, self.upper].map(|bound| usize::try_from(bound).unwrap_or(usize::MAX));
        let runs = (0..if x.is_empty() { 0 } else { x.len() / columns }).flat_map(|number| {
            let row = number % rows;
            let first = row.saturating_sub(lower).min(columns);
            let past = row.saturating_add(upper).saturating_add(1).min(columns).max(first);
            let cleared = |length| Run { source: 1, ..Run::repeated(0, length) };
            [cleared(first), Run::of(number * columns + first, past - first), cleared(columns - past)]
        });
        Ok(vec![copy::read(&[x, &zero], x.shape(), runs)?])
    }
}

fn band_vjp(row: &BandPart, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::band_part(dy).lower(row.lower).upper(row.upper))
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::*;
    use crate::types::{DType, Opset};

    #[test]
    fn a_band_reaches_over_the_edges_of_its_matrix() {
        let band = |dims: &[usize], lower, upper| {
            let given = [("x", counting(dims)), ("lower", int(lower)), ("upper", int(upper))];
            eval_ints("band_part", Opset::IOS15, &given).1
        };
        assert_eq!(band(&[2, 3], 0, i32::MAX), [0, 1, 2, 0, 4, 5]);
        assert_eq!(band(&[3, 2], i32::MIN, 0), [0, 0, 2, 3, 4, 5]);
        assert_eq!(band(&[4, 1], 0, 0), [0, 0, 0, 0]);
        assert_eq!(band(&[4, 1], 2, 0), [0, 1, 2, 0]);
        assert_eq!(band(&[0, 3], 0, 0), [0; 0]);
        assert_eq!(band(&[3, 0], 0, 0), [0; 0]);
        let vector = [("x", ints(&[1, 2]))];
        assert!(refusal("band_part", Opset::IOS15, &vector).contains("at least two dimensions"));
    }

    #[test]
    fn reversing_knows_its_axes() {
        let reverse = |dims: &[usize], axes: &[i32]| {
            eval_ints("reverse", Opset::IOS15, &[("x", counting(dims)), ("axes", ints(axes))]).1
        };
        assert_eq!(reverse(&[2, 3], &[-1]), [2, 1, 0, 5, 4, 3]);
        assert_eq!(reverse(&[2, 3], &[]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(reverse(&[0, 3], &[0, 1]), [0; 0]);
        assert_eq!(eval_ints("reverse", Opset::IOS17, &[("x", int(3))]), (vec![], vec![3]));
        for axes in [&[2][..], &[-3], &[0, -2], &[i32::MIN]] {
            let given = [("x", typed(DType::Fp16, &[2, -1])), ("axes", ints(axes))];
            assert!(infer("reverse", Opset::IOS15, &given).is_err());
        }
    }
}
