//! The names of a function's values: can text write them, and is each bound once where it is seen?

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Place};
use crate::types::DType;

/// The names that an op of the function sees, and where each is bound.
#[derive(Default)]
pub(super) struct Names<'a> {
    bound: HashMap<&'a str, Place>,
    /// What the bindings of the open blocks stand in the place of, in their order.
    replaced: Vec<(&'a str, Option<Place>)>,
    /// For every open block, the length of `replaced` at its beginning.
    open: Vec<usize>,
}

impl<'a> Names<'a> {
    /// Binds a name at a place. What is wrong with it is returned: text cannot write it, Core ML takes it for a word
    /// of the language, or it is bound already.
    pub(super) fn bind(&mut self, name: &'a str, place: Place) -> Option<Error> {
        let before = self.bound.insert(name, place);
        if !self.open.is_empty() {
            self.replaced.push((name, before));
        }
        if !is_identifier(name) {
            let message = format!("`{name}` is not a name that text can write");
            return Some(Error::in_place(ErrorKind::Malformed, place, message, ""));
        }
        if is_reserved(name) {
            let message = format!("`{name}` cannot be the name of a value");
            let label = "Core ML takes this for a word of the language";
            let error = Error::in_place(ErrorKind::ReservedName, place, message, label);
            return Some(error.with_help(format!("choose another, such as `{name}_`")));
        }
        let first = before?;
        let message = format!("`{name}` is bound twice");
        Some(Error::in_place(ErrorKind::Redefinition, place, message, "bound before").after(first))
    }

    /// Begins a block: what is bound from here on is forgotten at its end.
    pub(super) fn enter_block(&mut self) {
        self.open.push(self.replaced.len());
    }

    /// Ends the block that was begun last.
    pub(super) fn leave_block(&mut self) {
        let Some(start) = self.open.pop() else { return };
        for (name, before) in self.replaced.drain(start..).rev() {
            match before {
                Some(before) => self.bound.insert(name, before),
                None => self.bound.remove(name),
            };
        }
    }
}

/// Whether MIL text can write this name: a letter or underscore, then letters, digits, underscores and `@`.
pub fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'@')
}

/// Whether Core ML refuses this as the name of a value, because it is the name of a type or another word of the
/// language. coremltools lists the same words, but for the types that are younger than its list.
pub fn is_reserved(name: &str) -> bool {
    const WORDS: [&str; 11] = [
        "any",
        "dict",
        "false",
        "func",
        "list",
        "program",
        "state",
        "tensor",
        "tensor_buffer",
        "true",
        "tuple",
    ];
    WORDS.contains(&name) || DType::from_name(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::is_reserved;

    /// `NameSanitizer` in coremltools 9.0, `converters/mil/mil/passes/defs/preprocess.py`.
    const RESERVED_BY_COREMLTOOLS: [&str; 24] = [
        "any", "bool", "program", "func", "tensor", "list", "dict", "tuple", "true", "false", "string",
        "bf16", "fp16", "fp32", "fp64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
        "uint64", "state",
    ];

    #[test]
    fn words_of_the_language_are_reserved() {
        for word in RESERVED_BY_COREMLTOOLS.into_iter().chain(["int4", "uint1", "fp8E4M3FN"]) {
            assert!(is_reserved(word), "{word}");
        }
        for name in ["const", "x", "relu", "Tensor", "tensor_0", "inf", "nan", "int32_", "shape", "BLOBFILE"]
        {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
