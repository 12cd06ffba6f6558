//! How the interpreter computes: what is rounded, and how sums and single functions come about.

use std::fmt;

use crate::eval::{collect, room};
use crate::ops::{OpError, Operands};
use crate::program::{Function, Op};
use crate::tensor::{Data, Tensor, TensorError};
use crate::types::DType;

/// The way in which numbers are computed. The interpreter's loop is one; a backend with an arithmetic of its own runs it
/// over that.
pub trait Arithmetic: fmt::Debug + Send + Sync {
    /// The element type that values declared as `dtype` are kept in.
    fn kept(&self, dtype: DType) -> DType {
        dtype
    }

    /// A tensor of an element type from exact floating-point values.
    ///
    /// # Errors
    ///
    /// When the number of values is not the shape's.
    fn round(&self, dtype: DType, dims: &[usize], values: Vec<f64>) -> Result<Tensor, TensorError> {
        Tensor::from_f64(dtype, dims, &values)
    }

    /// The way to add up, where it is not in f64.
    fn sums(&self) -> Option<&dyn Sums> {
        None
    }

    /// The value of an op that computes element by element from one operand, where it is not the exact one: from a table,
    /// say. What the op adds to its operand first (`epsilon`) is in `x`.
    fn function(&self, _op: &str, _dtype: DType, _x: f64) -> Option<f64> {
        None
    }

    /// Is told of an op that has no blocks before it is computed from these operands, and may change their values, but not
    /// their types.
    fn begin(&self, _at: OpInFunction<'_>, _operands: &mut Operands<'_>) {}

    /// Is told of an op's results, and may change their values, but not their types.
    fn end(&self, _at: OpInFunction<'_>, _operands: &Operands<'_>, _results: &mut [Tensor]) {}
}

/// An op that is being computed.
#[derive(Debug, Clone, Copy)]
pub struct OpInFunction<'a> {
    /// The op.
    pub op: &'a Op,
    /// The function that it is part of.
    pub function: &'a Function,
}

/// A way to add up.
pub trait Sums {
    /// `start + Σ x[i]·y[i]` for a result of an element type. The terms come in the order of the op's definition.
    fn of_products(&self, dtype: DType, start: f64, x: &[f64], y: &[f64]) -> f64;

    /// `Σ x[i]` for a result of an element type, as a reduction does it.
    fn of_elements(&self, dtype: DType, x: &[f64]) -> f64;

    /// A product of matrices, row-major; one sum after the other, unless an arithmetic knows a faster way to the same
    /// numbers.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    fn of_matrices(&self, product: &Product<'_>) -> Result<Vec<f64>, OpError> {
        product.sum_by_sum(|start, x, y| self.of_products(product.dtype, start, x, y))
    }
}

/// A product of matrices, `m × k` by `k × n`: `start[i, j] + Σ x[i, l]·y[l, j]`.
#[derive(Debug, Clone, Copy)]
pub struct Product<'a> {
    /// The result's element type.
    pub dtype: DType,
    /// The left factor.
    pub x: Factor<'a>,
    /// The right factor.
    pub y: Factor<'a>,
    /// `m`, `k` and `n`.
    pub sizes: [usize; 3],
    /// What the sums begin with.
    pub start: Start<'a>,
}

impl Product<'_> {
    /// The product, each sum added up by `add` from where it begins and its two lines of factors.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn sum_by_sum(&self, add: impl Fn(f64, &[f64], &[f64]) -> f64) -> Result<Vec<f64>, OpError> {
        let [m, k, n] = self.sizes;
        let x = self.x.lines(m, k, !self.x.transposed)?;
        let y = self.y.lines(n, k, self.y.transposed)?;
        let mut sums = room(m * n)?;
        for i in 0..m {
            let sum = |j: usize| add(self.start.at(i, j), &x[i * k..(i + 1) * k], &y[j * k..(j + 1) * k]);
            sums.extend((0..n).map(sum));
        }
        Ok(sums)
    }
}

/// A factor of a [`Product`].
#[derive(Debug, Clone, Copy)]
pub struct Factor<'a> {
    /// The values, row-major.
    pub values: &'a [f64],
    /// Whether the matrix stands in memory with its dimensions the other way round.
    pub transposed: bool,
}

impl Factor<'_> {
    /// The lines along which sums go, one after the other.
    fn lines(self, lines: usize, k: usize, together: bool) -> Result<Vec<f64>, OpError> {
        let at = |index: usize| if together { index } else { index % k * lines + index / k };
        collect((0..lines * k).map(|index| self.values[at(index)]))
    }
}

/// What the sums of a [`Product`] begin with.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// Zero.
    Zero,
    /// A number for each row.
    Rows(&'a [f64]),
    /// A number for each column.
    Columns(&'a [f64]),
}

impl Start<'_> {
    /// What the sum of this row and column begins with.
    pub fn at(self, row: usize, column: usize) -> f64 {
        match self {
            Start::Zero => 0.0,
            Start::Rows(numbers) => numbers[row],
            Start::Columns(numbers) => numbers[column],
        }
    }
}

/// The declared arithmetic: every op's result is computed in f64 and rounded once to its type, to nearest even.
#[derive(Debug, Clone, Copy, Default)]
pub struct Declared;

impl Arithmetic for Declared {}

/// The exact arithmetic: floating-point values stay in f64.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exact;

impl Arithmetic for Exact {
    fn kept(&self, dtype: DType) -> DType {
        if dtype.is_float() { DType::Fp64 } else { dtype }
    }

    fn round(&self, _: DType, dims: &[usize], values: Vec<f64>) -> Result<Tensor, TensorError> {
        Tensor::new(DType::Fp64, dims, Data::F64(values))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::eval::Interpreter;
    use crate::runtime::{Runtime, allocate_outputs};
    use crate::weights::WeightMap;
    use crate::{text, verify};

    /// Adds up in fp16 after every term, takes tanh from a table of one entry, and rounds to whole numbers.
    #[derive(Debug)]
    struct Coarse;

    impl Arithmetic for Coarse {
        fn round(&self, dtype: DType, dims: &[usize], values: Vec<f64>) -> Result<Tensor, TensorError> {
            Tensor::from_f64(dtype, dims, &values.iter().map(|value| value.round()).collect::<Vec<_>>())
        }

        fn sums(&self) -> Option<&dyn Sums> {
            Some(self)
        }

        fn function(&self, op: &str, _: DType, _: f64) -> Option<f64> {
            (op == "tanh").then_some(7.0)
        }
    }

    impl Sums for Coarse {
        fn of_products(&self, _: DType, start: f64, x: &[f64], y: &[f64]) -> f64 {
            x.iter().zip(y).fold(start, |sum, (x, y)| half::f16::from_f64(sum + x * y).to_f64())
        }

        fn of_elements(&self, _: DType, x: &[f64]) -> f64 {
            x.iter().fold(0.0, |sum, x| half::f16::from_f64(sum + x).to_f64())
        }
    }

    fn run(source: &str, x: &Tensor) -> Vec<Vec<f64>> {
        let program = text::parse(source).unwrap().program;
        let verified = Arc::new(verify::verify(program).unwrap());
        let interpreter = Interpreter { arithmetic: Arc::new(Coarse), ..Interpreter::default() };
        let mut main = interpreter.prepare(&verified, "main", &[x.ty()], &WeightMap::default()).unwrap();
        let mut outputs = allocate_outputs(main.as_ref()).unwrap();
        main.run(&[x], &mut outputs).unwrap();
        outputs.iter().map(|output| output.to_f64().unwrap()).collect()
    }

    #[test]
    fn an_arithmetic_of_its_own_decides_sums_functions_and_rounding() {
        let source = r#"program(1.3)
{
    func main<ios18>(tensor<fp32, [1, 3, 1]> x) {
            tensor<fp32, [1]> s = reduce_sum(axes = tensor<int32, [2]>([1, 2]), keep_dims = bool(false), x = x)[name = string("s")];
            tensor<fp32, [1, 3, 3]> p = matmul(transpose_x = bool(false), transpose_y = bool(true), x = x, y = x)[name = string("p")];
            tensor<fp32, [1, 1, 1]> q = matmul(transpose_x = bool(true), transpose_y = bool(false), x = x, y = x)[name = string("q")];
            tensor<fp32, [1, 1, 1]> c = conv(dilations = tensor<int32, [1]>([1]), groups = int32(1), pad = tensor<int32, [2]>([0, 0]), pad_type = string("valid"), strides = tensor<int32, [1]>([1]), weight = x, x = x)[name = string("c")];
            tensor<fp32, [1, 3, 1]> t = tanh(x = x)[name = string("t")];
            tensor<fp32, [1, 3, 1]> h = mul(x = x, y = fp32(0.3))[name = string("h")];
        } -> (s, q, c, t, h);
}
"#;
        let x = Tensor::from_values(&[1, 3, 1], vec![2048.0f32, 1.0, 1.0]).unwrap();
        let [s, q, c, t, h] = run(source, &x).try_into().unwrap();
        // In fp16 2048 + 1 is 2048; 2048² is infinite.
        assert_eq!(s, [2048.0]);
        assert_eq!((q, c), (vec![f64::INFINITY], vec![f64::INFINITY]));
        assert_eq!(t, [7.0; 3]);
        assert_eq!(h, [614.0, 0.0, 0.0]);
    }
}
