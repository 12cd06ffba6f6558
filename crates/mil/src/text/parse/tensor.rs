//! The values of tensors and scalars, element by element.

use std::sync::Arc;

use super::literal::items;
use super::{Failed, Parser, Result, quote};
use crate::error::{Error, ErrorKind, Span};
use crate::program::LiteralValue;
use crate::tensor::{Data, Tensor};
use crate::text::lex::{Token, TokenKind};
use crate::text::number::{NumberError, push_number};
use crate::types::{DType, Dim, Shape};

impl Parser<'_> {
    /// A tensor's value: `BLOBFILE(…)`, or elements with one level of brackets per dimension.
    pub(super) fn tensor_value(&mut self, dtype: DType, shape: &Shape) -> Result<LiteralValue> {
        if self.is_blob_ahead() {
            return self.blob();
        }
        let (mut data, rank) = (Data::empty(dtype), shape.rank());
        if rank == 0 {
            self.element(dtype, &mut data)?;
            return self.finish_tensor(dtype, &[], data);
        }
        let mut lengths: Vec<Option<u64>> = shape.0.iter().map(|dim| dim.known()).collect();
        let mut consistent = true;
        // The count of items so far and the opening bracket, of every level that is open.
        let mut open: Vec<(u64, Token)> = Vec::new();
        loop {
            if open.len() < rank {
                if self.kind() != TokenKind::LeftBracket {
                    return Err(self.too_few_brackets(dtype, shape, open.len()));
                }
                open.push((0, self.bump()));
                if self.kind() != TokenKind::RightBracket {
                    continue;
                }
            } else {
                if self.kind() == TokenKind::LeftBracket {
                    return Err(self.too_many_brackets(dtype, shape));
                }
                self.element(dtype, &mut data)?;
                count_item(&mut open);
            }
            loop {
                match self.kind() {
                    TokenKind::Comma => {
                        self.bump();
                        break;
                    }
                    TokenKind::RightBracket => {
                        let close = self.bump();
                        let Some((count, bracket)) = open.pop() else { return Err(Failed) };
                        if *lengths[open.len()].get_or_insert(count) != count && consistent {
                            consistent = false;
                            let span = bracket.span().to(close.span());
                            self.wrong_length(dtype, shape, open.len(), &lengths, count, span);
                        }
                        if open.is_empty() {
                            if !consistent {
                                return self.finish_tensor(dtype, &[0], Data::empty(dtype));
                            }
                            let lengths: Vec<usize> =
                                lengths.iter().map(|length| length.unwrap_or(0) as usize).collect();
                            return self.finish_tensor(dtype, &lengths, data);
                        }
                        count_item(&mut open);
                    }
                    _ => return Err(self.expected("`,` or `]`")),
                }
            }
        }
    }

    fn finish_tensor(&mut self, dtype: DType, lengths: &[usize], data: Data) -> Result<LiteralValue> {
        match Tensor::new(dtype, lengths, data) {
            Ok(tensor) => Ok(LiteralValue::Tensor(Arc::new(tensor))),
            Err(error) => {
                let span = self.tokens[self.at.saturating_sub(1)].span();
                Err(self.fail(Error::at(ErrorKind::Literal, span, error.to_string(), "")))
            }
        }
    }

    fn wrong_length(
        &mut self,
        dtype: DType,
        shape: &Shape,
        level: usize,
        lengths: &[Option<u64>],
        count: u64,
        span: Span,
    ) {
        if !self.has_room_for(ErrorKind::Literal) {
            return;
        }
        let expected = lengths[level].unwrap_or(0);
        let message = if shape.0[level] == Dim::Unknown {
            format!("{} {} where the list before has {expected}", count, items(count))
        } else {
            let dimension =
                if shape.rank() == 1 { String::new() } else { format!(" along dimension {level}") };
            format!("{} with {count} {}{dimension}", tensor_name(dtype, shape), items(count))
        };
        let label = format!("expected {expected} {}, found {count}", items(expected));
        self.errors.push(Error::at(ErrorKind::Literal, span, message, label));
    }

    fn too_few_brackets(&mut self, dtype: DType, shape: &Shape, open: usize) -> Failed {
        let token = self.token();
        if !matches!(token.kind, TokenKind::Number | TokenKind::String | TokenKind::Ident) {
            return self.expected("`[`");
        }
        let message = format!("{} where {} has a list", self.describe(token), tensor_name(dtype, shape));
        let rank = shape.rank();
        let label = format!("expected `[`, level {} of {rank}", open + 1);
        let example = if rank <= 8 { format!(", as in `{}`", nested(rank, "…")) } else { String::new() };
        let help = format!("write one level of brackets per dimension, here {rank}{example}");
        self.fail(Error::at(ErrorKind::Literal, token.span(), message, label).with_help(help))
    }

    fn too_many_brackets(&mut self, dtype: DType, shape: &Shape) -> Failed {
        let span = self.token().span();
        let rank = shape.rank();
        let message = format!("too many brackets in {}", tensor_name(dtype, shape));
        let label = format!(
            "expected an item: {rank} {} open",
            if rank == 1 { "bracket is" } else { "brackets are" }
        );
        self.fail(Error::at(ErrorKind::Literal, span, message, label))
    }

    /// One element, appended to `data`. One that is only unfit for its type is reported and replaced.
    fn element(&mut self, dtype: DType, data: &mut Data) -> Result<()> {
        let token = self.token();
        let text = self.text(token);
        match (token.kind, &mut *data) {
            (TokenKind::String, Data::String(values)) => values.push(self.string(token)),
            (TokenKind::Ident, Data::Bool(values)) if matches!(text, "true" | "false") => {
                values.push(text == "true");
            }
            (_, Data::Bool(_) | Data::String(_)) => return self.misfit(token, dtype, data),
            (TokenKind::Number, _) => self.number(token, dtype, data),
            (TokenKind::Ident, _) if dtype.is_float() && matches!(text, "inf" | "nan") => {
                self.number(token, dtype, data);
            }
            _ => return self.misfit(token, dtype, data),
        }
        self.bump();
        Ok(())
    }

    /// Something that is not an element of this type: replaced if it is one of another.
    fn misfit(&mut self, token: Token, dtype: DType, data: &mut Data) -> Result<()> {
        let expected = match dtype {
            DType::Bool => "`true` or `false`".to_string(),
            DType::String => "a string in double quotes".to_string(),
            _ if dtype.is_float() => format!("a number for {dtype}"),
            _ => format!("an integer for {dtype}"),
        };
        let is_word = matches!(self.text(token), "true" | "false" | "inf" | "nan");
        if !(matches!(token.kind, TokenKind::Number | TokenKind::String) || is_word) {
            return Err(self.expected(&expected));
        }
        let message = format!("{} is no {dtype}", self.describe(token));
        let error = Error::at(ErrorKind::Literal, token.span(), message, format!("expected {expected}"));
        self.report(error);
        self.bump();
        append_zero(dtype, data);
        Ok(())
    }

    fn number(&mut self, token: Token, dtype: DType, data: &mut Data) {
        let text = self.text(token);
        let Err(problem) = push_number(data, dtype, text) else { return self.doubt(token, dtype, data) };
        append_zero(dtype, data);
        let (message, label) = match problem {
            NumberError::Malformed => {
                (format!("{} is no number", quote(text)), format!("expected a number for {dtype}"))
            }
            NumberError::NotInteger => {
                (format!("{} is no integer", quote(text)), format!("expected an integer for {dtype}"))
            }
            NumberError::Range => {
                let label = match dtype.integer_range() {
                    Some((least, most)) => format!("{dtype} goes from {least} to {most}"),
                    None => format!("the largest {dtype} is 448, and it has no infinity"),
                };
                (format!("{} does not fit {dtype}", quote(text)), label)
            }
        };
        self.report(Error::at(ErrorKind::Literal, token.span(), message, label));
    }

    /// The characters that a string stands for.
    fn string(&mut self, token: Token) -> String {
        let text = self.text(token);
        let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
        if !inner.contains('\\') {
            return inner.to_string();
        }
        let mut value = String::with_capacity(inner.len());
        let mut characters = inner.char_indices();
        while let Some((at, character)) = characters.next() {
            if character != '\\' {
                value.push(character);
                continue;
            }
            match characters.next() {
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                Some((_, 'n')) => value.push('\n'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, 't')) => value.push('\t'),
                other => {
                    let start = token.start as usize + 1 + at;
                    let end = start + 1 + other.map_or(0, |(_, escaped)| escaped.len_utf8());
                    let span = Span::new(start, end);
                    let message = format!("{} is no escape", quote(self.text_of(span)));
                    let label = r#"expected `\"`, `\\`, `\n`, `\r` or `\t`"#;
                    let error = Error::at(ErrorKind::Literal, span, message, label);
                    self.report(error.with_help(r"a backslash that stands for itself is written `\\`"));
                }
            }
        }
        value
    }
}

fn count_item(open: &mut [(u64, Token)]) {
    if let Some((count, _)) = open.last_mut() {
        *count += 1;
    }
}

fn append_zero(dtype: DType, data: &mut Data) {
    crate::for_each_data!(data, values => values.push(Default::default()), strings values => values.push(String::new()));
    debug_assert!(data.stores(dtype));
}

/// `[[…]]`.
fn nested(levels: usize, item: &str) -> String {
    format!("{}{item}{}", "[".repeat(levels), "]".repeat(levels))
}

/// A tensor type for a message, cut where it is long.
fn tensor_name(dtype: DType, shape: &Shape) -> String {
    if shape.rank() > 8 {
        return format!("a rank-{} tensor of {dtype}", shape.rank());
    }
    format!("`tensor<{dtype}, {shape}>`")
}
