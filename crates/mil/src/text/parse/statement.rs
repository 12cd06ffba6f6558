//! Statements: results, the op, its arguments and attributes.

use super::function::{FunctionReader, bind_value};
use super::names::UniqueNames;
use super::{Failed, Name, Parser, Result, quote};
use crate::error::{BindingSpans, Error, ErrorKind, OpSpans, Span};
use crate::program::{Argument, Named, Op, OpId};
use crate::text::CommentPlace;
use crate::text::lex::TokenKind;
use crate::types::Type;

impl<'s> Parser<'s> {
    /// `tensor<fp16, [1, 4]> y = add(x = a, y = b)[name = string("y")];`
    pub(super) fn statement(&mut self, reader: &mut FunctionReader<'s>) -> Result<OpId> {
        let results = self.results_to_bind()?;
        let name = self.ident("the name of an op")?;
        let mut spans = OpSpans { name: name.span, ..OpSpans::default() };
        let mut op = Op { name: name.text.to_string(), ..Op::default() };
        if self.kind() == TokenKind::Less {
            op.opset = Some(self.opset()?.0);
        }
        (op.arguments, spans.arguments) = self.arguments(name, reader)?;
        (op.attributes, spans.attributes) = self.attributes()?;
        // Before those in its blocks, so that ids count in the order of the text.
        let id = reader.function.add_op(op);
        reader.spans.ops.push(spans);
        if self.is_block_ahead() {
            self.take_comments(self.at - 1, CommentPlace::BeforeOp(reader.index, id));
            self.blocks(id, reader)?;
        }
        self.end_of_statement()?;
        // The results are bound last: the op cannot read them.
        let (mut ids, mut spans) = (Vec::with_capacity(results.len()), Vec::with_capacity(results.len()));
        for (ty, name, span) in results {
            ids.push(bind_value(ty, name, reader));
            spans.push(span);
        }
        reader.function.ops[id.0 as usize].results = ids;
        reader.spans.ops[id.0 as usize].results = spans;
        self.take_comments(self.at - 1, CommentPlace::BeforeOp(reader.index, id));
        self.take_comment_on_line(CommentPlace::AfterOp(reader.index, id));
        Ok(id)
    }

    /// Types and names before `=`; nothing if the statement begins with an op.
    fn results_to_bind(&mut self) -> Result<Vec<(Type, Name<'s>, BindingSpans)>> {
        if self.kind() != TokenKind::Ident {
            return Err(self.expected("a statement"));
        }
        if self.kind_ahead(1) == TokenKind::LeftParen || self.is_opset_ahead(1) {
            return Ok(Vec::new());
        }
        if matches!(self.kind_ahead(1), TokenKind::Equals | TokenKind::Comma) {
            return Err(self.result_without_type());
        }
        let mut results = Vec::with_capacity(1);
        loop {
            results.push(self.binding("the name of a result")?);
            if !self.eat(TokenKind::Comma) {
                break;
            }
        }
        self.expect(TokenKind::Equals, "`=`")?;
        Ok(results)
    }

    /// Whether `<word>(` is ahead: no type has this form.
    fn is_opset_ahead(&self, distance: usize) -> bool {
        self.kind_ahead(distance) == TokenKind::Less
            && self.kind_ahead(distance + 1) == TokenKind::Ident
            && self.kind_ahead(distance + 2) == TokenKind::Greater
            && self.kind_ahead(distance + 3) == TokenKind::LeftParen
    }

    fn result_without_type(&mut self) -> Failed {
        let token = self.token();
        let message = format!("the result {} has no type", quote(self.text(token)));
        let error = Error::at(ErrorKind::Syntax, token.span(), message, "expected a type before this name");
        self.fail(error.with_help("write the type of every result, as in `tensor<fp16, [1, 4]> y = …`"))
    }

    /// The arguments of `op`, in their parentheses.
    fn arguments(
        &mut self,
        op: Name<'s>,
        reader: &mut FunctionReader<'s>,
    ) -> Result<(Named<Argument>, Vec<Span>)> {
        self.expect(TokenKind::LeftParen, "`(` and the op's arguments")?;
        if self.eat(TokenKind::RightParen) {
            return Ok((Named::default(), Vec::new()));
        }
        let (mut items, mut spans, mut names) = (Vec::new(), Vec::new(), UniqueNames::default());
        let mut positional = Vec::new();
        let count = loop {
            let first = self.at;
            if self.kind() == TokenKind::Ident && self.kind_ahead(1) == TokenKind::Equals {
                let name = Name { text: self.text(self.token()), span: self.token().span() };
                self.at += 2;
                let argument = self.argument(reader)?;
                match names.insert(name.text, name.span) {
                    Some(earlier) => self.given_twice("argument", name.text, name.span, earlier),
                    None => {
                        items.push((name.text.to_string(), argument));
                        spans.push(self.span_of(first..self.at));
                    }
                }
            } else {
                self.positional_argument(reader)?;
                positional.push(self.span_of(first..self.at));
            }
            if !self.eat(TokenKind::Comma) {
                break items.len() + positional.len();
            }
        };
        self.expect(TokenKind::RightParen, "`,` or `)`")?;
        if !positional.is_empty() {
            self.report_positional(op, &positional, count);
        }
        Ok((Named::from_unique(items), spans))
    }

    /// An argument without `name =`: read as far as it is well formed, its own mistakes unreported.
    fn positional_argument(&mut self, reader: &mut FunctionReader<'s>) -> Result<()> {
        if self.kind() == TokenKind::Ident
            && matches!(self.kind_ahead(1), TokenKind::Comma | TokenKind::RightParen)
        {
            let name = self.ident("an argument")?;
            reader.scope.resolve(name);
            return Ok(());
        }
        if matches!(self.kind(), TokenKind::Ident | TokenKind::LeftParen) {
            return self.argument(reader).map(|_| ());
        }
        if self.is_untyped_value_ahead() {
            return self.skip_value();
        }
        Err(self.expected("an argument, as in `x = value`"))
    }

    fn report_positional(&mut self, op: Name<'s>, positional: &[Span], count: usize) {
        let first = positional[0];
        let message = "an argument without its name";
        let label = "expected `name = value`";
        let short = op.text.len() < 40 && positional.iter().all(|span| span.end - span.start < 40);
        let op = op.text;
        let help = match *positional {
            [x] if short && count == 1 => format!("name the argument: `{op}(x = {})`", self.text_of(x)),
            [x, y] if short && count == 2 => {
                format!("name the arguments: `{op}(x = {}, y = {})`", self.text_of(x), self.text_of(y))
            }
            _ => "name every argument, as in `x = value`".to_string(),
        };
        self.report(Error::at(ErrorKind::Syntax, first, message, label).with_help(help));
    }

    /// What follows `name =`: an operand, or any number of them in parentheses.
    fn argument(&mut self, reader: &mut FunctionReader<'s>) -> Result<Argument> {
        if self.kind() != TokenKind::LeftParen {
            return self.operand(reader);
        }
        self.bump();
        let mut items = Vec::new();
        // The shape of a scalar has no item.
        if self.eat(TokenKind::RightParen) {
            return Ok(Argument::Tuple(items));
        }
        loop {
            if self.kind() == TokenKind::LeftParen {
                let span = self.token().span();
                let message = "a tuple inside a tuple of arguments";
                return Err(self.fail(Error::at(
                    ErrorKind::Syntax,
                    span,
                    message,
                    "expected a name or a literal",
                )));
            }
            items.push(self.operand(reader)?);
            if !self.eat(TokenKind::Comma) {
                break;
            }
        }
        self.expect(TokenKind::RightParen, "`,` or `)`")?;
        Ok(Argument::Tuple(items))
    }

    /// A name or a literal.
    fn operand(&mut self, reader: &mut FunctionReader<'s>) -> Result<Argument> {
        if self.kind() == TokenKind::Ident {
            let is_name = !matches!(self.kind_ahead(1), TokenKind::LeftParen | TokenKind::Less);
            if !is_name {
                if self.is_nested_call_ahead() {
                    return Err(self.nested_call());
                }
                return self.literal().map(Argument::Literal);
            }
            let token = self.token();
            let name = Name { text: self.text(token), span: token.span() };
            if !self.is_untyped_value_ahead() || reader.scope.is_bound(name.text) {
                self.bump();
                return Ok(Argument::Value(reader.scope.resolve(name)));
            }
        }
        if self.is_untyped_value_ahead() {
            self.untyped_value("a name, or a literal with its type")?;
            return Ok(Argument::Value(super::names::NO_VALUE));
        }
        Err(self.expected("a name or a literal"))
    }

    /// The semicolon. Where it is only missing, the statement counts as read.
    fn end_of_statement(&mut self) -> Result<()> {
        if self.eat(TokenKind::Semicolon) {
            return Ok(());
        }
        let next_statement_follows = self.begins_line() && self.kind() == TokenKind::Ident;
        let function_ends = self.kind() == TokenKind::RightBrace && self.kind_ahead(1) == TokenKind::Arrow;
        if !next_statement_follows && !function_ends {
            return Err(self.expected("`;`"));
        }
        let _: Failed = self.expected_after("`;`");
        Ok(())
    }
}
