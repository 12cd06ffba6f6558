//! Comments of a program that a pass changed.

use std::collections::HashMap;

use super::{Comment, CommentPlace, Comments};
use crate::program::{Block, Function, IdMap, OpId, Program};

impl Comments {
    /// The comments of a program that a pass made of the one these comments are of. All of them are kept: those of an
    /// op that is gone stand before what follows it in its block.
    pub fn follow(&self, before: &Program, ids: &[IdMap]) -> Comments {
        let functions = before.functions.iter().zip(ids).enumerate();
        let moves: Vec<Moves<'_>> =
            functions.map(|(index, (function, ids))| Moves::new(index, function, ids)).collect();
        let comments = self.0.iter().map(|comment| {
            let place = match comment.place {
                CommentPlace::BeforeOp(function, ..)
                | CommentPlace::AfterOp(function, ..)
                | CommentPlace::BeforeBlock(function, ..)
                | CommentPlace::BeforeBlockResults(function, ..) => {
                    moves.get(function).map_or(comment.place, |moves| moves.place(comment.place))
                }
                other => other,
            };
            Comment { place, text: comment.text.clone() }
        });
        Comments(comments.collect())
    }
}

/// Where the comments of one function go.
struct Moves<'a> {
    function: &'a Function,
    ids: &'a IdMap,
    /// Where those of ops go that are gone.
    gone: HashMap<OpId, CommentPlace>,
}

impl<'a> Moves<'a> {
    fn new(index: usize, function: &'a Function, ids: &'a IdMap) -> Moves<'a> {
        let mut moves = Moves { function, ids, gone: HashMap::new() };
        moves.block(index, &function.body, CommentPlace::BeforeResults(index));
        moves
    }

    /// Finds where the comments of a block's ops go; `end` is the place behind its last op.
    fn block(&mut self, index: usize, block: &Block, end: CommentPlace) {
        let mut next = end;
        for &id in block.ops.iter().rev() {
            let nested = &self.function.op(id).blocks;
            match self.ids.op(id) {
                Some(new) => {
                    for (position, nested) in nested.iter().enumerate() {
                        self.block(index, nested, CommentPlace::BeforeBlockResults(index, new, position));
                    }
                    next = CommentPlace::BeforeOp(index, new);
                }
                None => {
                    self.gone.insert(id, next);
                    let inside = nested.iter().flat_map(|nested| self.function.walk_block(nested));
                    self.gone.extend(inside.map(|(id, _)| (id, next)));
                }
            }
        }
    }

    fn place(&self, old: CommentPlace) -> CommentPlace {
        use CommentPlace::{AfterOp, BeforeBlock, BeforeBlockResults, BeforeOp};
        let (BeforeOp(index, id)
        | AfterOp(index, id)
        | BeforeBlock(index, id, _)
        | BeforeBlockResults(index, id, _)) = old
        else {
            return old;
        };
        match (self.ids.op(id), old) {
            (None, _) => self.gone.get(&id).copied().unwrap_or(CommentPlace::BeforeResults(index)),
            (Some(new), AfterOp(..)) => AfterOp(index, new),
            (Some(new), BeforeBlock(_, _, position)) => BeforeBlock(index, new, position),
            (Some(new), BeforeBlockResults(_, _, position)) => BeforeBlockResults(index, new, position),
            (Some(new), _) => BeforeOp(index, new),
        }
    }
}
