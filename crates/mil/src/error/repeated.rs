//! The same finding in many places, reported once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use super::{Error, ErrorKind, Errors};

/// Errors by what they are about. Of those about the same only the first counts; in the end it says how many
/// more there are.
pub(crate) struct Repeated<Key> {
    /// The position of the first error, unless it is not listed, and the number of further ones.
    found: HashMap<Key, (Option<usize>, usize)>,
}

impl<Key> Default for Repeated<Key> {
    fn default() -> Self {
        Repeated { found: HashMap::new() }
    }
}

impl<Key: Eq + Hash> Repeated<Key> {
    /// Whether there is an error about `key`; if so, counts one more.
    pub(crate) fn again(&mut self, key: &Key) -> bool {
        self.found.get_mut(key).map(|(_, more)| *more += 1).is_some()
    }

    /// Adds an error of a kind, unless there is one about `key`; `error` words it if it is to be listed.
    pub(crate) fn report(
        &mut self,
        key: Key,
        kind: ErrorKind,
        errors: &mut Errors,
        error: impl FnOnce(ErrorKind) -> Error,
    ) {
        match self.found.entry(key) {
            Entry::Occupied(mut found) => found.get_mut().1 += 1,
            Entry::Vacant(new) if errors.is_full() => {
                new.insert((None, 0));
                errors.count(kind);
            }
            Entry::Vacant(new) => {
                new.insert((Some(errors.listed().len()), 0));
                errors.push(error(kind));
            }
        }
    }

    /// Whether nothing was reported.
    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Completes the errors, once all are found; `errors` must have kept its order.
    pub(crate) fn finish(&self, errors: &mut Errors) {
        for &(first, more) in self.found.values() {
            if more > 0
                && let Some(error) = first.and_then(|first| errors.listed_mut().get_mut(first))
            {
                let places = if more == 1 { "place" } else { "places" };
                error.label = format!("{}; likewise in {more} more {places}", error.label);
            }
        }
    }
}
