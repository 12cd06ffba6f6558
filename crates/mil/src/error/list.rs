//! The errors of one program: the first few of them, and how many there are.

use std::collections::BTreeMap;
use std::fmt;

use super::{Error, ErrorKind, Severity, Span, Spans};

/// The most errors that are kept and shown: more help nobody.
pub const MAX_ERRORS: usize = 20;

/// The mistakes in a program, or the warnings about one: the first [`MAX_ERRORS`] of them, and the number of all.
///
/// The mistakes that reading or verifying fails with are never none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Errors {
    listed: Vec<Error>,
    /// How many there are of each kind, listed or not.
    counts: BTreeMap<ErrorKind, usize>,
}

impl From<Error> for Errors {
    fn from(error: Error) -> Errors {
        let mut errors = Errors::default();
        errors.push(error);
        errors
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.listed.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        match self.closing_line() {
            Some(line) => write!(f, "\n{line}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Errors {}

impl Errors {
    /// Adds an error. One beyond the most that are kept is only counted.
    pub fn push(&mut self, error: Error) {
        self.count(error.kind);
        if !self.is_full() {
            self.listed.push(error);
        }
    }

    /// Adds those of another list.
    pub fn extend(&mut self, others: &Errors) {
        let room = MAX_ERRORS.saturating_sub(self.listed.len());
        self.listed.extend(others.listed.iter().take(room).cloned());
        for (&kind, number) in &others.counts {
            *self.counts.entry(kind).or_default() += number;
        }
    }

    /// All but those of this kind.
    #[must_use]
    pub fn without(&self, kind: ErrorKind) -> Errors {
        let mut others = self.clone();
        others.listed.retain(|error| error.kind != kind);
        others.counts.remove(&kind);
        others
    }

    /// Counts an error that is not listed.
    pub(crate) fn count(&mut self, kind: ErrorKind) {
        *self.counts.entry(kind).or_default() += 1;
    }

    /// Whether further errors are only counted, so that wording them is wasted.
    pub(crate) fn is_full(&self) -> bool {
        self.listed.len() >= MAX_ERRORS
    }

    /// The first errors, in the order in which they were found.
    pub fn listed(&self) -> &[Error] {
        &self.listed
    }

    pub(crate) fn listed_mut(&mut self) -> &mut [Error] {
        &mut self.listed
    }

    /// The number of all errors.
    pub fn len(&self) -> usize {
        self.counts.values().sum()
    }

    /// Whether there is no error.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The number of errors that are not listed.
    pub fn unlisted(&self) -> usize {
        self.len() - self.listed.len()
    }

    /// Whether all errors, listed or not, are of this kind.
    pub fn all_are(&self, kind: ErrorKind) -> bool {
        self.counts.keys().all(|&found| found == kind)
    }

    /// The listed errors in the order of the text, with their places in it; those without a place, which are
    /// about the whole, come first. `spans` are those of the program read from the text.
    pub fn in_order(&self, spans: &Spans) -> Vec<(Option<Span>, &Error)> {
        let mut placed: Vec<_> = self.listed.iter().map(|error| (error.span(spans), error)).collect();
        placed.sort_by_key(|(span, _)| span.map(|span| (span.start, span.end)));
        placed
    }

    /// How grave the findings are: as the first, for a list is of one sort.
    fn severity(&self) -> Severity {
        self.listed.first().map_or(Severity::Error, |first| first.severity)
    }

    /// What stands below the listed errors where there are more.
    pub(super) fn closing_line(&self) -> Option<String> {
        match self.unlisted() {
            0 => None,
            1 => Some(format!("… and 1 more {}", self.severity())),
            more => Some(format!("… and {more} more {}s", self.severity())),
        }
    }
}
