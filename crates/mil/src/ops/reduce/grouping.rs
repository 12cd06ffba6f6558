//! How the elements of a tensor fall to results.

use crate::eval::filled;
use crate::ops::OpError;

/// How the elements of a row-major tensor fall to the results of a reduction.
pub(in crate::ops) struct Grouping {
    /// Length and distance between results, dimension by dimension; the distance is 0 along reduced axes.
    steps: Vec<(usize, usize)>,
    /// The number of results.
    pub results: usize,
    /// The number of elements that fall to each result.
    pub elements_each: usize,
}

impl Grouping {
    /// The grouping of a tensor with these dimensions, reduced over these axes.
    pub(in crate::ops) fn new(dims: &[usize], axes: &[usize]) -> Grouping {
        let (mut results, mut elements_each) = (1, 1);
        let mut steps = Vec::with_capacity(dims.len());
        for (i, &length) in dims.iter().enumerate().rev() {
            if axes.contains(&i) {
                steps.push((length, 0));
                elements_each *= length;
            } else {
                steps.push((length, results));
                results *= length;
            }
        }
        steps.retain(|&(length, _)| length != 1);
        steps.reverse();
        Grouping { steps, results, elements_each }
    }

    /// Calls `visit(element, result)` for every element in order, with the positions of both.
    pub(in crate::ops) fn for_each(&self, mut visit: impl FnMut(usize, usize)) {
        fn walk(
            steps: &[(usize, usize)],
            element: &mut usize,
            result: usize,
            visit: &mut impl FnMut(usize, usize),
        ) {
            match steps {
                [] => visit(*element, result),
                &[(length, step)] => {
                    for i in 0..length {
                        visit(*element + i, result + i * step);
                    }
                    *element += length;
                }
                [(length, step), inner @ ..] => {
                    for i in 0..*length {
                        walk(inner, element, result + i * step, visit);
                    }
                }
            }
        }
        // Without elements there may still be many coordinates to walk through.
        if self.elements_each > 0 && self.results > 0 {
            walk(&self.steps, &mut 0, 0, &mut visit);
        }
    }

    /// Folds the elements of each result into one value, beginning with `first`.
    ///
    /// # Errors
    ///
    /// When there is no memory for the results.
    pub(in crate::ops) fn fold<T: Copy, A: Copy>(
        &self,
        values: &[T],
        first: A,
        combine: impl Fn(A, T) -> A,
    ) -> Result<Vec<A>, OpError> {
        let mut folded = filled(self.results, first)?;
        self.for_each(|element, result| folded[result] = combine(folded[result], values[element]));
        Ok(folded)
    }

    /// Refuses to find the largest of nothing.
    pub(super) fn refuse_empty(&self) -> Result<(), OpError> {
        if self.elements_each == 0 && self.results > 0 {
            return Err(OpError::rule("x", "there is nothing to reduce: a reduced dimension has length 0"));
        }
        Ok(())
    }
}
