//! Right operands: matrices in memory, or the windows of a convolution, as a matrix that is nowhere in memory but, part by
//! part, where it is packed.

use std::cell::RefCell;
use std::ops::Range;

use bytemuck::Pod;
use half::f16;
use pulp::Arch;

use super::split::{self, Factor};
use super::{DEPTH, Matrix, pack};
use crate::memory::Floats;
use crate::simd::matrix_unit::{Found, MatrixUnit, Parts};

/// Windows that are gathered at a time: whole panels, of every width.
const GATHERED: usize = 64;

thread_local! {
    /// Each thread's gathered windows, a row for each term, which no one clears.
    static ROOM: RefCell<[f32; GATHERED * DEPTH]> = const { RefCell::new([0.0; GATHERED * DEPTH]) };
}

/// How windows lie over the channels of an image, in three spatial dimensions; of those that there are not, all is 1, and
/// the padding 0.
#[derive(Debug, Clone)]
pub(crate) struct WindowShape {
    /// Elements of each channel.
    pub input: [usize; 3],
    /// Windows.
    pub output: [usize; 3],
    /// Taps of a window in each channel.
    pub kernel: [usize; 3],
    /// Distance between neighbouring windows.
    pub strides: [usize; 3],
    /// Distance between neighbouring taps.
    pub dilations: [usize; 3],
    /// Zeros before each dimension.
    pub before: [usize; 3],
}

impl WindowShape {
    /// The same windows with their last dimensions of more than one element last, so that neighbours are found along rows;
    /// and by how many places the dimensions moved.
    pub(crate) fn without_last_single(mut self) -> (WindowShape, usize) {
        let is_single = |shape: &WindowShape| {
            [shape.input[2], shape.output[2], shape.kernel[2]] == [1; 3] && shape.before[2] == 0
        };
        let mut moved = 0;
        while moved < 2 && is_single(&self) {
            for lengths in [&mut self.input, &mut self.output, &mut self.kernel] {
                *lengths = [1, lengths[0], lengths[1]];
            }
            for distances in [&mut self.strides, &mut self.dilations] {
                *distances = [1, distances[0], distances[1]];
            }
            self.before = [0, self.before[0], self.before[1]];
            moved += 1;
        }
        (self, moved)
    }
}

/// The elements that windows meet: a row for each channel and tap, a column for each window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows<'a> {
    /// The channels.
    pub values: Floats<'a>,
    /// How windows lie over each.
    pub shape: &'a WindowShape,
}

/// A right operand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RightMatrix<'a> {
    /// A matrix in memory.
    Stored(Matrix<'a>),
    /// What windows meet.
    Windows(Windows<'a>),
}

impl RightMatrix<'_> {
    /// [`pack::panels`] of some columns and rows, the terms, of which there are at most [`DEPTH`].
    pub(super) fn panels(
        self,
        arch: Arch,
        columns: Range<usize>,
        terms: Range<usize>,
        height: usize,
        packed: &mut [f32],
    ) {
        match self {
            RightMatrix::Stored(matrix) => {
                pack::panels(arch, matrix.transposed(), columns, terms, height, packed);
            }
            RightMatrix::Windows(windows) => {
                debug_assert!(GATHERED.is_multiple_of(height));
                let parts = packed.chunks_mut((GATHERED * terms.len()).max(1));
                windows.each_part(columns, &terms, parts, |part, columns, packed| {
                    pack::panels(arch, part, 0..columns, 0..terms.len(), height, packed);
                });
            }
        }
    }

    /// [`split::pack`] of some columns and rows, the terms, of which there are at most [`DEPTH`].
    pub(super) fn split(
        self,
        unit: MatrixUnit,
        columns: Range<usize>,
        terms: Range<usize>,
        parts: Parts,
        packed: &mut [f32],
    ) -> Found {
        let operand = (Factor::Right, parts);
        match self {
            RightMatrix::Stored(matrix) => {
                split::pack(unit, matrix.transposed(), columns, terms, operand, packed)
            }
            RightMatrix::Windows(windows) => {
                let mut found = Found::NOTHING;
                let packed = packed.chunks_mut(split::values(GATHERED, terms.len(), parts).max(1));
                windows.each_part(columns, &terms, packed, |part, columns, packed| {
                    found = found.or(split::pack(unit, part, 0..columns, 0..terms.len(), operand, packed));
                });
                found
            }
        }
    }
}

impl Windows<'_> {
    /// Gathers [`GATHERED`] windows after the others, and calls `visit` with a matrix that has a row for each of them
    /// and a column for each of the terms, with its rows, and with one of `places` each.
    fn each_part<'p>(
        self,
        columns: Range<usize>,
        terms: &Range<usize>,
        places: impl Iterator<Item = &'p mut [f32]>,
        mut visit: impl FnMut(Matrix<'_>, usize, &mut [f32]),
    ) {
        ROOM.with_borrow_mut(|room| {
            for (first, place) in columns.clone().step_by(GATHERED).zip(places) {
                let count = GATHERED.min(columns.end - first);
                let runs = Runs::new(self.shape, first, count);
                let values = match self.values {
                    Floats::F16(values) => {
                        let room: &mut [f16] = bytemuck::cast_slice_mut(room);
                        let room = &mut room[..GATHERED * terms.len()];
                        runs.gather(self.shape, values, terms, room);
                        Floats::F16(room)
                    }
                    Floats::F32(values) => {
                        let room = &mut room[..GATHERED * terms.len()];
                        runs.gather(self.shape, values, terms, room);
                        Floats::F32(room)
                    }
                };
                visit(Matrix { values, row_stride: 1, column_stride: GATHERED }, count, place);
            }
        });
    }
}

/// Neighbouring windows that lie along a row of the image.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Where their elements are gathered.
    to: usize,
    /// Windows.
    length: usize,
    /// Where the first tap of the first lies, before the channel's padding is counted.
    at: [usize; 3],
}

/// Some neighbouring windows, as runs along rows.
struct Runs {
    runs: [Run; GATHERED],
    count: usize,
}

impl Runs {
    /// `count` windows from one on.
    fn new(shape: &WindowShape, first: usize, count: usize) -> Runs {
        let [_, rows, columns] = shape.output;
        let mut runs = Runs { runs: [Run::default(); GATHERED], count: 0 };
        let mut done = 0;
        while done < count {
            let window = first + done;
            let place = [window / columns / rows, window / columns % rows, window % columns];
            let length = (columns - place[2]).min(count - done);
            let at = std::array::from_fn(|i| place[i] * shape.strides[i]);
            runs.runs[runs.count] = Run { to: done, length, at };
            runs.count += 1;
            done += length;
        }
        runs
    }

    /// Gathers the elements of the windows: a row of [`GATHERED`] for each term.
    fn gather<T: Pod>(&self, shape: &WindowShape, values: &[T], terms: &Range<usize>, to: &mut [T]) {
        let WindowShape { input: [depth, rows, columns], kernel, dilations, before, .. } = *shape;
        let plane = depth * rows * columns;
        let taps = kernel.iter().product::<usize>();
        for (term, to) in terms.clone().zip(to.chunks_exact_mut(GATHERED)) {
            let (channel, tap) = (&values[term / taps * plane..][..plane], term % taps);
            let tap = [tap / kernel[2] / kernel[1], tap / kernel[2] % kernel[1], tap % kernel[2]];
            let reach: [usize; 3] = std::array::from_fn(|i| tap[i] * dilations[i]);
            for run in &self.runs[..self.count] {
                let to = &mut to[run.to..run.to + run.length];
                // What lies before the image wraps around, and is beyond it.
                let [d, r, c] = std::array::from_fn(|i| (run.at[i] + reach[i]).wrapping_sub(before[i]));
                if d < depth && r < rows {
                    let row = &channel[(d * rows + r) * columns..][..columns];
                    along(row, c.cast_signed(), shape.strides[2], to);
                } else {
                    to.fill(T::zeroed());
                }
            }
        }
    }
}

/// Every `stride`-th element of a row from a place on, which may lie before it; zeros where there are none.
fn along<T: Pod>(row: &[T], first: isize, stride: usize, to: &mut [T]) {
    let missing = if first < 0 { first.unsigned_abs().div_ceil(stride).min(to.len()) } else { 0 };
    let (before, to) = to.split_at_mut(missing);
    before.fill(T::zeroed());
    let start = first.saturating_add_unsigned(missing.saturating_mul(stride)).unsigned_abs();
    let row = row.get(start..).unwrap_or_default();
    let (to, after) = to.split_at_mut(row.len().div_ceil(stride).min(to.len()));
    if stride == 1 {
        to.copy_from_slice(&row[..to.len()]);
    } else {
        to.iter_mut().zip(row.iter().step_by(stride)).for_each(|(to, value)| *to = *value);
    }
    after.fill(T::zeroed());
}
