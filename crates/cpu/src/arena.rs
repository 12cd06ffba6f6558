//! Where values lie in planned memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// Memory that is given out, step after step, to values of which each is needed up to some step: to each the least gap
/// that holds it. A value takes time that grows with the logarithm of how many live at once.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    /// The end of each gap, by where it starts. No two touch.
    gaps: BTreeMap<usize, usize>,
    /// The gaps as length and start, the least first.
    by_length: BTreeSet<(usize, usize)>,
    /// Values: the last step that needs each, its start and its end.
    taken: BinaryHeap<Reverse<(usize, usize, usize)>>,
    /// The end of all.
    end: usize,
}

impl Arena {
    /// The start of a range of so many lines for a value that this step writes, and that is needed up to the step
    /// `last_use`. Steps must not go back. `None` if there is no end to what is needed.
    pub(crate) fn place(&mut self, step: usize, last_use: usize, length: usize) -> Option<usize> {
        while let Some(&Reverse((last_use, start, end))) = self.taken.peek()
            && last_use < step
        {
            self.taken.pop();
            self.give_back(start, end);
        }
        if length == 0 {
            return Some(0);
        }
        let least = self.by_length.range((length, 0)..).next().copied();
        let start = if let Some((gap, start)) = least {
            self.remove(start, start + gap);
            if gap > length {
                self.add(start + length, start + gap);
            }
            start
        } else {
            // After all others, or from where nothing follows any more.
            let last = self.gaps.last_key_value().map(|(&start, &end)| (start, end));
            let last = last.filter(|&(_, end)| end == self.end);
            let start = last.map_or(self.end, |(start, _)| start);
            let new_end = start.checked_add(length)?;
            if let Some((start, end)) = last {
                self.remove(start, end);
            }
            self.end = new_end;
            start
        };
        self.taken.push(Reverse((last_use, start, start + length)));
        Some(start)
    }

    /// The lines that all values together need.
    pub(crate) fn lines(&self) -> usize {
        self.end
    }

    /// Makes a range a gap, together with the gaps that it touches.
    fn give_back(&mut self, mut start: usize, mut end: usize) {
        if let Some((&before, &touching)) = self.gaps.range(..start).next_back()
            && touching == start
        {
            self.remove(before, touching);
            start = before;
        }
        if let Some(&after) = self.gaps.get(&end) {
            self.remove(end, after);
            end = after;
        }
        self.add(start, end);
    }

    fn add(&mut self, start: usize, end: usize) {
        self.gaps.insert(start, end);
        self.by_length.insert((end - start, start));
    }

    fn remove(&mut self, start: usize, end: usize) {
        self.gaps.remove(&start);
        self.by_length.remove(&(end - start, start));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Places values, each of which has a length and the number of steps that it is needed for, one for each step.
    fn place(values: &[(usize, usize)]) -> (Vec<usize>, usize) {
        let mut arena = Arena::default();
        let starts = values
            .iter()
            .enumerate()
            .map(|(step, &(length, steps))| arena.place(step, step + steps, length).expect("there is room"));
        (starts.collect(), arena.lines())
    }

    proptest! {
        #[test]
        fn values_that_live_at_once_do_not_overlap(
            values in proptest::collection::vec((0..9usize, 0..20usize), 0..60usize),
        ) {
            let (starts, lines) = place(&values);
            let mut most = 0;
            for (step, (&start, &(length, steps))) in starts.iter().zip(&values).enumerate() {
                prop_assert!(start + length <= lines);
                let later = starts.iter().zip(&values).skip(step + 1).take(steps);
                for (&other, &(other_length, _)) in later {
                    let apart = start + length <= other || other + other_length <= start;
                    prop_assert!(apart || length == 0 || other_length == 0);
                }
                let alive = |(made, &(length, steps)): (usize, &(usize, usize))| {
                    if made <= step && step <= made + steps { length } else { 0 }
                };
                most = most.max(values.iter().enumerate().map(alive).sum());
            }
            prop_assert!(lines >= most);
            // Values of one length leave no gap that is not filled again.
            let equal: Vec<(usize, usize)> = values.iter().map(|&(_, steps)| (3, steps)).collect();
            let alive = |step| equal[..=step].iter().enumerate().filter(move |(made, (_, steps))| made + steps >= step);
            let most = (0..equal.len()).map(|step| 3 * alive(step).count()).max().unwrap_or(0);
            prop_assert_eq!(place(&equal).1, most);
        }
    }

    #[test]
    fn a_chain_takes_the_room_of_two_values() {
        assert_eq!(place(&[(5, 1); 1000]).1, 10);
    }

    #[test]
    fn gaps_that_touch_become_one() {
        // Two that end together, and one that needs the room of both, beside one that stays.
        let (starts, lines) = place(&[(2, 2), (3, 1), (1, 9), (5, 1)]);
        assert_eq!((starts, lines), (vec![0, 2, 5, 0], 6));
    }

    #[test]
    fn more_than_can_be_counted_is_refused() {
        let mut arena = Arena::default();
        assert_eq!(arena.place(0, 9, usize::MAX), Some(0));
        assert_eq!(arena.place(1, 9, 1), None);
    }
}
