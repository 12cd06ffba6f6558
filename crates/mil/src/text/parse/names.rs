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
    pub fn insert(&mut self, name: &'s str, span: Span) -> Option<Span> {
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

/// The values that a function's statements can name.
#[derive(Default)]
pub(super) struct Scope<'s> {
    bound: HashMap<&'s str, (ValueId, Span)>,
    /// Uses of names that were not bound at the time.
    unresolved: Vec<Name<'s>>,
    /// Names that statements bind which could not be read.
    lost: HashSet<&'s str>,
}

impl<'s> Scope<'s> {
    /// Binds a name; if it is bound already, leaves it and returns where.
    pub fn bind(&mut self, name: Name<'s>, id: ValueId) -> Option<Span> {
        if let Some((_, first)) = self.bound.get(name.text) {
            return Some(*first);
        }
        self.bound.insert(name.text, (id, name.span));
        None
    }

    /// The value of a name, or, until [`Parser::report_unresolved`] speaks, a stand-in.
    pub fn resolve(&mut self, name: Name<'s>) -> ValueId {
        match self.bound.get(name.text) {
            Some((id, _)) => *id,
            None => {
                self.unresolved.push(name);
                NO_VALUE
            }
        }
    }

    pub fn is_bound(&self, name: &str) -> bool {
        self.bound.contains_key(name)
    }

    /// Says that a name would be bound, had its statement been readable.
    pub fn lose(&mut self, name: &'s str) {
        self.lost.insert(name);
    }
}

impl<'s> Parser<'s> {
    /// Reports the names that a function uses without binding them before: each once, at its first use. They
    /// are only counted where there were enough errors before the function.
    pub(super) fn report_unresolved(&mut self, scope: &Scope<'s>, enough_before: bool) {
        let mut room = if enough_before { 0 } else { MAX_ERRORS };
        let mut reported = HashSet::new();
        for name in &scope.unresolved {
            if scope.lost.contains(name.text) || !reported.insert(name.text) {
                continue;
            }
            // Not `report`: these may come before errors already found, and the first ones count.
            let bound = scope.bound.get(name.text);
            if room > 0 {
                room -= 1;
                self.errors.push(match bound {
                    Some((_, bound)) => self.use_before_definition(*name, *bound),
                    None => undefined_name(*name, scope),
                });
            } else {
                self.unlisted.push(match bound {
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
