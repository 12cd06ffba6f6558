//! Functions, and where to go on after something in one that could not be read.

use super::names::Scope;
use super::{Failed, Name, Parser, Result, quote};
use crate::error::{BindingSpans, Error, ErrorKind, FunctionSpans, Span};
use crate::program::{Function, OpId, ValueId};
use crate::text::CommentPlace;
use crate::text::lex::{Token, TokenKind};
use crate::types::{Opset, Type};

/// A function being read.
pub(super) struct FunctionReader<'s> {
    /// Its position in the program.
    pub index: usize,
    pub function: Function,
    pub spans: FunctionSpans,
    pub scope: Scope<'s>,
}

impl<'s> Parser<'s> {
    /// A function, of which `func` is ahead.
    pub(super) fn function(&mut self, index: usize) -> Result<(Function, FunctionSpans)> {
        self.bump();
        let enough_before = self.has_enough_errors();
        let name = self.ident("the function's name")?;
        let (opset, opset_span) = self.opset()?;
        let mut reader = FunctionReader {
            index,
            function: Function::new(name.text, opset),
            spans: FunctionSpans { name: name.span, opset: opset_span, ..FunctionSpans::default() },
            scope: Scope::default(),
        };
        (reader.function.body.inputs, reader.spans.inputs) =
            self.inputs("`(` and the function's inputs", &mut reader)?;
        (reader.function.attributes, reader.spans.attributes) = self.attributes()?;
        self.take_comments(self.at, CommentPlace::BeforeFunction(index));
        self.expect(TokenKind::LeftBrace, "`{`")?;
        let ended = self.body(&mut reader).and_then(|()| self.results(&mut reader));
        self.report_unresolved(&reader.scope, enough_before);
        ended?;
        Ok((reader.function, reader.spans))
    }

    /// `<ios18>`.
    pub(super) fn opset(&mut self) -> Result<(Opset, Span)> {
        self.expect(TokenKind::Less, "an opset, as in `<ios18>`")?;
        let name = self.ident("an opset, such as `ios18`")?;
        let opset = Opset::from_name(name.text).unwrap_or_else(|| {
            let message = format!("{} is no opset", quote(name.text));
            let label = "expected `ios` and a number, such as `ios18`";
            self.report(Error::at(ErrorKind::Syntax, name.span, message, label));
            Opset::IOS15
        });
        self.expect(TokenKind::Greater, "`>`")?;
        Ok((opset, name.span))
    }

    /// `(tensor<fp16, [1, 4]> x, tensor<fp16, [1, 4]> y)`: the inputs of a function, or of a block.
    pub(super) fn inputs(
        &mut self,
        what: &str,
        reader: &mut FunctionReader<'s>,
    ) -> Result<(Vec<ValueId>, Vec<BindingSpans>)> {
        let (mut ids, mut spans) = (Vec::new(), Vec::new());
        self.expect(TokenKind::LeftParen, what)?;
        if self.eat(TokenKind::RightParen) {
            return Ok((ids, spans));
        }
        loop {
            let first = self.at;
            if let Ok((id, span)) = self.input(reader) {
                ids.push(id);
                spans.push(span);
            } else {
                self.skip_input(first)?;
                self.lose_names(first, reader);
            }
            if !self.eat(TokenKind::Comma) {
                break;
            }
        }
        self.expect(TokenKind::RightParen, "`,` or `)`")?;
        Ok((ids, spans))
    }

    fn input(&mut self, reader: &mut FunctionReader<'s>) -> Result<(ValueId, BindingSpans)> {
        let (ty, name, spans) = self.binding("the input's name")?;
        Ok((bind_value(ty, name, reader), spans))
    }

    /// `tensor<fp16, [1, 4]> x`; `what` the name is called in messages.
    pub(super) fn binding(&mut self, what: &str) -> Result<(Type, Name<'s>, BindingSpans)> {
        let first = self.at;
        let ty = self.ty()?;
        let name = self.ident(what)?;
        Ok((ty, name, BindingSpans { whole: self.span_of(first..self.at), name: name.span }))
    }

    fn body(&mut self, reader: &mut FunctionReader<'s>) -> Result<()> {
        reader.function.body.ops = self.statements("function", reader)?;
        Ok(())
    }

    /// Statements up to the brace that ends them, which is left; `what` they make up.
    pub(super) fn statements(&mut self, what: &str, reader: &mut FunctionReader<'s>) -> Result<Vec<OpId>> {
        let mut ops = Vec::new();
        loop {
            match self.kind() {
                TokenKind::RightBrace => return Ok(ops),
                TokenKind::End => {
                    return Err(self.expected_once(&format!("a statement, or `}}` to end the {what}")));
                }
                TokenKind::Ident if self.is_function_ahead() => {
                    return Err(self.expected_once("`} -> (…);` to end the function before"));
                }
                _ => {}
            }
            let first = self.at;
            match self.statement(reader) {
                Ok(id) => ops.push(id),
                Err(Failed) => {
                    self.skip_statement(first);
                    self.lose_names(first, reader);
                }
            }
        }
    }

    /// As [`Parser::expected`], unless the error before is about the same place: the end that is missing of a block
    /// is missing of those around it, too.
    fn expected_once(&mut self, what: &str) -> Failed {
        let start = self.token().start;
        if self.errors.last().is_some_and(|error| super::start_of(error) == start) {
            return Failed;
        }
        self.expected(what)
    }

    /// `} -> (y);`.
    fn results(&mut self, reader: &mut FunctionReader<'s>) -> Result<()> {
        let brace = self.bump();
        if self.kind() != TokenKind::Arrow {
            return Err(self.no_results(brace, reader));
        }
        self.bump();
        self.expect(TokenKind::LeftParen, "`(` and the function's results")?;
        if self.kind() == TokenKind::RightParen {
            return Err(self.no_results(brace, reader));
        }
        (reader.function.body.outputs, reader.spans.outputs) = self.names_to_yield(reader)?;
        if !self.eat(TokenKind::Semicolon) {
            // Reading can go on, so that this is no failure of the function.
            let _: Failed = self.expected_after("`;`");
        }
        self.take_comments(self.at - 1, CommentPlace::BeforeResults(reader.index));
        Ok(())
    }

    /// `y, z)`: the values that a function or a block yields, and the parenthesis behind them.
    pub(super) fn names_to_yield(
        &mut self,
        reader: &mut FunctionReader<'s>,
    ) -> Result<(Vec<ValueId>, Vec<Span>)> {
        let (mut ids, mut spans) = (Vec::new(), Vec::new());
        loop {
            let name = self.ident("the name of a result")?;
            ids.push(reader.scope.resolve(name));
            spans.push(name.span);
            if !self.eat(TokenKind::Comma) {
                break;
            }
        }
        self.expect(TokenKind::RightParen, "`,` or `)`")?;
        Ok((ids, spans))
    }

    fn no_results(&mut self, brace: Token, reader: &FunctionReader<'s>) -> Failed {
        let message = format!("the function {} has no results", quote(&reader.function.name));
        let label = "expected `-> (…);` after this";
        let help = match reader.function.values.last() {
            Some(value) if value.name.len() < 40 => format!("name the results: `}} -> ({});`", value.name),
            _ => "name the results, as in `} -> (y);`".to_string(),
        };
        self.fail(Error::at(ErrorKind::Syntax, brace.span(), message, label).with_help(help))
    }
}

/// Recovery.
impl<'s> Parser<'s> {
    fn is_function_ahead(&self) -> bool {
        self.is_word("func")
            && self.kind_ahead(1) == TokenKind::Ident
            && self.kind_ahead(2) == TokenKind::Less
            && self.kind_ahead(4) == TokenKind::Greater
            && self.kind_ahead(5) == TokenKind::LeftParen
    }

    /// Goes to the comma or parenthesis that ends the input whose first token is `first`.
    fn skip_input(&mut self, first: usize) -> Result<()> {
        self.at = first;
        let mut depth = 0usize;
        loop {
            match self.kind() {
                TokenKind::Comma | TokenKind::RightParen if depth == 0 => return Ok(()),
                TokenKind::Less | TokenKind::LeftBracket => depth += 1,
                TokenKind::Greater | TokenKind::RightBracket => depth = depth.saturating_sub(1),
                TokenKind::End | TokenKind::Semicolon | TokenKind::LeftBrace | TokenKind::RightParen => {
                    return Err(Failed);
                }
                _ => {}
            }
            self.bump();
        }
    }

    /// Goes behind the statement whose first token is `first`: behind its semicolon and the blocks before that,
    /// or to what cannot be part of it.
    fn skip_statement(&mut self, first: usize) {
        // The blocks that are open.
        let mut depth = 0usize;
        loop {
            match self.kind() {
                TokenKind::End => return,
                TokenKind::Ident if self.is_function_ahead() => return,
                TokenKind::LeftBrace if self.at > first && self.ends_something(self.at - 1) => depth += 1,
                TokenKind::RightBrace if self.kind_ahead(1) == TokenKind::Arrow => match depth.checked_sub(1)
                {
                    Some(less) => depth = less,
                    None => return,
                },
                TokenKind::Semicolon | TokenKind::UnterminatedString if depth == 0 => {
                    self.bump();
                    return;
                }
                TokenKind::Ident
                    if depth == 0 && self.at > first && self.begins_line() && self.is_binding_ahead() =>
                {
                    return;
                }
                _ => {}
            }
            self.bump();
        }
    }

    /// Whether something ends with this token, so that a brace behind it opens a block, not a dictionary.
    fn ends_something(&self, token: usize) -> bool {
        !matches!(
            self.tokens[token].kind,
            TokenKind::LeftParen | TokenKind::LeftBracket | TokenKind::LeftBrace | TokenKind::Comma
        )
    }

    /// Whether `type name =` or `type name,` is ahead.
    fn is_binding_ahead(&self) -> bool {
        /// Enough for any type that people write.
        const LONGEST: usize = 100;
        let mut depth = 0usize;
        let mut distance = 1;
        while distance < LONGEST {
            match self.kind_ahead(distance) {
                TokenKind::Less | TokenKind::LeftBracket => depth += 1,
                TokenKind::Greater | TokenKind::RightBracket => depth = depth.saturating_sub(1),
                TokenKind::Ident if depth == 0 => {
                    return matches!(self.kind_ahead(distance + 1), TokenKind::Equals | TokenKind::Comma);
                }
                TokenKind::Ident
                | TokenKind::Number
                | TokenKind::Comma
                | TokenKind::Question
                | TokenKind::Equals
                    if depth > 0 => {}
                _ => return false,
            }
            distance += 1;
        }
        false
    }

    /// Goes to the next function, or to the brace that ends the program.
    pub(super) fn skip_function(&mut self) {
        loop {
            match self.kind() {
                TokenKind::End => return,
                TokenKind::Ident if self.is_function_ahead() => return,
                TokenKind::RightBrace if self.kind_ahead(1) == TokenKind::End => return,
                _ => {
                    self.bump();
                }
            }
        }
    }

    /// Takes note of the names that the skipped tokens from `first` on seem to bind, so that their uses are not
    /// reported too.
    fn lose_names(&mut self, first: usize, reader: &mut FunctionReader<'s>) {
        let mut inside_call = false;
        for index in first..self.at {
            let token = self.tokens[index];
            inside_call |= token.kind == TokenKind::LeftParen;
            if token.kind != TokenKind::Ident || index + 1 >= self.tokens.len() {
                continue;
            }
            let after_type =
                index > first && matches!(self.tokens[index - 1].kind, TokenKind::Ident | TokenKind::Greater);
            let before_end = matches!(
                self.tokens[index + 1].kind,
                TokenKind::Equals | TokenKind::Comma | TokenKind::RightParen
            );
            if before_end && (after_type || !inside_call) {
                reader.scope.lose(self.text(token));
            }
        }
    }
}

/// Binds a name to a new value of type `ty`.
pub(super) fn bind_value<'s>(ty: Type, name: Name<'s>, reader: &mut FunctionReader<'s>) -> ValueId {
    let id = reader.function.add_value(name.text, ty);
    reader.scope.bind(name, id);
    id
}
