//! Text into tokens: one pass over the bytes, without allocation per token.

use crate::error::Span;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// `[A-Za-z_][A-Za-z0-9_@]*`; which words values must not be named by is for the verifier to say.
    Ident,
    /// Something that begins like a number, `-inf` included; only [`super::number`] knows whether it is one.
    Number,
    /// A string with both its quotes.
    String,
    /// A string without its closing quote, to the end of the line.
    UnterminatedString,
    LeftParen,
    RightParen,
    LeftBracket,
    RightBracket,
    LeftBrace,
    RightBrace,
    Less,
    Greater,
    Comma,
    Semicolon,
    Equals,
    Arrow,
    Question,
    /// A character that begins no token.
    Unknown,
    /// The end of the text; the last token, and only the last, is one.
    End,
}

/// A token, by its place in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub start: u32,
    pub end: u32,
}

impl Token {
    /// The token's bytes.
    pub(super) fn span(self) -> Span {
        Span { start: self.start, end: self.end }
    }
}

/// A comment, from its slashes to the end of the line.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommentToken {
    pub span: Span,
    /// Index of the token that follows.
    pub next: usize,
}

/// The tokens and comments of a text.
pub(super) struct Lexed {
    pub tokens: Vec<Token>,
    pub comments: Vec<CommentToken>,
}

/// Splits a text shorter than 4 GiB; a byte-order mark at its start is skipped.
pub(super) fn lex(source: &str) -> Lexed {
    let bytes = source.as_bytes();
    let mut lexed = Lexed { tokens: Vec::with_capacity(bytes.len() / 4 + 1), comments: Vec::new() };
    let mut at = if source.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    while let Some(&first) = bytes.get(at) {
        let start = at;
        let (kind, end) = match first {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = end_of_line(bytes, at);
                lexed.comments.push(CommentToken { span: Span::new(start, at), next: lexed.tokens.len() });
                continue;
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => (TokenKind::Ident, end_of_ident(bytes, at)),
            b'"' => string(bytes, at),
            b'0'..=b'9' => (TokenKind::Number, end_of_number(bytes, at)),
            b'-' => match bytes.get(at + 1) {
                Some(b'>') => (TokenKind::Arrow, at + 2),
                Some(next) if next.is_ascii_alphanumeric() || *next == b'.' => {
                    (TokenKind::Number, end_of_number(bytes, at + 1))
                }
                _ => (TokenKind::Unknown, at + 1),
            },
            b'.' if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                (TokenKind::Number, end_of_number(bytes, at))
            }
            b'(' => (TokenKind::LeftParen, at + 1),
            b')' => (TokenKind::RightParen, at + 1),
            b'[' => (TokenKind::LeftBracket, at + 1),
            b']' => (TokenKind::RightBracket, at + 1),
            b'{' => (TokenKind::LeftBrace, at + 1),
            b'}' => (TokenKind::RightBrace, at + 1),
            b'<' => (TokenKind::Less, at + 1),
            b'>' => (TokenKind::Greater, at + 1),
            b',' => (TokenKind::Comma, at + 1),
            b';' => (TokenKind::Semicolon, at + 1),
            b'=' => (TokenKind::Equals, at + 1),
            b'?' => (TokenKind::Question, at + 1),
            _ => (TokenKind::Unknown, at + source[at..].chars().next().map_or(1, char::len_utf8)),
        };
        lexed.tokens.push(Token { kind, start: start as u32, end: end as u32 });
        at = end;
    }
    // Where something is missing at the end, it is missing after the last token.
    let end = lexed.tokens.last().map_or(0, |token| token.end);
    lexed.tokens.push(Token { kind: TokenKind::End, start: end, end });
    lexed
}

fn end_of_ident(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let length =
        rest.iter().position(|&byte| !(byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'@'));
    at + length.unwrap_or(rest.len())
}

/// Takes letters, digits, points, and a sign where an exponent begins.
fn end_of_number(bytes: &[u8], start: usize) -> usize {
    let hexadecimal = bytes[start] == b'0' && matches!(bytes.get(start + 1), Some(b'x' | b'X'));
    let exponent = if hexadecimal { b'p' } else { b'e' };
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        let continues = byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_')
            || (matches!(byte, b'+' | b'-') && at > start && bytes[at - 1].to_ascii_lowercase() == exponent);
        if !continues {
            break;
        }
        at += 1;
    }
    at
}

/// A string ends at the first quote without a backslash before it, and must do so on its line.
fn string(bytes: &[u8], start: usize) -> (TokenKind, usize) {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return (TokenKind::String, at + 1),
            b'\n' => break,
            b'\\' if !matches!(bytes.get(at + 1), None | Some(b'\n')) => at += 2,
            _ => at += 1,
        }
    }
    // Stepping over a backslash and what it escapes can end inside a character.
    (TokenKind::UnterminatedString, end_of_line(bytes, start))
}

/// The end of a line without its line break, `\n` or `\r\n`.
fn end_of_line(bytes: &[u8], at: usize) -> usize {
    let end = bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |length| at + length);
    if end > at && bytes[end - 1] == b'\r' { end - 1 } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<(TokenKind, &str)> {
        let lexed = lex(source);
        lexed.tokens.iter().map(|t| (t.kind, &source[t.start as usize..t.end as usize])).collect()
    }

    #[test]
    fn numbers_take_their_signs_and_exponents() {
        use TokenKind::{Arrow, Comma, End, Number, Unknown};
        let source = "-1.5e-3,0x1.8p+1,-inf,->,-0x1p-149,.5,1e5,-";
        let expected = [
            (Number, "-1.5e-3"),
            (Comma, ","),
            (Number, "0x1.8p+1"),
            (Comma, ","),
            (Number, "-inf"),
            (Comma, ","),
            (Arrow, "->"),
            (Comma, ","),
            (Number, "-0x1p-149"),
            (Comma, ","),
            (Number, ".5"),
            (Comma, ","),
            (Number, "1e5"),
            (Comma, ","),
            (Unknown, "-"),
            (End, ""),
        ];
        assert_eq!(kinds(source), expected);
    }

    #[test]
    fn strings_end_on_their_line() {
        use TokenKind::{End, Ident, String, UnterminatedString};
        assert_eq!(kinds(r#""a\"b\\" c"#), [(String, r#""a\"b\\""#), (Ident, "c"), (End, "")]);
        assert_eq!(kinds("\"a);\r\nb"), [(UnterminatedString, "\"a);"), (Ident, "b"), (End, "")]);
        assert_eq!(kinds("\"a\\"), [(UnterminatedString, "\"a\\"), (End, "")]);
        assert_eq!(kinds("\"\\é"), [(UnterminatedString, "\"\\é"), (End, "")]);
    }

    #[test]
    fn comments_know_the_token_they_precede() {
        let lexed = lex("\u{feff}// one\r\na // two\n");
        let found: Vec<_> = lexed.comments.iter().map(|c| (c.span.start, c.span.end, c.next)).collect();
        assert_eq!(found, [(3, 9, 0), (13, 19, 1)]);
    }
}
