//! Regions of ops that compute each element of their results from one element of each operand.
//!
//! A region runs strip by strip of its result: what it reads is widened to fp32 in strips, each node makes a strip of
//! others, rounded to its type, and the last one is written. So the values between the ops of a region never reach
//! memory, and yet are those that the ops would have written.

use std::cell::RefCell;
use std::sync::Arc;

use anemone_mil::ops::Operand;
use anemone_mil::types::DType;
use half::f16;
use pulp::{Arch, Simd, WithSimd};

use super::broadcast::Broadcast;
use crate::element::Float;
use crate::functions::Real;
use crate::memory::{Floats, Sources};
use crate::simd;
use crate::threads::Threads;

/// Elements of a strip.
pub(crate) const STRIP: usize = 256;
/// Elements that a thread takes at a time.
pub(crate) const CHUNK: usize = 32 * STRIP;
/// Strips of a region at most, of what it reads and of what its nodes make, so that they stay in the first cache.
const MOST_STRIPS: usize = 16;

/// What the length of a strip is a multiple of, so that loops over it have no remainder.
const STEP: usize = 64;
/// Neighbouring elements that a kernel must work on at a time for others' ops to become part of its step: fewer would
/// each take a strip.
pub(crate) const LEAST_RUN: usize = STEP;

/// Room for a strip: some elements, in fp32. Those past the last one come of ones.
type Strip = [f32; STRIP];

thread_local! {
    /// Each thread's strips, which no one clears.
    static STRIPS: RefCell<[Strip; MOST_STRIPS]> = const { RefCell::new([[0.0; STRIP]; MOST_STRIPS]) };
}

/// What a node computes from strips.
pub(crate) trait StripFunction: Send + Sync {
    /// Computes the elements of a strip from strips of the same length, in fp32, to which functions computed in fp64 are
    /// rounded; `half` says that they become fp16.
    fn apply(&self, arch: Arch, operands: &[&[f32]], half: bool, to: &mut [f32]);

    /// The work of one element, in simple arithmetic steps.
    fn work(&self) -> usize {
        1
    }
}

/// A function of one number.
pub(crate) trait OfOne: Copy + Send + Sync {
    /// Whether the results for fp32 numbers are computed in fp64.
    const WIDE: bool;
    /// The work of one element, in simple arithmetic steps.
    const WORK: usize;
    /// The result.
    fn apply<R: Real, S: Simd>(self, x: R) -> R;
}

/// A function of one number, of strips.
pub(crate) struct One<F>(pub F);

impl<F: OfOne> StripFunction for One<F> {
    fn apply(&self, arch: Arch, operands: &[&[f32]], half: bool, to: &mut [f32]) {
        struct Apply<'a, F>(F, bool, &'a [f32], &'a mut [f32]);

        impl<F: OfOne> WithSimd for Apply<'_, F> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) {
                let Apply(function, half, x, to) = self;
                if half || !F::WIDE {
                    to.iter_mut().zip(x).for_each(|(to, x)| *to = function.apply::<f32, S>(*x));
                } else {
                    to.iter_mut()
                        .zip(x)
                        .for_each(|(to, x)| *to = function.apply::<f64, S>(f64::from(*x)) as f32);
                }
            }
        }
        arch.dispatch(Apply(self.0, half, operands[0], to));
    }

    fn work(&self) -> usize {
        F::WORK
    }
}

/// A function of one number, computed in fp32, of strips; with the work of one element.
pub(crate) struct Plain<F>(pub usize, pub F);

impl<F: Fn(f32) -> f32 + Copy + Send + Sync> StripFunction for Plain<F> {
    fn apply(&self, arch: Arch, operands: &[&[f32]], _: bool, to: &mut [f32]) {
        struct Apply<'a, F>(F, &'a [f32], &'a mut [f32]);

        impl<F: Fn(f32) -> f32> WithSimd for Apply<'_, F> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) {
                let Apply(function, x, to) = self;
                to.iter_mut().zip(x).for_each(|(to, x)| *to = function(*x));
            }
        }
        arch.dispatch(Apply(self.1, operands[0], to));
    }

    fn work(&self) -> usize {
        self.0
    }
}

/// A function of two numbers, computed in fp32, of strips.
pub(crate) struct Two<F>(pub F);

impl<F: Fn(f32, f32) -> f32 + Copy + Send + Sync> StripFunction for Two<F> {
    fn apply(&self, arch: Arch, operands: &[&[f32]], _: bool, to: &mut [f32]) {
        struct Apply<'a, F>(F, &'a [f32], &'a [f32], &'a mut [f32]);

        impl<F: Fn(f32, f32) -> f32> WithSimd for Apply<'_, F> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) {
                let Apply(function, x, y, to) = self;
                to.iter_mut().zip(x.iter().zip(y)).for_each(|(to, (x, y))| *to = function(*x, *y));
            }
        }
        arch.dispatch(Apply(self.0, operands[0], operands[1], to));
    }
}

/// Where a node finds an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeOperand {
    /// Among what the region reads.
    Leaf(usize),
    /// Among what its nodes make.
    Node(usize),
}

/// One op of a region.
#[derive(Clone)]
pub(crate) struct Node {
    /// What it computes.
    pub function: Arc<dyn StripFunction>,
    /// From what.
    pub operands: Vec<NodeOperand>,
    /// The type of its result, fp16 or fp32.
    pub dtype: DType,
}

/// What a region reads: elements of an operand that broadcasts to the result.
#[derive(Debug, Clone)]
struct Leaves {
    walk: Broadcast,
    dtypes: Vec<DType>,
}

impl Leaves {
    fn new(dims: &[usize], operands: &[Operand]) -> Option<Leaves> {
        let own: Option<Vec<_>> = operands.iter().map(|operand| operand.shape().to_known()).collect();
        let walk = Broadcast::new(dims, &own?);
        Some(Leaves { walk, dtypes: operands.iter().map(Operand::dtype).collect() })
    }

    /// What some elements of the result, from a position on, need of a leaf: where it lies, or in `room`.
    fn load<'a>(
        &self,
        leaf: usize,
        values: Floats<'a>,
        (position, length): (usize, usize),
        room: &'a mut Strip,
        arch: Arch,
    ) -> &'a [f32] {
        let end = whole(length);
        if let Floats::F32(values) = values
            && end == length
        {
            let place = self.walk.locate(position);
            let part = self.walk.slice(leaf, values, place, length.min(place.left));
            if part.len() == length {
                return part;
            }
        }
        room[length..end].fill(1.0);
        self.walk.parts(position, length, |start, place, length| {
            let to = &mut room[start..start + length];
            match values {
                Floats::F16(values) => load(self.walk.slice(leaf, values, place, length), to, arch),
                Floats::F32(values) => load(self.walk.slice(leaf, values, place, length), to, arch),
            }
        });
        &room[..end]
    }
}

/// The values of each leaf.
pub(crate) type LeafValues<'a> = [Floats<'a>; MOST_STRIPS];

fn load<T: Float>(values: &[T], to: &mut [f32], arch: Arch) {
    struct Fill<'a>(&'a mut [f32], f32);

    impl WithSimd for Fill<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            self.0.fill(self.1);
        }
    }
    match values {
        [value] => arch.dispatch(Fill(to, value.wide())),
        values => T::widen(values, to),
    }
}

/// Rounds a strip to a type.
fn round(strip: &mut [f32], dtype: DType) {
    if dtype == DType::Fp16 {
        simd::round_to_half(strip);
    }
}

/// The length of a strip of so many elements.
fn whole(length: usize) -> usize {
    length.next_multiple_of(STEP)
}

/// Calls `work` with strips.
fn with_strips<R>(work: impl FnOnce(&mut [Strip]) -> R) -> R {
    STRIPS.with(|strips| match strips.try_borrow_mut() {
        Ok(mut strips) => work(&mut *strips),
        Err(_) => work(&mut [[0.0; STRIP]; MOST_STRIPS]),
    })
}

/// Ops that are computed together.
#[derive(Clone)]
pub(crate) struct Region {
    leaves: Leaves,
    nodes: Vec<Node>,
}

impl Region {
    /// Whether so many leaves and nodes make a region.
    pub(crate) fn fits(leaves: usize, nodes: usize) -> bool {
        leaves + nodes <= MOST_STRIPS
    }

    /// The region that computes the last of these nodes, of dimensions `dims`, from operands. `None` where dimensions
    /// are not known.
    pub(crate) fn new(dims: &[usize], leaves: &[Operand], nodes: Vec<Node>) -> Option<Region> {
        Some(Region { leaves: Leaves::new(dims, leaves)?, nodes })
    }

    /// The nodes, of which the functions may be replaced.
    pub(crate) fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// The leaves but for the last.
    pub(crate) fn others(&self) -> usize {
        self.leaves.dtypes.len().saturating_sub(1)
    }

    /// The type of the result.
    fn dtype(&self) -> DType {
        self.nodes.last().map_or(DType::Fp32, |node| node.dtype)
    }

    /// The values that the leaves take elements of: the operands from `first` on. There are none for the last leaves if
    /// there are not as many.
    pub(crate) fn values<'a>(&self, operands: &Sources<'a>, first: usize) -> LeafValues<'a> {
        let mut values = [Floats::F32(&[]); MOST_STRIPS];
        let operands_of_leaves = first..operands.len();
        for ((operand, &dtype), values) in operands_of_leaves.zip(&self.leaves.dtypes).zip(&mut values) {
            *values = operands.floats(operand, dtype);
        }
        values
    }

    /// Computes the result. The leaves are all of the operands.
    pub(crate) fn run(&self, operands: Sources<'_>, result: &mut [u8], threads: &Threads) {
        let values = self.values(&operands, 0);
        match self.dtype() {
            DType::Fp16 => self.compute::<f16>(&values, bytemuck::cast_slice_mut(result), threads),
            _ => self.compute::<f32>(&values, bytemuck::cast_slice_mut(result), threads),
        }
    }

    fn compute<T: Float>(&self, leaves: &LeafValues<'_>, result: &mut [T], threads: &Threads) {
        let work = self.nodes.iter().map(|node| node.function.work()).sum();
        threads.each_chunk(result, CHUNK, work, |index, result| {
            with_strips(|strips| {
                for (i, result) in result.chunks_mut(STRIP).enumerate() {
                    let span = (index * CHUNK + i * STRIP, result.len());
                    let last = self.evaluate(leaves, span, None, strips, threads.arch());
                    T::round(&last[..result.len()], result);
                }
            });
        });
    }

    /// Goes on with values that become neighbouring elements of the last leaf, from `position` on, and replaces them by
    /// those of the result, not rounded.
    pub(crate) fn epilogue(&self, leaves: &LeafValues<'_>, position: usize, values: &mut [f32], arch: Arch) {
        let dtype = self.leaves.dtypes.last().copied().unwrap_or(DType::Fp32);
        let mut made = [1.0; STRIP];
        with_strips(|strips| {
            for (i, values) in values.chunks_mut(STRIP).enumerate() {
                let span = (position + i * STRIP, values.len());
                let made = &mut made[..whole(values.len())];
                made[..values.len()].copy_from_slice(values);
                made[values.len()..].fill(1.0);
                round(made, dtype);
                let last = self.evaluate(leaves, span, Some(made), strips, arch);
                values.copy_from_slice(&last[..values.len()]);
            }
        });
    }

    /// Computes neighbouring elements of the result from `position` on, rounded.
    pub(crate) fn prologue(&self, leaves: &LeafValues<'_>, position: usize, values: &mut [f32], arch: Arch) {
        with_strips(|strips| {
            for (i, values) in values.chunks_mut(STRIP).enumerate() {
                let span = (position + i * STRIP, values.len());
                let last = self.evaluate(leaves, span, None, strips, arch);
                values.copy_from_slice(&last[..values.len()]);
                round(values, self.dtype());
            }
        });
    }

    /// Computes the strip of the last node, not rounded, for some elements. The last leaf may be given.
    fn evaluate<'a>(
        &self,
        values: &LeafValues<'a>,
        span: (usize, usize),
        made: Option<&'a [f32]>,
        strips: &'a mut [Strip],
        arch: Arch,
    ) -> &'a [f32] {
        let length = whole(span.1);
        let count = self.leaves.dtypes.len();
        let loaded = count - usize::from(made.is_some());
        let (rooms, strips) = strips.split_at_mut(count);
        let mut leaves: [&[f32]; MOST_STRIPS] = [&[]; MOST_STRIPS];
        for (leaf, room) in rooms.iter_mut().enumerate().take(loaded) {
            leaves[leaf] = self.leaves.load(leaf, values[leaf], span, room, arch);
        }
        if let Some(made) = made {
            leaves[loaded] = made;
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let (before, rest) = strips.split_at_mut(i);
            let strip = |value: NodeOperand| match value {
                NodeOperand::Leaf(leaf) => leaves[leaf],
                NodeOperand::Node(node) => &before[node][..length],
            };
            let to = &mut rest[0][..length];
            let half = node.dtype == DType::Fp16;
            match *node.operands {
                [x] => node.function.apply(arch, &[strip(x)], half, to),
                [x, y] => node.function.apply(arch, &[strip(x), strip(y)], half, to),
                _ => debug_assert!(false, "a node has one operand or two"),
            }
            if i + 1 < self.nodes.len() {
                round(to, node.dtype);
            }
        }
        &strips[self.nodes.len() - 1][..length]
    }
}
