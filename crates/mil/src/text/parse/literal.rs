//! Literals: values read under the type that stands before them.

use super::{Failed, Parser, Result};
use crate::error::{Error, ErrorKind, Span};
use crate::program::{BlobReference, Dialect, Literal, LiteralValue};
use crate::text::lex::TokenKind;
use crate::types::{DType, Dim, Shape, TensorType, Type};

impl Parser<'_> {
    /// `type(value)`.
    pub(super) fn literal(&mut self) -> Result<Literal> {
        let ty = self.ty()?;
        self.expect(TokenKind::LeftParen, "`(` and a value")?;
        let value = self.value(&ty)?;
        self.expect(TokenKind::RightParen, "`)`")?;
        Ok(Literal { ty, value })
    }

    /// A value of a type. Nests as deeply as the type does.
    fn value(&mut self, ty: &Type) -> Result<LiteralValue> {
        match ty {
            Type::Scalar(dtype) => self.tensor_value(*dtype, &Shape::default()),
            Type::Tensor(TensorType { dtype, shape }) | Type::TensorBuffer { dtype, shape, .. } => {
                self.tensor_value(*dtype, shape)
            }
            Type::State(inner) => self.value(inner),
            Type::List(element, length) => self.list(element, *length),
            Type::Tuple(items) => self.tuple(items),
            Type::Dict(key, value) => self.dict(key, value),
        }
    }

    fn list(&mut self, element: &Type, length: Dim) -> Result<LiteralValue> {
        let open = self.expect(TokenKind::LeftBracket, "`[` and a list's items")?;
        let mut items = Vec::new();
        if self.kind() != TokenKind::RightBracket {
            loop {
                items.push(self.value(element)?);
                if !self.eat(TokenKind::Comma) {
                    break;
                }
            }
        }
        let close = self.expect(TokenKind::RightBracket, "`,` or `]`")?;
        if length.known().is_some_and(|length| length != items.len() as u64) {
            self.wrong_count(open.span().to(close.span()), "list", &length.to_string(), items.len() as u64);
        }
        Ok(LiteralValue::List(items))
    }

    fn tuple(&mut self, types: &[Type]) -> Result<LiteralValue> {
        let open = self.expect(TokenKind::LeftParen, "`(` and a tuple's items")?;
        let mut items = Vec::new();
        for (i, ty) in types.iter().enumerate() {
            if i > 0 && !self.eat(TokenKind::Comma) {
                break;
            }
            if i == 0 && self.kind() == TokenKind::RightParen {
                break;
            }
            items.push(self.value(ty)?);
        }
        if self.kind() == TokenKind::RightParen {
            let close = self.bump();
            if items.len() != types.len() {
                let span = open.span().to(close.span());
                self.wrong_count(span, "tuple", &types.len().to_string(), items.len() as u64);
            }
            return Ok(LiteralValue::Tuple(items));
        }
        let what = format!("`)`: this tuple has {} items", types.len());
        Err(self.expected(if items.len() == types.len() { &what } else { "`,` or `)`" }))
    }

    fn dict(&mut self, key: &Type, value: &Type) -> Result<LiteralValue> {
        self.expect(TokenKind::LeftBrace, "`{` and a dictionary's pairs")?;
        let mut pairs = Vec::new();
        if self.kind() != TokenKind::RightBrace {
            loop {
                self.expect(TokenKind::LeftBrace, "a pair, as in `{\"key\", value}`")?;
                let first = self.value(key)?;
                self.expect(TokenKind::Comma, "`,` between key and value")?;
                let second = self.value(value)?;
                self.expect(TokenKind::RightBrace, "`}`")?;
                pairs.push((first, second));
                if !self.eat(TokenKind::Comma) {
                    break;
                }
            }
        }
        self.expect(TokenKind::RightBrace, "`,` or `}`")?;
        Ok(LiteralValue::Dict(pairs))
    }

    fn wrong_count(&mut self, span: Span, what: &str, expected: &str, found: u64) {
        let message = format!("a {what} of {expected} with {found} {}", items(found));
        let label = format!("expected {expected}, found {found}");
        self.report(Error::at(ErrorKind::Literal, span, message, label));
    }

    /// Whether a tensor in a blob file is ahead.
    pub(super) fn is_blob_ahead(&self) -> bool {
        self.is_word("BLOBFILE")
    }

    /// `BLOBFILE(path = string("…"), offset = uint64(64))`.
    pub(super) fn blob(&mut self) -> Result<LiteralValue> {
        self.bump();
        self.expect(TokenKind::LeftParen, "`(`")?;
        let path = self.blob_part("path", DType::String)?;
        self.expect(TokenKind::Comma, "`,`")?;
        let offset = self.blob_part("offset", DType::UInt64)?;
        self.expect(TokenKind::RightParen, "`)`")?;
        let (Some(path), Some(offset)) = (path, offset) else { return Err(Failed) };
        let dialect = if matches!(path.ty, Type::Scalar(_)) { Dialect::Scalar } else { Dialect::RankZero };
        match (path.as_str(), offset.as_tensor().and_then(|tensor| tensor.as_slice::<u64>())) {
            (Some(path), Some(&[offset])) => {
                Ok(LiteralValue::Blob(BlobReference { path: path.to_string(), offset, dialect }))
            }
            _ => Err(Failed),
        }
    }

    /// `path = string("…")`, or `offset = uint64(64)`: a single value of type `dtype`. What is something else is
    /// reported, and `None`.
    fn blob_part(&mut self, name: &str, dtype: DType) -> Result<Option<Literal>> {
        self.word(name)?;
        self.expect(TokenKind::Equals, "`=`")?;
        let first = self.at;
        let literal = if self.is_untyped_value_ahead() {
            self.skip_value()?;
            None
        } else {
            Some(self.literal()?)
        };
        let is_right = |literal: &Literal| {
            literal.as_tensor().is_some_and(|tensor| tensor.dtype() == dtype && tensor.shape().is_empty())
        };
        if literal.as_ref().is_some_and(is_right) {
            return Ok(literal);
        }
        let ty = self.dialect.scalar_type(dtype);
        let message = format!("the {name} of a blob is a single {dtype}");
        let error = Error::at(
            ErrorKind::Literal,
            self.span_of(first..self.at),
            message,
            format!("expected `{ty}(…)`"),
        );
        let token = self.tokens[first];
        let is_only_untyped = self.at == first + 1
            && token.kind == if dtype == DType::String { TokenKind::String } else { TokenKind::Number };
        let text = self.text(token);
        self.report(if is_only_untyped && text.len() < 60 {
            error.with_help(format!("write its type: `{ty}({text})`"))
        } else {
            error
        });
        Ok(None)
    }
}

/// The word for so many items.
pub(super) fn items(count: u64) -> &'static str {
    if count == 1 { "item" } else { "items" }
}
