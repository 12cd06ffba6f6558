//! The same mistake in many places, reported once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use crate::error::Error;

/// Errors by what they are about. Of those about the same only the first counts; in the end it says how many
/// more there are.
pub struct Repeated<Key> {
    /// The position of the first error, and the number of further ones.
    found: HashMap<Key, (usize, usize)>,
}

impl<Key> Default for Repeated<Key> {
    fn default() -> Self {
        Repeated { found: HashMap::new() }
    }
}

impl<Key: Eq + Hash> Repeated<Key> {
    /// Whether there is an error about `key`; if so, counts one more.
    pub fn again(&mut self, key: &Key) -> bool {
        self.found.get_mut(key).map(|(_, more)| *more += 1).is_some()
    }

    /// Adds an error, unless there is one about `key`.
    pub fn report(&mut self, key: Key, error: Error, errors: &mut Vec<Error>) {
        match self.found.entry(key) {
            Entry::Occupied(mut found) => found.get_mut().1 += 1,
            Entry::Vacant(new) => {
                new.insert((errors.len(), 0));
                errors.push(error);
            }
        }
    }

    /// Whether nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Completes the errors, once all are found; `errors` must have kept its order.
    pub fn finish(&self, errors: &mut [Error]) {
        for &(first, more) in self.found.values() {
            if more > 0
                && let Some(error) = errors.get_mut(first)
            {
                let places = if more == 1 { "place" } else { "places" };
                error.label = format!("{}; likewise in {more} more {places}", error.label);
            }
        }
    }
}
