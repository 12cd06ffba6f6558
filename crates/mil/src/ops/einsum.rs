//! Products by an equation.

use crate::builder::BuildError;
use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers, collect, room};
use crate::ops::matmul::sum_flops;
use crate::ops::rules::{self, strides};
use crate::ops::{Accuracy, OpError, Operand, Writer, call};
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::{Dim, Shape, TensorType};

crate::ops! {
    /// The product of two `values` by an `equation`, which is `nchw,nwhu->nchu` or `chw,whr->chr` with any letters: for
    /// `x [B, C, H, W]` and `y [B, W, H, U]`, `Σ x[b, c, h, w] · y[b, w, h, u]` over `w`, `[B, C, H, U]`; or the same without
    /// `B`. `B` and `H` broadcast.
    Einsum = einsum(values: Vec<Operand>, equation: String) since IOS15
        { infer: |row| Ok(vec![Contraction::of(row)?.result()?]), eval: einsum, accuracy: Accuracy::Sum(1);
          write_out: written_out; flops: |row| Contraction::of(row).ok()?.flops() }
}

/// The product that an equation asks for, with a `B` of 1 where there is none.
struct Contraction<'a> {
    x: &'a Operand,
    y: &'a Operand,
    /// `[B, C, H, W]` and `[B, W, H, U]`.
    shapes: [[Dim; 4]; 2],
    /// `B` and `H`, as they are broadcast.
    batch: [Dim; 2],
}

/// An equation whose letters are numbered in the order in which they come first: of both factors, and of the result.
fn numbered(equation: &str) -> Option<[Vec<usize>; 3]> {
    let (factors, result) = equation.split_once("->")?;
    let (x, y) = factors.split_once(',')?;
    let mut seen: Vec<char> = Vec::new();
    let mut number = |letter: char| {
        seen.iter().position(|&other| other == letter).unwrap_or_else(|| {
            seen.push(letter);
            seen.len() - 1
        })
    };
    Some([x, y, result].map(|letters| letters.chars().map(&mut number).collect()))
}

impl<'a> Contraction<'a> {
    fn of(row: &'a Einsum) -> Result<Contraction<'a>, OpError> {
        let [x, y] = &row.values[..] else {
            let error = OpError::rule("values", "must hold two tensors");
            return Err(error.found(format!("found {}", row.values.len())));
        };
        if !x.dtype().is_float() || x.dtype() != y.dtype() {
            let error =
                OpError::new(ErrorKind::ElementType, Some("values"), "must both be fp16 or both fp32");
            return Err(error.found(format!("found {} and {}", x.dtype(), y.dtype())));
        }
        // No equation of so many letters is one of the two.
        let known = (row.equation.len() <= 64).then(|| numbered(&row.equation)).flatten();
        let rank = match known.as_ref().map(|parts| parts.each_ref().map(Vec::as_slice)) {
            Some([[0, 1, 2, 3], [0, 3, 2, 4], [0, 1, 2, 4]]) => 4,
            Some([[0, 1, 2], [2, 1, 3], [0, 1, 3]]) => 3,
            _ => {
                let error = OpError::rule("equation", "must be as nchw,nwhu->nchu or chw,whr->chr");
                return Err(error.found(format!("found \"{}\"", row.equation)));
            }
        };
        if x.rank() != rank || y.rank() != rank {
            return Err(OpError::rule("values", format!("must have rank {rank}, as the equation says"))
                .found(format!("found {} and {}", x.shape(), y.shape())));
        }
        let four = |operand: &Operand| {
            let mut dims = [Dim::Known(1); 4];
            dims[4 - rank..].copy_from_slice(&operand.shape().0);
            dims
        };
        let shapes @ [x_dims, y_dims] = [four(x), four(y)];
        let differ = || {
            OpError::rule("values", "do not fit together").found(format!(
                "found {} and {}",
                x.shape(),
                y.shape()
            ))
        };
        let pair = |i: usize| {
            rules::broadcast(&Shape(vec![x_dims[i]]), &Shape(vec![y_dims[i]])).map(|both| both.0[0])
        };
        let (Some(b), Some(h), true) = (pair(0), pair(2), x_dims[3].agrees_with(y_dims[1])) else {
            return Err(differ());
        };
        Ok(Contraction { x, y, shapes, batch: [b, h] })
    }

    /// The type of the result.
    fn result(&self) -> Result<TensorType, OpError> {
        let [x, y] = self.shapes;
        let dims = [self.batch[0], x[1], self.batch[1], y[3]][4 - self.x.rank()..].to_vec();
        Ok(crate::ops::movement::result("values", self.x.dtype(), dims)?.remove(0))
    }

    fn flops(&self) -> Option<u64> {
        sum_flops(
            self.result().ok()?.shape.elements()?,
            self.shapes[0][3].or(self.shapes[1][1]).known()?,
            false,
        )
    }
}

fn einsum(row: &Einsum, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let contraction = Contraction::of(row)?;
    let ty = contraction.result()?;
    let known = |dims: &[Dim]| rules::known_dims(&Shape(dims.to_vec()));
    let [x_dims, y_dims] = [known(&contraction.shapes[0])?, known(&contraction.shapes[1])?];
    let batch = known(&contraction.batch)?;
    let (channels, terms, columns) = (x_dims[1], x_dims[3], y_dims[3]);
    let sums = (batch[0] * channels * batch[1] * columns) as u64;
    evaluation.charge(sums.saturating_mul(terms as u64))?;
    let (x, y) = (contraction.x.floats()?, contraction.y.floats()?);
    // Along a dimension that is broadcast, nothing is stepped over.
    let steps = |dims: &[usize]| -> Vec<usize> {
        let own = strides(dims);
        own.iter().zip(dims).map(|(&step, &length)| if length == 1 { 0 } else { step }).collect()
    };
    let (x_steps, y_steps) = (steps(&x_dims), steps(&y_dims));
    let mut result = room(sums as usize)?;
    for b in 0..batch[0] {
        for (c, h) in (0..channels).flat_map(|c| (0..batch[1]).map(move |h| (c, h))) {
            let at = b * x_steps[0] + c * x_steps[1] + h * x_steps[2];
            let line = &x[at..at + terms];
            for u in 0..columns {
                let at = b * y_steps[0] + h * y_steps[2] + u * y_steps[3];
                let column = (0..terms).map(|w| y[at + w * y_steps[1]]);
                result.push(match evaluation.arithmetic().sums() {
                    Some(sums) => sums.of_products(ty.dtype, 0.0, line, &collect(column)?),
                    None => line.iter().zip(column).map(|(x, y)| x * y).sum(),
                });
            }
        }
    }
    Ok(vec![evaluation.tensor(ty.dtype, &rules::known_dims(&ty.shape)?, Numbers::Float(result))?])
}

/// As products of matrices, with `H` beside `B`.
fn written_out(row: &Einsum, writer: &mut Writer<'_>) -> Result<Vec<ValueId>, BuildError> {
    let contraction = Contraction::of(row).map_err(|error| writer.refused(error))?;
    let order = match contraction.x.rank() {
        4 => vec![0, 2, 1, 3],
        _ => vec![1, 0, 2],
    };
    let x = writer.bind("x", call::transpose(contraction.x, order.clone()))?;
    let y = writer.bind("y", call::transpose(contraction.y, order.clone()))?;
    let product = writer.bind("product", call::matmul(x, y))?;
    Ok(vec![writer.bind("", call::transpose(product, order))?])
}
