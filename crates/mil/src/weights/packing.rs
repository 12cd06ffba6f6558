//! Values narrower than a byte: several to a byte, from the least significant bit on. A value of 3 or 6 bits
//! may lie across two bytes.

/// Eight values fill as many bytes as one has bits, so they can be packed apart from all others.
const GROUP: usize = 8;

/// The low `bits` bits of each value, without gaps; the last byte is filled up with zeros.
///
/// `bits` is 1 to 8.
pub fn pack(values: &[u8], bits: u32) -> Vec<u8> {
    let mask = (1u64 << bits) - 1;
    let mut packed = Vec::with_capacity(packed_len(values.len(), bits));
    for group in values.chunks(GROUP) {
        let word = group.iter().rev().fold(0u64, |word, &value| word << bits | u64::from(value) & mask);
        packed.extend_from_slice(&word.to_le_bytes()[..packed_len(group.len(), bits)]);
    }
    packed
}

/// Takes values of `bits` bits each out of `packed` and fills `values`, with zeros above those bits.
///
/// `packed` holds at least as many bytes as the values take; `bits` is 1 to 8.
pub fn unpack(packed: &[u8], bits: u32, values: &mut [u8]) {
    let mask = (1u64 << bits) - 1;
    for (bytes, group) in packed.chunks(bits as usize).zip(values.chunks_mut(GROUP)) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let mut word = u64::from_le_bytes(word);
        for value in group {
            *value = (word & mask) as u8;
            word >>= bits;
        }
    }
}

/// Gives an integer of `bits` bits, the rest zeros, the sign that its highest bit stands for.
pub fn sign_extend(value: i8, bits: u32) -> i8 {
    let unused = 8 - bits;
    value << unused >> unused
}

fn packed_len(count: usize, bits: u32) -> usize {
    (count * bits as usize).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One bit at a time, as the format is described.
    fn pack_bitwise(values: &[u8], bits: u32) -> Vec<u8> {
        let mut packed = vec![0; (values.len() * bits as usize).div_ceil(8)];
        for (i, value) in values.iter().enumerate() {
            for bit in 0..bits as usize {
                let at = i * bits as usize + bit;
                packed[at / 8] |= (value >> bit & 1) << (at % 8);
            }
        }
        packed
    }

    #[test]
    fn packs_as_described_and_unpacks_what_it_packed() {
        for bits in 1..=8 {
            for count in 0..70 {
                let values: Vec<u8> =
                    (0..count).map(|i: u32| (i.wrapping_mul(0x9E37_79B9) >> (32 - bits)) as u8).collect();
                let packed = pack(&values, bits);
                assert_eq!(packed, pack_bitwise(&values, bits), "{count} values of {bits} bits");
                let mut unpacked = vec![0xff; values.len()];
                unpack(&packed, bits, &mut unpacked);
                assert_eq!(unpacked, values, "{count} values of {bits} bits");
            }
        }
    }

    #[test]
    fn extends_signs() {
        assert_eq!([0, 7, 8, 15].map(|v| sign_extend(v, 4)), [0, 7, -8, -1]);
    }
}
