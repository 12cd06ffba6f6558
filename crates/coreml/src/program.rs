//! The protobuf form of programs, to and from [`Program`].
//!
//! Kept are functions with their opsets, attributes and blocks, ops with their arguments (names and values, one or
//! several), results, nested blocks and attributes, and values in the message or in a blob file. Maps have no order:
//! functions, arguments and attributes come in that of their names. A tensor of rank 0 becomes a scalar where the
//! program's version writes one. What [`Program`] has no place for and changes no result (documentation strings,
//! attributes of blocks, blocks for opsets that are not the function's) is listed in [`Decoded::left_out`]; unknown
//! fields are passed over.
//!
//! Nothing in a message is trusted: its nesting is bounded ([`MAX_DEPTH`], and 100 levels when reading, the limit of
//! protobuf's own readers), a tensor is only taken if it has as many values as its type says, and a name that
//! nothing has bound is an error.

use anemone_mil::program::Program;
use anemone_mil::types::Opset;
use prost::Message;
use thiserror::Error;

use crate::proto::mil as proto;

mod decode;
mod encode;
mod tensors;
mod types;
mod values;

#[cfg(test)]
mod tests;

/// The most levels of messages below the program that are written. Readers take 100 from the model on, which has the
/// program one level down, in a pipeline three more.
pub const MAX_DEPTH: usize = 90;

/// A program read from its protobuf form.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The program.
    pub program: Program,
    /// What the message has beside it, in words: it changes no result, and is not kept.
    pub left_out: Vec<String>,
}

/// Why a message is no program, or a program has no protobuf form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProgramError {
    /// The bytes are no such message, or one that nests too deeply.
    #[error("the program is no message of protocol buffers: {0}")]
    Message(#[from] prost::DecodeError),
    /// Something in it.
    #[error("{place}: {what}")]
    Fault {
        /// Where: the function and the op.
        place: String,
        /// What is wrong.
        what: String,
    },
}

impl ProgramError {
    fn new(what: impl Into<String>) -> ProgramError {
        ProgramError::Fault { place: String::new(), what: what.into() }
    }

    /// The error with a place around the one that it has.
    fn within(self, outer: impl FnOnce() -> String) -> ProgramError {
        match self {
            ProgramError::Fault { place, what } if place.is_empty() => {
                ProgramError::Fault { place: outer(), what }
            }
            ProgramError::Fault { place, what } => {
                ProgramError::Fault { place: format!("{}, {place}", outer()), what }
            }
            message => message,
        }
    }
}

type Result<T> = std::result::Result<T, ProgramError>;

/// Reads a program from its protobuf form.
///
/// # Errors
///
/// When the bytes are no such message, or hold what no program can be: see [`crate::program`].
pub fn from_bytes(bytes: &[u8]) -> Result<Decoded> {
    decode::program(proto::Program::decode(bytes)?)
}

/// Writes a program in its protobuf form.
///
/// # Errors
///
/// When it holds what the form has not: a `tensor_buffer`, an op with an opset of its own, an opset that no Core ML
/// has, a name that does not mean the value it stands for; or when it nests deeper than [`MAX_DEPTH`].
pub fn to_bytes(program: &Program) -> Result<Vec<u8>> {
    Ok(encode::program(program)?.encode_to_vec())
}

/// The opsets with the names that messages have for them.
const OPSETS: [(Opset, &str); 5] = [
    (Opset::IOS15, "CoreML5"),
    (Opset::IOS16, "CoreML6"),
    (Opset::IOS17, "CoreML7"),
    (Opset::IOS18, "CoreML8"),
    (Opset::IOS26, "CoreML9"),
];

fn opset_from_name(name: &str) -> Result<Opset> {
    let known = OPSETS.iter().find(|(_, known)| *known == name).map(|(opset, _)| *opset);
    known.ok_or_else(|| {
        ProgramError::new(format!("the opset `{name}` is not known: those are CoreML5 to CoreML9"))
    })
}

fn opset_name(opset: Opset) -> Result<&'static str> {
    let known = OPSETS.iter().find(|(known, _)| *known == opset).map(|(_, name)| *name);
    known.ok_or_else(|| ProgramError::new(format!("Core ML has no opset {opset}")))
}
