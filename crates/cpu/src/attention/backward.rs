//! Finds the gradients of attention, as they are derived:
//!
//! ```text
//! dp = matmul(x = do, y = v, transpose_y = true)              p as in forward
//! sums = reduce_sum(x = mul(x = p, y = dp), axes = [-1], keep_dims = true)
//! ds = mul(x = p, y = sub(x = dp, y = sums))
//! masked = select(cond = later, a = 0, b = ds)                where forward has such a mask; this may be missing
//! scaled = mul(x = masked, y = scale)                         where forward has such a scale
//! dv = matmul(x = p, y = do, transpose_x = true)              and the sums of dv and dk over heads that share them
//! dq = matmul(x = scaled, y = k)
//! dk = matmul(x = scaled, y = q, transpose_x = true)
//! ```

use anemone_mil::ops::{Matmul, MatrixProduct, Mul, Operand, ReduceSum, Reduction, Select, Softmax, Sub};
use anemone_mil::program::{OpId, ValueId};
use anemone_mil::types::Shape;

use super::{Found, MaskOperands, Search, Weighted, one_of};
use crate::draft::DraftWork;
use crate::kernels::JointWork;
use crate::kernels::attention::{Backward, BackwardForm, Layout, Vectors};
use crate::kernels::product::batch_indices;

/// A gradient of keys or values.
struct Shared {
    /// Its product before it is summed over heads.
    product: Weighted,
    /// The result, its shape, and the ops that make it.
    value: ValueId,
    shape: Shape,
    ops: Vec<OpId>,
}

impl Search<'_> {
    /// The ops that read a value, if nothing but them does, and they are so many.
    fn users<const N: usize>(&self, value: ValueId) -> Option<[OpId; N]> {
        let users = self.users.get(&value)?;
        let users = users.iter().map(|&(id, _)| id).collect::<Vec<_>>();
        <[OpId; N]>::try_from(users).ok().filter(|_| self.readers[value.0 as usize] == N)
    }

    /// The only op, of those that read a value, for which there is something.
    fn one<const N: usize, R>(users: [OpId; N], find: impl Fn(OpId) -> Option<R>) -> Option<R> {
        let mut found = users.into_iter().filter_map(find);
        found.next().filter(|_| found.next().is_none())
    }

    /// The gradients of attention of which this op makes ds.
    pub(super) fn backward(&self, id: OpId) -> Option<Found> {
        let Mul { x, y, .. } = self.op(id)?;
        let of = |p: &Operand, centred: &Operand| {
            let (softmax, _) = self.made_by::<Softmax>(p)?;
            Some((softmax, self.made_for::<Sub>(centred)?))
        };
        let (softmax, (sub_id, Sub { x: dp, y: sums, .. })) = of(&x, &y).or_else(|| of(&y, &x))?;
        let weights = self.weights(softmax)?;
        let (dp_id, dp_product) = self.made_by::<Matmul>(&dp)?;
        let (sum_id, sum) = self.made_for::<ReduceSum>(&sums)?;
        let (mul_id, products) = self.made_for::<Mul>(&Reduction::x(&sum).clone())?;
        let (p, dp) = (weights.p, dp.id?);
        let factors = [products.x.id, products.y.id];
        let last = [Reduction::x(&sum).shape().0.len().checked_sub(1)?];
        let summed = Reduction::keep_dims(&sum) && Reduction::axes(&sum).ok()? == last;
        let multiplied = factors == [Some(p), Some(dp)] || factors == [Some(dp), Some(p)];
        self.users::<2>(dp)?;
        if !summed || !multiplied {
            return None;
        }
        let d_v = Self::one(self.users::<3>(p)?, |user| self.shared(user, p))?;
        let mut ops = [&weights.inner[..], &d_v.ops, &[id, sub_id, dp_id, sum_id, mul_id]].concat();

        let mut ds = self.result(id)?;
        let mut fill = None;
        if let Some(MaskOperands::Later(later, ..)) = weights.mask
            && let Some([select_id]) = self.users::<1>(ds)
            && let Some(select) = self.op::<Select>(select_id)
        {
            if select.cond.id != Some(later) || select.b.id != Some(ds) {
                return None;
            }
            ops.push(select_id);
            // What others read of it is computed for them.
            if self.users::<2>(later).is_some() {
                ops.extend(self.makers.get(&later).map(|&(id, _)| id));
            }
            (ds, fill) = (self.result(select_id)?, Some(select.a));
        }
        if let Some(scale) = &weights.scale {
            let [mul_id] = self.users::<1>(ds)?;
            let Mul { x, y, .. } = self.op(mul_id)?;
            let factor = if x.id == Some(ds) { y } else { x };
            if !same(&factor, scale) {
                return None;
            }
            ops.push(mul_id);
            ds = self.result(mul_id)?;
        }
        let users = self.users::<2>(ds)?;
        let d_k = Self::one(users, |user| self.shared(user, ds))?;
        let (d_q_id, d_q) =
            Self::one(users, |user| Some((user, Self::weighted(&self.op(user)?, ds, false)?)))?;
        ops.extend(d_k.ops.iter().chain([&d_q_id]));
        let scores = MatrixProduct::of_matmul(&weights.scores).ok()?;
        let of_same = same(&d_q.other, scores.y) && same(&d_k.product.other, scores.x);

        let sloped = MatrixProduct::of_matmul(&dp_product).ok()?;
        let d_mixed = sloped.x.clone();
        let layouts = [Layout::of(!sloped.transpose_x), Layout::of(sloped.transpose_y)];
        let of_same = of_same && same(&d_mixed, &d_v.product.other) && sloped.result == scores.result;
        // Each layout is that of the same memory.
        let q_layout = Layout::of(!scores.transpose_x);
        let k_layout = Layout::of(scores.transpose_y);
        let same_layouts = [d_q.layouts[0], d_k.product.layouts[0], d_v.product.layouts[0]]
            == [k_layout, q_layout, layouts[0]];
        if !of_same || !same_layouts {
            return None;
        }
        let (attention, mut operands) =
            self.form(&weights, (sloped.y.clone(), layouts[1]), vec![d_mixed.clone()])?;
        let d_mixed_form =
            Vectors { layout: layouts[0], positions: attention.q.positions, channels: attention.v.channels };
        let batch = scores.batch.to_known()?;
        // Each head has its own do.
        let own = batch_indices(&d_mixed.shape().to_known()?, &batch).into_iter().enumerate();
        if !own.clone().all(|(head, index)| head == index) {
            return None;
        }
        let groups = groups(&d_k.shape, &batch)?;
        if groups != self::groups(&d_v.shape, &batch)? {
            return None;
        }
        let mut form = BackwardForm {
            attention,
            d_mixed: d_mixed_form,
            results: [d_q.layouts[1], d_k.product.layouts[1], d_v.product.layouts[1]],
            groups,
            fill: None,
        };
        if let Some(fill) = fill {
            form.fill = Some(operands.len());
            operands.push(one_of(&fill, form.attention.dtype)?);
        }
        let values = vec![self.result(d_q_id)?, d_k.value, d_v.value];
        let at = self.place(&ops, &operands, &values)?;
        let kernel = Box::new(Backward::new(form, self.threads));
        Some((at, DraftWork::Joint(JointWork { kernel, operands, values }), ops))
    }

    /// The gradient of keys or values that an op makes of these weights, or ops that sum it over heads.
    fn shared(&self, id: OpId, weights: ValueId) -> Option<Shared> {
        let product = Self::weighted(&self.op::<Matmul>(id)?, weights, true)?;
        let value = self.result(id)?;
        let of_heads = |&[user]: &[OpId; 1]| {
            let sum: ReduceSum = self.op(user)?;
            let outer = Reduction::x(&sum).shape().0.len().checked_sub(2)?;
            let of_heads = Reduction::axes(&sum).ok()?.iter().all(|&axis| axis < outer);
            (Reduction::keep_dims(&sum) && of_heads).then(|| self.result(user))?
        };
        let users = self.users::<1>(value);
        match users.as_ref().and_then(of_heads) {
            Some(sum) => {
                let shape = self.constants.specialized().ty(sum)?.shape;
                let ops = [&[id], &users.unwrap_or([id])[..]].concat();
                Some(Shared { product, value: sum, shape, ops })
            }
            None => Some(Shared { shape: product.result.clone(), product, value, ops: vec![id] }),
        }
    }

    /// The op of these in whose place all operands are there, and of no result anything was read: the last one before a
    /// result is read.
    fn place(&self, ops: &[OpId], operands: &[Operand], results: &[ValueId]) -> Option<OpId> {
        let made = operands.iter().filter_map(|operand| self.makers.get(&operand.id?));
        let from = made.map(|&(_, place)| place).max();
        let users = results.iter().filter_map(|value| self.users.get(value)).flatten();
        let until = users.filter(|(id, _)| !ops.contains(id)).map(|&(_, place)| place).min();
        let places = ops.iter().filter_map(|&id| Some((self.makers.get(&self.result(id)?)?.1, id)));
        let before = places.filter(|&(place, _)| until.is_none_or(|until| place < until));
        before.max().filter(|&(place, _)| from.is_none_or(|from| from < place)).map(|(_, id)| id)
    }
}

/// Whether two operands are the same value, or equal literals.
fn same(x: &Operand, y: &Operand) -> bool {
    x.id == y.id && (x.id.is_some() || x.value.is_some() && x.value == y.value)
}

/// The heads of a batch that are summed in each matrix of a result of this shape.
fn groups(shape: &Shape, batch: &[usize]) -> Option<Vec<Vec<usize>>> {
    let dims = shape.to_known()?;
    let matrices = dims[..dims.len().checked_sub(2)?].iter().product();
    let mut groups = vec![Vec::new(); matrices];
    for (head, matrix) in batch_indices(&dims, batch).into_iter().enumerate() {
        groups.get_mut(matrix)?.push(head);
    }
    Some(groups)
}
