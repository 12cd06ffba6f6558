//! Walking through operands that broadcast to a result.

/// How the elements of a result find those of its operands: the result as runs of neighbours, along each of
/// which an operand gives neighbours too, or one value again and again.
#[derive(Debug, Clone)]
pub(super) struct Broadcast {
    /// Elements of one run.
    run: usize,
    /// Lengths of the dimensions outside the run, outermost first.
    outer: Vec<usize>,
    /// For each operand: distances along the outer dimensions, and whether the run moves through it.
    operands: Vec<(Vec<usize>, bool)>,
}

impl Broadcast {
    /// The walk of operands of these dimensions through a result of `dims`.
    pub(super) fn new(dims: &[usize], operands: &[Vec<usize>]) -> Broadcast {
        let steps: Vec<Vec<usize>> = operands.iter().map(|own| steps(own, dims)).collect();
        // Neighbouring dimensions through which every operand moves, or stays, as through one.
        let mut lengths: Vec<usize> = Vec::new();
        let mut merged: Vec<Vec<usize>> = vec![Vec::new(); operands.len()];
        for (i, &length) in dims.iter().enumerate() {
            if length == 1 {
                continue;
            }
            let joins = !lengths.is_empty()
                && merged.iter().zip(&steps).all(|(merged, step)| {
                    merged.last().is_some_and(|&before| before == step[i].saturating_mul(length))
                });
            if joins {
                if let Some(last) = lengths.last_mut() {
                    *last *= length;
                }
                merged.iter_mut().zip(&steps).for_each(|(merged, step)| {
                    merged.pop();
                    merged.push(step[i]);
                });
            } else {
                lengths.push(length);
                merged.iter_mut().zip(&steps).for_each(|(merged, step)| merged.push(step[i]));
            }
        }
        let run = lengths.pop().unwrap_or(1);
        let split = |mut steps: Vec<usize>| {
            let moves = steps.pop().unwrap_or(0) != 0;
            (steps, moves)
        };
        Broadcast { run, outer: lengths, operands: merged.into_iter().map(split).collect() }
    }

    /// The parts into which `length` elements of the result from `position` on fall at the ends of runs: calls
    /// `visit` with each part's distance from `position`, where it lies and its length.
    pub(super) fn parts(
        &self,
        position: usize,
        length: usize,
        mut visit: impl FnMut(usize, RunPosition, usize),
    ) {
        let mut done = 0;
        while done < length {
            let at = self.locate(position + done);
            let part = at.left.min(length - done);
            visit(done, at, part);
            done += part;
        }
    }

    /// Where an element of the result lies.
    #[inline]
    pub(super) fn locate(&self, position: usize) -> RunPosition {
        // Long divisions are slow, and most positions short.
        let (index, within) = match (u32::try_from(position), u32::try_from(self.run)) {
            _ if self.outer.is_empty() => (0, position),
            (Ok(position), Ok(run)) => ((position / run) as usize, (position % run) as usize),
            _ => (position / self.run, position % self.run),
        };
        RunPosition { index, within, left: self.run - within }
    }

    /// The elements of an operand that a part of `length` elements of the result reads: as many, or one.
    #[inline]
    pub(super) fn slice<'a, T>(
        &self,
        operand: usize,
        values: &'a [T],
        at: RunPosition,
        length: usize,
    ) -> &'a [T] {
        let (steps, moves) = &self.operands[operand];
        let mut start = if *moves { at.within } else { 0 };
        let mut index = at.index;
        for (i, (&length, &step)) in self.outer.iter().zip(steps).enumerate().rev() {
            if i == 0 {
                start += index * step;
            } else {
                start += index % length * step;
                index /= length;
            }
        }
        &values[start..start + if *moves { length } else { 1 }]
    }
}

/// A position in the result.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunPosition {
    /// Which run.
    index: usize,
    /// Elements of the run before it.
    within: usize,
    /// Elements of the run from it on.
    pub left: usize,
}

/// Distances between an operand's elements along the result's dimensions; 0 where it repeats.
fn steps(own: &[usize], dims: &[usize]) -> Vec<usize> {
    let missing = dims.len() - own.len();
    let mut steps = vec![0; dims.len()];
    let mut step = 1usize;
    for (i, &length) in own.iter().enumerate().rev() {
        steps[missing + i] = if length == 1 { 0 } else { step };
        step = step.saturating_mul(length);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The operand's elements for each of the result's, found part by part.
    fn walk(dims: &[usize], own: &[usize], chunk: usize) -> Vec<usize> {
        let values: Vec<usize> = (0..own.iter().product()).collect();
        let broadcast = Broadcast::new(dims, &[dims.to_vec(), own.to_vec()]);
        let count: usize = dims.iter().product();
        let mut found = Vec::new();
        for first in (0..count).step_by(chunk) {
            broadcast.parts(first, chunk.min(count - first), |_, at, length| {
                let part = broadcast.slice(1, &values, at, length);
                found.extend((0..length).map(|i| part[if part.len() == 1 { 0 } else { i }]));
            });
        }
        found
    }

    #[test]
    fn operands_repeat_as_numpy_broadcasts() {
        assert_eq!(walk(&[2, 3], &[3], 100), [0, 1, 2, 0, 1, 2]);
        assert_eq!(walk(&[2, 3], &[2, 1], 2), [0, 0, 0, 1, 1, 1]);
        assert_eq!(walk(&[1, 2, 1, 3], &[1, 1, 1, 3], 100), [0, 1, 2, 0, 1, 2]);
        assert_eq!(walk(&[2, 2, 2], &[2, 1, 2], 1), [0, 1, 0, 1, 2, 3, 2, 3]);
        assert_eq!(walk(&[2, 2], &[], 100), [0, 0, 0, 0]);
        assert_eq!(walk(&[2, 3], &[2, 3], 100), [0, 1, 2, 3, 4, 5]);
    }
}
