//! Errors that point at a place in a program, and their rendering with the source line.

use std::fmt;

use crate::program::{LiteralPlace, OpId};

mod list;
mod render;

pub use list::{Errors, MAX_ERRORS};
pub use render::Lines;

/// A range of bytes in a source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes from `start` to before `end`.
    pub fn new(start: usize, end: usize) -> Span {
        let clamp = |position: usize| u32::try_from(position).unwrap_or(u32::MAX);
        Span { start: clamp(start), end: clamp(end) }
    }

    /// The least span that covers both.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A part of a program, named without reference to any text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The version that the program declares.
    Version,
    /// A program attribute, by position.
    ProgramAttribute(usize),
    /// A part of a function, by the function's position.
    Function(usize, FunctionPart),
}

/// A part of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FunctionPart {
    /// Its name.
    Name,
    /// Its opset.
    Opset,
    /// An input, by position.
    Input(usize),
    /// An attribute, by position.
    Attribute(usize),
    /// An output, by position.
    Output(usize),
    /// A part of an op.
    Op(OpId, OpPart),
}

/// A part of an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpPart {
    /// The op's name.
    Name,
    /// The argument at a position.
    Argument(usize),
    /// The attribute at a position.
    Attribute(usize),
    /// The result at a position: its type and name.
    Result(usize),
}

impl From<LiteralPlace> for OpPart {
    fn from(place: LiteralPlace) -> OpPart {
        match place {
            LiteralPlace::Argument(position) => OpPart::Argument(position),
            LiteralPlace::Attribute(position) => OpPart::Attribute(position),
        }
    }
}

/// Where the parts of a program stand in its text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spans {
    /// The version.
    pub version: Span,
    /// Program attributes.
    pub attributes: Vec<Span>,
    /// One entry per function.
    pub functions: Vec<FunctionSpans>,
}

/// Where the parts of a function stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FunctionSpans {
    /// The name.
    pub name: Span,
    /// The opset.
    pub opset: Span,
    /// Inputs: type and name.
    pub inputs: Vec<Span>,
    /// Attributes.
    pub attributes: Vec<Span>,
    /// Outputs.
    pub outputs: Vec<Span>,
    /// Ops, by id.
    pub ops: Vec<OpSpans>,
}

/// Where the parts of an op stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpSpans {
    /// The op's name.
    pub name: Span,
    /// Arguments: name and operand.
    pub arguments: Vec<Span>,
    /// Attributes: name and literal.
    pub attributes: Vec<Span>,
    /// Results: type and name.
    pub results: Vec<Span>,
}

impl Spans {
    /// Where a part of the program stands, if it came from text.
    pub fn find(&self, place: Place) -> Option<Span> {
        match place {
            Place::Version => Some(self.version),
            Place::ProgramAttribute(index) => self.attributes.get(index).copied(),
            Place::Function(index, part) => self.functions.get(index)?.find(part),
        }
    }
}

impl FunctionSpans {
    fn find(&self, part: FunctionPart) -> Option<Span> {
        match part {
            FunctionPart::Name => Some(self.name),
            FunctionPart::Opset => Some(self.opset),
            FunctionPart::Input(index) => self.inputs.get(index).copied(),
            FunctionPart::Attribute(index) => self.attributes.get(index).copied(),
            FunctionPart::Output(index) => self.outputs.get(index).copied(),
            FunctionPart::Op(op, part) => {
                let spans = self.ops.get(op.0 as usize)?;
                match part {
                    OpPart::Name => Some(spans.name),
                    OpPart::Argument(index) => spans.arguments.get(index).copied(),
                    OpPart::Attribute(index) => spans.attributes.get(index).copied(),
                    OpPart::Result(index) => spans.results.get(index).copied(),
                }
            }
        }
    }
}

/// Where an error lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// At these bytes of the text.
    Span(Span),
    /// At this part of the program.
    Place(Place),
}

/// What kind of mistake an error reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The text does not follow the grammar.
    Syntax,
    /// A number, string or list does not fit the type it is written under.
    Literal,
    /// A name is used that nothing binds.
    UndefinedName,
    /// A name is used before the statement that binds it.
    UseBeforeDefinition,
    /// A name is bound, or an argument or attribute given, more than once.
    Redefinition,
    /// A nested block, whose text form nobody has published.
    NestedBlock,
    /// No op has this name.
    UnknownOp,
    /// An op, element type or scalar form that this opset or program version lacks.
    Version,
    /// A required parameter is missing.
    MissingParameter,
    /// The op has no such parameter.
    UnknownParameter,
    /// A single value where several are needed, or the other way round; or not a tensor at all.
    OperandKind,
    /// The parameter must be a constant.
    NotConstant,
    /// An element type that the parameter does not take, or that differs from a related one.
    ElementType,
    /// What the op's own rule refuses: rank, shape, axis, value.
    Rule,
    /// A declared type that is not the inferred one, or another number of results.
    DeclaredType,
    /// A constant without a value, or with one that does not fit its type.
    Constant,
    /// A blob that is missing, damaged or not the one declared.
    Blob,
    /// Ids that are out of range, or used where they are not defined: a faulty builder, not a faulty text.
    Malformed,
}

/// One mistake: what it is, where, and what would mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The kind, for programs.
    pub kind: ErrorKind,
    /// What is wrong, in a sentence without its full stop.
    pub message: String,
    /// Where.
    pub location: Location,
    /// What was found or expected there, in a few words.
    pub label: String,
    /// The likely fix.
    pub help: Option<String>,
}

impl Error {
    /// An error at a span of the text.
    pub fn at(kind: ErrorKind, span: Span, message: impl Into<String>, label: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
            location: Location::Span(span),
            label: label.into(),
            help: None,
        }
    }

    /// An error at a part of the program.
    pub fn in_place(
        kind: ErrorKind,
        place: Place,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Error {
        Error {
            kind,
            message: message.into(),
            location: Location::Place(place),
            label: label.into(),
            help: None,
        }
    }

    /// Adds the likely fix.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Error {
        self.help = Some(help.into());
        self
    }

    /// Where the error stands in the text; `spans` are those of the program read from it.
    pub fn span(&self, spans: &Spans) -> Option<Span> {
        match self.location {
            Location::Span(span) => Some(span),
            Location::Place(place) => spans.find(place),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.label.is_empty() {
            write!(f, ": {}", self.label)?;
        }
        if let Some(help) = &self.help {
            write!(f, " (help: {help})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
