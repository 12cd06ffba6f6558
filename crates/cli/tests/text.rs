//! Runs `tests/text`: programs are read, printed and read again; mistakes are reported as expected.
//!
//! Beside `<case>.mil` stands `<case>.out`, the program as printed, or `<case>.err`, the errors as rendered.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;

use anemone_mil::error::Spans;
use anemone_mil::text;

#[test]
fn text() {
    common::run_cases(&common::data_dir("text"), "mil", 70, check);
}

fn check(path: &Path) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let source = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    // Only what the name of the case promises counts as right.
    match (text::parse(&source), name.starts_with("read_")) {
        (Ok(parsed), true) => {
            let printed = text::write_with_comments(&parsed.program, &parsed.comments);
            let again = text::parse(&printed)
                .map_err(|errors| format!("{name}, printed, is refused: {errors}\n{printed}"))?;
            if again.program != parsed.program {
                return Err(format!("{name}, printed, reads as another program:\n{printed}"));
            }
            if text::write_with_comments(&again.program, &again.comments) != printed {
                return Err(format!("{name}, printed and read, prints otherwise:\n{printed}"));
            }
            common::expect_file(&path.with_extension("out"), &printed)
        }
        (Err(errors), false) => {
            let rendered = errors.render(&name, &source, &Spans::default());
            common::expect_file(&path.with_extension("err"), &format!("{rendered}\n"))
        }
        (Ok(_), false) => Err(format!("{name} is read without an error")),
        (Err(errors), true) => Err(errors.render(&name, &source, &Spans::default())),
    }
}
