//! Errors that point at a place in a program, and their rendering with the source line.

use std::fmt;

use crate::program::{LiteralPlace, OpId};

mod kind;
mod list;
mod render;
mod repeated;
mod spans;

pub use kind::{ErrorKind, Severity};
pub use list::{Errors, MAX_ERRORS};
pub use render::Lines;
pub(crate) use repeated::Repeated;
pub use spans::{BindingSpans, BlockSpans, FunctionSpans, OpSpans, Spans};

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
    /// An input, by position: its type and name.
    Input(usize),
    /// The name of an input, by position.
    InputName(usize),
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
    /// The name of the result at a position.
    ResultName(usize),
    /// A part of the nested block at a position.
    Block(usize, BlockPart),
}

/// A part of a nested block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockPart {
    /// Its parameters, in their parentheses.
    Parameters,
    /// The parameter at a position: its type and name.
    Input(usize),
    /// The name of the parameter at a position.
    InputName(usize),
    /// The output at a position.
    Output(usize),
    /// All its outputs, in their parentheses.
    Outputs,
}

impl From<LiteralPlace> for OpPart {
    fn from(place: LiteralPlace) -> OpPart {
        match place {
            LiteralPlace::Argument(position) => OpPart::Argument(position),
            LiteralPlace::Attribute(position) => OpPart::Attribute(position),
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

/// One mistake, or a warning of one: what it is, where, and what would mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Whether it is a mistake or a warning.
    pub severity: Severity,
    /// The kind, for programs.
    pub kind: ErrorKind,
    /// What is wrong, in a sentence without its full stop.
    pub message: String,
    /// Where.
    pub location: Location,
    /// What was found or expected there, in a few words.
    pub label: String,
    /// A place before, which the label speaks of; [`Error::label_in`] adds its line.
    pub earlier: Option<Place>,
    /// The likely fix.
    pub help: Option<String>,
}

impl Error {
    /// An error at a span of the text.
    pub fn at(kind: ErrorKind, span: Span, message: impl Into<String>, label: impl Into<String>) -> Error {
        Error {
            severity: Severity::Error,
            kind,
            message: message.into(),
            location: Location::Span(span),
            label: label.into(),
            earlier: None,
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
        let location = Location::Place(place);
        Error { location, ..Error::at(kind, Span::default(), message, label) }
    }

    /// A warning of the same.
    #[must_use]
    pub fn as_warning(mut self) -> Error {
        self.severity = Severity::Warning;
        self
    }

    /// Adds a place before, which the label speaks of.
    #[must_use]
    pub fn after(mut self, earlier: Place) -> Error {
        self.earlier = Some(earlier);
        self
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

    /// The label with the line of the place before that it speaks of.
    pub fn label_in(&self, spans: &Spans, lines: &Lines<'_>) -> String {
        match self.earlier.and_then(|earlier| spans.find(earlier)) {
            Some(span) => {
                format!("{}, on line {}", self.label, lines.line_and_column(span.start as usize).0)
            }
            None => self.label.clone(),
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

/// A name as messages have it, which is not to take orders from it: whatever it holds that is no character to be shown, as
/// a line's end, is escaped.
pub fn on_one_line(name: &str) -> String {
    let escaped = |c: char| match c.is_control() {
        true => c.escape_debug().to_string(),
        false => c.to_string(),
    };
    name.chars().map(escaped).collect()
}
