//! Gradients of writing at indices.

use std::collections::HashSet;

use super::{Mode, Scatter, ScatterAlongAxis, ScatterNd};
use crate::builder::{AnyCall, Input};
use crate::grad::{Pullback, lengths};
use crate::ops::{OpError, Operand, call, rules};
use crate::program::ValueId;
use crate::tensor::Tensor;

/// The three ops alike: places of `data` that updates meet.
struct Places<'a> {
    data: &'a Operand,
    updates: &'a Operand,
    mode: Mode,
    /// Where each update begins, where the indices are constants.
    starts: Option<Vec<usize>>,
    /// Reads, of a tensor like `data`, what each update meets.
    take: &'a dyn Fn(Input) -> AnyCall,
    /// Writes like the op, in another mode.
    put: &'a dyn Fn(Input, Input, &str) -> AnyCall,
    board: Board<'a>,
}

/// A tensor with one element for each part of `data` that is met as a whole, and one number for each update of such a
/// part.
struct Board<'a> {
    /// The dimensions of the board.
    dims: Vec<usize>,
    /// The dimensions of the updates' numbers.
    numbers: Vec<usize>,
    /// The same, in as many dimensions as `updates` has.
    spread: Vec<usize>,
    /// Reads of the board what each update meets.
    take: &'a dyn Fn(Input) -> AnyCall,
    /// Writes numbers on the board.
    put: &'a dyn Fn(Input, Input) -> AnyCall,
}

pub(super) fn scatter(row: &Scatter, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dims = pullback.dims(&row.data)?;
    let axis = rules::axis("axis", row.axis, dims.len())?;
    let count = pullback.dims(&row.indices)?[0];
    let starts = known(&row.indices).then(|| row.indices().positions(dims[axis])).transpose()?;
    let at = || Input::from(&row.indices);
    let along = axis as i32;
    let mut spread = vec![1; dims.len()];
    spread[axis] = count;
    Places {
        data: &row.data,
        updates: &row.updates,
        mode: Mode::named(&row.mode)?,
        starts,
        take: &|x| call::gather(x, at()).axis(along).into(),
        put: &|data, updates, mode| call::scatter(data, at(), updates).axis(along).mode(mode).into(),
        board: Board {
            dims: vec![dims[axis]],
            numbers: vec![count],
            spread,
            take: &|x| call::gather(x, at()).axis(0).into(),
            put: &|board, numbers| call::scatter(board, at(), numbers).axis(0).mode("update").into(),
        },
    }
    .give(pullback)
}

pub(super) fn along_axis(row: &ScatterAlongAxis, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dims, index_dims) = (pullback.dims(&row.data)?, pullback.dims(&row.indices)?);
    let axis = rules::axis("axis", row.axis, dims.len())?;
    let starts =
        known(&row.indices).then(|| row.indices().along(axis, dims[axis], &index_dims)).transpose()?;
    let at = || Input::from(&row.indices);
    let along = axis as i32;
    let take = |x| call::gather_along_axis(x, at()).axis(along).into();
    let put = |data, updates, mode: &str| {
        AnyCall::from(call::scatter_along_axis(data, at(), updates).axis(along).mode(mode))
    };
    let board = Board {
        dims,
        numbers: index_dims.clone(),
        spread: index_dims,
        take: &take,
        put: &|board, numbers| put(board, numbers, "update"),
    };
    let mode = Mode::named(&row.mode)?;
    Places { data: &row.data, updates: &row.updates, mode, starts, take: &take, put: &put, board }
        .give(pullback)
}

pub(super) fn nd(row: &ScatterNd, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dims, mut numbers) = (pullback.dims(&row.data)?, pullback.dims(&row.indices)?);
    let starts = known(&row.indices).then(|| row.vectors().starts(&dims)).transpose()?;
    let depth = numbers.pop().unwrap_or_default();
    let spread = [&numbers[..], &vec![1; dims.len() - depth]].concat();
    let at = || Input::from(&row.indices);
    let take = |x| call::gather_nd(x, at()).into();
    let put = |data, updates, mode: &str| AnyCall::from(call::scatter_nd(data, at(), updates).mode(mode));
    let board = Board {
        dims: dims[..depth].to_vec(),
        numbers,
        spread,
        take: &take,
        put: &|board, numbers| put(board, numbers, "update"),
    };
    let mode = Mode::named(&row.mode)?;
    let starts = starts.map(|(starts, _)| starts);
    Places { data: &row.data, updates: &row.updates, mode, starts, take: &take, put: &put, board }
        .give(pullback)
}

/// Whether indices are constants that are known.
fn known(indices: &Operand) -> bool {
    indices.constant && indices.value.is_some()
}

impl Places<'_> {
    /// Whether it is known that no two updates meet.
    fn never_meet(&self) -> bool {
        let mut seen = HashSet::new();
        self.starts.as_ref().is_some_and(|starts| starts.iter().all(|start| seen.insert(*start)))
    }

    fn take(&self, x: impl Into<Input>, pullback: &mut Pullback<'_>) -> Result<ValueId, OpError> {
        pullback.bind((self.take)(x.into()))
    }

    fn put(
        &self,
        data: impl Into<Input>,
        updates: impl Into<Input>,
        mode: &str,
        pullback: &mut Pullback<'_>,
    ) -> Result<ValueId, OpError> {
        pullback.bind((self.put)(data.into(), updates.into(), mode))
    }

    fn give(&self, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
        let (dy, y) = (pullback.dy()?, pullback.y());
        if pullback.dims(self.updates)?.contains(&0) {
            return pullback.give(self.data, dy);
        }
        let (of_data, of_updates) = (pullback.wants(self.data), pullback.wants(self.updates));
        match self.mode {
            Mode::Add | Mode::Sub => {
                pullback.give(self.data, dy)?;
                if of_updates {
                    let taken = self.take(dy, pullback)?;
                    let sign = if self.mode == Mode::Add { 1.0 } else { -1.0 };
                    pullback.give(
                        self.updates,
                        if sign > 0.0 { taken.into() } else { Input::from(call::mul(taken, sign)) },
                    )?;
                }
            }
            Mode::Update => {
                if of_data {
                    let dims = pullback.dims(self.updates)?;
                    let zeros = pullback.zeros(self.data.dtype(), &dims)?;
                    let kept = self.put(dy, zeros, "update", pullback)?;
                    pullback.give(self.data, kept)?;
                }
                if of_updates {
                    let taken = self.take(dy, pullback)?;
                    let taken = self.of_the_last(taken, pullback)?;
                    pullback.give(self.updates, taken)?;
                }
            }
            Mode::Mul | Mode::Div => {
                if of_data {
                    let mode = if self.mode == Mode::Mul { "mul" } else { "div" };
                    let scaled = self.put(dy, self.updates, mode, pullback)?;
                    pullback.give(self.data, scaled)?;
                }
                if of_updates {
                    self.give_factors(dy, y, pullback)?;
                }
            }
            Mode::Max | Mode::Min => self.give_shares(dy, y, pullback)?,
        }
        Ok(())
    }

    /// The gradient of updates that multiply or divide.
    fn give_factors(&self, dy: ValueId, y: ValueId, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
        if self.mode == Mode::Div {
            let product = pullback.bind(call::mul(dy, y))?;
            let taken = self.take(product, pullback)?;
            return pullback.give(self.updates, call::mul(call::real_div(taken, self.updates), -1.0));
        }
        if !self.never_meet() {
            let message = "\"mul\" has a gradient with constant indices of which none comes twice";
            return Err(OpError::rule("mode", message)
                .found("where updates meet, that of each is the product of the others"));
        }
        let product = pullback.bind(call::mul(dy, self.data))?;
        let taken = self.take(product, pullback)?;
        pullback.give(self.updates, taken)
    }

    /// Of several largest or smallest, each has the same share.
    fn give_shares(&self, dy: ValueId, y: ValueId, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
        let dtype = self.data.dtype().name();
        let at = self.take(y, pullback)?;
        let of_updates = pullback.bind(call::cast(call::equal(self.updates, at), dtype))?;
        let of_data = pullback.bind(call::cast(call::equal(self.data, y), dtype))?;
        let count = self.put(of_data, of_updates, "add", pullback)?;
        let share = pullback.bind(call::real_div(dy, count))?;
        pullback.give(self.data, call::mul(share, of_data))?;
        let taken = self.take(share, pullback)?;
        pullback.give(self.updates, call::mul(taken, of_updates))
    }

    /// The gradient of updates of which only the last for each place stays: zero for all others.
    fn of_the_last(&self, gradient: ValueId, pullback: &mut Pullback<'_>) -> Result<ValueId, OpError> {
        if self.never_meet() {
            return Ok(gradient);
        }
        let Board { dims, numbers, spread, take, put } = &self.board;
        let count = lengths(&[numbers.iter().product()])?[0];
        let all = pullback.bind(call::range_1d(count, 0, 1))?;
        let all = pullback.reshape(all, numbers)?;
        let none = pullback.filled(dims, Tensor::scalar(-1))?;
        let board = pullback.bind(put(none.into(), all.into()))?;
        let last = pullback.bind(take(board.into()))?;
        let stays = pullback.bind(call::equal(last, all))?;
        let stays = pullback.reshape(stays, spread)?;
        let zero = Tensor::from_f64(self.data.dtype(), &[], &[0.0]).map_err(crate::eval::internal)?;
        pullback.bind(call::select(stays, gradient, zero))
    }
}
