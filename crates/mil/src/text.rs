//! MIL text: read into programs, and written in the style of Apple's own compiler.
//!
//! Apple publishes no grammar; this is what its compiler writes and its loaders read:
//!
//! ```text
//! file      := "program" "(" INT "." INT ")" attrs? "{" func* "}"
//! attrs     := "[" IDENT "=" literal ("," IDENT "=" literal)* "]"
//! func      := "func" IDENT "<" OPSET ">" "(" (type IDENT ("," type IDENT)*)? ")" attrs?
//!              "{" stmt* "}" "->" "(" IDENT ("," IDENT)* ")" ";"
//! stmt      := (type IDENT ("," type IDENT)* "=")? OP ("<" OPSET ">")? "(" (arg ("," arg)*)? ")" attrs? block* ";"
//! block     := "(" (type IDENT ("," type IDENT)*)? ")" "{" stmt* "}" "->" "(" (IDENT ("," IDENT)*)? ")"
//! arg       := IDENT "=" (operand | "(" operand ("," operand)* ")")      operand := IDENT | literal
//! literal   := type "(" value ")"
//! value     := NUMBER | STRING | "true" | "false" | "[" value,* "]" | "(" value,* ")"
//!            | "{" ("{" value "," value "}"),* "}" | "BLOBFILE" "(" "path" "=" literal "," "offset" "=" literal ")"
//! NUMBER    := integer, decimal, C99 hexadecimal float, inf, -inf or nan
//! ```
//!
//! A tensor's value takes one level of `[…]` per dimension. Numbers become the element type they are written
//! under, rounded once, to nearest even. In strings, `\"`, `\\`, `\n`, `\r` and `\t` are escapes. A comment runs
//! from `//` to the end of its line.
//!
//! A statement sees the names that are bound before it, in its own block and in those around it; where a name is
//! bound twice, the later binding. What a block binds is not seen outside it.
//!
//! ```
//! use anemone_mil::text;
//!
//! let source = r#"program(1.3)
//! { func main<ios18>(tensor<fp16, [1, 4]> x) {
//!     fp16 half = const()[name=string("half"), val=fp16(0.5)];
//!     tensor<fp16, [1, 4]> y = mul(x=x, y=half)[name=string("y")]; // scaled
//! } -> (y); }"#;
//! let parsed = text::parse(source)?;
//! assert_eq!(
//!     text::write_with_comments(&parsed.program, &parsed.comments),
//!     r#"program(1.3)
//! {
//!     func main<ios18>(tensor<fp16, [1, 4]> x) {
//!             fp16 half = const()[name = string("half"), val = fp16(0x1p-1)];
//!             tensor<fp16, [1, 4]> y = mul(x = x, y = half)[name = string("y")]; // scaled
//!         } -> (y);
//! }
//! "#
//! );
//!
//! let errors = text::parse("program(1.3) { func main<ios18>() { } }").unwrap_err();
//! assert!(errors.to_string().starts_with("the function `main` has no results"));
//! # Ok::<(), anemone_mil::error::Errors>(())
//! ```

use crate::error::{Errors, Spans};
use crate::program::{OpId, Program};

mod follow;
mod lex;
mod number;
mod parse;
mod write;

/// What a text says.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The program.
    pub program: Program,
    /// Where its parts stand in the text.
    pub spans: Spans,
    /// Its comments.
    pub comments: Comments,
    /// Warnings about numbers that may be meant otherwise.
    pub warnings: Errors,
}

/// The comments of a text, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comments(pub Vec<Comment>);

/// A comment and the part of the program that it stands at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Where it stands. A comment inside a statement or a header stands before it.
    pub place: CommentPlace,
    /// The text with its slashes, without the line's end.
    pub text: String,
}

/// Where a comment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommentPlace {
    /// Before the program, or in its header.
    BeforeProgram,
    /// Before a function, by position; the number of functions stands for the brace that closes the program.
    BeforeFunction(usize),
    /// Before an op of a function.
    BeforeOp(usize, OpId),
    /// After an op of a function, on the same line.
    AfterOp(usize, OpId),
    /// Before a nested block of an op, by position, or among its parameters.
    BeforeBlock(usize, OpId, usize),
    /// After the last op of a nested block, before its results.
    BeforeBlockResults(usize, OpId, usize),
    /// After a function's last op, before its results.
    BeforeResults(usize),
    /// After the program.
    AfterProgram,
}

/// Reads a program.
///
/// # Errors
///
/// Everything in the text that does not follow the grammar, does not fit its type, or names what is not there;
/// beyond [`MAX_ERRORS`](crate::error::MAX_ERRORS) mistakes are only counted. Whether ops exist and are used rightly is for the verifier to say.
pub fn parse(source: &str) -> Result<Parsed, Errors> {
    parse::parse(source)
}

/// Writes a program as Apple's compiler does, so that reading gives the same program.
///
/// Two things have no text of their own: the payload of a NaN, and the length of dimensions within an empty one
/// where the type says `?`. Names must be identifiers, and different where one op sees both; ids must be in range,
/// and each op stand in one place: as in every verified program.
pub fn write(program: &Program) -> String {
    write::write(program, &Comments::default())
}

/// Writes a program as [`write()`] does, with comments.
pub fn write_with_comments(program: &Program, comments: &Comments) -> String {
    write::write(program, comments)
}
