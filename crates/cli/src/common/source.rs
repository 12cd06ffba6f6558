//! Programs with the text that they were read from.

use std::path::{Path, PathBuf};

use anemone_mil::error::{ErrorKind, Errors, Spans};
use anemone_mil::program::{Function, Program};
use anemone_mil::text::{self, Comments};
use anemone_mil::verify::{CONST, Verified, verify, verify_blobs};
use anemone_mil::weights::WeightSource;

use super::{Failure, files};

/// The largest program text that is read, in bytes.
pub const MAX_PROGRAM_BYTES: u64 = 1 << 30;

/// A program, and where its parts stand in its text.
#[derive(Debug)]
pub struct Source {
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
pub enum SourceError {
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
    pub fn read(path: &Path) -> Result<Source, SourceError> {
        let text = files::read_text(path, MAX_PROGRAM_BYTES).map_err(SourceError::File)?;
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
    pub fn load(path: &Path) -> Result<Source, Failure> {
        Source::read(path).map_err(|error| match error {
            SourceError::File(failure) => failure,
            SourceError::Text { text, errors } => {
                Failure::Program(errors.render(&path.display().to_string(), &text, &Spans::default()))
            }
        })
    }

    /// The program, verified.
    ///
    /// # Errors
    ///
    /// The mistakes that the verifier finds.
    pub fn verify(&self) -> Result<Verified, Errors> {
        verify(self.program.clone())
    }

    /// Checks the blobs that the program refers to.
    ///
    /// # Errors
    ///
    /// One per blob that is not what the program declares.
    pub fn verify_blobs(&self, weights: &dyn WeightSource) -> Result<(), Errors> {
        verify_blobs(&self.program, weights)
    }

    /// Mistakes, rendered with the lines they stand in.
    pub fn render(&self, errors: &Errors) -> String {
        errors.render(&self.path.display().to_string(), &self.text, &self.spans)
    }
}

/// The number of a function's operations; constants are not counted.
pub fn operations(function: &Function) -> usize {
    function.ops.iter().filter(|op| op.name != CONST).count()
}

/// Whether mistakes are only that ops are not known here.
pub fn only_unknown_ops(errors: &Errors) -> bool {
    errors.all_are(ErrorKind::UnknownOp)
}
