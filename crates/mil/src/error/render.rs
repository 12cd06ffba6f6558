//! Errors as text for people, with the lines that they stand in.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Error, ErrorKind, Errors, Severity, Span, Spans};

impl Errors {
    /// The errors as text for people, in the order of the source: each with its line, a caret under the place,
    /// what was found there, and the likely fix. Below them stands how many more there are.
    ///
    /// `name` is the file's name, `source` its text; `spans` are those of the program read from it.
    pub fn render(&self, name: &str, source: &str, spans: &Spans) -> String {
        let lines = Lines::new(source);
        let one = |(span, error): &(Option<Span>, &Error)| {
            render_one(error, *span, &error.label_in(spans, &lines), name, &lines)
        };
        let mut rendered: Vec<String> = self.in_order(spans).iter().map(one).collect();
        rendered.extend(self.closing_line());
        rendered.join("\n\n")
    }
}

fn render_one(error: &Error, span: Option<Span>, label: &str, name: &str, lines: &Lines<'_>) -> String {
    let level = match error.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(error.message.as_str());
    let mut group = Group::with_title(match error.kind {
        ErrorKind::Numbered(_) => title.id(error.kind.code()),
        _ => title,
    });
    let excerpt = span.map(|span| Excerpt::around(lines, span));
    if let Some(excerpt) = &excerpt {
        let annotation = AnnotationKind::Primary.span(excerpt.span.clone()).label(label);
        let snippet = Snippet::source(excerpt.text).line_start(excerpt.line).path(name);
        group = group.element(snippet.annotation(annotation));
    }
    if let Some(help) = &error.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let rendered = Renderer::plain().render(&[group]);
    // The renderer counts columns from where the text begins that it is given.
    match excerpt {
        Some(excerpt) if excerpt.is_cut => {
            let at = |column| format!("--> {name}:{}:{column}\n", excerpt.line);
            rendered.replacen(&at(excerpt.column_in_text()), &at(excerpt.column), 1)
        }
        _ => rendered,
    }
}

/// A text and where its lines begin.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    text: &'a str,
    /// The first byte of every line but the first.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Finds the lines of a text.
    pub fn new(text: &'a str) -> Lines<'a> {
        Lines { text, starts: text.match_indices('\n').map(|(at, _)| at + 1).collect() }
    }

    /// The line and the column, in characters, of a byte of the text; both count from 1. What lies outside
    /// the text counts as its end, and a byte-order mark is no column.
    ///
    /// ```
    /// let lines = anemone_mil::error::Lines::new("é = 1\nzwei");
    /// assert_eq!(lines.line_and_column(2), (1, 2));
    /// assert_eq!(lines.line_and_column(7), (2, 1));
    /// ```
    pub fn line_and_column(&self, position: usize) -> (usize, usize) {
        let position = floor(self.text, position);
        let number = self.starts.partition_point(|&start| start <= position);
        (number + 1, self.text[self.start(number).min(position)..position].chars().count() + 1)
    }

    /// The first byte of a line, counted from 0, behind a byte-order mark.
    fn start(&self, number: usize) -> usize {
        match number.checked_sub(1) {
            Some(index) => self.starts[index],
            None if self.text.starts_with('\u{feff}') => '\u{feff}'.len_utf8(),
            None => 0,
        }
    }
}

/// The last boundary between characters at or before a position.
fn floor(text: &str, position: usize) -> usize {
    let mut position = position.min(text.len());
    while !text.is_char_boundary(position) {
        position -= 1;
    }
    position
}

/// The lines that a span touches, or a part of them: the renderer takes time for every byte that it is given.
struct Excerpt<'a> {
    text: &'a str,
    /// Number of the first line, from 1.
    line: usize,
    /// Number of the span's first character in its line, from 1.
    column: usize,
    /// The span within the text.
    span: Range<usize>,
    /// Whether the first line lacks its beginning.
    is_cut: bool,
}

impl<'a> Excerpt<'a> {
    /// The most bytes of the span, and before and behind it, that are shown; wider than the renderer's output, so
    /// that it marks what is left out.
    const LONGEST: usize = 1000;

    fn around(lines: &Lines<'a>, span: Span) -> Excerpt<'a> {
        let source = lines.text;
        let start = floor(source, span.start as usize);
        let end = floor(source, span.end as usize).max(start);
        let end = floor(source, end.min(start + Self::LONGEST));
        let (line, column) = lines.line_and_column(start);
        let line_start = lines.start(line - 1);
        let from = line_start.max(floor(source, start.saturating_sub(Self::LONGEST)));
        let limit = floor(source, end + Self::LONGEST);
        let to = source[end..limit].find('\n').map_or(limit, |length| end + length);
        let to = if to > end && source[..to].ends_with('\r') { to - 1 } else { to };
        let (from, to) = (from.min(to), to);
        Excerpt {
            text: &source[from..to],
            line,
            column,
            span: start.saturating_sub(from)..end.saturating_sub(from),
            is_cut: from > line_start,
        }
    }

    /// Number of the span's first character in the text, which begins on the span's first line.
    fn column_in_text(&self) -> usize {
        self.text[..self.span.start].chars().count() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::MAX_ERRORS;

    fn rendered(source: &str, start: usize, end: usize) -> String {
        let error = Error::at(ErrorKind::Syntax, Span::new(start, end), "wrong", "here");
        Errors::from(error).render("a.mil", source, &Spans::default())
    }

    #[test]
    fn columns_count_characters_behind_a_byte_order_mark() {
        let expected = "error: wrong\n --> a.mil:1:3\n  |\n1 | é x\n  |   ^ here";
        assert_eq!(rendered("\u{feff}é x\r\nmore\r\n", 6, 7), expected);
        assert_eq!(rendered("é x", 3, 4), expected);
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let source = format!("first\n{} x {}\n", "a".repeat(5000), "b".repeat(5000));
        let text = rendered(&source, 5007, 5008);
        assert!(text.contains("--> a.mil:2:5002\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() < 160), "{text}");
        let (shown, caret) = (text.lines().nth(3).unwrap(), text.lines().nth(4).unwrap());
        assert_eq!(shown.find(" x ").map(|at| at + 1), caret.find('^'), "{text}");
    }

    #[test]
    fn places_outside_the_text_are_shown_at_its_end() {
        assert!(rendered("ab\ncd", 100, 200).contains("--> a.mil:2:3\n"));
        assert!(rendered("", 0, 0).contains("--> a.mil:1:1\n"));
        assert!(rendered("é", 1, 1).contains("--> a.mil:1:1\n"));
    }

    #[test]
    fn warnings_look_like_errors() {
        let mut warnings = Errors::default();
        let warning = || Error::at(ErrorKind::Overflow, Span::new(0, 1), "too large", "here").as_warning();
        (0..MAX_ERRORS + 2).for_each(|_| warnings.push(warning()));
        let mut more = Errors::default();
        more.extend(&warnings);
        more.extend(&Errors::from(warning()));
        let text = more.render("a.mil", "x", &Spans::default());
        assert!(text.starts_with("warning: too large\n --> a.mil:1:1\n"), "{text}");
        assert_eq!(text.matches("warning: too large").count(), MAX_ERRORS);
        assert!(text.ends_with("\n\n… and 3 more warnings"), "{text}");
    }
}
