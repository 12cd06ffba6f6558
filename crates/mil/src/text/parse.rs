//! Tokens into a program: recursive descent, with recovery at the end of a statement.
//!
//! A mistake is reported where it is found. Where the rest of a construct is still readable, reading goes on
//! with a stand-in value; otherwise [`Failed`] travels up to whoever can recover.

use std::ops::Range;

use super::lex::{CommentToken, Token, TokenKind, lex};
use super::{Comment, CommentPlace, Comments, Parsed};
use crate::error::{Error, ErrorKind, Errors, MAX_ERRORS, Repeated, Span, Spans};
use crate::program::{Attributes, Dialect, Named, Program, Version};
use crate::types::DType;
use names::UniqueNames;

mod block;
mod doubt;
mod function;
mod literal;
mod names;
mod statement;
mod tensor;
mod types;
mod untyped;

/// A construct could not be read; why has been reported.
struct Failed;

type Result<T> = std::result::Result<T, Failed>;

/// Reads a program.
pub(super) fn parse(source: &str) -> std::result::Result<Parsed, Errors> {
    // Positions are kept in 32 bits.
    if u32::try_from(source.len()).is_err() {
        let span = Span::default();
        return Err(Error::at(ErrorKind::Syntax, span, "the text is longer than 4 GiB", "").into());
    }
    let lexed = lex(source);
    let mut parser = Parser {
        source,
        tokens: lexed.tokens,
        at: 0,
        dialect: Dialect::Scalar,
        errors: Vec::new(),
        unlisted: Vec::new(),
        warnings: Errors::default(),
        doubtful_numbers: Repeated::default(),
        comment_tokens: lexed.comments,
        next_comment: 0,
        comments: Vec::new(),
    };
    let result = parser.program();
    let mut errors = parser.errors;
    match result {
        Ok((program, spans)) if errors.is_empty() => {
            parser.doubtful_numbers.finish(&mut parser.warnings);
            let (comments, warnings) = (Comments(parser.comments), parser.warnings);
            Ok(Parsed { program, spans, comments, warnings })
        }
        _ => {
            errors.sort_by_key(start_of);
            let mut first = Errors::default();
            errors.into_iter().for_each(|error| first.push(error));
            parser.unlisted.into_iter().for_each(|kind| first.count(kind));
            Err(first)
        }
    }
}

fn start_of(error: &Error) -> u32 {
    match error.location {
        crate::error::Location::Span(span) => span.start,
        crate::error::Location::Place(_) => 0,
    }
}

/// The state of reading one text.
struct Parser<'s> {
    source: &'s str,
    tokens: Vec<Token>,
    /// Index of the token to be read next; never beyond the last, which is the end.
    at: usize,
    /// How the program's version writes scalars; for advice only, both dialects are read in any version.
    dialect: Dialect,
    errors: Vec<Error>,
    /// The kinds of those that came when there were enough.
    unlisted: Vec<ErrorKind>,
    warnings: Errors,
    /// Numbers that are warned of.
    doubtful_numbers: Repeated<(ErrorKind, DType)>,
    comment_tokens: Vec<CommentToken>,
    next_comment: usize,
    comments: Vec<Comment>,
}

/// A name and where it stands.
#[derive(Clone, Copy)]
struct Name<'s> {
    text: &'s str,
    span: Span,
}

/// Tokens: looking at them, taking them, saying what was expected.
impl<'s> Parser<'s> {
    fn token(&self) -> Token {
        self.tokens[self.at]
    }

    fn kind(&self) -> TokenKind {
        self.token().kind
    }

    /// The kind of the token some places ahead; the end stands for all beyond it.
    fn kind_ahead(&self, distance: usize) -> TokenKind {
        self.tokens.get(self.at + distance).map_or(TokenKind::End, |token| token.kind)
    }

    fn bump(&mut self) -> Token {
        let token = self.token();
        if token.kind != TokenKind::End {
            self.at += 1;
        }
        token
    }

    fn eat(&mut self, kind: TokenKind) -> bool {
        let found = self.kind() == kind;
        if found {
            self.bump();
        }
        found
    }

    fn text(&self, token: Token) -> &'s str {
        self.text_of(token.span())
    }

    fn text_of(&self, span: Span) -> &'s str {
        self.source.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// Whether the token ahead is this word.
    fn is_word(&self, word: &str) -> bool {
        self.kind() == TokenKind::Ident && self.text(self.token()) == word
    }

    /// The bytes of some tokens.
    fn span_of(&self, tokens: Range<usize>) -> Span {
        let first = self.tokens[tokens.start].span();
        let last = tokens.end.saturating_sub(1).max(tokens.start);
        first.to(self.tokens[last].span())
    }

    fn expect(&mut self, kind: TokenKind, what: &str) -> Result<Token> {
        if self.kind() == kind {
            return Ok(self.bump());
        }
        let is_end_of_something = !matches!(
            kind,
            TokenKind::Ident
                | TokenKind::Number
                | TokenKind::String
                | TokenKind::LeftBrace
                | TokenKind::LeftBracket
        );
        if is_end_of_something && self.begins_line() && self.kind() != TokenKind::UnterminatedString {
            return Err(self.expected_after(what));
        }
        Err(self.expected(what))
    }

    /// Reports that something is missing behind the token before, on whose line it should be.
    fn expected_after(&mut self, what: &str) -> Failed {
        let before = self.tokens[self.at.saturating_sub(1)].span();
        let span = Span { start: before.end.saturating_sub(1).max(before.start), end: before.end };
        let message = format!("expected {what}, found {}", self.describe(self.token()));
        let error = Error::at(ErrorKind::Syntax, span, message, format!("expected {what} after this"));
        self.fail(if what == "`;`" { error.with_help("end every statement with `;`") } else { error })
    }

    fn ident(&mut self, what: &str) -> Result<Name<'s>> {
        let token = self.expect(TokenKind::Ident, what)?;
        Ok(Name { text: self.text(token), span: token.span() })
    }

    fn word(&mut self, word: &str) -> Result<Token> {
        if self.is_word(word) { Ok(self.bump()) } else { Err(self.expected(&format!("`{word}`"))) }
    }

    /// Reports that the token ahead is not what the grammar asks for.
    fn expected(&mut self, what: &str) -> Failed {
        let token = self.token();
        if token.kind == TokenKind::UnterminatedString {
            return self.unterminated_string(token);
        }
        let message = format!("expected {what}, found {}", self.describe(token));
        let error = Error::at(ErrorKind::Syntax, token.span(), message, format!("expected {what}"));
        let before = self.at.checked_sub(1).map(|index| self.tokens[index]);
        let touches = before.filter(|before| before.end == token.start).map(|before| before.kind);
        let is_letter = token.kind == TokenKind::Unknown
            && self.text(token).chars().all(|character| !character.is_ascii() && character.is_alphabetic());
        self.fail(if is_letter {
            error.with_help("names are made of ASCII letters, digits, `_` and `@`")
        } else if token.kind == TokenKind::Ident && touches == Some(TokenKind::String) {
            error.with_help("is a `\"` missing in what comes before?")
        } else {
            error
        })
    }

    fn unterminated_string(&mut self, token: Token) -> Failed {
        let error = Error::at(
            ErrorKind::Syntax,
            token.span(),
            "a string without its closing quote",
            "the line ends before the string does",
        );
        self.fail(error.with_help("end the string with `\"`; a quote inside it is written `\\\"`"))
    }

    fn has_enough_errors(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    /// Whether an error of this kind is worth wording; otherwise it is counted.
    fn has_room_for(&mut self, kind: ErrorKind) -> bool {
        let enough = self.has_enough_errors();
        if enough {
            self.unlisted.push(kind);
        }
        !enough
    }

    fn report(&mut self, error: Error) {
        if self.has_room_for(error.kind) {
            self.errors.push(error);
        }
    }

    fn fail(&mut self, error: Error) -> Failed {
        self.report(error);
        Failed
    }

    fn describe(&self, token: Token) -> String {
        match token.kind {
            TokenKind::End => "the end of the text".to_string(),
            TokenKind::String => "a string".to_string(),
            _ => quote(self.text(token)),
        }
    }

    /// The line, from 1, that a position is on.
    fn line(&self, position: u32) -> usize {
        let before = &self.source.as_bytes()[..(position as usize).min(self.source.len())];
        before.iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    /// Whether a line ends between the token ahead and the one before it.
    fn begins_line(&self) -> bool {
        let before = self.at.checked_sub(1).map_or(0, |index| self.tokens[index].end);
        self.source.as_bytes()[before as usize..self.token().start as usize].contains(&b'\n')
    }

    /// Gives the comments before a token, by index, their place in the program.
    fn take_comments(&mut self, before: usize, place: CommentPlace) {
        while let Some(comment) = self.comment_tokens.get(self.next_comment)
            && comment.next <= before
        {
            let text = self.text_of(comment.span).trim_end().to_string();
            self.comments.push(Comment { place, text });
            self.next_comment += 1;
        }
    }

    /// Gives a comment that follows the last token on its line its place.
    fn take_comment_on_line(&mut self, place: CommentPlace) {
        let Some(comment) = self.comment_tokens.get(self.next_comment) else { return };
        if comment.next != self.at || self.at == 0 {
            return;
        }
        let before = self.tokens[self.at - 1].end as usize;
        if !self.source.as_bytes()[before..comment.span.start as usize].contains(&b'\n') {
            let text = self.text_of(comment.span).trim_end().to_string();
            self.comments.push(Comment { place, text });
            self.next_comment += 1;
        }
    }
}

/// The outermost part of the grammar.
impl Parser<'_> {
    fn program(&mut self) -> Result<(Program, Spans)> {
        let mut spans = Spans::default();
        self.word("program")?;
        self.expect(TokenKind::LeftParen, "`(`")?;
        let token = self.expect(TokenKind::Number, "the version, such as `1.3`")?;
        spans.version = token.span();
        let version = self.version(token)?;
        self.dialect = version.dialect();
        self.expect(TokenKind::RightParen, "`)`")?;
        let mut program = Program::new(version);
        (program.attributes, spans.attributes) = self.attributes()?;
        self.take_comments(self.at, CommentPlace::BeforeProgram);
        self.expect(TokenKind::LeftBrace, "`{`")?;
        let mut names = UniqueNames::default();
        loop {
            let index = program.functions.len();
            self.take_comments(self.at, CommentPlace::BeforeFunction(index));
            if self.kind() == TokenKind::RightBrace {
                break;
            }
            if !self.is_word("func") {
                return Err(self.expected("`func`, or `}` to end the program"));
            }
            match self.function(index) {
                Ok((function, function_spans)) => {
                    let name = self.text_of(function_spans.name);
                    if let Some(first) = names.insert(name, function_spans.name) {
                        self.given_twice("function", name, function_spans.name, first);
                    }
                    program.functions.push(function);
                    spans.functions.push(function_spans);
                }
                Err(Failed) => {
                    self.skip_function();
                    if self.kind() == TokenKind::End {
                        return Err(Failed);
                    }
                }
            }
        }
        self.bump();
        if self.kind() != TokenKind::End {
            return Err(self.expected("the end of the text after the program's `}`"));
        }
        self.take_comments(self.at, CommentPlace::AfterProgram);
        Ok((program, spans))
    }

    fn version(&mut self, token: Token) -> Result<Version> {
        let text = self.text(token);
        let number = |digits: &str| {
            if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
        };
        let version = text
            .split_once('.')
            .and_then(|(major, minor)| Some(Version { major: number(major)?, minor: number(minor)? }));
        // A minor version such as 03 would read back as 3.
        match version.filter(|version| version.to_string() == text) {
            Some(version) => Ok(version),
            None => Err(self.fail(Error::at(
                ErrorKind::Syntax,
                token.span(),
                format!("{} is no version", quote(text)),
                "expected two whole numbers, as in `1.3`",
            ))),
        }
    }

    /// Attributes in brackets, or nothing.
    fn attributes(&mut self) -> Result<(Attributes, Vec<Span>)> {
        if !self.eat(TokenKind::LeftBracket) {
            return Ok((Attributes::default(), Vec::new()));
        }
        let (mut items, mut spans, mut names) = (Vec::new(), Vec::new(), UniqueNames::default());
        loop {
            let name = self.ident("the name of an attribute")?;
            self.expect(TokenKind::Equals, "`=`")?;
            let literal = self.attribute_value()?;
            match names.insert(name.text, name.span) {
                Some(first) => self.given_twice("attribute", name.text, name.span, first),
                None => {
                    items.push((name.text.to_string(), literal));
                    spans.push(name.span.to(self.tokens[self.at - 1].span()));
                }
            }
            if !self.eat(TokenKind::Comma) {
                break;
            }
        }
        self.expect(TokenKind::RightBracket, "`,` or `]`")?;
        Ok((Named::from_unique(items), spans))
    }

    fn given_twice(&mut self, what: &str, name: &str, span: Span, first: Span) {
        // Saying where takes a pass over the text.
        if !self.has_room_for(ErrorKind::Redefinition) {
            return;
        }
        let message = format!("the {what} {} is given twice", quote(name));
        let label = format!("given before, on line {}", self.line(first.start));
        self.errors.push(Error::at(ErrorKind::Redefinition, span, message, label));
    }
}

/// A piece of the text in backquotes, cut where it is long.
fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
