//! Where values live, and how a step reads several of them while it writes another.

use std::ops::Range;
use std::sync::Arc;

use anemone_mil::for_each_data;
use anemone_mil::program::ValueId;
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::types::{DType, TensorType};
use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};
use half::{bf16, f16};

use crate::constants::Constants;
use crate::kernels::MOST_RESULTS;

/// A cache line, the unit of the plan: every value starts at one.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; LINE_BYTES]);

/// Bytes of a [`Line`].
pub(crate) const LINE_BYTES: usize = 64;

/// Where a value lives while the function runs.
#[derive(Debug, Clone)]
pub(crate) enum MemoryPlace {
    /// In the tensor that the caller passes as this input.
    Input(usize),
    /// In a constant, or in what an op made of constants.
    Constant(ValueId),
    /// In a literal in the program.
    Literal(Arc<Tensor>),
    /// In the planned memory: so many bytes from this line on.
    Planned { line: usize, bytes: usize },
    /// In the tensor that the caller gives for this output.
    Output(usize),
    /// In a tensor that an op without a kernel made.
    Held(usize),
}

/// The lines that a planned place takes.
pub(crate) fn lines(line: usize, bytes: usize) -> Range<usize> {
    line..line + bytes.div_ceil(LINE_BYTES)
}

/// The planned memory without some places, in order: parts, and the line at which each starts.
#[derive(Clone, Copy)]
pub(crate) struct PlannedParts<'a>([(usize, &'a [Line]); MOST_RESULTS + 1]);

impl<'a> PlannedParts<'a> {
    /// All of it.
    pub(crate) fn whole(planned: &'a [Line]) -> PlannedParts<'a> {
        let mut parts = [(usize::MAX, &[][..]); MOST_RESULTS + 1];
        parts[0] = (0, planned);
        PlannedParts(parts)
    }

    /// What is around the places among these that are planned, whose bytes become those of `results` in the same position.
    pub(crate) fn around(
        planned: &'a mut [Line],
        places: &[MemoryPlace],
        results: &mut [&'a mut [u8]; MOST_RESULTS],
    ) -> PlannedParts<'a> {
        let mut parts = [(usize::MAX, &[][..]); MOST_RESULTS + 1];
        let (mut start, mut rest) = (0, planned);
        for part in &mut parts {
            let after = |(index, place): (usize, &MemoryPlace)| match place {
                // What takes no line leaves nothing out.
                MemoryPlace::Planned { line, bytes } if *bytes > 0 && *line >= start => {
                    Some((*line, *bytes, index))
                }
                _ => None,
            };
            let Some((line, bytes, index)) = places.iter().enumerate().filter_map(after).min() else {
                *part = (start, rest);
                break;
            };
            let range = lines(line, bytes);
            let (before, others) = rest.split_at_mut(range.start - start);
            let (result, after) = others.split_at_mut(range.len());
            results[index] = &mut bytemuck::cast_slice_mut(result)[..bytes];
            *part = (start, before);
            (start, rest) = (range.end, after);
        }
        PlannedParts(parts)
    }

    /// These lines, which lie in one part.
    fn lines(&self, range: Range<usize>) -> &'a [Line] {
        let part = self.0.iter().rev().find(|(start, _)| *start <= range.start);
        part.map_or(&[], |(start, part)| &part[range.start - start..range.end - start])
    }
}

/// Everything that a step may read.
#[derive(Clone, Copy)]
pub(crate) struct Memory<'a> {
    /// The planned memory but the places that the step writes.
    pub planned: PlannedParts<'a>,
    /// The caller's inputs.
    pub inputs: &'a [&'a Tensor],
    /// The caller's outputs; the one that the step writes is empty.
    pub outputs: &'a [Tensor],
    /// Results of ops without a kernel.
    pub held: &'a [Option<Arc<Tensor>>],
    /// Constants and what was made of them.
    pub constants: &'a Constants,
}

impl<'a> Memory<'a> {
    /// The bytes at a place.
    pub(crate) fn bytes(&self, place: &'a MemoryPlace) -> &'a [u8] {
        match place {
            MemoryPlace::Planned { line, bytes } => {
                &bytemuck::cast_slice(self.planned.lines(lines(*line, *bytes)))[..*bytes]
            }
            _ => self.tensor(place).map_or(&[], |tensor| bytes_of(tensor.data())),
        }
    }

    /// The tensor at a place that is one.
    pub(crate) fn tensor(&self, place: &'a MemoryPlace) -> Option<&'a Tensor> {
        match place {
            MemoryPlace::Input(index) => self.inputs.get(*index).copied(),
            MemoryPlace::Output(index) => self.outputs.get(*index),
            MemoryPlace::Held(index) => self.held.get(*index)?.as_deref(),
            MemoryPlace::Constant(id) => self.constants.get(*id).map(Arc::as_ref),
            MemoryPlace::Literal(tensor) => Some(tensor),
            MemoryPlace::Planned { .. } => None,
        }
    }
}

impl Memory<'_> {
    /// Copies the values at a place into a tensor's; there are as many, of the same type. A bool is a byte
    /// that is not 0.
    pub(crate) fn copy(&self, place: &MemoryPlace, to: &mut Data) {
        match to {
            Data::Bool(bools) => {
                bools.iter_mut().zip(self.bytes(place)).for_each(|(to, &from)| *to = from != 0);
            }
            Data::String(strings) => {
                if let Some(from) = self.tensor(place).and_then(|tensor| tensor.as_slice::<String>()) {
                    strings.clone_from_slice(from);
                }
            }
            numbers => bytes_of_mut(numbers).copy_from_slice(self.bytes(place)),
        }
    }

    /// The values at a place as a tensor; the type is what the plan knows of it.
    pub(crate) fn shared_tensor(&self, place: &MemoryPlace, ty: &TensorType) -> Option<Arc<Tensor>> {
        let shared = match place {
            MemoryPlace::Held(index) => self.held.get(*index)?.clone(),
            MemoryPlace::Constant(id) => self.constants.get(*id).cloned(),
            MemoryPlace::Literal(tensor) => Some(tensor.clone()),
            _ => None,
        };
        let dims = ty.shape.to_known();
        if let (MemoryPlace::Input(index), None) = (place, &dims) {
            return Some(Arc::new(Tensor::clone(self.inputs[*index])));
        }
        if let Some(tensor) = shared {
            return match dims {
                Some(dims) if dims != tensor.shape() => {
                    Tensor::clone(&tensor).reshaped(&dims).ok().map(Arc::new)
                }
                _ => Some(tensor),
            };
        }
        let mut tensor = Tensor::zeros(ty.dtype, &dims?)?;
        self.copy(place, tensor.data_mut());
        Some(Arc::new(tensor))
    }
}

/// The operands of a kernel.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    places: &'a [MemoryPlace],
    memory: Memory<'a>,
}

impl<'a> Sources<'a> {
    /// The values at these places.
    pub(crate) fn new(places: &'a [MemoryPlace], memory: Memory<'a>) -> Sources<'a> {
        Sources { places, memory }
    }

    /// The number of operands.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The bytes of an operand.
    pub(crate) fn bytes(&self, index: usize) -> &'a [u8] {
        self.places.get(index).map_or(&[], |place| self.memory.bytes(place))
    }

    /// The elements of an operand, which are stored as `T`.
    pub(crate) fn values<T: AnyBitPattern>(&self, index: usize) -> &'a [T] {
        // Planned values start at a cache line, all others are vectors of `T`: the cast cannot fail.
        bytemuck::cast_slice(self.bytes(index))
    }

    /// The elements of an operand of fp16 or fp32.
    pub(crate) fn floats(&self, index: usize, dtype: DType) -> Floats<'a> {
        match dtype {
            DType::Fp16 => Floats::F16(self.values(index)),
            _ => Floats::F32(self.values(index)),
        }
    }
}

/// Elements of fp16 or fp32.
#[derive(Debug, Clone, Copy)]
pub enum Floats<'a> {
    /// fp16.
    F16(&'a [f16]),
    /// fp32.
    F32(&'a [f32]),
}

impl<'a> Floats<'a> {
    /// The number of elements.
    pub fn len(self) -> usize {
        match self {
            Floats::F16(values) => values.len(),
            Floats::F32(values) => values.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The elements from `start` on.
    #[must_use]
    pub(crate) fn from(self, start: usize) -> Floats<'a> {
        match self {
            Floats::F16(values) => Floats::F16(&values[start..]),
            Floats::F32(values) => Floats::F32(&values[start..]),
        }
    }

    /// One element.
    pub(crate) fn get(self, index: usize) -> f32 {
        match self {
            Floats::F16(values) => values[index].to_f32(),
            Floats::F32(values) => values[index],
        }
    }
}

/// Elements of fp16 or fp32, to be written.
#[derive(Debug)]
pub enum FloatsMut<'a> {
    /// fp16.
    F16(&'a mut [f16]),
    /// fp32.
    F32(&'a mut [f32]),
}

impl FloatsMut<'_> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            FloatsMut::F16(values) => values.len(),
            FloatsMut::F32(values) => values.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of the elements.
    pub(crate) fn part(&mut self, range: Range<usize>) -> FloatsMut<'_> {
        match self {
            FloatsMut::F16(values) => FloatsMut::F16(&mut values[range]),
            FloatsMut::F32(values) => FloatsMut::F32(&mut values[range]),
        }
    }
}

/// The bytes of a tensor's values; none for strings.
pub(crate) fn bytes_of(data: &Data) -> &[u8] {
    fn view<T: NoUninit>(values: &[T]) -> &[u8] {
        bytemuck::cast_slice(values)
    }
    for_each_data!(data, values => view(values), strings _values => &[])
}

/// The bytes of a tensor's values, to be written; none for strings and bools, not all of whose bytes are
/// values.
pub(crate) fn bytes_of_mut(data: &mut Data) -> &mut [u8] {
    match data {
        Data::F16(values) => bytemuck::cast_slice_mut::<f16, u8>(values),
        Data::F32(values) => bytemuck::cast_slice_mut::<f32, u8>(values),
        Data::F64(values) => bytemuck::cast_slice_mut::<f64, u8>(values),
        Data::Bf16(values) => bytemuck::cast_slice_mut::<bf16, u8>(values),
        Data::I8(values) => bytemuck::cast_slice_mut::<i8, u8>(values),
        Data::I16(values) => bytemuck::cast_slice_mut::<i16, u8>(values),
        Data::I32(values) => bytemuck::cast_slice_mut::<i32, u8>(values),
        Data::I64(values) => bytemuck::cast_slice_mut::<i64, u8>(values),
        Data::U8(values) => values,
        Data::U16(values) => bytemuck::cast_slice_mut::<u16, u8>(values),
        Data::U32(values) => bytemuck::cast_slice_mut::<u32, u8>(values),
        Data::U64(values) => bytemuck::cast_slice_mut::<u64, u8>(values),
        Data::Bool(_) | Data::String(_) => &mut [],
    }
}

/// Whether values of this type can live in planned memory and be copied out of it.
pub(crate) fn can_be_planned(dtype: DType) -> bool {
    dtype != DType::String
}

/// Bytes that one element takes in memory; narrow integers take one.
pub(crate) fn element_bytes(dtype: DType) -> usize {
    (dtype.bits() as usize).div_ceil(8).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_lies_around_the_places_that_are_written() {
        let mut planned: Vec<Line> = (0..20).map(|line| Line([line; LINE_BYTES])).collect();
        let place = |line, bytes| MemoryPlace::Planned { line, bytes };
        // Two that touch, in either order, one elsewhere, and one that takes no line.
        for places in [
            vec![place(7, 100), place(5, 128), place(19, 1)],
            vec![place(0, 64), MemoryPlace::Output(0), place(1, 65)],
            vec![place(4, 0), place(4, 640)],
        ] {
            let mut results: [&mut [u8]; MOST_RESULTS] = std::array::from_fn(|_| &mut [][..]);
            let parts = PlannedParts::around(&mut planned, &places, &mut results);
            let mut written = [false; 20];
            for (place, result) in places.iter().zip(&results) {
                let MemoryPlace::Planned { line, bytes } = *place else {
                    assert!(result.is_empty());
                    continue;
                };
                assert_eq!(result.len(), bytes);
                assert!(
                    result.iter().enumerate().all(|(i, &byte)| usize::from(byte) == line + i / LINE_BYTES)
                );
                written[lines(line, bytes)].fill(true);
            }
            for line in (0..20).filter(|&line| !written[line]) {
                let found = parts.lines(line..line + 1);
                assert!(found.len() == 1 && usize::from(found[0].0[0]) == line, "{line} of {places:?}");
            }
        }
    }
}
