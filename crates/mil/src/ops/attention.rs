//! Attention as one op.

use half::f16;

use crate::builder::BuildError;
use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers, collect, filled};
use crate::ops::elementwise::larger;
use crate::ops::rules::{self, broadcast, broadcast_positions};
use crate::ops::{Accuracy, BOOL, DTypeSet, FLOAT, OpError, Operand, Writer, call};
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

/// What a mask holds: numbers that are added, or whether an element takes part.
const MASK: DTypeSet = FLOAT.and(BOOL);

crate::ops! {
    /// `softmax(query · keyᵀ / √E + attn_mask) · value` over the last two dimensions, with `query [*B, L, E]`,
    /// `key [*B, S, E]`, `value [*B, S, EV]` and a mask that broadcasts to `[*B, L, S]` and is `S` long; without one it is
    /// 0. A mask of bools counts as 0 where it is true and as −∞ where it is false.
    ///
    /// Nothing is said of a query that the mask lets see no key: as by the formula, its result is NaN. Nor of a mask of
    /// another floating-point type than `query`: it is added as it is.
    ScaledDotProductAttention = scaled_dot_product_attention(query: Operand[T], key: Operand[T], value: Operand[T];
        attn_mask: Option<Operand>[M])
        since IOS18 where [T: FLOAT, M: MASK]
        { infer: attention_type, eval: attention, accuracy: Accuracy::Sum(4); write_out: written_out; flops: attention_flops }
}

/// The lengths of the dimensions of attention.
#[derive(Debug, Clone)]
struct Lengths {
    /// `*B`.
    batch: Shape,
    /// `L`.
    queries: Dim,
    /// `S`.
    keys: Dim,
    /// `E`.
    features: Dim,
    /// `EV`.
    values: Dim,
}

impl Lengths {
    fn of(row: &ScaledDotProductAttention) -> Result<Lengths, OpError> {
        let rank = row.query.rank();
        if rank < 3 {
            return Err(OpError::rule("query", "must have at least rank 3: [*B, L, E]")
                .found(format!("found {}", row.query.ty)));
        }
        for (name, operand) in [("key", &row.key), ("value", &row.value)] {
            if operand.rank() != rank {
                return Err(OpError::rule(name, format!("must have the rank of `query`, {rank}"))
                    .found(format!("found {}", operand.ty)));
            }
        }
        let matrix = |operand: &Operand| {
            let (batch, last) = operand.shape().0.split_at(rank - 2);
            (Shape(batch.to_vec()), last[0], last[1])
        };
        let (mut batch, queries, features) = matrix(&row.query);
        let (key_batch, keys, key_features) = matrix(&row.key);
        let (value_batch, value_keys, values) = matrix(&row.value);
        for (name, other) in [("key", key_batch), ("value", value_batch)] {
            if !batch.agrees_with(&other) {
                return Err(OpError::rule(name, format!("must have the batch dimensions {batch}"))
                    .found(format!("found {other}")));
            }
            batch = Shape(batch.0.iter().zip(&other.0).map(|(a, b)| a.or(*b)).collect());
        }
        for (name, what, wanted, found) in
            [("key", "features", features, key_features), ("value", "positions", keys, value_keys)]
        {
            if !wanted.agrees_with(found) {
                let other = if name == "key" { "query" } else { "key" };
                return Err(OpError::rule(name, format!("must have as many {what} as `{other}`, {wanted}"))
                    .found(format!("found {found}")));
            }
        }
        let features = features.or(key_features);
        Ok(Lengths { batch, queries, keys: keys.or(value_keys), features, values })
    }

    /// Checks a mask, which no dimension of the scores may broadcast to, and whose last one is not broadcast.
    fn check_mask(&self, mask: &Operand) -> Result<(), OpError> {
        let mut scores = self.batch.clone();
        scores.0.extend([self.queries, self.keys]);
        let whole = mask.shape().0.last().is_some_and(|&last| last.agrees_with(self.keys));
        let within = mask.rank() <= scores.rank()
            && broadcast(&scores, mask.shape()).is_some_and(|both| scores.agrees_with(&both));
        if whole && within {
            return Ok(());
        }
        let message = format!("must broadcast to {scores}, with {} in its last dimension", self.keys);
        Err(OpError::rule("attn_mask", message).found(format!("found {}", mask.shape())))
    }
}

fn attention_type(row: &ScaledDotProductAttention) -> Result<Vec<TensorType>, OpError> {
    let lengths = Lengths::of(row)?;
    if let Some(mask) = &row.attn_mask {
        lengths.check_mask(mask)?;
    }
    let mut shape = lengths.batch;
    shape.0.extend([lengths.queries, lengths.values]);
    Ok(vec![TensorType { dtype: row.query.dtype(), shape }])
}

/// Two for each product that is added up, and five for each element of the softmax.
fn attention_flops(row: &ScaledDotProductAttention) -> Option<u64> {
    let lengths = Lengths::of(row).ok()?;
    let both = lengths.features.known()?.checked_add(lengths.values.known()?)?;
    let scores = lengths.batch.elements()?.checked_mul(lengths.queries.known()?)?;
    scores.checked_mul(lengths.keys.known()?)?.checked_mul(both.checked_mul(2)?.checked_add(5)?)
}

/// What is added to each score, in f64, row by row of the scores.
fn addends(mask: &Operand, dims: &[usize]) -> Result<Vec<f64>, OpError> {
    let values: Vec<f64> = match mask.numbers()? {
        Numbers::Float(values) => values,
        Numbers::Integer(values) => {
            collect(values.iter().map(|&takes_part| if takes_part == 0 { f64::NEG_INFINITY } else { 0.0 }))?
        }
    };
    collect(broadcast_positions(mask.dims()?, dims).into_iter().map(|position| values[position]))
}

fn attention(row: &ScaledDotProductAttention, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let lengths = Lengths::of(row)?;
    let batch = rules::known_dims(&lengths.batch)?;
    let matrices = Shape(vec![lengths.queries, lengths.keys, lengths.features, lengths.values]);
    let [queries, keys, features, columns] = rules::known_dims(&matrices)?[..] else {
        return Err(OpError::new(ErrorKind::Malformed, None, "attention has four lengths"));
    };
    let heads: usize = batch.iter().product();
    let pairs = (heads as u64).saturating_mul(queries as u64).saturating_mul(keys as u64);
    evaluation.charge(pairs.saturating_mul((features as u64).saturating_add(columns as u64)))?;
    if row.attn_mask.is_some() {
        evaluation.charge_elements(pairs)?;
    }
    let dims = [&batch[..], &[queries, keys]].concat();
    let mask = row.attn_mask.as_ref().map(|mask| addends(mask, &dims)).transpose()?;
    let (q, k, v) = (row.query.floats()?, row.key.floats()?, row.value.floats()?);
    let (sums, dtype) = (evaluation.arithmetic().sums(), row.query.dtype());
    let dot = |x: &[f64], y: &[f64]| match sums {
        Some(sums) => sums.of_products(dtype, 0.0, x, y),
        None => x.iter().zip(y).map(|(x, y)| x * y).sum(),
    };
    let (mut weights, mut column) = (filled(keys, 0.0)?, filled(keys, 0.0)?);
    let mut result = filled(heads * queries * columns, 0.0)?;
    for query in 0..heads * queries {
        let head = query / queries;
        for (key, weight) in weights.iter_mut().enumerate() {
            let at = (head * keys + key) * features;
            *weight =
                dot(&q[query * features..][..features], &k[at..at + features]) / (features as f64).sqrt();
            *weight += mask.as_ref().map_or(0.0, |mask| mask[query * keys + key]);
        }
        softmax(&mut weights);
        for (c, result) in result[query * columns..][..columns].iter_mut().enumerate() {
            for (key, value) in column.iter_mut().enumerate() {
                *value = v[(head * keys + key) * columns + c];
            }
            *result = dot(&weights, &column);
        }
    }
    let dims = [&batch[..], &[queries, columns]].concat();
    Ok(vec![evaluation.tensor(dtype, &dims, Numbers::Float(result))?])
}

/// `exp(x − m) / Σ exp(x − m)` with the largest `m`.
fn softmax(row: &mut [f64]) {
    let most = row.iter().fold(f64::NEG_INFINITY, |most, &x| larger(most, x));
    row.iter_mut().for_each(|x| *x = (*x - most).exp());
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}

/// In fp32: rounded to fp16, scores and probabilities would lose what the op keeps.
fn written_out(row: &ScaledDotProductAttention, writer: &mut Writer<'_>) -> Result<Vec<ValueId>, BuildError> {
    Ok(vec![row.write_out(writer, DType::Fp32)?])
}

impl ScaledDotProductAttention {
    /// Writes the op out as simpler ones, of which the last gives its result. Scores and probabilities are of the type
    /// `inner`, to which operands are cast where they are of another.
    ///
    /// # Errors
    ///
    /// When `E` is not known, or an op is not in the opset.
    pub fn write_out(&self, writer: &mut Writer<'_>, inner: DType) -> Result<ValueId, BuildError> {
        let features = self
            .query
            .shape()
            .0
            .last()
            .and_then(|&dim| dim.known())
            .ok_or_else(|| writer.refused(OpError::rule("query", "its last dimension must be known")))?;
        let q = writer.cast("query", &self.query, inner)?;
        let k = writer.cast("key", &self.key, inner)?;
        let v = writer.cast("value", &self.value, inner)?;
        let mask = match &self.attn_mask {
            Some(mask) if mask.dtype() == DType::Bool => {
                let numbers = call::select(mask, constant(inner, 0.0), constant(inner, f64::NEG_INFINITY));
                Some(writer.bind("mask", numbers)?.into())
            }
            Some(mask) => Some(writer.cast("mask", mask, inner)?),
            None => None,
        };
        let scores = writer.bind("scores", call::matmul(q, k).transpose_y(true))?;
        let scaled = writer.bind("scaled", call::mul(scores, 1.0 / (features as f64).sqrt()))?;
        let masked = match mask {
            Some(mask) => writer.bind("masked", call::add(scaled, mask))?,
            None => scaled,
        };
        let weights = writer.bind("weights", call::softmax(masked).axis(-1))?;
        if inner == self.query.dtype() {
            return writer.bind("", call::matmul(weights, v));
        }
        let mixed = writer.bind("mixed", call::matmul(weights, v))?;
        writer.bind("", call::cast(mixed, self.query.dtype().name()))
    }
}

/// A scalar of a floating-point type.
fn constant(dtype: DType, number: f64) -> Tensor {
    match dtype {
        DType::Fp16 => Tensor::scalar(f16::from_f64(number)),
        _ => Tensor::scalar(number as f32),
    }
}
