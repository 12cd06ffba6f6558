//! Mistakes in a program, with the text that they stand in.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use anemone_mil::error::{Errors, Spans};

/// The mistakes in a program's text; shown with the lines that they stand in.
#[derive(Debug, Clone)]
pub struct Mistakes {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Where the program's parts stand in it; none where it is no program.
    pub spans: Spans,
    /// What is wrong.
    pub errors: Errors,
}

impl Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.errors.render(&self.path.display().to_string(), &self.text, &self.spans))
    }
}
