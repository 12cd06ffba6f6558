//! `coremldata.bin`.
//!
//! | bytes | hold |
//! |---|---|
//! | 4 | the kind of the model, the field that it has in a model's message: 502, a program |
//! | 4 | the version of the specification |
//! | 20 | zeros |
//! | 8 | the length of the name that follows |
//! | 7 | the name, `generic` |
//! | 1 | the version of the specification |
//! | 31 | zeros |
//! | 8 | the length of the description that follows |
//! | … | the description: its message |
//! | 16 for each function | the kind again, and zeros |
//!
//! Numbers are little-endian.

use crate::description::Description;
use crate::model::ModelKind;

/// What is between the version and the name, and between the name's end and the description's length.
const BEFORE_NAME: usize = 20;
const BEFORE_DESCRIPTION: usize = 32;
/// What follows the description for each function.
const FUNCTION: usize = 16;
/// The name that compiled programs have.
const NAME: &[u8] = b"generic";

/// Empty metadata at the end of a description: its field, and its length. Compiled models have it where their
/// description has none.
const EMPTY_METADATA: [u8; 3] = [0xa2, 0x06, 0x00];

/// What `coremldata.bin` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledData {
    /// The version of the specification.
    pub specification_version: i32,
    /// The description's message, without the empty metadata that compiling adds.
    pub description: Vec<u8>,
    /// How many functions the program has.
    pub functions: usize,
}

impl CompiledData {
    /// Reads what the file holds. What has no known meaning is passed over.
    ///
    /// # Errors
    ///
    /// When it ends too early, or is that of a model that is no program; in words.
    pub fn from_bytes(bytes: &[u8]) -> Result<CompiledData, String> {
        let mut rest = bytes;
        let kind = u32::from_le_bytes(take(&mut rest)?);
        if kind != ModelKind::PROGRAM.tag() {
            return Err(match ModelKind::from_tag(kind) {
                Some(kind) => {
                    format!("it is that of {} (`{}`), not of a program", kind.description(), kind.name())
                }
                None => "it is not that of a compiled model".to_string(),
            });
        }
        let specification_version = i32::from_le_bytes(take(&mut rest)?);
        skip(&mut rest, BEFORE_NAME as u64)?;
        let name_length = u64::from_le_bytes(take(&mut rest)?);
        skip(&mut rest, name_length)?;
        skip(&mut rest, BEFORE_DESCRIPTION as u64)?;
        let length = u64::from_le_bytes(take(&mut rest)?);
        let description = rest;
        skip(&mut rest, length)?;
        let description = &description[..description.len() - rest.len()];
        let description = description.strip_suffix(&EMPTY_METADATA).unwrap_or(description).to_vec();
        Ok(CompiledData { specification_version, description, functions: rest.len() / FUNCTION })
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let kind = ModelKind::PROGRAM.tag().to_le_bytes();
        let mut bytes = Vec::with_capacity(self.description.len() + 128);
        bytes.extend_from_slice(&kind);
        bytes.extend_from_slice(&self.specification_version.to_le_bytes());
        bytes.extend_from_slice(&[0; BEFORE_NAME]);
        bytes.extend_from_slice(&(NAME.len() as u64).to_le_bytes());
        bytes.extend_from_slice(NAME);
        let mut before = [0; BEFORE_DESCRIPTION];
        before[0] = self.specification_version.to_le_bytes()[0];
        bytes.extend_from_slice(&before);
        bytes.extend_from_slice(&(self.description.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.description);
        for _ in 0..self.functions {
            let mut function = [0; FUNCTION];
            function[..kind.len()].copy_from_slice(&kind);
            bytes.extend_from_slice(&function);
        }
        bytes
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (taken, after) = rest.split_first_chunk().ok_or_else(ends)?;
    *rest = after;
    Ok(*taken)
}

fn skip(rest: &mut &[u8], count: u64) -> Result<(), String> {
    *rest = usize::try_from(count).ok().and_then(|count| rest.get(count..)).ok_or_else(ends)?;
    Ok(())
}

fn ends() -> String {
    "it ends too early".to_string()
}

/// A description's message, with metadata, if only empty.
pub(super) fn with_metadata(description: &Description) -> Vec<u8> {
    let mut bytes = description.as_bytes().to_vec();
    if description.model().metadata.is_none() {
        bytes.extend_from_slice(&EMPTY_METADATA);
    }
    bytes
}

/// `analytics/coremldata.bin`: names and values, each with its length.
pub(super) fn analytics() -> Vec<u8> {
    let with_length = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let pairs = [("containsCustomLayer", "0"), ("modelDimension", "0")];
    let mut bytes = with_length("NeuralNetworkModelDetails");
    bytes.extend_from_slice(&(pairs.len() as u64).to_le_bytes());
    for (name, value) in pairs {
        bytes.extend(with_length(name));
        bytes.extend(with_length(value));
    }
    bytes
}
