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
//! That of a pipeline differs:
//!
//! | bytes | hold |
//! |---|---|
//! | 4 | the kind: 202, a pipeline |
//! | 4 | one |
//! | 20 | zeros, but for a one at 12 |
//! | 8 | the length of the name that follows |
//! | … | the name: `generic.model0v9.0.0` for each model, with the version of its specification, and `generic` |
//! | 1, 31, 8, … | as above |
//! | 8 | how many models there are |
//! | 8 | the kind again, and zeros |
//!
//! Numbers are little-endian. The layout of a pipeline's is that of the pipelines which Apple's compiler (`coremlc` 3600)
//! made for the tests of the crate `mlmodelc-export`.

use crate::description::Description;
use crate::model::ModelKind;
use crate::pipeline::{MOST_MODELS, unnamed};

/// What is between the version and the name, and between the name's end and the description's length.
const BEFORE_NAME: usize = 20;
const BEFORE_DESCRIPTION: usize = 32;
/// What follows the description for each function.
const FUNCTION: usize = 16;
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
        let (kind, head, rest) = Head::read(bytes)?;
        match kind {
            ModelKind::PROGRAM => {}
            kind => {
                return Err(format!(
                    "it is that of {} (`{}`), not of a program",
                    kind.description(),
                    kind.name()
                ));
            }
        }
        let Head { specification_version, description } = head;
        Ok(CompiledData { specification_version, description, functions: rest.len() / FUNCTION })
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let kind = ModelKind::PROGRAM.tag().to_le_bytes();
        let version = self.specification_version.to_le_bytes();
        let mut bytes = head(kind, version, [0; BEFORE_NAME], "generic", version[0], &self.description);
        for _ in 0..self.functions {
            let mut function = [0; FUNCTION];
            function[..kind.len()].copy_from_slice(&kind);
            bytes.extend_from_slice(&function);
        }
        bytes
    }
}

/// What a pipeline's `coremldata.bin` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineData {
    /// Which of the pipelines it is.
    pub kind: ModelKind,
    /// The version of the specification.
    pub specification_version: i32,
    /// The description's message, without the empty metadata that compiling adds.
    pub description: Vec<u8>,
    /// How many models there are.
    pub models: u64,
}

impl PipelineData {
    /// Reads what the file holds.
    ///
    /// # Errors
    ///
    /// When it ends too early, or is that of no pipeline; in words.
    pub fn from_bytes(bytes: &[u8]) -> Result<PipelineData, String> {
        let (kind, head, mut rest) = Head::read(bytes)?;
        if !kind.is_pipeline() {
            return Err(format!(
                "it is that of {} (`{}`), not of a pipeline",
                kind.description(),
                kind.name()
            ));
        }
        let Head { specification_version, description } = head;
        Ok(PipelineData {
            kind,
            specification_version,
            description,
            models: u64::from_le_bytes(take(&mut rest)?),
        })
    }

    /// The bytes of the file, for a pipeline of programs with these versions of the specification.
    pub(super) fn to_bytes(specification_version: u8, description: &[u8], versions: &[i32]) -> Vec<u8> {
        let kind = ModelKind::PIPELINE.tag().to_le_bytes();
        let mut before = [0; BEFORE_NAME];
        before[12] = 1;
        let models = versions.iter().enumerate();
        let mut name: String = models
            .map(|(position, version)| format!("generic.{}v{version}.0.0", unnamed(position)))
            .collect();
        name.push_str("generic");
        let mut bytes = head(kind, 1u32.to_le_bytes(), before, &name, specification_version, description);
        bytes.extend_from_slice(&(versions.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&kind);
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }
}

/// What both say first.
struct Head {
    specification_version: i32,
    description: Vec<u8>,
}

impl Head {
    /// The kind, the head, and what follows it.
    fn read(bytes: &[u8]) -> Result<(ModelKind, Head, &[u8]), String> {
        let mut rest = bytes;
        let kind = ModelKind::from_tag(u32::from_le_bytes(take(&mut rest)?));
        let kind = kind.ok_or("it is not that of a compiled model")?;
        let first = i32::from_le_bytes(take(&mut rest)?);
        skip(&mut rest, BEFORE_NAME as u64)?;
        let name_length = u64::from_le_bytes(take(&mut rest)?);
        skip(&mut rest, name_length)?;
        let before: [u8; BEFORE_DESCRIPTION] = take(&mut rest)?;
        let specification_version = if kind.is_pipeline() { i32::from(before[0]) } else { first };
        if specification_version <= 0 {
            return Err("it has no version of the specification".to_string());
        }
        let length = u64::from_le_bytes(take(&mut rest)?);
        let description = rest;
        skip(&mut rest, length)?;
        let description = &description[..description.len() - rest.len()];
        let description = description.strip_suffix(&EMPTY_METADATA).unwrap_or(description).to_vec();
        Ok((kind, Head { specification_version, description }, rest))
    }
}

/// The bytes from the kind to the description.
fn head(
    kind: [u8; 4],
    version: [u8; 4],
    before_name: [u8; BEFORE_NAME],
    name: &str,
    specification_version: u8,
    description: &[u8],
) -> Vec<u8> {
    let mut before = [0; BEFORE_DESCRIPTION];
    before[0] = specification_version;
    let (name_length, length) = (name.len() as u64, description.len() as u64);
    [
        &kind[..],
        &version,
        &before_name,
        &name_length.to_le_bytes(),
        name.as_bytes(),
        &before,
        &length.to_le_bytes(),
        description,
    ]
    .concat()
}

/// `modelNames/coremldata.bin` of a pipeline: the names, each with its length, after their number.
pub(super) fn names(names: &[&str]) -> Vec<u8> {
    let mut bytes = (names.len() as u64).to_le_bytes().to_vec();
    names.iter().for_each(|name| bytes.extend(with_length(name)));
    bytes
}

/// The names that `modelNames/coremldata.bin` holds.
///
/// # Errors
///
/// When it ends too early, or a name is not UTF-8; in words.
pub fn read_names(bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut rest = bytes;
    let count = u64::from_le_bytes(take(&mut rest)?);
    if count > MOST_MODELS as u64 {
        return Err("it names too many models".to_string());
    }
    // Nothing is asked of memory for what is claimed.
    let mut names = Vec::new();
    for _ in 0..count {
        let length = u64::from_le_bytes(take(&mut rest)?);
        let name = rest;
        skip(&mut rest, length)?;
        let name = str::from_utf8(&name[..name.len() - rest.len()]);
        names.push(name.map_err(|error| format!("a name is not UTF-8: {error}"))?.to_string());
    }
    Ok(names)
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
    pairs("NeuralNetworkModelDetails", &[("containsCustomLayer", "0"), ("modelDimension", "0")])
}

/// The same of a pipeline of so many models.
pub(super) fn pipeline_analytics(models: usize) -> Vec<u8> {
    pairs("PipelineModelDetails", &[("modelDimension", &models.to_string())])
}

fn pairs(title: &str, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = with_length(title);
    bytes.extend_from_slice(&(pairs.len() as u64).to_le_bytes());
    for (name, value) in pairs {
        bytes.extend(with_length(name));
        bytes.extend(with_length(value));
    }
    bytes
}

fn with_length(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
