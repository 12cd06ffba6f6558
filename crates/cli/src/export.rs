//! `anemone export`.

use std::path::PathBuf;

use anemone_lm::interchange::{self, InterchangeError, hugging_face, llama2c};
use serde::Serialize;

use crate::common::files::{make_directory, refuse_overwriting, serialize_path};
use crate::common::{Failure, Output};

/// The longest sequence that a model is said to be meant for where nothing else is known: transformers' default.
const LONGEST: usize = 2048;

/// Flags of `export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model: a run's directory, any other of Hugging Face's form, or a llama2.c .bin
    #[arg(value_name = "DIR|FILE.bin")]
    model: PathBuf,
    /// What is written: a llama2.c .bin (version 0), or a directory with config.json, model.safetensors in fp32, and the tokenizer.json that the model has
    #[arg(value_name = "FILE.bin|DIR")]
    to: PathBuf,
}

/// What was written.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(serialize_with = "serialize_path")]
    model: &'a PathBuf,
    weights: usize,
}

/// Writes a model in another form.
///
/// # Errors
///
/// When the model cannot be read, or the form cannot hold it, or there is something in its place.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let Args { model: from, to } = args;
    let files = interchange::files(from)?;
    let model = interchange::read(from)?;
    if to.extension().is_some_and(|extension| extension == "bin") {
        refuse_overwriting([to], files)?;
        if to.exists() {
            return Err(InterchangeError::Occupied(to.clone()).into());
        }
        llama2c::write(&model, to)?;
    } else {
        let tokenizer = hugging_face::read_tokenizer(from)?;
        let names =
            [hugging_face::CONFIG, hugging_face::WEIGHTS, hugging_face::INDEX, hugging_face::TOKENIZER];
        for name in names {
            let file = to.join(name);
            if file.exists() {
                return Err(InterchangeError::Occupied(file).into());
            }
        }
        make_directory(to)?;
        hugging_face::write(&model, LONGEST, to)?;
        if let Some(tokenizer) = tokenizer {
            hugging_face::write_tokenizer(&tokenizer, to)?;
        }
    }
    let written = Written { model: to, weights: model.weights() };
    output.result(format_args!("{}: {} weights", to.display(), written.weights), &written);
    Ok(())
}
