//! Decoding elements, with the processor's vectors where they are of use.

use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use anemone_mil::weights::{sign_extend, unpack};
use pulp::{Arch, Simd, WithSimd};

use super::{Codes, Compressed, Form, MARKED};
use crate::element::Float;

/// Elements whose integers are unpacked at a time, a multiple of 8.
const STRIP: usize = 256;

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
                    let of = |values: &[f64]| if let [one] = values { *one } else { values[group] };
                    scale(codes, position, (of(scales), of(zeros), *in_fp32), run);
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

/// Calls `visit` with integers from a position on, strip after strip, each beside its place.
#[inline(always)]
fn strips<T>(codes: &Codes, position: usize, to: &mut [T], mut visit: impl FnMut(&[u8], &mut [T])) {
    let (bytes, bits) = (codes.bytes(), codes.bits);
    if bits == 8 {
        for (bytes, to) in bytes[position..].chunks(STRIP).zip(to.chunks_mut(STRIP)) {
            visit(&bytes[..to.len()], to);
        }
        return;
    }
    let mut unpacked = [0; STRIP + 8];
    // Eight integers fill whole bytes.
    let (mut start, mut skipped) = (position / 8 * 8, position % 8);
    for to in to.chunks_mut(STRIP) {
        let values = &mut unpacked[..skipped + to.len()];
        let bytes = &bytes[start / 8 * bits as usize..];
        if bits == 4 {
            for (pair, byte) in values.chunks_mut(2).zip(bytes) {
                pair.iter_mut().zip([byte & 15, byte >> 4]).for_each(|(value, code)| *value = code);
            }
        } else {
            unpack(bytes, bits, values);
        }
        visit(&values[skipped..], to);
        (start, skipped) = ((start + skipped + to.len()) / 8 * 8, (skipped + to.len()) % 8);
    }
}

/// What integers stand for in a palette.
#[inline(always)]
fn look_up<T: Float>(codes: &Codes, position: usize, palette: &[T], to: &mut [T]) {
    strips(codes, position, to, |codes, to| {
        to.iter_mut().zip(codes).for_each(|(to, &code)| *to = palette[usize::from(code)]);
    });
}

/// `scale · (integer − zero)`, rounded once.
#[inline(always)]
fn scale<T: Float>(codes: &Codes, position: usize, (scale, zero, in_fp32): (f64, f64, bool), to: &mut [T]) {
    let Codes { bits, signed, .. } = *codes;
    let integer = |code: u8| match signed {
        true => i32::from(sign_extend(code.cast_signed(), bits)),
        false => i32::from(code),
    };
    strips(codes, position, to, |codes, to| {
        if !in_fp32 {
            let value = |code| scale * (f64::from(integer(code)) - zero);
            return to.iter_mut().zip(codes).for_each(|(to, &code)| *to = T::from_f64(value(code)));
        }
        let (scale, zero) = (scale as f32, zero as f32);
        let mut values = [0.0; STRIP];
        let values = &mut values[..to.len()];
        for (value, &code) in values.iter_mut().zip(codes) {
            *value = scale * (integer(code) as f32 - zero);
        }
        T::round(values, to);
    });
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
