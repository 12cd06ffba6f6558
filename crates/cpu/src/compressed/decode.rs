//! Decoding elements, with the processor's vectors where they are of use.

use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use anemone_mil::weights::unpack;
use pulp::{Arch, Simd, WithSimd};

use super::{Codes, Compressed, Form, MARKED};
use crate::element::Float;

/// Elements that are decoded at a time.
const STRIP: usize = 256;
/// Room for their integers, and others before them in the same bytes.
const ROOM: usize = STRIP + 8;

impl Compressed {
    /// Decodes the elements from one on.
    pub(crate) fn decode<T: Float>(&self, arch: Arch, first: usize, to: &mut [T]) {
        arch.dispatch(Decode { compressed: self, first, to });
    }
}

/// Some elements to be decoded.
struct Decode<'a, T> {
    compressed: &'a Compressed,
    first: usize,
    to: &'a mut [T],
}

impl<T: Float> WithSimd for Decode<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Compressed { dims, codes, groups, form, .. } = self.compressed;
        if let Form::Sparse { values, before } = form {
            return spread(codes.bytes(), elements(values), before, self.first, self.to);
        }
        let (mut position, mut rest) = (self.first, self.to);
        while !rest.is_empty() {
            let length = (groups.run - position % groups.run).min(rest.len());
            let group = groups.of(position, dims);
            let (run, others) = rest.split_at_mut(length);
            match form {
                Form::Palette(lut) => {
                    let entries = 1 << codes.bits;
                    look_up(codes, position, &elements(lut)[group * entries..][..entries], run);
                }
                Form::Scaled { scales, zeros, in_fp32 } => {
                    scale(codes, position, (scales.of(group), zeros.of(group), *in_fp32), run);
                }
                Form::Sparse { .. } => {}
            }
            position += length;
            rest = others;
        }
    }
}

/// The elements of a tensor of this type.
fn elements<T: Float>(tensor: &Tensor) -> &[T] {
    let bytes = crate::memory::bytes_of(tensor.data());
    // Another type than the constant's was refused when it was made.
    debug_assert_eq!(tensor.dtype() == DType::Fp16, T::HALF);
    bytemuck::cast_slice(bytes)
}

/// The integers from a position on, as many as fit beside others before them in whole bytes: unpacked, but for those of
/// eight bits.
#[inline(always)]
fn integers<'a>(codes: &'a Codes, position: usize, count: usize, room: &'a mut [u8; ROOM]) -> &'a [u8] {
    let (bytes, bits) = (codes.bytes(), codes.bits);
    if bits == 8 {
        return &bytes[position..position + count];
    }
    // Eight integers fill whole bytes.
    let skipped = position % 8;
    let bytes = &bytes[(position - skipped) / 8 * bits as usize..];
    let room = &mut room[..skipped + count];
    if bits == 4 {
        for (pair, byte) in room.chunks_mut(2).zip(bytes) {
            pair[0] = byte & 15;
            if let Some(second) = pair.get_mut(1) {
                *second = byte >> 4;
            }
        }
    } else {
        unpack(bytes, bits, room);
    }
    &room[skipped..]
}

/// What integers stand for in a palette.
#[inline(always)]
fn look_up<T: Float>(codes: &Codes, position: usize, palette: &[T], to: &mut [T]) {
    match codes.bits {
        1 => look_up_among::<T, 2>(codes, position, palette, to),
        2 => look_up_among::<T, 4>(codes, position, palette, to),
        3 => look_up_among::<T, 8>(codes, position, palette, to),
        4 => look_up_among::<T, 16>(codes, position, palette, to),
        6 => look_up_among::<T, 64>(codes, position, palette, to),
        _ => look_up_among::<T, 256>(codes, position, palette, to),
    }
}

/// The same in a palette of so many entries, or less.
#[inline(always)]
fn look_up_among<T: Float, const ENTRIES: usize>(
    codes: &Codes,
    position: usize,
    palette: &[T],
    to: &mut [T],
) {
    let mut entries = [T::zeroed(); ENTRIES];
    entries[..palette.len()].copy_from_slice(palette);
    let mut room = [0; ROOM];
    for (index, to) in to.chunks_mut(STRIP).enumerate() {
        let integers = integers(codes, position + index * STRIP, to.len(), &mut room);
        for (to, &integer) in to.iter_mut().zip(integers) {
            *to = entries[usize::from(integer) % ENTRIES];
        }
    }
}

/// `scale · (integer − zero)`, rounded once.
#[inline(always)]
fn scale<T: Float>(codes: &Codes, position: usize, (scale, zero, in_fp32): (f64, f64, bool), to: &mut [T]) {
    let mut room = [0; ROOM];
    let mut values = [0; STRIP];
    for (index, to) in to.chunks_mut(STRIP).enumerate() {
        let integers = integers(codes, position + index * STRIP, to.len(), &mut room);
        let values = &mut values[..to.len()];
        if codes.signed {
            let unused = 8 - codes.bits;
            for (value, &integer) in values.iter_mut().zip(integers) {
                *value = i32::from((integer << unused).cast_signed() >> unused);
            }
        } else {
            values.iter_mut().zip(integers).for_each(|(value, &integer)| *value = i32::from(integer));
        }
        if in_fp32 {
            scale_in_fp32(values, scale as f32, zero as f32, to);
        } else {
            for (to, &value) in to.iter_mut().zip(&*values) {
                *to = T::from_f64(scale * (f64::from(value) - zero));
            }
        }
    }
}

#[inline(always)]
fn scale_in_fp32<T: Float>(integers: &[i32], scale: f32, zero: f32, to: &mut [T]) {
    let mut values = [0.0; STRIP];
    let values = &mut values[..to.len()];
    for (value, &integer) in values.iter_mut().zip(integers) {
        *value = scale * (integer as f32 - zero);
    }
    T::round(values, to);
}

/// Puts stored elements where a mask has ones, from a position on, and 0 elsewhere.
#[inline(always)]
fn spread<T: Float>(mask: &[u8], values: &[T], before: &[usize], first: usize, to: &mut [T]) {
    to.fill(T::zeroed());
    let end = first + to.len();
    let mark = first / MARKED;
    let mut next = before.get(mark).copied().unwrap_or(values.len());
    for word in mark * MARKED / 64..end.div_ceil(64) {
        let mut bytes = [0; 8];
        let there = mask.len().min(word * 8 + 8);
        bytes[..there - word * 8].copy_from_slice(&mask[word * 8..there]);
        let mut bits = u64::from_le_bytes(bytes);
        while bits != 0 {
            let position = word * 64 + bits.trailing_zeros() as usize;
            if position >= end {
                return;
            }
            if position >= first {
                to[position - first] = values[next];
            }
            next += 1;
            bits &= bits - 1;
        }
    }
}
