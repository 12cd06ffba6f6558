//! Products of matrices: `matmul`, `linear`, and what `conv` makes of them.

use anemone_mil::ops::{
    Conv, Convolution, Linear, Matmul, MatrixProduct, OpDef, OpError, Operand, Operands, Row,
};
use anemone_mil::types::{DType, Shape};

use super::convolution::convolution;
use super::elementwise::LEAST_RUN;
use super::vector::{Along, Factor, VectorProduct};
use super::{Around, Choice, Elements, Kernel, Surrounded};
use crate::element::is_float;
use crate::gemm::{After, Bias, Gemm, Matrix, Output, Precision, Right, WindowShape, Windows};
use crate::memory::{Floats, Sources, element_bytes};
use crate::threads::Threads;

/// A batch of products `[m, k] · [k, n]`.
pub(super) struct Product {
    /// One product, by all threads.
    gemm: Gemm,
    /// One product by one thread, where each thread has some of its own.
    each: Option<(Gemm, Threads)>,
    a: Side,
    b: Side,
    /// How windows lie over the matrices of `b`, where they are images, and the right operand what the windows meet.
    windows: Option<WindowShape>,
    /// The third operand, where there is one.
    bias: Option<(DType, BiasAlong)>,
    /// For each product of the batch, which matrix of each operand it takes.
    batch: Vec<[usize; 2]>,
    dtype: DType,
    /// Elements of one product.
    size: usize,
}

/// How the matrices of one operand lie in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    /// Its position among the operands.
    operand: usize,
    dtype: DType,
    row_stride: usize,
    column_stride: usize,
    /// Elements from one matrix to the next.
    size: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum BiasAlong {
    /// One value for each row of each matrix of `a`.
    Rows,
    /// One value for each column of all products.
    Columns,
}

impl Side {
    /// Row-major matrices, or transposed ones, one after the other.
    pub(super) fn new(operand: usize, dtype: DType, rows: usize, columns: usize, transposed: bool) -> Side {
        let (row_stride, column_stride) = if transposed { (1, rows) } else { (columns, 1) };
        Side { operand, dtype, row_stride, column_stride, size: rows * columns }
    }

    /// The same, with so many elements from each matrix to the next.
    pub(super) fn every(self, size: usize) -> Side {
        Side { size, ..self }
    }

    /// The elements from those of a matrix on.
    fn values<'a>(&self, operands: &Sources<'a>, index: usize) -> Floats<'a> {
        operands.floats(self.operand, self.dtype).from(index * self.size)
    }

    pub(super) fn matrix<'a>(&self, operands: &Sources<'a>, index: usize) -> Matrix<'a> {
        self.part(operands, index, 0)
    }

    /// The rows of a matrix from one on.
    pub(super) fn part<'a>(&self, operands: &Sources<'a>, index: usize, row: usize) -> Matrix<'a> {
        let values = self.values(operands, index).from(row * self.row_stride);
        Matrix { values, row_stride: self.row_stride, column_stride: self.column_stride }
    }
}

impl Kernel for Product {
    fn scratch(&self) -> usize {
        let values = match &self.each {
            Some((gemm, _)) => gemm.scratch().saturating_mul(self.gemm.threads()),
            None => self.gemm.scratch(),
        };
        values.div_ceil(2)
    }

    fn run(&self, operands: Sources<'_>, result: &mut [u8], scratch: &mut [f64], threads: &Threads) {
        self.run_within(operands, result, scratch, threads, Around::default());
    }

    fn surrounded(&self) -> Option<&dyn Surrounded> {
        (self.gemm.columns() >= LEAST_RUN).then_some(self)
    }
}

impl Surrounded for Product {
    fn run_within(
        &self,
        operands: Sources<'_>,
        result: &mut [u8],
        scratch: &mut [f64],
        threads: &Threads,
        around: Around<'_>,
    ) {
        let scratch: &mut [f32] = bytemuck::cast_slice_mut(scratch);
        let bias = |a: usize| match self.bias {
            None => Bias::None,
            Some((dtype, BiasAlong::Rows)) => {
                Bias::Rows(operands.floats(2, dtype).from(a * self.gemm.rows()))
            }
            Some((dtype, BiasAlong::Columns)) => Bias::Columns(operands.floats(2, dtype)),
        };
        let bytes = self.size * element_bytes(self.dtype);
        let products = self.batch.iter().zip(result.chunks_exact_mut(bytes.max(1))).enumerate();
        type Item<'i, 'r> = (usize, (&'i [usize; 2], &'r mut [u8]));
        let run =
            |(i, ([a, b], result)): Item<'_, '_>, gemm: &Gemm, scratch: &mut [f32], threads: &Threads| {
                let (a, bias) = (self.a.matrix(&operands, *a), bias(*a));
                let right: Right<'_> = match &self.windows {
                    None => self.b.matrix(&operands, *b).into(),
                    Some(shape) => Windows { values: self.b.values(&operands, *b), shape }.into(),
                };
                let epilogue = around.epilogue.map(|epilogue| {
                    move |position: usize, values: &mut [f32]| epilogue(i * self.size + position, values)
                });
                let epilogue = epilogue.as_ref().map(|epilogue| epilogue as Elements<'_>);
                let output = Output::new(self.dtype, result);
                gemm.run(a, right, After { bias, epilogue }, output, scratch, threads);
            };
        match &self.each {
            None => products.for_each(|product| run(product, &self.gemm, scratch, threads)),
            Some((gemm, alone)) => {
                let scratch = &mut scratch[..gemm.scratch() * threads.count()];
                threads.drain(products, scratch, |product, scratch| run(product, gemm, scratch, alone));
            }
        }
    }
}

/// Multiply-adds of one product above which all threads share it: it is then so large that beginning and ending together
/// costs nothing beside it, and threads that share what is packed need less room in the caches.
const MOST_OF_ONE_THREAD: usize = 1 << 27;

impl Product {
    /// Chooses whether the products of a batch are shared among threads, or each of them.
    pub(super) fn new(
        [m, n, k]: [usize; 3],
        ([a, b], windows): ([Side; 2], Option<WindowShape>),
        bias: Option<(DType, BiasAlong)>,
        batch: Vec<[usize; 2]>,
        result: DType,
        precision: Precision,
        threads: &Threads,
    ) -> Option<Product> {
        let size = m.checked_mul(n)?;
        // Threads that have one product more than others should not have much more.
        let many = batch.len() >= 4 * threads.count() || batch.len().is_multiple_of(threads.count());
        let small = size.saturating_mul(k) <= MOST_OF_ONE_THREAD;
        let gemm = |threads: &Threads| match &windows {
            None => Gemm::new([m, n, k], precision, threads),
            Some(_) => Gemm::for_windows([m, n, k], precision, threads),
        };
        let each = (threads.count() > 1 && batch.len() > 1 && many && small).then(|| {
            let alone = threads.alone();
            (gemm(&alone), alone)
        });
        Some(Product { gemm: gemm(threads), each, a, b, windows, bias, batch, dtype: result, size })
    }
}

pub(super) fn product(
    row: &OpDef,
    operands: &Operands<'_>,
    threads: &Threads,
) -> Result<Option<Choice>, OpError> {
    let since = row.since;
    match row.name {
        "matmul" => Ok(matrix_product(&MatrixProduct::of_matmul(&Matmul::bind(operands, since)?)?, threads)),
        "linear" => Ok(matrix_product(&MatrixProduct::of_linear(&Linear::bind(operands, since)?)?, threads)),
        _ => Ok(convolution(&Convolution::of(&Conv::bind(operands, since)?)?, threads)),
    }
}

/// The operands of a product, if all are of fp16 or fp32.
pub(super) fn float_operands(a: &Operand, b: &Operand, bias: Option<&Operand>) -> Option<Vec<Operand>> {
    let operands: Vec<Operand> = [Some(a), Some(b), bias].into_iter().flatten().cloned().collect();
    operands.iter().all(|operand| is_float(operand.dtype())).then_some(operands)
}

/// The precision that both factors of a product ask for.
pub(super) fn precision(operands: &[Operand]) -> Precision {
    let half = operands.iter().take(2).all(|operand| operand.dtype() == DType::Fp16);
    if half { Precision::Half } else { Precision::Single }
}

fn matrix_product(product: &MatrixProduct<'_>, threads: &Threads) -> Option<Choice> {
    let sizes = Shape(vec![product.m, product.k, product.n]).to_known()?;
    let [m, k, n] = [sizes[0], sizes[1], sizes[2]];
    let batch = product.batch.to_known()?;
    let operands = float_operands(product.x, product.y, product.bias)?;
    let taken = |operand: &Operand| Some(batch_indices(&operand.shape().to_known()?, &batch));
    let (x_taken, y_taken) = (taken(product.x)?, taken(product.y)?);
    // One matrix for all rows of the batch makes one product of them.
    let one_y = y_taken.iter().all(|&index| index == 0) && !product.transpose_x;
    let contiguous = x_taken.iter().enumerate().all(|(i, &index)| i == index);
    let (m, batch) = if one_y && contiguous && !x_taken.is_empty() {
        (m.checked_mul(x_taken.len())?, vec![[0, 0]])
    } else {
        (m, x_taken.into_iter().zip(y_taken).map(|(x, y)| [x, y]).collect())
    };
    let sides = [
        Side::new(0, product.x.dtype(), m, k, product.transpose_x),
        Side::new(1, product.y.dtype(), k, n, product.transpose_y),
    ];
    let transposed = [product.transpose_x, product.transpose_y];
    if product.bias.is_none()
        && let Some(kernel) =
            vector_product([m, n, k], sides, transposed, &batch, product.result.dtype, threads)
    {
        return Some(Choice::kernel(kernel, operands));
    }
    let kernel = Product::new(
        [m, n, k],
        (sides, None),
        product.bias.map(|bias| (bias.dtype(), BiasAlong::Columns)),
        batch,
        product.result.dtype,
        precision(&operands),
        threads,
    )?;
    is_float(kernel.dtype).then(|| Choice::kernel(kernel, operands))
}

/// The kernel for products of which one factor is a vector, but for a matrix that is read along its columns with no end of
/// them.
pub(super) fn vector_product(
    [m, n, k]: [usize; 3],
    [a, b]: [Side; 2],
    [transpose_a, transpose_b]: [bool; 2],
    batch: &[[usize; 2]],
    dtype: DType,
    threads: &Threads,
) -> Option<VectorProduct> {
    let factor = |side: Side| Factor { operand: side.operand, dtype: side.dtype };
    let along = |sums_of_rows| if sums_of_rows { Along::Rows } else { Along::Columns };
    if k == 0 || m == 0 || n == 0 || !is_float(dtype) {
        return None;
    }
    let (matrix, vector, results, along, swapped) = match (m, n) {
        (_, 1) => (factor(a), factor(b), m, along(!transpose_a), false),
        (1, _) => (factor(b), factor(a), n, along(transpose_b), true),
        _ => return None,
    };
    // One thread combines rows.
    if along == Along::Columns && results.saturating_mul(k) > MOST_COMBINED {
        return None;
    }
    let taken = |&[a, b]: &[usize; 2]| if swapped { [b, a] } else { [a, b] };
    Some(VectorProduct {
        matrix,
        vector,
        terms: k,
        results,
        along,
        batch: batch.iter().map(taken).collect(),
        dtype,
        threads: threads.count(),
    })
}

/// Elements of a matrix whose rows one thread combines, at most.
const MOST_COMBINED: usize = 1 << 18;

/// For each matrix of the broadcast batch, the position of the operand's matrix that stands there.
pub(crate) fn batch_indices(dims: &[usize], batch: &[usize]) -> Vec<usize> {
    let own = &dims[..dims.len().saturating_sub(2)];
    let mut indices = vec![0];
    let missing = batch.len() - own.len();
    for (i, &length) in batch.iter().enumerate() {
        let own_length = if i < missing { 1 } else { own[i - missing] };
        let step = |index: usize, at: usize| index * own_length + if own_length == 1 { 0 } else { at };
        indices = indices.iter().flat_map(|&index| (0..length).map(move |at| step(index, at))).collect();
    }
    indices
}
