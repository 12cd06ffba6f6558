//! Errors that point at a place in a program, and their rendering with the source line.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::program::OpId;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// Every mistake found; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl From<Error> for Errors {
    fn from(error: Error) -> Errors {
        Errors(vec![error])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

impl Errors {
    /// The errors in the order of the text, with their places in it; those without a place, which are about the
    /// whole, come first. `spans` are those of the program read from the text.
    pub fn in_order(&self, spans: &Spans) -> Vec<(Option<Span>, &Error)> {
        let mut placed: Vec<_> = self.0.iter().map(|error| (error.span(spans), error)).collect();
        placed.sort_by_key(|(span, _)| span.map(|span| (span.start, span.end)));
        placed
    }

    /// The errors as text for people, in the order of the source: each with its line, a caret under the place,
    /// what was found there, and the likely fix.
    ///
    /// `name` is the file's name, `source` its text; `spans` are those of the program read from it.
    pub fn render(&self, name: &str, source: &str, spans: &Spans) -> String {
        let rendered: Vec<String> =
            self.in_order(spans).iter().map(|(span, error)| render_one(error, *span, name, source)).collect();
        rendered.join("\n\n")
    }
}

fn render_one(error: &Error, span: Option<Span>, name: &str, source: &str) -> String {
    let mut group = Group::with_title(Level::ERROR.primary_title(error.message.as_str()));
    if let Some(span) = span {
        let excerpt = Excerpt::around(source, span);
        let annotation = AnnotationKind::Primary.span(excerpt.span).label(error.label.as_str());
        let snippet = Snippet::source(excerpt.text).line_start(excerpt.line).path(name);
        group = group.element(snippet.annotation(annotation));
    }
    if let Some(help) = &error.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    Renderer::plain().render(&[group])
}

/// The lines that a span touches: the renderer takes time for every byte that it is given.
struct Excerpt<'a> {
    text: &'a str,
    /// Number of the first line, from 1.
    line: usize,
    /// The span within the text.
    span: Range<usize>,
}

impl<'a> Excerpt<'a> {
    fn around(source: &'a str, span: Span) -> Excerpt<'a> {
        let span = char_range(source, span);
        let start = source[..span.start].rfind('\n').map_or(0, |line_break| line_break + 1);
        let end = source[span.end..].find('\n').map_or(source.len(), |length| span.end + length);
        let end = if end > span.end && source[..end].ends_with('\r') { end - 1 } else { end };
        let line = source[..start].bytes().filter(|&byte| byte == b'\n').count() + 1;
        // A byte-order mark is no column.
        let text = &source[start..end];
        let text = if start == 0 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        let start = end - text.len();
        Excerpt { text, line, span: span.start.saturating_sub(start)..span.end.saturating_sub(start) }
    }
}

/// The span as a range on character boundaries inside the source.
fn char_range(source: &str, span: Span) -> Range<usize> {
    let floor = |position: u32| {
        let mut position = (position as usize).min(source.len());
        while !source.is_char_boundary(position) {
            position -= 1;
        }
        position
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str, start: usize, end: usize) -> String {
        let error = Error::at(ErrorKind::Syntax, Span::new(start, end), "wrong", "here");
        Errors::from(error).render("a.mil", source, &Spans::default())
    }

    #[test]
    fn columns_count_characters_behind_a_byte_order_mark() {
        let expected = "error: wrong\n --> a.mil:1:3\n  |\n1 | é x\n  |   ^ here";
        assert_eq!(rendered("\u{feff}é x\r\nmore\r\n", 6, 7), expected);
        assert_eq!(rendered("é x", 3, 4), expected);
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let source = format!("first\n{} x {}\n", "a".repeat(5000), "b".repeat(5000));
        let text = rendered(&source, 5007, 5008);
        assert!(text.contains("--> a.mil:2:5002\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() < 160), "{text}");
        let (shown, caret) = (text.lines().nth(3).unwrap(), text.lines().nth(4).unwrap());
        assert_eq!(shown.find(" x ").map(|at| at + 1), caret.find('^'), "{text}");
    }

    #[test]
    fn places_outside_the_text_are_shown_at_its_end() {
        assert!(rendered("ab\ncd", 100, 200).contains("--> a.mil:2:3\n"));
        assert!(rendered("", 0, 0).contains("--> a.mil:1:1\n"));
        assert!(rendered("é", 1, 1).contains("--> a.mil:1:1\n"));
    }
}
