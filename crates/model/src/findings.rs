//! What is found in a program, each with its place.

use anemone_mil::error::{Errors, Lines, Spans};
use serde::Serialize;

/// One finding. Its place is the line and column of its first character, from 1, where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The line.
    pub line: Option<usize>,
    /// The column.
    pub column: Option<usize>,
    /// `error` or `warning`.
    pub severity: String,
    /// Its kind: a word, or the number of one of the engine's rules, such as `R17`.
    pub code: String,
    /// What it is.
    pub message: String,
    /// What is at the place, in a few words.
    pub label: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// What was found in a program with this text, in the order of the text. Of many only the first are listed:
/// [`Errors::unlisted`] says how many more there are.
pub fn findings(errors: &Errors, text: &str, spans: &Spans) -> Vec<Finding> {
    let lines = Lines::new(text);
    let one = |(span, error): (Option<anemone_mil::error::Span>, &anemone_mil::error::Error)| {
        let place = span.map(|span| lines.line_and_column(span.start as usize));
        Finding {
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            severity: error.severity.to_string(),
            code: error.kind.code(),
            message: error.message.clone(),
            label: error.label_in(spans, &lines),
            help: error.help.clone(),
        }
    };
    errors.in_order(spans).into_iter().map(one).collect()
}
