//! The header of a `.npy` file: six bytes of magic, the version, the length of the rest, and a Python
//! dictionary literal with `descr`, `fortran_order` and `shape`.
//!
//! Read here and not by a library: those at hand trust it, so that dimensions whose product overflows, a header of
//! 4 GiB or deep nesting bring them down.

use std::io::Read;

use super::NpyError;

/// Longer than any header of a plain array.
const MAX_HEADER_BYTES: u64 = 1 << 16;
/// More dimensions than NumPy allows.
const MAX_RANK: usize = 64;

/// What elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Signed,
    Unsigned,
    Bool,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub kind: Kind,
    /// Bytes of an element.
    pub size: usize,
    pub big_endian: bool,
    pub fortran_order: bool,
    pub shape: Vec<u64>,
}

impl Header {
    /// Reads the header, and leaves the reader at the array's data.
    pub(super) fn read(reader: &mut impl Read) -> Result<Header, NpyError> {
        let mut start = [0; 8];
        read_exactly(reader, &mut start)?;
        let [magic @ .., major, minor] = start;
        if magic != *b"\x93NUMPY" {
            return Err(NpyError::NotNpy);
        }
        let length = match (major, minor) {
            (1, 0) => {
                let mut bytes = [0; 2];
                read_exactly(reader, &mut bytes)?;
                u64::from(u16::from_le_bytes(bytes))
            }
            (2 | 3, 0) => {
                let mut bytes = [0; 4];
                read_exactly(reader, &mut bytes)?;
                u64::from(u32::from_le_bytes(bytes))
            }
            _ => return Err(damaged(format!("its version is {major}.{minor}; 1.0, 2.0 and 3.0 are known"))),
        };
        if length > MAX_HEADER_BYTES {
            return Err(NpyError::HeaderTooLong(length));
        }
        let mut text = Vec::new();
        reader.take(length).read_to_end(&mut text)?;
        if text.len() as u64 != length {
            return Err(damaged("the file ends within it"));
        }
        Header::parse(&text)
    }

    /// The header that a dictionary literal says.
    pub(super) fn parse(text: &[u8]) -> Result<Header, NpyError> {
        let mut text = Cursor { text };
        let (mut elements, mut order, mut shape) = (None, None, None);
        text.expect(b'{')?;
        while !text.eat(b'}') {
            let key = text.string()?;
            text.expect(b':')?;
            match key {
                b"descr" => elements = Some(text.elements()?),
                b"fortran_order" => order = Some(text.boolean()?),
                b"shape" => shape = Some(text.integers()?),
                _ => return Err(damaged(format!("`{}` is no key of it", String::from_utf8_lossy(key)))),
            }
            if !text.eat(b',') {
                text.expect(b'}')?;
                break;
            }
        }
        match (elements, order, shape) {
            (Some((kind, size, big_endian)), Some(fortran_order), Some(shape)) => {
                Ok(Header { kind, size, big_endian, fortran_order, shape })
            }
            _ => Err(damaged("`descr`, `fortran_order` or `shape` is missing")),
        }
    }
}

fn damaged(what: impl Into<String>) -> NpyError {
    NpyError::Header(what.into())
}

fn read_exactly(reader: &mut impl Read, bytes: &mut [u8]) -> Result<(), NpyError> {
    reader.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => NpyError::NotNpy,
        _ => error.into(),
    })
}

/// The rest of a header.
struct Cursor<'a> {
    text: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Takes a character, after white space, if it is the next.
    fn eat(&mut self, character: u8) -> bool {
        self.text = self.text.trim_ascii_start();
        match self.text.strip_prefix(&[character]) {
            Some(rest) => {
                self.text = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, character: u8) -> Result<(), NpyError> {
        if self.eat(character) {
            return Ok(());
        }
        let found = self
            .text
            .first()
            .map_or("its end".to_string(), |&byte| format!("`{}`", (byte as char).escape_default()));
        Err(damaged(format!("`{}` is expected in it, {found} found", character as char)))
    }

    fn string(&mut self) -> Result<&'a [u8], NpyError> {
        let quote = if self.eat(b'"') { b'"' } else { b'\'' };
        if quote == b'\'' {
            self.expect(quote)?;
        }
        let text = self.text;
        let end =
            text.iter().position(|&byte| byte == quote).ok_or_else(|| damaged("a string does not end"))?;
        self.text = &text[end + 1..];
        Ok(&text[..end])
    }

    fn boolean(&mut self) -> Result<bool, NpyError> {
        self.text = self.text.trim_ascii_start();
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if let Some(rest) = self.text.strip_prefix(word) {
                self.text = rest;
                return Ok(value);
            }
        }
        Err(damaged("`fortran_order` is neither True nor False"))
    }

    /// A tuple of lengths; Python 2 wrote some with an `L` behind.
    fn integers(&mut self) -> Result<Vec<u64>, NpyError> {
        let mut lengths = Vec::new();
        self.expect(b'(')?;
        while !self.eat(b')') {
            self.text = self.text.trim_ascii_start();
            let digits = self.text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (number, rest) = self.text.split_at(digits);
            let length = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
            lengths.push(length.ok_or_else(|| damaged("a length in `shape` is no number, or too large"))?);
            self.text = rest.strip_prefix(b"L").unwrap_or(rest);
            if lengths.len() > MAX_RANK {
                return Err(damaged(format!("`shape` has more than {MAX_RANK} dimensions")));
            }
            if !self.eat(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(lengths)
    }

    /// Kind, size and byte order, as `<f4`.
    fn elements(&mut self) -> Result<(Kind, usize, bool), NpyError> {
        if self.eat(b'[') {
            return Err(NpyError::Elements("those of a structured array".to_string()));
        }
        let text = self.string()?;
        let unsupported = || NpyError::Elements(String::from_utf8_lossy(text).into_owned());
        let &[order, kind, size] = text else { return Err(unsupported()) };
        let kind = match (kind, size) {
            (b'f', b'2' | b'4' | b'8') => Kind::Float,
            (b'i', b'1' | b'2' | b'4' | b'8') => Kind::Signed,
            (b'u', b'1' | b'2' | b'4' | b'8') => Kind::Unsigned,
            (b'b', b'1') => Kind::Bool,
            _ => return Err(unsupported()),
        };
        let size = usize::from(size - b'0');
        match order {
            b'<' | b'>' => Ok((kind, size, order == b'>')),
            b'|' if size == 1 => Ok((kind, size, false)),
            _ => Err(unsupported()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Header, NpyError> {
        Header::parse(text.as_bytes())
    }

    #[test]
    fn what_numpy_writes() {
        let header =
            parse("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }          \n").unwrap();
        let expected =
            Header { kind: Kind::Float, size: 4, big_endian: false, fortran_order: false, shape: vec![3, 4] };
        assert_eq!(header, expected);
        let scalar = parse("{'descr': '|b1', 'fortran_order': True, 'shape': (), }").unwrap();
        assert!(scalar.shape.is_empty() && scalar.fortran_order);
        assert_eq!(parse("{'shape': (5L,), 'descr': \">i8\", 'fortran_order': False}").unwrap().shape, [5]);
    }

    #[test]
    fn what_is_not_so_is_an_error() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }";
        for (from, to) in [
            ("<f4", "<f3"),
            ("<f4", "<c8"),
            ("<f4", "|O"),
            ("<f4", "|i4"),
            ("<f4", "<U99999999999999999999"),
            ("'<f4'", "[('a', '<f4')]"),
            ("False", "0"),
            ("(3, 4)", "3"),
            ("(3, 4)", "(3 4)"),
            ("(3, 4)", "(-3, 4)"),
            ("(3, 4)", "(99999999999999999999, 4)"),
            ("(3, 4)", "((((((3))))))"),
            ("'shape'", "'form'"),
            ("'shape'", "'shape"),
            ("{", "["),
            ("4), }", "4)"),
            (good, ""),
        ] {
            assert!(parse(&good.replacen(from, to, 1)).is_err(), "{to}");
        }
        let many = format!("({})", "1,".repeat(65));
        assert!(parse(&good.replace("(3, 4)", &many)).is_err());
        for end in 0..good.len() - 1 {
            assert!(parse(&good[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_header_longer_than_any_is_not_read() {
        let claim = |length: u32| [b"\x93NUMPY\x02\x00", &length.to_le_bytes()[..]].concat();
        assert!(matches!(Header::read(&mut &claim(u32::MAX)[..]), Err(NpyError::HeaderTooLong(_))));
        assert!(matches!(Header::read(&mut &claim(100)[..]), Err(NpyError::Header(_))));
        assert!(matches!(Header::read(&mut &b"\x93NUMPZ\x01\x00\x10\x00"[..]), Err(NpyError::NotNpy)));
        assert!(matches!(Header::read(&mut &b"\x93NUM"[..]), Err(NpyError::NotNpy)));
        assert!(matches!(Header::read(&mut &b"\x93NUMPY\x09\x00\x10\x00"[..]), Err(NpyError::Header(_))));
    }
}
