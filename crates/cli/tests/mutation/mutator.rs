//! Seeded mutations of programs and weight files.

use std::ops::Range;

use anemone_lm::random::Random;

/// No mutated text is longer than this, but for one line.
const LONGEST_TEXT_BYTES: usize = 256 << 10;

/// Numbers at the edge of some type, and things that only look like numbers.
const NUMBERS: [&str; 40] = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "8",
    "15",
    "16",
    "64",
    "127",
    "128",
    "255",
    "256",
    "65504",
    "65535",
    "65536",
    "1000000",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "-2",
    "-128",
    "-2147483648",
    "-9223372036854775808",
    "1e308",
    "1e999",
    "0x1p+1023",
    "0x1p+1024",
    "-0x1p-149",
    "0x1p-1075",
    "inf",
    "-inf",
    "nan",
    "?",
];

/// Words that mean something to a reader or a verifier.
const WORDS: [&str; 58] = [
    "program",
    "func",
    "state",
    "list",
    "tuple",
    "dict",
    "tensor",
    "tensor_buffer",
    "shape",
    "strides",
    "BLOBFILE",
    "path",
    "offset",
    "true",
    "false",
    "const",
    "val",
    "name",
    "x",
    "axis",
    "axes",
    "values",
    "fp16",
    "fp32",
    "fp64",
    "bf16",
    "int4",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint1",
    "uint3",
    "uint8",
    "uint64",
    "bool",
    "string",
    "fp8E4M3FN",
    "fp8E5M2",
    "ios15",
    "ios16",
    "ios17",
    "ios18",
    "ios99",
    "matmul",
    "conv",
    "concat",
    "split",
    "reshape",
    "gather",
    "scatter",
    "tile",
    "pad",
    "cumsum",
    "cast",
    "fill",
    "cond",
    "while_loop",
];

/// Brackets and signs; the first ones open something.
const SIGNS: [&str; 22] = [
    "(",
    "[",
    "{",
    "<",
    "\"",
    "tensor<fp16, [",
    "tuple<",
    "list<",
    "cond(pred = x) () {\n",
    ")",
    "]",
    "}",
    ">",
    ",",
    ";",
    "=",
    "->",
    ") {",
    "} -> (x)",
    "?",
    "//",
    "\\",
];

/// Mutates a program's text; `other` is a text to take parts from.
pub fn mutate_text(random: &mut Random, text: &str, other: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..steps(random) {
        match random.below(20) {
            0 => mutate_bytes_once(random, &mut bytes),
            1 => insert_nesting(random, &mut bytes),
            2..4 => mutate_lines(random, &mut bytes, other.as_bytes()),
            4..6 => mutate_structure(random, &mut bytes),
            6..12 => replace_number(random, &mut bytes),
            _ => replace_word(random, &mut bytes, other.as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Mutates a weight file.
pub fn mutate_file(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..steps(random) {
        match random.below(8) {
            0 => {
                let length = random.below(bytes.len() + 1);
                bytes.truncate(length);
            }
            1..4 => mutate_bytes_once(random, bytes),
            _ => replace_field(random, bytes),
        }
    }
}

/// Mostly few, so that much of the seed survives.
fn steps(random: &mut Random) -> usize {
    match random.below(10) {
        0..5 => 1,
        5..7 => 2,
        7..9 => 3,
        _ => 4 + random.below(16),
    }
}

fn pick<'a, T: ?Sized>(random: &mut Random, items: &[&'a T]) -> &'a T {
    items[random.below(items.len())]
}

/// One of 2^0 to 2^`bits`, each power as likely.
fn power(random: &mut Random, bits: usize) -> usize {
    1 << random.below(bits + 1)
}

fn mutate_bytes_once(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len() + 1);
    match random.below(4) {
        0 => bytes.insert(at, random.next_u64() as u8),
        1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        2 if at < bytes.len() => bytes[at] = random.next_u64() as u8,
        _ => {
            let end = bytes.len().min(at + power(random, 6));
            bytes.drain(at..end);
        }
    }
}

/// Overwrites one of the numbers that make up headers and records.
fn replace_field(random: &mut Random, bytes: &mut [u8]) {
    let number = match random.below(6) {
        0 => random.next_u64(),
        1 => 1 << random.below(64),
        2 => u64::MAX << random.below(64),
        3 => random.below(20) as u64,
        4 => 64 * random.below(40) as u64,
        _ => 0xDEAD_BEEF | (random.below(20) as u64) << 32,
    };
    // Half of the time in the first record, which most programs name.
    let slots = if random.below(2) == 0 { 12 } else { bytes.len() / 8 };
    let at = 8 * random.below(slots);
    if let Some(place) = bytes.get_mut(at..at + 8) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

/// Opens many brackets, and sometimes closes them again.
fn insert_nesting(random: &mut Random, bytes: &mut Vec<u8>) {
    let count = power(random, 16);
    let sign = SIGNS[random.below(9)];
    let mut nest = sign.repeat(count);
    if random.below(2) == 0 {
        let close = ["", ")", "]", "}", ">", "} -> (x);"][random.below(6)];
        nest.push_str(&close.repeat(count));
    }
    insert(random, bytes, nest.as_bytes());
}

fn insert(random: &mut Random, bytes: &mut Vec<u8>, part: &[u8]) {
    if bytes.len() + part.len() > LONGEST_TEXT_BYTES {
        return;
    }
    // Next to a word, where something may begin.
    let words = words(bytes);
    let at = if words.is_empty() { 0 } else { words[random.below(words.len())].start };
    bytes.splice(at..at, part.iter().copied());
}

/// Deletes, repeats, swaps or takes over whole lines; a statement is a line.
fn mutate_lines(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    let others: Vec<&[u8]> = other.split_inclusive(|&byte| byte == b'\n').collect();
    if lines.is_empty() || others.is_empty() {
        return;
    }
    let at = random.below(lines.len());
    match random.below(5) {
        0 => {
            lines.remove(at);
        }
        1 => {
            let repeats =
                power(random, 10).min(LONGEST_TEXT_BYTES.saturating_sub(bytes.len()) / lines[at].len());
            lines.splice(at..at, std::iter::repeat_n(lines[at], repeats));
        }
        2 => {
            let with = random.below(lines.len());
            lines.swap(at, with);
        }
        3 => {
            let from = random.below(others.len());
            let to = others.len().min(from + power(random, 4));
            lines.splice(at..at, others[from..to].iter().copied());
        }
        // The beginning of one with the end of the other.
        _ => {
            lines.truncate(at);
            lines.extend(&others[random.below(others.len())..]);
        }
    }
    *bytes = lines.concat();
}

/// Inserts, deletes or repeats a few neighbouring words with what is between them.
fn mutate_structure(random: &mut Random, bytes: &mut Vec<u8>) {
    if random.below(3) == 0 {
        let sign = pick(random, &SIGNS);
        return insert(random, bytes, sign.as_bytes());
    }
    let words = words(bytes);
    if words.is_empty() {
        return;
    }
    let first = random.below(words.len());
    let last = (first + power(random, 3)).min(words.len()) - 1;
    let range = words[first].start..words[last].end;
    if random.below(2) == 0 {
        bytes.drain(range);
    } else {
        let part = bytes[range.clone()].to_vec();
        let room = LONGEST_TEXT_BYTES.saturating_sub(bytes.len()) / part.len();
        let part = part.repeat(power(random, 8).min(room));
        bytes.splice(range.start..range.start, part);
    }
}

/// Puts another number in the place of one: an extreme one, one of the same text, or a neighbouring one.
fn replace_number(random: &mut Random, bytes: &mut Vec<u8>) {
    let mut numbers = words(bytes);
    numbers.retain(|word| bytes[word.start].is_ascii_digit());
    if numbers.is_empty() {
        return;
    }
    let range = numbers[random.below(numbers.len())].clone();
    let old = std::str::from_utf8(&bytes[range.clone()]).ok().and_then(|text| text.parse::<u64>().ok());
    let new = match (random.below(4), old) {
        (0, _) => pick(random, &NUMBERS).as_bytes().to_vec(),
        (1, Some(old)) => old.wrapping_add(1).to_string().into_bytes(),
        (2, Some(old)) => old.wrapping_sub(1).to_string().into_bytes(),
        _ => bytes[numbers[random.below(numbers.len())].clone()].to_vec(),
    };
    bytes.splice(range, new);
}

/// Puts another word in the place of one: one of the same text, of another, or one with a meaning.
fn replace_word(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let mut own = words(bytes);
    own.retain(|word| !bytes[word.start].is_ascii_digit());
    if own.is_empty() {
        return;
    }
    let range = own[random.below(own.len())].clone();
    let new = match random.below(4) {
        0 => pick(random, &WORDS).as_bytes().to_vec(),
        1 => {
            let words = words(other);
            if words.is_empty() {
                Vec::new()
            } else {
                other[words[random.below(words.len())].clone()].to_vec()
            }
        }
        _ => bytes[own[random.below(own.len())].clone()].to_vec(),
    };
    bytes.splice(range, new);
}

/// Names, keywords and numbers: the runs of letters, digits and what numbers are written with.
fn words(bytes: &[u8]) -> Vec<Range<usize>> {
    let in_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'@');
    let mut words = Vec::new();
    let mut start = None;
    for (at, &byte) in bytes.iter().chain(std::iter::once(&b' ')).enumerate() {
        match (start, in_word(byte)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                words.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    words
}
