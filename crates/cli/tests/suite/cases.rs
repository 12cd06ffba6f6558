//! The case files of ops, in the format that `tests/README.md` describes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::{Verified, verify};
use serde::Deserialize;

use crate::common::{data_dir, files_of};

/// One function's inputs and results.
#[derive(Deserialize)]
pub struct Case {
    pub inputs: BTreeMap<String, Values>,
    pub outputs: BTreeMap<String, Values>,
    #[serde(default)]
    pub states: BTreeMap<String, State>,
}

#[derive(Deserialize)]
pub struct State {
    pub before: Values,
    pub after: Values,
}

/// A tensor; floating-point results are exact, not rounded to `dtype`.
#[derive(Deserialize)]
pub struct Values {
    dtype: String,
    pub shape: Vec<usize>,
    pub data: Numbers,
    pub magnitude: Option<Numbers>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum Numbers {
    One(Number),
    Many(Vec<Number>),
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum Number {
    Bool(bool),
    Integer(i64),
    Float(f64),
    /// `nan`, `inf` or `-inf`; or a string.
    Special(String),
}

impl Number {
    fn float(&self) -> Option<f64> {
        match self {
            Number::Bool(_) => None,
            Number::Integer(value) => Some(*value as f64),
            Number::Float(value) => Some(*value),
            Number::Special(name) => name.parse().ok(),
        }
    }

    fn integer(&self) -> Option<i64> {
        match self {
            Number::Bool(value) => Some(i64::from(*value)),
            Number::Integer(value) => Some(*value),
            Number::Float(_) | Number::Special(_) => None,
        }
    }
}

impl Numbers {
    fn all(&self) -> &[Number] {
        match self {
            Numbers::One(number) => std::slice::from_ref(number),
            Numbers::Many(numbers) => numbers,
        }
    }

    pub fn floats(&self) -> Vec<f64> {
        self.all().iter().map(|number| number.float().expect("a number")).collect()
    }
}

impl Values {
    fn dtype(&self) -> DType {
        DType::from_name(&self.dtype).expect("an element type")
    }

    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype(), &self.shape)
    }

    /// The tensor, rounded to its element type.
    pub fn tensor(&self) -> Tensor {
        if self.dtype().is_float() {
            return Tensor::from_f64(self.dtype(), &self.shape, &self.data.floats()).expect("a tensor");
        }
        if self.dtype() == DType::String {
            let words = self.data.all().iter().map(|number| match number {
                Number::Special(word) => Some(word.clone()),
                _ => None,
            });
            let words: Option<Vec<String>> = words.collect();
            return Tensor::from_values(&self.shape, words.expect("strings")).expect("a tensor");
        }
        let integers: Option<Vec<i64>> = self.data.all().iter().map(Number::integer).collect();
        Tensor::from_i64(self.dtype(), &self.shape, &integers.expect("integers")).expect("a tensor")
    }
}

/// The programs among the case files.
pub fn case_files() -> Vec<PathBuf> {
    files_of(&data_dir("ops"), "mil")
}

/// The op that a case file is about: `softmax_1_0.mil` is about softmax, in dialect 1.0.
pub fn op_of(file: &Path) -> &str {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("a name");
    stem.strip_suffix("_1_0").unwrap_or(stem)
}

/// The program of a case file, and what its functions are given and give, by name: at least one, and a case for each.
///
/// # Errors
///
/// What is wrong with the files.
pub fn load(file: &Path) -> Result<(Arc<Verified>, BTreeMap<String, Case>), String> {
    let source = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let cases = fs::read_to_string(file.with_extension("json")).map_err(|error| error.to_string())?;
    let cases: BTreeMap<String, Case> = serde_json::from_str(&cases).map_err(|error| error.to_string())?;
    let parsed = text::parse(&source).map_err(|errors| errors.to_string())?;
    let program = verify(parsed.program)
        .map_err(|errors| errors.render(&file.display().to_string(), &source, &parsed.spans))?;
    let functions = &program.program().functions;
    let names: BTreeSet<&str> = functions.iter().map(|function| function.name.as_str()).collect();
    if names.is_empty() || names != cases.keys().map(String::as_str).collect() {
        return Err("the program and the cases do not name the same functions".to_string());
    }
    Ok((Arc::new(program), cases))
}
