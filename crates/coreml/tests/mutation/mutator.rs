//! Seeded mutations: of bytes, and of the fields of messages, whose lengths stay right.

/// A generator of numbers, SplitMix64.
pub struct Random(u64);

impl Random {
    /// One that gives other numbers for each seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0xa076_1d64_78bd_642f))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Numbers at the edge of some type.
const NUMBERS: [u64; 18] = [
    0,
    1,
    2,
    3,
    7,
    10,
    11,
    23,
    32,
    127,
    128,
    255,
    1 << 16,
    (1 << 31) - 1,
    1 << 32,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// The most bytes of a mutant.
const LONGEST: usize = 1 << 16;

/// A mutant of one of the seeds.
pub fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(2) {
        match random.below(10) {
            0..7 => mutate_fields(random, &mut bytes, &seeds[random.0 as usize % seeds.len()]),
            _ => mutate_bytes(random, &mut bytes, &seeds[random.0 as usize % seeds.len()]),
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

fn mutate_bytes(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    if bytes.is_empty() {
        bytes.extend_from_slice(other);
    }
    let (at, end) = (random.below(bytes.len()), random.below(bytes.len()));
    let (start, end) = (at.min(end), at.max(end));
    match random.below(7) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(start..end)),
        4 => {
            let piece = bytes[start..end].to_vec();
            drop(bytes.splice(at..at, piece));
        }
        5 if !other.is_empty() => {
            let from = random.below(other.len());
            let to = from + random.below(other.len() - from + 1);
            drop(bytes.splice(start..end, other[from..to].iter().copied()));
        }
        _ => {
            let mut number = Vec::new();
            put_varint(NUMBERS[random.below(NUMBERS.len())], &mut number);
            drop(bytes.splice(at..at, number));
        }
    }
}

/// A field of a message.
#[derive(Clone)]
struct Field {
    tag: u64,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

/// The fields of a message; `None` where the bytes are none. Whether bytes are a message, only its schema tells: those
/// that read as one are taken for one.
fn read(mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Varint(take_varint(&mut bytes)?),
            1 => Value::Fixed64(take(&mut bytes)?),
            5 => Value::Fixed32(take(&mut bytes)?),
            2 => {
                let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
                let (payload, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                match read(payload, depth + 1) {
                    Some(fields) if depth < 40 && !fields.is_empty() => Value::Message(fields),
                    _ => Value::Bytes(payload.to_vec()),
                }
            }
            _ => return None,
        };
        fields.push(Field { tag: key >> 3, value });
    }
    Some(fields)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in 0..10 {
        let [byte] = take(bytes)?;
        value |= u64::from(byte & 0x7f).wrapping_shl(7 * shift);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn put_varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn write(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Field { tag, value } in fields {
        let mut put = |wire_type: u64, payload: &[u8]| {
            put_varint(tag << 3 | wire_type, &mut bytes);
            if wire_type == 2 {
                put_varint(payload.len() as u64, &mut bytes);
            }
            bytes.extend_from_slice(payload);
        };
        match value {
            Value::Varint(value) => {
                let mut number = Vec::new();
                put_varint(*value, &mut number);
                put(0, &number);
            }
            Value::Fixed64(payload) => put(1, payload),
            Value::Fixed32(payload) => put(5, payload),
            Value::Bytes(payload) => put(2, payload),
            Value::Message(fields) => put(2, &write(fields)),
        }
    }
    bytes
}

/// The message itself, or one somewhere within it.
fn somewhere<'a>(random: &mut Random, fields: &'a mut Vec<Field>) -> &'a mut Vec<Field> {
    let inner: Vec<usize> = fields
        .iter()
        .enumerate()
        .filter(|(_, field)| matches!(field.value, Value::Message(_)))
        .map(|(position, _)| position)
        .collect();
    if inner.is_empty() || random.below(8) == 0 {
        return fields;
    }
    let position = inner[random.below(inner.len())];
    match &mut fields[position] {
        Field { value: Value::Message(inner), .. } => somewhere(random, inner),
        _ => panic!("the position is that of a message"),
    }
}

fn mutate_fields(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let Some(mut fields) = read(bytes, 0) else { return mutate_bytes(random, bytes, other) };
    let mut others = read(other, 0).unwrap_or_default();
    let donor = somewhere(random, &mut others).clone();
    let place = somewhere(random, &mut fields);
    if place.is_empty() {
        return;
    }
    let at = random.below(place.len());
    match random.below(7) {
        0 => drop(place.remove(at)),
        1 => {
            let field = place[at].clone();
            let to = random.below(place.len() + 1);
            place.insert(to, field);
        }
        2 => {
            let to = random.below(place.len());
            place.swap(at, to);
        }
        3 if !donor.is_empty() => place.insert(at, donor[random.below(donor.len())].clone()),
        4 if !donor.is_empty() => place[at].value = donor[random.below(donor.len())].value.clone(),
        5 => place[at].tag = NUMBERS[random.below(12)].max(1),
        _ => match &mut place[at].value {
            Value::Varint(value) => *value = NUMBERS[random.below(NUMBERS.len())],
            Value::Bytes(payload) if !payload.is_empty() => {
                let at = random.below(payload.len());
                payload[at] = payload[at].wrapping_add(1 + random.below(3) as u8);
            }
            value => *value = Value::Varint(NUMBERS[random.below(NUMBERS.len())]),
        },
    }
    *bytes = write(&fields);
}
