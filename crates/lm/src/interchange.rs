//! Models in the forms of others: directories of Hugging Face's transformers, and llama2.c's `.bin` files.
//!
//! | form | module | holds |
//! |---|---|---|
//! | `config.json` and `model.safetensors`, whole or in shards, of fp32, fp16 or bf16 | [`hugging_face`] | Llama and Qwen3 |
//! | llama2.c's version 0 | [`llama2c`] | Llama with θ = 10 000 and ε = 1e-5 |
//!
//! What comes in is checked whole before there is a model: every tensor is there, once, and has its shape, and every
//! setting is one that the programs compute. What goes out is refused where the form has no word for it.

mod config_json;
mod error;
pub mod hugging_face;
pub mod llama2c;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::ModelConfig;
use crate::files::FileError;
use crate::model::Model;

pub use config_json::read as read_config;
pub use error::InterchangeError;

/// The model in a directory of Hugging Face's form, or else in a file of llama2.c's.
///
/// # Errors
///
/// As [`hugging_face::read`] and [`llama2c::read`].
pub fn read(path: &Path) -> Result<Model, InterchangeError> {
    if path.is_dir() { hugging_face::read(path) } else { llama2c::read(path) }
}

/// The files that a model may be read from: the file itself, or those of a directory that have dimensions, weights or a
/// tokenizer.
///
/// # Errors
///
/// A directory that cannot be listed.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| FileError::read(path, source);
    let mut files = [hugging_face::CONFIG, hugging_face::INDEX, hugging_face::TOKENIZER]
        .map(|name| path.join(name))
        .to_vec();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(file);
        }
    }
    Ok(files)
}

/// What two configurations say differently of the same thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The dimension's name.
    pub field: String,
    /// What it is in each, as JSON.
    pub values: [String; 2],
}

/// The first dimension, by name, in which two models differ. The longest sequence that a model is meant for changes
/// nothing of it.
pub fn difference(one: &ModelConfig, other: &ModelConfig) -> Option<Difference> {
    let plain = |config: &ModelConfig| {
        let head_dim = Some(config.head_size()).filter(|_| config.layers > 0);
        let same = ModelConfig { head_dim, max_positions: 0, ..config.clone() };
        serde_json::to_value(same).unwrap_or_default()
    };
    let [one, other] = [one, other].map(plain);
    let (Value::Object(one), Value::Object(other)) = (one, other) else { return None };
    let said = |value: Option<&Value>| value.map_or_else(|| "the default".to_string(), Value::to_string);
    let mut fields: Vec<&String> = one.keys().chain(other.keys()).collect();
    fields.sort();
    let field = fields.into_iter().find(|field| one.get(*field) != other.get(*field))?;
    Some(Difference { field: field.clone(), values: [said(one.get(field)), said(other.get(field))] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named() {
        let tiny = ModelConfig::named("tiny").unwrap();
        let same = ModelConfig { head_dim: Some(32), max_positions: 9, ..tiny.clone() };
        assert_eq!(difference(&tiny, &same), None);
        let other = ModelConfig { hidden: 9, tied: false, ..tiny.clone() };
        let found = difference(&tiny, &other).unwrap();
        assert_eq!((found.field.as_str(), found.values), ("hidden", ["344".to_string(), "9".to_string()]));
        let untied = difference(&tiny, &ModelConfig { qk_norm: true, ..tiny.clone() }).unwrap();
        assert_eq!(untied.values, ["the default", "true"]);
    }
}
