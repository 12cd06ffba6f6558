//! The names of a function: bound, used, or lost to a statement that could not be read.

use std::collections::{HashMap, HashSet};

use super::{Name, Parser, quote};
use crate::error::{Error, ErrorKind, MAX_ERRORS, Span};
use crate::program::ValueId;
use crate::suggest::nearest;

/// Stands in for a value that was not found; no program that holds it is returned.
pub(super) const NO_VALUE: ValueId = ValueId(u32::MAX);

/// Names that must differ, and where each stands.
#[derive(Default)]
pub(super) struct UniqueNames<'s> {
    /// The first ones, in place; a linear search among few names is faster than hashing.
    few: [(&'s str, Span); 8],
    count: usize,
    many: HashMap<&'s str, Span>,
}

impl<'s> UniqueNames<'s> {
    /// Adds a name; if it is there already, leaves it and returns where it stands.
    pub(super) fn insert(&mut self, name: &'s str, span: Span) -> Option<Span> {
        let known = &self.few[..self.count];
        if let Some((_, first)) = known.iter().find(|(other, _)| *other == name) {
            return Some(*first);
        }
        if let Some(free) = self.few.get_mut(self.count) {
            *free = (name, span);
            self.count += 1;
            return None;
        }
        if let Some(first) = self.many.get(name) {
            return Some(*first);
        }
        self.many.insert(name, span);
        None
    }
}

/// The values that a function's statements can name, here and in the blocks that are open.
#[derive(Default)]
pub(super) struct Scope<'s> {
    bound: HashMap<&'s str, Binding>,
    /// What the bindings of the open blocks stand in the place of, in their order.
    replaced: Vec<(&'s str, Option<Binding>)>,
    /// For every open block, the lengths of `replaced` and `unresolved` at its beginning.
    open: Vec<(usize, usize)>,
    /// The names that blocks bound which are closed, and where.
    inner: HashMap<&'s str, Span>,
    /// Uses of names that were not bound at the time, and where the same block binds them later.
    unresolved: Vec<(Name<'s>, Option<Span>)>,
    /// Names that statements bind which could not be read.
    lost: HashSet<&'s str>,
}

/// A value, and where its name stands.
type Binding = (ValueId, Span);

impl<'s> Scope<'s> {
    /// Binds a name, whether it is bound already or not: from here on it means this value. That no name is bound
    /// twice is for the verifier to say.
    pub(super) fn bind(&mut self, name: Name<'s>, id: ValueId) {
        let before = self.bound.insert(name.text, (id, name.span));
        if !self.open.is_empty() {
            self.replaced.push((name.text, before));
        }
    }

    /// The value of a name, or, until [`Parser::report_unresolved`] speaks, a stand-in.
    pub(super) fn resolve(&mut self, name: Name<'s>) -> ValueId {
        match self.bound.get(name.text) {
            Some((id, _)) => *id,
            None => {
                self.unresolved.push((name, None));
                NO_VALUE
            }
        }
    }

    pub(super) fn is_bound(&self, name: &str) -> bool {
        self.bound.contains_key(name)
    }

    /// Begins a block: what is bound from here on is forgotten at its end.
    pub(super) fn enter_block(&mut self) {
        self.open.push((self.replaced.len(), self.unresolved.len()));
    }

    /// Ends the block that was begun last.
    pub(super) fn leave_block(&mut self) {
        let Some((replaced, unresolved)) = self.open.pop() else { return };
        for (name, later) in &mut self.unresolved[unresolved..] {
            *later = later.or_else(|| self.bound.get(name.text).map(|(_, span)| *span));
        }
        for (name, before) in self.replaced.drain(replaced..).rev() {
            let inner = match before {
                Some(before) => self.bound.insert(name, before),
                None => self.bound.remove(name),
            };
            if let Some((_, span)) = inner {
                self.inner.entry(name).or_insert(span);
            }
        }
    }

    /// The number of blocks that are open.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Says that a name would be bound, had its statement been readable.
    pub(super) fn lose(&mut self, name: &'s str) {
        self.lost.insert(name);
    }
}

impl<'s> Parser<'s> {
    /// Reports the names that a function uses without binding them before: each once, at its first use. They
    /// are only counted where there were enough errors before the function.
    pub(super) fn report_unresolved(&mut self, scope: &Scope<'s>, enough_before: bool) {
        let mut room = if enough_before { 0 } else { MAX_ERRORS };
        let mut reported = HashSet::new();
        for &(name, later) in &scope.unresolved {
            if scope.lost.contains(name.text) || !reported.insert(name.text) {
                continue;
            }
            let later = later.or_else(|| scope.bound.get(name.text).map(|(_, span)| *span));
            // Not `report`: these may come before errors already found, and the first ones count.
            if room > 0 {
                room -= 1;
                self.errors.push(match (later, scope.inner.get(name.text)) {
                    (Some(bound), _) => self.use_before_definition(name, bound),
                    (None, Some(bound)) => self.use_outside_block(name, *bound),
                    (None, None) => undefined_name(name, scope),
                });
            } else {
                self.unlisted.push(match later {
                    Some(_) => ErrorKind::UseBeforeDefinition,
                    None => ErrorKind::UndefinedName,
                });
            }
        }
    }

    fn use_before_definition(&self, name: Name<'s>, bound: Span) -> Error {
        let message = format!("{} is used before it is bound", quote(name.text));
        let label = format!("bound on line {}", self.line(bound.start));
        Error::at(ErrorKind::UseBeforeDefinition, name.span, message, label)
    }

    fn use_outside_block(&self, name: Name<'s>, bound: Span) -> Error {
        let message = format!("{} is a name of a nested block, and not seen here", quote(name.text));
        let label = format!("bound on line {}, inside the block", self.line(bound.start));
        let error = Error::at(ErrorKind::UndefinedName, name.span, message, label);
        error.with_help(
            "only the results of its op leave a block: name it in `} -> (…)`, and use what the op binds",
        )
    }
}

fn undefined_name(name: Name<'_>, scope: &Scope<'_>) -> Error {
    let message = format!("nothing is named {}", quote(name.text));
    let label = "neither an input of the function nor bound by a statement";
    let error = Error::at(ErrorKind::UndefinedName, name.span, message, label);
    match nearest(name.text, scope.bound.keys().copied()) {
        Some(known) => error.with_help(format!("did you mean `{known}`?")),
        None => error,
    }
}
