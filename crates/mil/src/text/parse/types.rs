//! Types.

use super::{Parser, Result, quote};
use crate::error::{Error, ErrorKind};
use crate::suggest::nearest;
use crate::text::lex::TokenKind;
use crate::types::{DType, Dim, Shape, TensorType, Type};

/// Types nest no deeper than this, and so neither do values.
const MAX_DEPTH: usize = 64;

/// The words that begin a type with something in angle brackets.
const COMPOSITES: [&str; 6] = ["tensor", "state", "list", "tuple", "dict", "tensor_buffer"];

/// The name in MIL of a type that other languages and libraries call otherwise.
fn other_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "float16" | "half" => "fp16",
        "float32" | "float" => "fp32",
        "float64" | "double" => "fp64",
        "bfloat16" => "bf16",
        "int" => "int32",
        "uint" => "uint32",
        "boolean" => "bool",
        "str" => "string",
        _ => return None,
    })
}

impl Parser<'_> {
    /// A type.
    pub(super) fn ty(&mut self) -> Result<Type> {
        self.nested_type(0)
    }

    /// Whether the word ahead, whatever follows, names a type.
    pub(super) fn is_type_name_ahead(&self) -> bool {
        let name = self.text(self.token());
        self.kind() == TokenKind::Ident && (DType::from_name(name).is_some() || COMPOSITES.contains(&name))
    }

    fn nested_type(&mut self, depth: usize) -> Result<Type> {
        let token = self.token();
        if depth > MAX_DEPTH {
            let message = format!("types nest deeper than {MAX_DEPTH} levels");
            return Err(self.fail(Error::at(ErrorKind::Syntax, token.span(), message, "one level too many")));
        }
        if token.kind != TokenKind::Ident {
            return Err(self.expected("a type"));
        }
        match self.text(token) {
            "tensor" => {
                self.open_type()?;
                let dtype = self.dtype("element type")?;
                self.type_comma()?;
                let shape = self.shape()?;
                self.close_type()?;
                Ok(Type::Tensor(TensorType { dtype, shape }))
            }
            "state" => {
                self.open_type()?;
                let inner = self.nested_type(depth + 1)?;
                self.close_type()?;
                Ok(Type::State(Box::new(inner)))
            }
            "list" => {
                self.open_type()?;
                let element = self.nested_type(depth + 1)?;
                self.type_comma()?;
                let length = self.dim()?;
                self.close_type()?;
                Ok(Type::List(Box::new(element), length))
            }
            "tuple" => self.tuple_type(depth),
            "dict" => {
                self.open_type()?;
                let key = self.nested_type(depth + 1)?;
                self.type_comma()?;
                let value = self.nested_type(depth + 1)?;
                self.close_type()?;
                Ok(Type::Dict(Box::new(key), Box::new(value)))
            }
            "tensor_buffer" => self.tensor_buffer(),
            _ => self.dtype("type").map(Type::Scalar),
        }
    }

    fn open_type(&mut self) -> Result<()> {
        self.bump();
        self.expect(TokenKind::Less, "`<`").map(|_| ())
    }

    fn type_comma(&mut self) -> Result<()> {
        self.expect(TokenKind::Comma, "`,`").map(|_| ())
    }

    fn close_type(&mut self) -> Result<()> {
        self.expect(TokenKind::Greater, "`>`").map(|_| ())
    }

    fn tuple_type(&mut self, depth: usize) -> Result<Type> {
        self.open_type()?;
        let mut items = Vec::new();
        if self.kind() != TokenKind::Greater {
            loop {
                items.push(self.nested_type(depth + 1)?);
                if !self.eat(TokenKind::Comma) {
                    break;
                }
            }
        }
        self.close_type()?;
        Ok(Type::Tuple(items))
    }

    /// `tensor_buffer<fp16, shape=[2, 4], strides=[64, 1], interleave_factors=[1, 1]>`.
    fn tensor_buffer(&mut self) -> Result<Type> {
        self.open_type()?;
        let dtype = self.dtype("element type")?;
        self.type_comma()?;
        self.named_part("shape")?;
        let shape = self.shape()?;
        self.type_comma()?;
        self.named_part("strides")?;
        let strides = self.integers()?;
        self.type_comma()?;
        self.named_part("interleave_factors")?;
        let interleave_factors = self.integers()?;
        self.close_type()?;
        Ok(Type::TensorBuffer { dtype, shape, strides, interleave_factors })
    }

    fn named_part(&mut self, name: &str) -> Result<()> {
        self.word(name)?;
        self.expect(TokenKind::Equals, "`=`").map(|_| ())
    }

    /// An element type; `what` it is called in messages.
    fn dtype(&mut self, what: &str) -> Result<DType> {
        let name = self.ident("an element type, such as `fp16`")?;
        if let Some(dtype) = DType::from_name(name.text) {
            return Ok(dtype);
        }
        let label = format!("expected {} {what}, such as `fp16`", if what == "type" { "a" } else { "an" });
        let message = format!("{} is no {what}", quote(name.text));
        let error = Error::at(ErrorKind::Syntax, name.span, message, label);
        let all = DType::all().map(DType::name).chain(COMPOSITES);
        Err(match other_name(name.text).or_else(|| nearest(name.text, all)) {
            Some(known) => self.fail(error.with_help(format!("did you mean `{known}`?"))),
            None => self.fail(error),
        })
    }

    /// `[1, ?]`.
    fn shape(&mut self) -> Result<Shape> {
        self.expect(TokenKind::LeftBracket, "a shape, as in `[1, 4]`")?;
        let mut dims = Vec::new();
        if self.kind() != TokenKind::RightBracket {
            loop {
                dims.push(self.dim()?);
                if !self.eat(TokenKind::Comma) {
                    break;
                }
            }
        }
        self.expect(TokenKind::RightBracket, "`,` or `]`")?;
        Ok(Shape(dims))
    }

    /// `4` or `?`.
    fn dim(&mut self) -> Result<Dim> {
        if self.eat(TokenKind::Question) {
            return Ok(Dim::Unknown);
        }
        let what = "a whole number or `?`";
        let token = self.expect(TokenKind::Number, what)?;
        let text = self.text(token);
        match text.parse() {
            Ok(length) => Ok(Dim::Known(length)),
            Err(_) => Err(self.no_length(token.span(), text, what)),
        }
    }

    /// `[64, 1]`.
    fn integers(&mut self) -> Result<Vec<i64>> {
        self.expect(TokenKind::LeftBracket, "a list of whole numbers, as in `[64, 1]`")?;
        let mut values = Vec::new();
        if self.kind() != TokenKind::RightBracket {
            loop {
                let token = self.expect(TokenKind::Number, "a whole number")?;
                let text = self.text(token);
                match text.parse() {
                    Ok(value) => values.push(value),
                    Err(_) => return Err(self.no_length(token.span(), text, "a whole number")),
                }
                if !self.eat(TokenKind::Comma) {
                    break;
                }
            }
        }
        self.expect(TokenKind::RightBracket, "`,` or `]`")?;
        Ok(values)
    }

    fn no_length(&mut self, span: crate::error::Span, text: &str, what: &str) -> super::Failed {
        let whole = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let message = if whole {
            format!("{} does not fit 64 bits", quote(text))
        } else {
            format!("{} is no length", quote(text))
        };
        self.fail(Error::at(ErrorKind::Syntax, span, message, format!("expected {what}")))
    }
}
