//! Finds attention among the ops of a function.
//!
//! ```text
//! scores = matmul(x = q, y = k, transpose_x = true)
//! later = greater(x = key positions, y = query positions)     these two may be missing
//! masked = select(cond = later, a = score, b = scores)
//! p = softmax(x = masked, axis = -1)
//! mixed = matmul(x = v, y = p, transpose_y = true)
//! ```
//!
//! Where nothing else reads what they make, the ops become one step, the last one's, and what they make is nowhere.

use std::collections::{HashMap, HashSet};

use anemone_mil::bind;
use anemone_mil::ops::{Greater, Matmul, MatrixProduct, Operand, Row, Select, Softmax};
use anemone_mil::program::{OpId, ValueId};
use anemone_mil::types::{DType, Shape};

use crate::constants::Constants;
use crate::element::is_float;
use crate::kernels::Work;
use crate::kernels::attention::{Attention, AttentionSizes};
use crate::kernels::product::batch_indices;
use crate::threads::Threads;

/// Fewer queries of a head than these are as well left to the ops' own kernels.
const LEAST_QUERIES: usize = 8;

/// What was found.
#[derive(Default)]
pub(crate) struct Attentions {
    /// What to do in the place of the last op of each.
    pub works: HashMap<OpId, Work>,
    /// The other ops.
    pub inner: HashSet<OpId>,
}

/// Finds attention. `readers` are the numbers of ops that read each value.
pub(crate) fn attentions(constants: &Constants, readers: &[usize], threads: &Threads) -> Attentions {
    let function = constants.specialized().function();
    let ops = &function.body.ops;
    let makers = ops.iter().flat_map(|&id| function.op(id).results.iter().map(move |&value| (value, id)));
    let search = Search { constants, readers, makers: makers.collect(), threads };
    let mut found = Attentions::default();
    for &id in ops {
        if let Some((work, inner)) = search.attention(id) {
            found.works.insert(id, work);
            found.inner.extend(inner);
        }
    }
    found
}

/// The operands of the ops that attention may consist of.
struct Parts {
    scores: Matmul,
    mask: Option<MaskOperands>,
    mixed: Matmul,
}

struct MaskOperands {
    later: Greater,
    score: Operand,
}

struct Search<'a> {
    constants: &'a Constants,
    readers: &'a [usize],
    /// The op that makes each value.
    makers: HashMap<ValueId, OpId>,
    threads: &'a Threads,
}

impl Search<'_> {
    /// The operands of an op, if it is of this row.
    fn op<R: Row>(&self, id: OpId) -> Option<R> {
        let specialized = self.constants.specialized();
        let row = specialized.row(id).filter(|row| row.name == R::BASE.name)?;
        let operands = bind::operands(specialized.function().op(id), row, self.constants).ok()?;
        R::bind(&operands, row.since).ok()
    }

    /// The op that makes an operand which nothing else reads.
    fn maker(&self, operand: &Operand) -> Option<OpId> {
        let value = operand.id.filter(|value| self.readers[value.0 as usize] == 1)?;
        self.makers.get(&value).copied()
    }

    /// Attention whose last op is this one: what computes it, and the other ops.
    fn attention(&self, id: OpId) -> Option<(Work, Vec<OpId>)> {
        let mixed: Matmul = self.op(id)?;
        let softmax_id = self.maker(&mixed.y)?;
        let softmax: Softmax = self.op(softmax_id)?;
        if softmax.position().ok()? + 1 != softmax.x.shape().0.len() {
            return None;
        }
        let scores_or_select = self.maker(&softmax.x)?;
        let mut inner = vec![softmax_id, scores_or_select];
        let mut scores_id = scores_or_select;
        let mut mask = None;
        if let Some(select) = self.op::<Select>(scores_or_select) {
            let later = *self.makers.get(&select.cond.id?)?;
            // What others read of it is computed for them.
            inner.extend(self.maker(&select.cond));
            scores_id = self.maker(&select.b)?;
            inner.push(scores_id);
            mask = Some(MaskOperands { later: self.op(later)?, score: select.a });
        }
        let parts = Parts { scores: self.op(scores_id)?, mask, mixed };
        let work = self.work(parts, softmax.x.shape())?;
        Some((work, inner))
    }

    /// What computes it; `None` where it is another form of it, or not attention.
    fn work(&self, parts: Parts, masked: &Shape) -> Option<Work> {
        let scores = MatrixProduct::of_matmul(&parts.scores).ok()?;
        let mixed = MatrixProduct::of_matmul(&parts.mixed).ok()?;
        let transposed = [scores.transpose_x, scores.transpose_y, mixed.transpose_x, mixed.transpose_y];
        let lengths = Shape(vec![scores.k, mixed.m, scores.m, scores.n]).to_known()?;
        let [channels, value_channels, queries, keys] = lengths[..] else { return None };
        let batch = scores.batch.to_known()?;
        let same = mixed.batch.to_known()? == batch && scores.result.shape == *masked;
        let operands = [scores.x, scores.y, mixed.x];
        let dtype = scores.result.dtype;
        let floats = operands.iter().all(|operand| operand.dtype() == dtype) && mixed.result.dtype == dtype;
        // Another value of a constant chooses the kernels of its readers again, of which there are none here.
        let given = operands.iter().all(|operand| !operand.constant && !operand.is_state);
        let enough = lengths.iter().chain(&batch).all(|&length| length > 0) && queries >= LEAST_QUERIES;
        if transposed != [true, false, false, true]
            || !same
            || !floats
            || !is_float(dtype)
            || !given
            || !enough
        {
            return None;
        }
        let indices = |operand: &Operand| Some(batch_indices(&operand.shape().to_known()?, &batch));
        let [q, k, v] = [indices(scores.x)?, indices(scores.y)?, indices(mixed.x)?];
        let heads = q.into_iter().zip(k).zip(v).map(|((q, k), v)| [q, k, v]).collect();
        let mut operands = operands.map(Operand::clone).to_vec();
        let masked = parts.mask.is_some();
        if let Some(MaskOperands { later, score }) = parts.mask {
            operands.extend(mask_operands(later, score, [queries, keys], dtype)?);
        }
        let sizes = AttentionSizes { dtype, channels, value_channels, queries, keys, heads, masked };
        Some(Work { kernel: Box::new(Attention::new(sizes, self.threads)), operands })
    }
}

/// Positions of keys and queries, and the score of keys that come later.
fn mask_operands(
    later: Greater,
    score: Operand,
    [queries, keys]: [usize; 2],
    dtype: DType,
) -> Option<[Operand; 3]> {
    let dims = |operand: &Operand| operand.shape().to_known();
    let along = |operand: &Operand, last: [usize; 2]| {
        let dims = dims(operand)?;
        let (outer, inner) = dims.split_at_checked(dims.len().checked_sub(2)?)?;
        let fits = outer.iter().all(|&length| length == 1) && *inner == last && !operand.is_state;
        (fits && operand.dtype() == DType::Int32).then_some(())
    };
    along(&later.x, [1, keys])?;
    along(&later.y, [queries, 1])?;
    let one = dims(&score)?.iter().all(|&length| length == 1) && !score.is_state;
    (one && score.dtype() == dtype).then_some([later.x, later.y, score])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use anemone_mil::text;
    use anemone_mil::types::TensorType;
    use anemone_mil::verify::verify;
    use anemone_mil::weights::WeightMap;

    use crate::execution::Execution;

    /// The steps, and the bytes of planned memory, of causal attention of 64 queries to as many keys, with these results.
    fn planned(results: &str) -> (usize, usize) {
        let positions: Vec<String> = (0..64).map(|position| position.to_string()).collect();
        let keys = format!("[[[[{}]]]]", positions.join(", "));
        let queries = format!("[[[[{}]]]]", positions.join("], ["));
        let source = format!(
            "program(1.3) {{ func main<ios18>(tensor<fp32, [1, 2, 8, 64]> q, tensor<fp32, [1, 1, 8, 64]> k, tensor<fp32, [1, 1, 8, 64]> v) {{
                tensor<bool, [1, 1, 64, 64]> later = greater(x = tensor<int32, [1, 1, 1, 64]>({keys}), y = tensor<int32, [1, 1, 64, 1]>({queries}))[name = string(\"later\")];
                tensor<fp32, [1, 2, 64, 64]> scores = matmul(x = q, y = k, transpose_x = bool(true), transpose_y = bool(false))[name = string(\"scores\")];
                tensor<fp32, [1, 2, 64, 64]> masked = select(cond = later, a = fp32(-10000.0), b = scores)[name = string(\"masked\")];
                tensor<fp32, [1, 2, 64, 64]> p = softmax(x = masked, axis = int32(-1))[name = string(\"p\")];
                tensor<fp32, [1, 2, 8, 64]> y = matmul(x = v, y = p, transpose_x = bool(false), transpose_y = bool(true))[name = string(\"y\")];
            }} -> ({results}); }}"
        );
        let program = Arc::new(verify(text::parse(&source).unwrap().program).unwrap());
        let ty = |heads| TensorType::new(super::DType::Fp32, &[1, heads, 8, 64]);
        let types = [ty(2), ty(1), ty(1)];
        let threads = crate::Cpu::new().unwrap().threads;
        let execution = Execution::new(threads, &program, "main", &types, &WeightMap::default()).unwrap();
        (execution.ops_of_steps().len(), execution.planned_bytes())
    }

    #[test]
    fn attention_is_one_step_and_plans_no_matrix() {
        assert_eq!(planned("y"), (1, 0));
    }

    #[test]
    fn a_mask_that_is_read_besides_is_computed_besides_attention() {
        assert_eq!(planned("y, later").0, 2);
    }

    #[test]
    fn probabilities_that_are_read_besides_are_no_attention() {
        assert_eq!(planned("y, p").0, 5);
    }
}
