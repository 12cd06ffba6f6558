//! Finds attention among the ops of a function, and its gradients.
//!
//! ```text
//! scores = matmul(x = q, y = k, transpose_y = true)           q, k and v may lie in memory either way
//! scaled = mul(x = scores, y = scale)                         this may be missing
//! later = greater(x = key positions, y = query positions)     these two may be missing,
//! masked = select(cond = later, a = score, b = scaled)        or add(x = scaled, y = mask) stand in their place
//! p = softmax(x = masked, axis = -1)
//! mixed = matmul(x = p, y = v)
//! ```
//!
//! Where nothing else reads what they make, the ops become one step, the last one's, and what they make is nowhere.
//! `attention/backward.rs` has the gradients.

use std::collections::{HashMap, HashSet};

use anemone_mil::bind;
use anemone_mil::ops::{Add, Greater, Matmul, MatrixProduct, Mul, Operand, Row, Select, Softmax};
use anemone_mil::program::{OpId, ValueId};
use anemone_mil::types::{DType, Shape};

use crate::constants::Constants;
use crate::draft::DraftWork;
use crate::element::is_float;
use crate::kernels::Work;
use crate::kernels::attention::{AttentionForm, Forward, Layout, MaskForm, Vectors};
use crate::kernels::product::batch_indices;
use crate::readers::values_read;
use crate::threads::Threads;

mod backward;
#[cfg(test)]
mod tests;

/// Fewer queries of a head than these are as well left to the ops' own kernels.
const LEAST_QUERIES: usize = 8;

/// What was found.
#[derive(Default)]
pub(crate) struct Attentions {
    /// What to do in the place of one op of each.
    pub works: HashMap<OpId, DraftWork>,
    /// The other ops.
    pub inner: HashSet<OpId>,
}

/// Finds attention. `readers` are the numbers of ops that read each value.
pub(crate) fn attentions(constants: &Constants, readers: &[usize], threads: &Threads) -> Attentions {
    let function = constants.specialized().function();
    let mut search = Search { constants, readers, makers: HashMap::new(), users: HashMap::new(), threads };
    for (place, &id) in function.body.ops.iter().enumerate() {
        let op = function.op(id);
        search.makers.extend(op.results.iter().map(|&value| (value, (id, place))));
        for value in values_read(function, op) {
            search.users.entry(value).or_default().push((id, place));
        }
    }
    let mut found = Attentions::default();
    for &id in &function.body.ops {
        if let Some((at, work, inner)) = search.forward(id).or_else(|| search.backward(id)) {
            found.works.insert(at, work);
            found.inner.extend(inner.into_iter().filter(|&id| id != at));
        }
    }
    found
}

/// The op in whose place a step stands, the step, and its ops, or the other ones.
type Found = (OpId, DraftWork, Vec<OpId>);

/// An op, and its place in the body.
type Placed = (OpId, usize);

struct Search<'a> {
    constants: &'a Constants,
    readers: &'a [usize],
    /// The op that makes each value.
    makers: HashMap<ValueId, Placed>,
    /// The ops that read each value, in order.
    users: HashMap<ValueId, Vec<Placed>>,
    threads: &'a Threads,
}

/// Probabilities: what they are computed from, and the ops that do, as far as nothing else needs what they make.
struct Weights {
    scores: Matmul,
    scale: Option<Operand>,
    mask: Option<MaskOperands>,
    p: ValueId,
    inner: Vec<OpId>,
}

/// Scores before they are masked, and the ops that make them.
struct Scores {
    scores: Matmul,
    scale: Option<Operand>,
    inner: Vec<OpId>,
}

enum MaskOperands {
    /// `later`, its op, and the score.
    Later(ValueId, Greater, Operand),
    Added(Operand),
}

/// A product with a matrix of a row for each query and a column for each key.
struct Weighted {
    other: Operand,
    /// How the other operand, and the result, lie in memory.
    layouts: [Layout; 2],
    result: Shape,
}

impl Search<'_> {
    /// The operands of an op, if it is of this row.
    fn op<R: Row>(&self, id: OpId) -> Option<R> {
        let specialized = self.constants.specialized();
        let row = specialized.row(id).filter(|row| row.name == R::BASE.name)?;
        let operands = bind::operands(specialized.function().op(id), row, self.constants).ok()?;
        R::bind(&operands, row.since).ok()
    }

    /// What an op makes.
    fn result(&self, id: OpId) -> Option<ValueId> {
        self.constants.specialized().function().op(id).results.first().copied()
    }

    /// The op of this row that makes an operand.
    fn made_by<R: Row>(&self, operand: &Operand) -> Option<(OpId, R)> {
        let (id, _) = *self.makers.get(&operand.id?)?;
        Some((id, self.op(id)?))
    }

    /// The op of this row that makes an operand which nothing else reads.
    fn made_for<R: Row>(&self, operand: &Operand) -> Option<(OpId, R)> {
        self.made_by(operand).filter(|_| operand.id.is_some_and(|id| self.readers[id.0 as usize] == 1))
    }

    /// What computes the result of a softmax over keys.
    fn weights(&self, id: OpId) -> Option<Weights> {
        let softmax: Softmax = self.op(id)?;
        if softmax.position().ok()? + 1 != softmax.x.shape().0.len() {
            return None;
        }
        let (scores, mask, inner) = self.masked(&softmax.x)?;
        let Scores { scores, scale, inner: others } = scores;
        let same = MatrixProduct::of_matmul(&scores).ok()?.result.shape == *softmax.x.shape();
        let inner = [&[id], &inner[..], &others].concat();
        same.then_some(Weights { scores, scale, mask, p: self.result(id)?, inner })
    }

    /// The scores of which an operand is made, the mask in between, and its ops.
    fn masked(&self, x: &Operand) -> Option<(Scores, Option<MaskOperands>, Vec<OpId>)> {
        if let Some((id, select)) = self.made_for::<Select>(x) {
            let (later_id, later) = self.made_by::<Greater>(&select.cond)?;
            // What others read of it is computed for them.
            let later_id = self.made_for::<Greater>(&select.cond).map(|_| later_id);
            let inner = [id].into_iter().chain(later_id).collect();
            let mask = MaskOperands::Later(select.cond.id?, later, select.a);
            return Some((self.scores(&select.b)?, Some(mask), inner));
        }
        if let Some((id, Add { x, y, .. })) = self.made_for::<Add>(x) {
            let (scores, mask) = self
                .scores(&x)
                .map(|scores| (scores, y.clone()))
                .or_else(|| self.scores(&y).map(|scores| (scores, x)))?;
            return Some((scores, Some(MaskOperands::Added(mask)), vec![id]));
        }
        Some((self.scores(x)?, None, Vec::new()))
    }

    /// The scores that an operand is, or whose product with one factor it is.
    fn scores(&self, x: &Operand) -> Option<Scores> {
        let product = |x: &Operand, scale: Option<Operand>, mut inner: Vec<OpId>| {
            let (id, scores) = self.made_for::<Matmul>(x)?;
            inner.push(id);
            Some(Scores { scores, scale, inner })
        };
        if let Some((id, Mul { x, y, .. })) = self.made_for::<Mul>(x) {
            return product(&x, Some(y.clone()), vec![id]).or_else(|| product(&y, Some(x), vec![id]));
        }
        product(x, None, Vec::new())
    }

    /// What is multiplied by a matrix of a row for each query, or by its transpose.
    fn weighted(product: &Matmul, weights: ValueId, transposed: bool) -> Option<Weighted> {
        let parts = MatrixProduct::of_matmul(product).ok()?;
        let result = parts.result.shape.clone();
        let (other, layouts) = if parts.x.id == Some(weights) && parts.transpose_x == transposed {
            (parts.y, [Layout::of(!parts.transpose_y), Layout::Positions])
        } else if parts.y.id == Some(weights) && parts.transpose_y != transposed {
            (parts.x, [Layout::of(parts.transpose_x), Layout::Channels])
        } else {
            return None;
        };
        Some(Weighted { other: other.clone(), layouts, result })
    }

    /// Attention whose last op is this one.
    fn forward(&self, id: OpId) -> Option<Found> {
        let mixed: Matmul = self.op(id)?;
        let softmax = |operand: &Operand| self.made_for::<Softmax>(operand).map(|(id, _)| id);
        let weights = self.weights(softmax(&mixed.y).or_else(|| softmax(&mixed.x))?)?;
        let Weighted { other: v, layouts: [v_layout, layout], .. } =
            Self::weighted(&mixed, weights.p, false)?;
        let (form, operands) = self.form(&weights, (v, v_layout), Vec::new())?;
        let work = Work { kernel: Box::new(Forward::new(form, layout, self.threads)), operands };
        let value = self.result(id)?;
        let (result, prologue, epilogue) = (0, None, None);
        Some((id, DraftWork::Kernel { result, value, work, prologue, epilogue }, weights.inner))
    }

    /// The sizes of attention, and its operands, of which `more` come after v; `None` where it is another form of it.
    fn form(
        &self,
        weights: &Weights,
        (v, v_layout): (Operand, Layout),
        more: Vec<Operand>,
    ) -> Option<(AttentionForm, Vec<Operand>)> {
        let scores = MatrixProduct::of_matmul(&weights.scores).ok()?;
        let (batch, dtype) = (scores.batch.to_known()?, scores.result.dtype);
        let [queries, keys, channels] = Shape(vec![scores.m, scores.n, scores.k]).to_known()?[..] else {
            return None;
        };
        let q = Vectors { layout: Layout::of(!scores.transpose_x), positions: queries, channels };
        let k = Vectors { layout: Layout::of(scores.transpose_y), positions: keys, channels };
        let v_dims = v.shape().to_known()?;
        let [.., rows, columns] = v_dims[..] else { return None };
        let (v_positions, value_channels) = match v_layout {
            Layout::Positions => (rows, columns),
            Layout::Channels => (columns, rows),
        };
        let v_form = Vectors { layout: v_layout, positions: keys, channels: value_channels };
        let mut operands = vec![scores.x.clone(), scores.y.clone(), v];
        // Whose own batch is larger has others read it.
        let within = |operand: &Operand| {
            let dims = operand.shape().to_known()?;
            let own = dims.len().checked_sub(2)?;
            let fits = own <= batch.len() && {
                let batch = &batch[batch.len() - own..];
                dims[..own].iter().zip(batch).all(|(own, all)| own == all || *own == 1)
            };
            fits.then(|| batch_indices(&dims, &batch))
        };
        let [q_taken, k_taken, v_taken] = [&operands[0], &operands[1], &operands[2]].map(within);
        let heads = q_taken?.into_iter().zip(k_taken?).zip(v_taken?).map(|((q, k), v)| [q, k, v]).collect();
        operands.extend(more);
        let floats = operands.iter().all(|operand| operand.dtype() == dtype) && is_float(dtype);
        // Another value of a constant chooses the kernels of its readers again, of which there are none here.
        let given = operands.iter().all(|operand| !operand.constant && !operand.is_state);
        let lengths = [queries, keys, channels, value_channels];
        let enough = lengths.iter().chain(&batch).all(|&length| length > 0) && queries >= LEAST_QUERIES;
        if v_positions != keys || !floats || !given || !enough {
            return None;
        }
        let mut form = AttentionForm { dtype, q, k, v: v_form, heads, scale: None, mask: None };
        if let Some(scale) = &weights.scale {
            form.scale = Some(operands.len());
            operands.push(one_of(scale, dtype)?);
        }
        match &weights.mask {
            None => {}
            Some(MaskOperands::Later(_, later, score)) => {
                along(&later.x, [1, keys])?;
                along(&later.y, [queries, 1])?;
                let first = operands.len();
                form.mask = Some(MaskForm::Later { keys: first, queries: first + 1, score: first + 2 });
                operands.extend([later.x.clone(), later.y.clone(), one_of(score, dtype)?]);
            }
            Some(MaskOperands::Added(mask)) => {
                form.mask = Some(added(mask, operands.len(), dtype, [queries, keys], within)?);
                operands.push(mask.clone());
            }
        }
        // Scores may be their own mask, or probabilities the values.
        let made_between = |operand: &Operand| {
            let maker = operand.id.and_then(|id| self.makers.get(&id));
            maker.is_some_and(|(id, _)| weights.inner.contains(id))
        };
        (!operands.iter().any(made_between)).then_some((form, operands))
    }
}

/// An operand that is one number of this type.
fn one_of(operand: &Operand, dtype: DType) -> Option<Operand> {
    let one = operand.shape().to_known()?.iter().all(|&length| length == 1) && !operand.is_state;
    (one && operand.dtype() == dtype).then(|| operand.clone())
}

/// Checks that an operand has the positions of keys or queries.
fn along(operand: &Operand, last: [usize; 2]) -> Option<()> {
    let dims = operand.shape().to_known()?;
    let (outer, inner) = dims.split_at_checked(dims.len().checked_sub(2)?)?;
    let fits = outer.iter().all(|&length| length == 1) && *inner == last && !operand.is_state;
    (fits && operand.dtype() == DType::Int32).then_some(())
}

/// A mask that is added, the operand at a position.
fn added(
    mask: &Operand,
    operand: usize,
    dtype: DType,
    [queries, keys]: [usize; 2],
    heads: impl Fn(&Operand) -> Option<Vec<usize>>,
) -> Option<MaskForm> {
    let dims = mask.shape().to_known()?;
    let [.., rows, columns] = dims[..] else { return None };
    let fits = [(rows, queries), (columns, keys)].iter().all(|&(own, all)| own == all || own == 1);
    if !fits || mask.dtype() != dtype || mask.is_state {
        return None;
    }
    let strides = [if rows == 1 { 0 } else { columns }, usize::from(columns > 1)];
    Some(MaskForm::Added { operand, heads: heads(mask)?, size: rows * columns, strides })
}
