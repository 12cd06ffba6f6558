//! Copying elements by runs: how ops that move data make their results, whose memory is asked for first.

use crate::error::ErrorKind;
use crate::eval::{internal, room};
use crate::ops::OpError;
use crate::tensor::{Data, Element, Tensor};

/// Elements of a tensor that stand at equal distances.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Which of the tensors that are copied from.
    pub source: usize,
    /// The position of the first element.
    pub start: usize,
    /// From one element to the next.
    pub step: isize,
    /// How many elements.
    pub length: usize,
}

impl Run {
    /// Neighbours.
    pub(super) fn of(start: usize, length: usize) -> Run {
        Run { source: 0, start, step: 1, length }
    }

    /// One element again and again.
    pub(super) fn repeated(start: usize, length: usize) -> Run {
        Run { source: 0, start, step: 0, length }
    }

    /// The positions of the elements.
    fn positions(self) -> impl Iterator<Item = usize> {
        (0..self.length).map(move |i| self.start.wrapping_add_signed(self.step * i as isize))
    }
}

/// A tensor of runs, one after the other.
///
/// # Errors
///
/// When the sources are stored differently, or there is no memory for the result.
pub(super) fn read(
    sources: &[&Tensor],
    dims: &[usize],
    runs: impl Iterator<Item = Run>,
) -> Result<Tensor, OpError> {
    fn copy<T: Element>(
        _first: &[T],
        sources: &[&Tensor],
        count: usize,
        runs: impl Iterator<Item = Run>,
    ) -> Result<Data, OpError> {
        let slices: Option<Vec<&[T]>> = sources.iter().map(|source| source.as_slice::<T>()).collect();
        let slices = slices.ok_or_else(stored_differently)?;
        let mut values: Vec<T> = room(count)?;
        for run in runs.filter(|run| run.length > 0) {
            let from = slices[run.source];
            match run.step {
                0 => values.resize(values.len() + run.length, from[run.start].clone()),
                1 => values.extend_from_slice(&from[run.start..run.start + run.length]),
                _ => values.extend(run.positions().map(|position| from[position].clone())),
            }
        }
        Ok(T::into_data(values))
    }
    let Some(first) = sources.first() else {
        return Err(OpError::new(ErrorKind::MissingParameter, None, "nothing to copy"));
    };
    let count = elements(dims);
    let data = crate::for_each_data!(first.data(),
        values => copy(values, sources, count, runs),
        strings values => copy(values, sources, count, runs))?;
    Tensor::new(first.dtype(), dims, data).map_err(internal)
}

/// All elements of a tensor under other dimensions.
///
/// # Errors
///
/// When they are not as many, or there is no memory for them.
pub(super) fn whole(tensor: &Tensor, dims: &[usize]) -> Result<Tensor, OpError> {
    read(&[tensor], dims, std::iter::once(Run::of(0, tensor.len())))
}

/// A tensor in which the elements of runs are replaced by `values`, in their order; of two for one place, the later
/// stays.
///
/// # Errors
///
/// When the two are stored differently, or there is no memory for the result.
pub(super) fn replaced(
    tensor: &Tensor,
    values: &Tensor,
    runs: impl Iterator<Item = Run>,
) -> Result<Tensor, OpError> {
    fn write<T: Element>(
        to: &mut [T],
        values: &Tensor,
        runs: impl Iterator<Item = Run>,
    ) -> Result<(), OpError> {
        let mut values = values.as_slice::<T>().ok_or_else(stored_differently)?.iter();
        for position in runs.flat_map(Run::positions) {
            if let Some(value) = values.next() {
                to[position] = value.clone();
            }
        }
        Ok(())
    }
    let mut result = whole(tensor, tensor.shape())?;
    crate::for_each_data!(result.data_mut(),
        to => write(to, values, runs),
        strings to => write(to, values, runs))?;
    Ok(result)
}

/// A tensor made of the elements of another that are met from `start` on when a step along each dimension of `dims` moves
/// by `steps` elements: what an op makes that moves elements without looking at them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The position of the first element.
    pub start: usize,
    /// How many elements there are along each dimension; the result has them under other dimensions, perhaps, but in this
    /// order.
    pub dims: Vec<usize>,
    /// How far the next element of each dimension is; back, where it is negative, and the same where it is 0.
    pub steps: Vec<isize>,
}

impl Moved {
    /// The elements of `x` as a tensor of `dims`.
    ///
    /// # Errors
    ///
    /// When there is no memory for the result.
    pub(super) fn read(&self, x: &Tensor, dims: &[usize]) -> Result<Tensor, OpError> {
        read(&[x], dims, window(&self.dims, self.start as isize, &self.steps))
    }
}

/// The elements that are met from `start` on when a step along each dimension of `dims` moves by `steps` elements.
pub(super) fn window(dims: &[usize], start: isize, steps: &[isize]) -> impl Iterator<Item = Run> + use<> {
    let empty = dims.contains(&0);
    // Dimensions that lie in memory as one are walked as one.
    let mut merged: Vec<(usize, isize)> = Vec::with_capacity(dims.len());
    for (&length, &step) in dims.iter().zip(steps).filter(|(length, _)| !empty && **length != 1) {
        match merged.last_mut() {
            Some(last) if last.1 == step * length as isize => *last = (last.0 * length, step),
            _ => merged.push((length, step)),
        }
    }
    let (length, step) = merged.pop().unwrap_or((1, 1));
    let count = if empty { 0 } else { merged.iter().map(|(length, _)| length).product() };
    let mut coordinates = vec![0; merged.len()];
    let mut position = start;
    (0..count).map(move |_| {
        let run = Run { source: 0, start: position as usize, step, length };
        for (coordinate, &(length, step)) in coordinates.iter_mut().zip(&merged).rev() {
            *coordinate += 1;
            position += step;
            if *coordinate < length {
                break;
            }
            position -= step * length as isize;
            *coordinate = 0;
        }
        run
    })
}

/// `outer` times in turn, the next `lengths[i]` elements of each tensor `i`.
pub(super) fn in_turn(outer: usize, lengths: &[usize]) -> impl Iterator<Item = Run> {
    (0..outer).flat_map(move |round| {
        let run = move |(source, &length): (usize, &usize)| Run { source, ..Run::of(round * length, length) };
        lengths.iter().enumerate().map(run)
    })
}

/// The number of elements; 0 also where other dimensions are beyond any memory.
fn elements(dims: &[usize]) -> usize {
    if dims.contains(&0) { 0 } else { dims.iter().product() }
}

fn stored_differently() -> OpError {
    OpError::new(ErrorKind::ElementType, None, "the tensors are stored differently")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DType;

    fn counting(dims: &[usize]) -> Tensor {
        Tensor::from_values(dims, (0..dims.iter().product::<usize>() as i32).collect()).unwrap()
    }

    #[test]
    fn windows_are_walked_in_runs_as_long_as_memory_allows() {
        let runs = |dims: &[usize], steps: &[isize]| window(dims, 0, steps).count();
        assert_eq!(runs(&[2, 3, 4], &[12, 4, 1]), 1);
        assert_eq!(runs(&[2, 1, 4], &[12, 100, 1]), 2);
        assert_eq!(runs(&[5, 7], &[0, 0]), 1);
        assert_eq!(runs(&[4, 3], &[1, 4]), 4);
        assert_eq!(runs(&[], &[]), 1);
        assert_eq!(runs(&[1 << 40, 0, 1 << 40], &[0, 0, 0]), 0);
        let transposed = read(&[&counting(&[2, 3])], &[3, 2], window(&[3, 2], 0, &[1, 3])).unwrap();
        assert_eq!(transposed.as_slice::<i32>().unwrap(), [0, 3, 1, 4, 2, 5]);
        let backwards = read(&[&counting(&[6])], &[3], window(&[3], 5, &[-2])).unwrap();
        assert_eq!(backwards.as_slice::<i32>().unwrap(), [5, 3, 1]);
    }

    #[test]
    fn the_later_of_two_values_for_a_place_stays() {
        let runs = [Run::of(1, 2), Run::repeated(0, 2)];
        let result = replaced(&counting(&[4]), &Tensor::vector(vec![10, 11, 12, 13]), runs.into_iter());
        assert_eq!(result.unwrap().as_slice::<i32>().unwrap(), [13, 10, 11, 3]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let scalar = Tensor::scalar(1.0f32);
        let most = read(&[&scalar], &[1 << 59], std::iter::once(Run::repeated(0, 1 << 59)));
        assert!(most.unwrap_err().message.contains("no memory"));
        let mixed = read(&[&scalar, &Tensor::scalar(1)], &[2], in_turn(1, &[1, 1]));
        assert!(mixed.unwrap_err().message.contains("stored differently"));
        assert_eq!(
            Tensor::zeros(DType::Fp32, &[0]).unwrap(),
            read(&[&scalar], &[0], std::iter::empty()).unwrap()
        );
    }
}
