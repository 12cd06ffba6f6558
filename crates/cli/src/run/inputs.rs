//! The arrays that `run` is given: which input or state each is for.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use anemone_mil::program::{Function, Value};
use anemone_mil::runtime::Executable;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{TensorType, Type};
use clap_lex::OsStrExt;
use thiserror::Error;

use crate::common::source::list;
use crate::common::{Failure, npy};

/// `NAME=FILE`.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    /// The input's or state's name.
    pub(super) name: String,
    /// The file.
    pub(super) file: PathBuf,
}

impl Assignment {
    /// The name is text, the file's path whatever the system allows.
    pub(crate) fn parse(text: OsString) -> Result<Assignment, &'static str> {
        match text.split_once("=") {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                let name = name.to_str().ok_or("the NAME of NAME=FILE is not UTF-8")?;
                Ok(Assignment { name: name.to_string(), file: file.into() })
            }
            _ => Err("NAME=FILE is expected"),
        }
    }
}

/// What is wrong with the inputs that are given.
#[derive(Debug, Error)]
pub(crate) enum InputError {
    /// Something is given for what is no input.
    #[error("`{function}` has no input named `{name}`; its inputs are {present}")]
    Unknown {
        /// The function.
        function: String,
        /// The name given.
        name: String,
        /// Its inputs, with its states.
        present: String,
    },
    /// An input gets nothing.
    #[error("nothing is given for {}; use `--input NAME=FILE`", list(.0))]
    Missing(Vec<String>),
    /// An input gets two arrays.
    #[error("the input `{0}` is given twice")]
    Duplicate(String),
    /// An input that no array can be.
    #[error("`{name}` is {ty}, which no .npy file can hold")]
    NotAnArray {
        /// The value.
        name: String,
        /// Its type.
        ty: Type,
    },
}

/// A function's inputs, each with the file given for it, and its states, which are zeros if no file is given.
pub(crate) struct Inputs<'a> {
    inputs: Vec<(&'a Value, &'a PathBuf)>,
    states: Vec<String>,
    given_states: Vec<(&'a str, &'a PathBuf)>,
}

impl<'a> Inputs<'a> {
    /// Finds what each array is for.
    ///
    /// # Errors
    ///
    /// When an array is for nothing, or an input has none or two.
    pub(crate) fn new(function: &'a Function, given: &'a [Assignment]) -> Result<Inputs<'a>, InputError> {
        let all: Vec<&Value> = function.body.inputs.iter().map(|&id| function.value(id)).collect();
        let mut files: HashMap<&str, &PathBuf> = HashMap::new();
        for Assignment { name, file } in given {
            if !all.iter().any(|value| value.name == *name) {
                let present: Vec<String> = all.iter().map(|value| value.name.clone()).collect();
                let (function, name, present) = (function.name.clone(), name.clone(), list(&present));
                return Err(InputError::Unknown { function, name, present });
            }
            if files.insert(name, file).is_some() {
                return Err(InputError::Duplicate(name.clone()));
            }
        }
        let (mut inputs, mut states, mut given_states) = (Vec::new(), Vec::new(), Vec::new());
        let mut missing = Vec::new();
        for value in all {
            let file = files.get(value.name.as_str());
            match (&value.ty, file) {
                (Type::State(_), file) => {
                    states.push(value.name.clone());
                    given_states.extend(file.map(|&file| (value.name.as_str(), file)));
                }
                (ty, _) if ty.as_tensor().is_none() => {
                    return Err(InputError::NotAnArray { name: value.name.clone(), ty: ty.clone() });
                }
                (_, Some(file)) => inputs.push((value, *file)),
                (_, None) => missing.push(value.name.clone()),
            }
        }
        if !missing.is_empty() {
            return Err(InputError::Missing(missing));
        }
        Ok(Inputs { inputs, states, given_states })
    }

    /// The names of all states.
    pub(crate) fn states(&self) -> &[String] {
        &self.states
    }

    /// The files given.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let states = self.given_states.iter().map(|(_, file)| *file);
        self.inputs.iter().map(|(_, file)| *file).chain(states).cloned()
    }

    /// The inputs' arrays, in the function's order.
    ///
    /// # Errors
    ///
    /// When an input is none that an array can be, or its array is not one of its type.
    pub(crate) fn read(&self) -> Result<Vec<Tensor>, Failure> {
        let read = |&(input, file): &(&Value, &PathBuf)| {
            let Some(ty) = input.ty.as_tensor().filter(|ty| npy::writable(ty.dtype).is_ok()) else {
                let (name, ty) = (input.name.clone(), input.ty.clone());
                return Err(InputError::NotAnArray { name, ty }.into());
            };
            npy::read(file, &ty, &format!("the input `{}`, {ty}", input.name))
        };
        self.inputs.iter().map(read).collect()
    }

    /// Gives states what is given for them.
    ///
    /// # Errors
    ///
    /// When an array is not one of its state's type.
    pub(crate) fn set_states(&self, executable: &mut dyn Executable) -> Result<(), Failure> {
        for &(name, file) in &self.given_states {
            let ty = executable.state(name).map(Tensor::ty);
            let ty: TensorType =
                ty.ok_or_else(|| Failure::new(format!("the runtime keeps no state `{name}`")))?;
            let value = npy::read(file, &ty, &format!("the state `{name}`, {ty}"))?;
            executable.set_state(name, &value)?;
        }
        Ok(())
    }
}
