//! Models: the message that `.mlmodel` files hold.
//!
//! Only the program in a [`Model`] is taken apart. The description is kept to the byte, as are all fields that are
//! not known here, in their order.

use std::iter;

use anemone_mil::error::on_one_line;
use anemone_mil::program::Program;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::encoding::{encode_key, encode_varint};
use thiserror::Error;

use crate::description::{Description, DescriptionError};
use crate::program::{self, Decoded, ProgramError};

mod kinds;

pub use kinds::ModelKind;

/// A model whose computation is a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The version of the specification: 6 with iOS 15, 7 with iOS 16, 8, 9 with iOS 18, 10 with iOS 26.
    pub specification_version: i32,
    /// What it takes and gives.
    pub description: Description,
    /// Whether it can be trained on a device.
    pub is_updatable: bool,
    /// The program.
    pub program: Program,
    /// Fields that are not known here, as they were read.
    pub unknown: Vec<u8>,
    /// What of the message has no place in a [`Program`]: see [`crate::program`].
    pub left_out: Vec<String>,
}

/// Why bytes are no model that can be read, or why a model cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// They are no message.
    #[error("it is no Core ML model: {0}")]
    Message(#[from] prost::DecodeError),
    /// A model of another kind.
    #[error("it is {} (`{}`), not a program", .0.description(), .0.name())]
    Kind(ModelKind),
    /// A message that says nothing of what the model computes, or of its version.
    #[error("it is no Core ML model: {0}")]
    Incomplete(&'static str),
    /// Several kinds in one.
    #[error("it is no Core ML model: it is `{}` and `{}` at once", .0.name(), .1.name())]
    Ambiguous(ModelKind, ModelKind),
    /// The program in it.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Its description.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// A model of a pipeline.
    #[error("its model `{}`: {error}", on_one_line(name))]
    Stage {
        /// The model's name.
        name: String,
        /// What is wrong with it.
        error: Box<ModelError>,
    },
}

/// The fields of a model that have a meaning here.
const SPECIFICATION_VERSION: u32 = 1;
const DESCRIPTION: u32 = 2;
const IS_UPDATABLE: u32 = 10;

impl Model {
    /// Reads a model.
    ///
    /// # Errors
    ///
    /// When the bytes are no model, or one that is no program: the error says of which kind it is.
    pub fn from_bytes(bytes: &[u8]) -> Result<Model, ModelError> {
        match Fields::read(bytes)?.with_kind()? {
            (fields, ModelKind::PROGRAM, payload) => Model::of_fields(fields, &payload),
            (_, kind, _) => Err(ModelError::Kind(kind)),
        }
    }

    /// The model of a message's fields, and its program.
    pub(crate) fn of_fields(fields: Fields, program: &[u8]) -> Result<Model, ModelError> {
        if fields.specification_version == 0 {
            return Err(ModelError::Incomplete("it has no version of the specification"));
        }
        let Decoded { program, left_out } = program::from_bytes(program)?;
        Ok(Model {
            specification_version: fields.specification_version,
            description: Description::from_bytes(fields.description)?,
            is_updatable: fields.is_updatable,
            program,
            unknown: fields.unknown,
            left_out,
        })
    }

    /// The model's message.
    ///
    /// # Errors
    ///
    /// When the program has no protobuf form: see [`program::to_bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let mut bytes = self.to_bytes_without_program();
        put_bytes(ModelKind::PROGRAM.tag(), &program::to_bytes(&self.program)?, &mut bytes);
        Ok(bytes)
    }

    /// The model's message without its program: what a program in text needs beside it to become this model again.
    pub fn to_bytes_without_program(&self) -> Vec<u8> {
        without_kind(self.specification_version, &self.description, self.is_updatable, &self.unknown)
    }

    /// The model of a program and what [`Model::to_bytes_without_program`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are none of that.
    pub fn with_program(bytes: &[u8], program: Program) -> Result<Model, ModelError> {
        let fields = Fields::read(bytes)?;
        if fields.kind.is_some() {
            return Err(ModelError::Incomplete("a description alone is expected, without what is computed"));
        }
        Ok(Model {
            specification_version: fields.specification_version,
            description: Description::from_bytes(fields.description)?,
            is_updatable: fields.is_updatable,
            program,
            unknown: fields.unknown,
            left_out: Vec::new(),
        })
    }
}

/// The message of a model without what it computes.
pub(crate) fn without_kind(
    specification_version: i32,
    description: &Description,
    is_updatable: bool,
    unknown: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(SPECIFICATION_VERSION, i64::from(specification_version).cast_unsigned(), &mut bytes);
    put_bytes(DESCRIPTION, description.as_bytes(), &mut bytes);
    if is_updatable {
        put_varint(IS_UPDATABLE, 1, &mut bytes);
    }
    bytes.extend_from_slice(unknown);
    bytes
}

/// A model's fields, the messages among them as bytes.
#[derive(Default)]
pub(crate) struct Fields {
    pub(crate) specification_version: i32,
    pub(crate) description: Vec<u8>,
    pub(crate) is_updatable: bool,
    kind: Option<(ModelKind, Vec<u8>)>,
    pub(crate) unknown: Vec<u8>,
}

impl Fields {
    /// Reads the fields. Messages that come in several parts are put together, as protocol buffers merge them.
    pub(crate) fn read(bytes: &[u8]) -> Result<Fields, ModelError> {
        let mut fields = Fields::default();
        for field in fields_of(bytes) {
            let Field { tag, content, bytes } = field?;
            match (tag, content) {
                // An int32 has the bits of an int64, of which the upper half is cut off.
                (SPECIFICATION_VERSION, Content::Number(number)) => {
                    fields.specification_version = number as i32;
                }
                (DESCRIPTION, Content::Bytes(content)) => fields.description.extend_from_slice(content),
                (IS_UPDATABLE, Content::Number(number)) => fields.is_updatable = number != 0,
                (tag, Content::Bytes(content)) if ModelKind::from_tag(tag).is_some() => {
                    let kind = ModelKind::from_tag(tag).unwrap_or(ModelKind::PROGRAM);
                    match &mut fields.kind {
                        None => fields.kind = Some((kind, content.to_vec())),
                        Some((other, before)) if *other == kind => before.extend_from_slice(content),
                        Some((other, _)) => return Err(ModelError::Ambiguous(*other, kind)),
                    }
                }
                _ => fields.unknown.extend_from_slice(bytes),
            }
        }
        Ok(fields)
    }

    /// The fields, what the model is, and the message of that.
    pub(crate) fn with_kind(mut self) -> Result<(Fields, ModelKind, Vec<u8>), ModelError> {
        let kind = self.kind.take();
        let (kind, payload) = kind.ok_or(ModelError::Incomplete("it does not say what it computes"))?;
        Ok((self, kind, payload))
    }
}

/// A field of a message.
pub(crate) struct Field<'a> {
    pub(crate) tag: u32,
    pub(crate) content: Content<'a>,
    /// All of it.
    pub(crate) bytes: &'a [u8],
}

/// What a field holds.
pub(crate) enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// What no field has that is known here.
    Other,
}

/// The fields of a message in their order; the last is an error where it is none.
pub(crate) fn fields_of(bytes: &[u8]) -> impl Iterator<Item = Result<Field<'_>, ModelError>> {
    let mut rest = bytes;
    iter::from_fn(move || {
        if !rest.has_remaining() {
            return None;
        }
        let field = next_field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, ModelError> {
    let field = *rest;
    let (tag, wire_type) = decode_key(rest)?;
    let content = match wire_type {
        WireType::Varint => Content::Number(decode_varint(rest)?),
        WireType::LengthDelimited => {
            let length = decode_varint(rest)?;
            let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
            let (taken, after) = split.ok_or(ModelError::Incomplete("it ends in the midst of a message"))?;
            *rest = after;
            Content::Bytes(taken)
        }
        _ => {
            skip_field(wire_type, tag, rest, DecodeContext::default())?;
            Content::Other
        }
    };
    Ok(Field { tag, content, bytes: &field[..field.len() - rest.len()] })
}

fn put_varint(tag: u32, value: u64, bytes: &mut Vec<u8>) {
    encode_key(tag, WireType::Varint, bytes);
    encode_varint(value, bytes);
}

pub(crate) fn put_bytes(tag: u32, payload: &[u8], bytes: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, bytes);
    encode_varint(payload.len() as u64, bytes);
    bytes.extend_from_slice(payload);
}
