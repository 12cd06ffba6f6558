//! Nested blocks, as `cond` and `while_loop` have: parameters, statements, results.

use super::function::FunctionReader;
use super::{Parser, Result};
use crate::error::{BlockSpans, Error, ErrorKind};
use crate::program::{Block, MAX_BLOCK_DEPTH, OpId};
use crate::text::CommentPlace;
use crate::text::lex::TokenKind;

impl<'s> Parser<'s> {
    /// Whether a block is ahead of what stands behind a call; one without its parameters will be reported.
    pub(super) fn is_block_ahead(&self) -> bool {
        matches!(self.kind(), TokenKind::LeftParen | TokenKind::LeftBrace)
    }

    /// The blocks of an op, of which the first is ahead.
    pub(super) fn blocks(&mut self, id: OpId, reader: &mut FunctionReader<'s>) -> Result<()> {
        if reader.scope.depth() >= MAX_BLOCK_DEPTH {
            let message = format!("blocks nest deeper than {MAX_BLOCK_DEPTH} levels");
            let span = self.token().span();
            return Err(self.fail(Error::at(ErrorKind::Syntax, span, message, "one level too many")));
        }
        let mut index = 0;
        while self.is_block_ahead() {
            self.take_comments(self.at, CommentPlace::BeforeBlock(reader.index, id, index));
            reader.scope.enter_block();
            let read = self.block(id, index, reader);
            reader.scope.leave_block();
            let (block, spans) = read?;
            reader.function.ops[id.0 as usize].blocks.push(block);
            reader.spans.ops[id.0 as usize].blocks.push(spans);
            index += 1;
        }
        // What stands before the semicolon.
        let last = CommentPlace::BeforeBlockResults(reader.index, id, index - 1);
        self.take_comments(self.at, last);
        Ok(())
    }

    /// `(int32 i) { … } -> (next)`.
    fn block(
        &mut self,
        id: OpId,
        index: usize,
        reader: &mut FunctionReader<'s>,
    ) -> Result<(Block, BlockSpans)> {
        let (mut block, mut spans) = (Block::default(), BlockSpans::default());
        let first = self.at;
        if self.kind() == TokenKind::LeftBrace {
            let error = Error::at(
                ErrorKind::Syntax,
                self.token().span(),
                "a nested block without its parameters",
                "expected `(` and the block's parameters before this",
            );
            self.report(error.with_help("write `()` before `{` where the block takes none"));
        } else {
            (block.inputs, spans.inputs) = self.inputs("`(` and the block's parameters", reader)?;
        }
        spans.parameters = self.span_of(first..self.at);
        self.take_comments(self.at, CommentPlace::BeforeBlock(reader.index, id, index));
        self.expect(TokenKind::LeftBrace, "`{` and the block's statements")?;
        block.ops = self.statements("block", reader)?;
        self.bump();
        self.expect(TokenKind::Arrow, "`->` and the block's results")?;
        let first = self.at;
        self.expect(TokenKind::LeftParen, "`(` and the block's results")?;
        if !self.eat(TokenKind::RightParen) {
            (block.outputs, spans.outputs) = self.names_to_yield(reader)?;
        }
        spans.results = self.span_of(first..self.at);
        self.take_comments(self.at - 1, CommentPlace::BeforeBlockResults(reader.index, id, index));
        Ok((block, spans))
    }
}
