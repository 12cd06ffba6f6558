//! Programs with the text that they were read from.

use std::path::{Path, PathBuf};

use anemone_mil::error::{Errors, Spans};
use anemone_mil::program::{Function, Program};
use anemone_mil::text::{self, Comments};
use anemone_mil::verify::{Verified, verify, verify_blobs};
use anemone_mil::weights::WeightSource;

use super::{Failure, files, foreign};

/// The largest program text that is read, in bytes.
pub(crate) const MAX_PROGRAM_BYTES: u64 = 1 << 30;

/// A program, and where its parts stand in its text.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The program.
    pub program: Program,
    /// Where its parts stand.
    pub spans: Spans,
    /// Its comments.
    pub comments: Comments,
    /// What its text may mean otherwise than it is read.
    pub warnings: Errors,
}

/// Why a file holds no sound program.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// It cannot be read.
    File(Failure),
    /// Its text has mistakes.
    Text {
        /// The text.
        text: String,
        /// The mistakes.
        errors: Errors,
    },
}

impl Source {
    /// Reads a program.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or its text is no program.
    pub(crate) fn read(path: &Path) -> Result<Source, SourceError> {
        let text = read(path).map_err(SourceError::File)?;
        match text::parse(&text) {
            Ok(parsed) => Ok(Source {
                path: path.to_owned(),
                text,
                program: parsed.program,
                spans: parsed.spans,
                comments: parsed.comments,
                warnings: parsed.warnings,
            }),
            Err(errors) => Err(SourceError::Text { text, errors }),
        }
    }

    /// Reads a program; mistakes in its text become one failure.
    ///
    /// # Errors
    ///
    /// As [`Source::read`].
    pub(crate) fn load(path: &Path) -> Result<Source, Failure> {
        Source::read(path).map_err(|error| match error {
            SourceError::File(failure) => failure,
            SourceError::Text { text, errors } => {
                Failure::Program(errors.render(&path.display().to_string(), &text, &Spans::default()))
            }
        })
    }

    /// The function of this name; without one the only function, or `main`.
    ///
    /// # Errors
    ///
    /// When there is none, or several could be meant.
    pub(crate) fn function(&self, name: Option<&str>) -> Result<&Function, Failure> {
        let functions = &self.program.functions;
        if let (None, [only]) = (name, functions.as_slice()) {
            return Ok(only);
        }
        let wanted = name.unwrap_or("main");
        functions.iter().find(|function| function.name == wanted).ok_or_else(|| {
            let what = match name {
                Some(name) => format!("no function is named `{name}`"),
                None => "no function is named `main`, so `--function` must say which is meant".to_string(),
            };
            let present: Vec<String> = functions.iter().map(|function| function.name.clone()).collect();
            Failure::new(format!("{what}; the program has {}", list(&present)))
        })
    }

    /// The program, verified.
    ///
    /// # Errors
    ///
    /// The mistakes that the verifier finds.
    pub(crate) fn verify(&self) -> Result<Verified, Errors> {
        verify(self.program.clone())
    }

    /// The program, verified; its mistakes become one failure.
    ///
    /// # Errors
    ///
    /// As [`Source::verify`].
    pub(crate) fn verified(&self) -> Result<Verified, Failure> {
        self.verify().map_err(|errors| Failure::Program(self.render(&errors)))
    }

    /// Checks the blobs that the program refers to.
    ///
    /// # Errors
    ///
    /// One per blob that is not what the program declares.
    pub(crate) fn verify_blobs(&self, weights: &dyn WeightSource) -> Result<(), Errors> {
        verify_blobs(&self.program, weights)
    }

    /// Mistakes, rendered with the lines they stand in.
    pub(crate) fn render(&self, errors: &Errors) -> String {
        errors.render(&self.path.display().to_string(), &self.text, &self.spans)
    }
}

/// Names in quotes, or `none`.
pub(crate) fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".to_string() } else { quoted.join(", ") }
}

/// The text of a program; what is no file of text is said to be what it looks like.
fn read(path: &Path) -> Result<String, Failure> {
    match path.is_dir() {
        true => Err(Failure::new(format!("cannot read {}: {}", path.display(), foreign::directory(path)))),
        false => files::read_text(path, MAX_PROGRAM_BYTES),
    }
}
