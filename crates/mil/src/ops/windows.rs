//! Ops on stretches of a dimension: windows that slide along it, and beginnings that are reversed.

use crate::eval::{Evaluation, room};
use crate::grad::Pullback;
use crate::ops::copy::{self, Run};
use crate::ops::rules::{self, free, strides};
use crate::ops::{ANY, ANY_17, Accuracy, INDEX, INT32, NUMBER, OpError, Operand, call, movement};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};

crate::ops! {
    /// All windows of `size` elements along `axis` that lie in `x` and begin `stride` apart. Their number stands at
    /// `axis`, their elements along a new dimension behind it.
    SlidingWindows = sliding_windows(x: Operand[T], axis: i32, size: i32; stride: i32 = 1)
        since IOS15 where [T: NUMBER]
        since IOS17 where [T: ANY_17]
        { infer: |row| row.ty(), eval: |row, _| row.evaluate(), accuracy: Accuracy::Exact; vjp: sliding_windows_vjp;
          flops: free }

    /// `x` with the first `lengths[i]` elements along `seq_axis` in reverse order, where `i` is the index along
    /// `batch_axis`; the others stay. As TensorFlow's `reverse_sequence`, which coremltools refers to, it takes two
    /// different axes, though both are 0 by default.
    ReverseSequence = reverse_sequence(x: Operand[T], lengths: Operand[U]; seq_axis: i32 = 0, batch_axis: i32 = 0)
        since IOS15 where [T: ANY, U: INT32]
        since IOS17 where [T: ANY_17, U: INDEX]
        { infer: |row| row.ty(), eval: reverse_sequence, accuracy: Accuracy::Exact; vjp: reverse_sequence_vjp; flops: free }
}

impl SlidingWindows {
    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let axis = rules::axis("axis", self.axis, self.x.rank())?;
        let positive = |name: &str, value: i32| {
            u64::try_from(value)
                .ok()
                .filter(|&value| value > 0)
                .ok_or_else(|| OpError::rule(name, "must be at least 1").found(format!("found {value}")))
        };
        let (size, stride) = (positive("size", self.size)?, positive("stride", self.stride)?);
        let mut dims = self.x.shape().0.clone();
        dims[axis] = match dims[axis] {
            Dim::Known(length) if length < size => {
                return Err(OpError::rule(
                    "size",
                    format!("must be at most the length of the axis, {length}"),
                )
                .found(format!("found {size}")));
            }
            Dim::Known(length) => Dim::Known((length - size) / stride + 1),
            Dim::Unknown => Dim::Unknown,
        };
        dims.insert(axis + 1, Dim::Known(size));
        movement::result("size", self.x.dtype(), dims)
    }

    fn evaluate(&self) -> Result<Vec<Tensor>, OpError> {
        let dims = movement::dims(self.ty())?;
        let x = self.x.tensor()?;
        let axis = rules::axis("axis", self.axis, x.shape().len())?;
        let mut steps: Vec<isize> = strides(x.shape()).into_iter().map(|step| step as isize).collect();
        steps.insert(axis, steps[axis].saturating_mul(self.stride as isize));
        Ok(vec![copy::read(&[x], &dims, copy::window(&dims, 0, &steps))?])
    }
}

/// As of a `gather` of the elements of all windows.
fn sliding_windows_vjp(row: &SlidingWindows, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dims = rules::known_dims(&row.ty()?.remove(0).shape)?;
    if dims.contains(&0) {
        return Ok(());
    }
    let axis = rules::axis("axis", row.axis, row.x.rank())?;
    let windows = dims[axis] as i32;
    let indices: Vec<i32> =
        (0..windows).flat_map(|window| (0..row.size).map(move |i| window * row.stride + i)).collect();
    pullback.through(|writer| {
        let elements = writer.bind("elements", call::gather(&row.x, indices).axis(axis as i32))?;
        let dims = writer.lengths(&dims)?;
        Ok(vec![writer.bind("windows", call::reshape(elements, dims))?])
    })
}

impl ReverseSequence {
    /// The positions of `seq_axis` and `batch_axis`.
    fn positions(&self) -> Result<[usize; 2], OpError> {
        let sequence = rules::axis("seq_axis", self.seq_axis, self.x.rank())?;
        let batch = rules::axis("batch_axis", self.batch_axis, self.x.rank())?;
        if sequence == batch {
            return Err(OpError::rule("seq_axis", "must be another than `batch_axis`")
                .found(format!("both are {sequence}")));
        }
        Ok([sequence, batch])
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let [sequence, batch] = self.positions()?;
        let (length, count) = (self.x.shape().0[sequence], self.x.shape().0[batch]);
        let count = count.known().and_then(|count| usize::try_from(count).ok());
        let lengths = movement::integers("lengths", &self.lengths, count)?.unwrap_or_default();
        let most = length.known().map_or(i64::MAX, |length| i64::try_from(length).unwrap_or(i64::MAX));
        match lengths.iter().find(|length| !(0..=most).contains(length)) {
            Some(wrong) => Err(OpError::rule("lengths", format!("must lie between 0 and {most}"))
                .found(format!("found {wrong}"))),
            None => Ok(vec![self.x.ty.clone()]),
        }
    }
}

fn reverse_sequence(row: &ReverseSequence, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    row.ty()?;
    let [sequence, batch] = row.positions()?;
    let (x, lengths) = (row.x.tensor()?, row.lengths.integers()?);
    let steps = strides(x.shape());
    // Elements behind both axes stay together.
    let inner = steps[sequence.max(batch)];
    let mut runs = room(x.len() / inner.max(1))?;
    for start in (0..x.len()).step_by(inner.max(1)) {
        let at = |axis: usize| start / steps[axis] % x.shape()[axis];
        let (place, length) = (at(sequence), lengths[at(batch)] as usize);
        let from = if place < length { length - 1 - place } else { place };
        runs.push(Run::of(start - place * steps[sequence] + from * steps[sequence], inner));
    }
    Ok(vec![copy::read(&[x], x.shape(), runs.into_iter())?])
}

/// Reversing twice changes nothing.
fn reverse_sequence_vjp(row: &ReverseSequence, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let back = call::reverse_sequence(dy, &row.lengths).seq_axis(row.seq_axis).batch_axis(row.batch_axis);
    pullback.give(&row.x, back)
}
