//! Values without a type where a literal belongs: what people write by analogy with other languages.

use super::{Parser, Result, quote};
use crate::error::{Error, ErrorKind};
use crate::program::Literal;
use crate::text::lex::TokenKind;
use crate::types::DType;

impl Parser<'_> {
    /// A literal, or the report that something else stands there.
    pub(super) fn attribute_value(&mut self) -> Result<Literal> {
        if self.is_untyped_value_ahead() {
            self.untyped_value("a literal with its type")?;
            return Ok(Literal::scalar(self.dialect, false));
        }
        if self.kind() == TokenKind::Ident
            && !matches!(self.kind_ahead(1), TokenKind::LeftParen | TokenKind::Less)
            && !self.is_type_name_ahead()
        {
            let token = self.bump();
            let message = format!("the name {} where a literal is needed", quote(self.text(token)));
            let label = "expected a literal, as in `int32(1)`";
            self.report(Error::at(ErrorKind::Syntax, token.span(), message, label));
            return Ok(Literal::scalar(self.dialect, false));
        }
        self.literal()
    }

    /// Whether a value without type is ahead. `true`, `inf` and the like could be names, and count only where
    /// the caller knows that they are none.
    pub(super) fn is_untyped_value_ahead(&self) -> bool {
        match self.kind() {
            TokenKind::Number | TokenKind::String | TokenKind::LeftBracket | TokenKind::LeftBrace => true,
            TokenKind::Ident => {
                matches!(self.text(self.token()), "true" | "false" | "inf" | "nan")
                    && !matches!(self.kind_ahead(1), TokenKind::LeftParen | TokenKind::Less)
            }
            _ => false,
        }
    }

    /// Reports a value without type, and goes behind it.
    pub(super) fn untyped_value(&mut self, expected: &str) -> Result<()> {
        let first = self.at;
        self.skip_value()?;
        let span = self.span_of(first..self.at);
        let typed = self.with_likely_type(first, self.at);
        let message = format!("{} has no type", quote(self.text_of(span)));
        let error = Error::at(ErrorKind::Syntax, span, message, format!("expected {expected}"));
        self.report(error.with_help(match typed {
            Some(typed) => format!("write its type: `{typed}`"),
            None => "write its type, as in `tensor<int32, [2, 1]>([[1], [2]])`".to_string(),
        }));
        Ok(())
    }

    /// Goes behind a word, a number, a string, or everything up to the bracket that matches the one ahead.
    pub(super) fn skip_value(&mut self) -> Result<()> {
        let mut depth = 0usize;
        loop {
            match self.kind() {
                TokenKind::LeftBracket | TokenKind::LeftBrace | TokenKind::LeftParen => depth += 1,
                TokenKind::RightBracket | TokenKind::RightBrace | TokenKind::RightParen if depth > 0 => {
                    depth -= 1
                }
                TokenKind::Number | TokenKind::String | TokenKind::Ident => {}
                TokenKind::Comma if depth > 0 => {}
                TokenKind::Less | TokenKind::Greater | TokenKind::Equals if depth > 0 => {}
                _ => return Err(self.expected("a value")),
            }
            self.bump();
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// The value of some tokens as a literal of the likeliest type: of a single value, or a flat list of
    /// integers, booleans or strings.
    fn with_likely_type(&self, first: usize, end: usize) -> Option<String> {
        const LONGEST: u32 = 60;
        let span = self.span_of(first..end);
        if span.end - span.start > LONGEST {
            return None;
        }
        if end - first == 1 {
            let dtype = self.likely_dtype(first)?;
            return Some(format!("{}({})", self.dialect.scalar_type(dtype), self.text_of(span)));
        }
        let is_item = |index: usize| (index - first) % 2 == 1;
        let mut dtypes = (first + 1..end - 1).filter(|&index| is_item(index)).map(|i| self.likely_dtype(i));
        let dtype = dtypes.next()??;
        if self.tokens[first].kind != TokenKind::LeftBracket || !dtypes.all(|other| other == Some(dtype)) {
            return None;
        }
        let count = (end - first - 1) / 2;
        let dtype = if dtype.is_float() { DType::Fp16 } else { dtype };
        Some(format!("tensor<{dtype}, [{count}]>({})", self.text_of(span)))
    }

    fn likely_dtype(&self, index: usize) -> Option<DType> {
        let token = self.tokens[index];
        let text = self.text(token);
        match token.kind {
            TokenKind::String => Some(DType::String),
            TokenKind::Ident if matches!(text, "true" | "false") => Some(DType::Bool),
            TokenKind::Ident if matches!(text, "inf" | "nan") => Some(DType::Fp16),
            TokenKind::Number
                if text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit()) =>
            {
                Some(DType::Int32)
            }
            TokenKind::Number => Some(DType::Fp16),
            _ => None,
        }
    }

    /// An op's call where a value or literal is needed: reported, with the statement that would hold it.
    pub(super) fn is_nested_call_ahead(&self) -> bool {
        self.kind() == TokenKind::Ident
            && self.kind_ahead(1) == TokenKind::LeftParen
            && !self.is_type_name_ahead()
            && (self.kind_ahead(2) == TokenKind::RightParen
                || (self.kind_ahead(2) == TokenKind::Ident
                    && matches!(
                        self.kind_ahead(3),
                        TokenKind::Equals | TokenKind::Comma | TokenKind::RightParen
                    )
                    && !matches!(self.text(self.tokens[self.at + 2]), "true" | "false" | "inf" | "nan")))
    }

    pub(super) fn nested_call(&mut self) -> super::Failed {
        let token = self.token();
        let name = quote(self.text(token));
        let message = format!("a call of {name} inside another statement");
        let label = "expected a name, or a literal with its type";
        let help = format!("bind the result of {name} in a statement of its own, and name that here");
        self.fail(Error::at(ErrorKind::Syntax, token.span(), message, label).with_help(help))
    }
}
