//! What is done to programs: checked, printed, rewritten, differentiated.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anemone_ane::chips::Chips;
use anemone_ane::ranges::Assumptions;
use anemone_mil::grad::{Pair, Request};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::weights::WeightSource;
use anemone_model::check::{Checked, Checks};
use anemone_model::findings::findings;
use anemone_model::gradients::{gradient, program_of};
use anemone_model::numbers::convert;
use anemone_model::passes::{Draft, DraftError, PassInput, PassInputs, PassName, parse_type};
use anemone_model::pipeline::Opened;
use anemone_model::rules::{Entry, entries};
use anemone_model::source::{self, Source, SourceError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::{arrays, errors};

fn chips(chip: Option<&str>) -> PyResult<Option<Chips>> {
    chip.map(|chip| chip.parse().map_err(errors::argument)).transpose()
}

fn read(path: &Path) -> PyResult<Source> {
    Source::read(path).map_err(|error| errors::source(path, error))
}

/// What is found in a program, its mistakes before its warnings.
#[pyfunction]
pub(crate) fn check<'py>(
    py: Python<'py>,
    path: PathBuf,
    chip: Option<&str>,
    weights: Option<PathBuf>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let chips = chips(chip)?;
    let found = py.detach(|| {
        let weights = weights.as_deref().map(source::weights).transpose().map_err(errors::argument)?;
        let opened = match Opened::read(&path) {
            Ok(opened) => opened,
            Err(SourceError::Mistakes(found)) => return Ok(vec![*found]),
            Err(error) => return Err(errors::source(&path, error)),
        };
        let assumptions = Assumptions::default();
        let checks = Checks { weights: weights.as_ref(), chips, assumptions: &assumptions };
        let mut found = Vec::new();
        opened.check().map_err(|what| errors::failed(format!("the pipeline {what}")))?;
        for source in opened.programs() {
            let source = source.map_err(|error| errors::source(&path, error))?;
            let checked = anemone_model::check::check(&source, &checks);
            let Checked { warnings, errors } = checked.map_err(errors::argument)?;
            found.extend([source.mistakes(errors), source.mistakes(warnings)]);
        }
        Ok(found)
    })?;
    let mut all = Vec::new();
    for found in found {
        let listed = findings(&found.errors, &found.text, &found.spans);
        all.extend(errors::to_python(py, &found.path, listed, found.errors.unlisted())?);
    }
    Ok(all)
}

/// The engine's rules, of one chip or of all.
#[pyfunction]
pub(crate) fn rules<'py>(py: Python<'py>, chip: Option<&str>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let class = py.import("anemone._programs")?.getattr("Rule")?;
    let one = |entry: Entry| {
        let Entry { rule, what, chips, interfaces, confidence, effect, sources, instead, checked, elsewhere } =
            entry;
        class.call1((rule, what, chips, interfaces, confidence, effect, sources, instead, checked, elsewhere))
    };
    entries(chips(chip)?.unwrap_or(Chips::ALL)).map(one).collect()
}

/// A program in the style of Apple's compiler.
#[pyfunction]
pub(crate) fn fmt(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    py.detach(|| Ok(read(&path)?.formatted()))
}

/// A program after passes, as text.
#[allow(clippy::too_many_arguments)] // They are those of the function in Python.
#[pyfunction]
pub(crate) fn opt(
    py: Python<'_>,
    path: PathBuf,
    passes: Vec<String>,
    chip: Option<&str>,
    inputs: &Bound<'_, PyDict>,
    constants: Vec<String>,
    function: Option<&str>,
    weights: Option<PathBuf>,
) -> PyResult<String> {
    let chips = chips(chip)?;
    let passes: Vec<PassName> = passes
        .iter()
        .map(|name| name.parse().map_err(|error| errors::argument(format!("{name}: {error}"))))
        .collect::<PyResult<_>>()?;
    let mut given = Vec::new();
    for (name, value) in inputs.iter() {
        given.push((name.extract::<String>()?, GivenInput::of(&value)?));
    }
    py.detach(|| {
        let source = read(&path)?;
        let name = match passes.iter().any(|pass| pass.changes_one_function()) {
            true => source.function(function).map_err(errors::argument)?.name.clone(),
            false => String::new(),
        };
        let inputs = given.into_iter().map(|(input, given)| given.input(&source, &name, input));
        let inputs = inputs.collect::<PyResult<Vec<PassInput>>>()?;
        let weights = weights.as_deref().map(source::weights).transpose().map_err(errors::argument)?;
        let weights = weights.as_ref().map(|weights| weights as &dyn WeightSource);
        let given = PassInputs { function: &name, inputs: &inputs, constants: &constants, chips, weights };
        let mut draft = Draft::of(&source).map_err(|found| errors::mistakes(&found))?;
        for pass in passes {
            draft.apply(&source, pass, &given).map_err(|error| match error {
                DraftError::Mistakes(found) => errors::mistakes(&found),
                DraftError::Pass(error) => errors::argument(format!("{pass}: {error}")),
            })?;
        }
        Ok(text::write_with_comments(draft.program.program(), &draft.comments))
    })
}

/// What is given for an input of a program that is rewritten.
enum GivenInput {
    Type(String),
    Value(Tensor),
}

impl GivenInput {
    fn of(value: &Bound<'_, PyAny>) -> PyResult<GivenInput> {
        match value.extract::<String>() {
            Ok(ty) => Ok(GivenInput::Type(ty)),
            Err(_) => arrays::to_tensor(value).map(GivenInput::Value),
        }
    }

    /// A value has the element type that its input has.
    fn input(self, source: &Source, function: &str, name: String) -> PyResult<PassInput> {
        match self {
            GivenInput::Type(text) => {
                let ty = parse_type(&text).ok_or_else(|| errors::argument(format!("`{text}` is no type")))?;
                Ok(PassInput { name, ty: ty.map_err(errors::argument)?, value: None })
            }
            GivenInput::Value(value) => {
                let function = source.program.function(function).map(|(_, function)| function);
                let declared = function.and_then(|function| {
                    let inputs = function.body.inputs.iter().map(|&id| function.value(id));
                    inputs.into_iter().find(|input| input.name == name)?.ty.as_tensor()
                });
                let dtype = declared.map_or(value.dtype(), |ty| ty.dtype);
                let value = convert(value, dtype);
                let value =
                    value.map_err(|error| errors::argument(format!("the array for `{name}`: {error}")))?;
                Ok(PassInput { name, ty: value.ty(), value: Some(Arc::new(value)) })
            }
        }
    }
}

/// A program's forward and backward, as text.
#[pyfunction]
pub(crate) fn grad(
    py: Python<'_>,
    path: PathBuf,
    wrt: Vec<String>,
    of: Vec<String>,
    constant: Vec<String>,
    recompute: Vec<String>,
    function: Option<&str>,
) -> PyResult<(String, String)> {
    py.detach(|| {
        let source = read(&path)?;
        let verified = source.verified().map_err(|found| errors::mistakes(&found))?;
        let function = source.function(function).map_err(errors::argument)?;
        fn names(names: &[String]) -> Vec<&str> {
            names.iter().map(String::as_str).collect()
        }
        let request = Request {
            of: names(&of),
            wrt: names(&wrt),
            constant: names(&constant),
            recompute: names(&recompute),
            groups: Vec::new(),
        };
        let Pair { forward, backward } = gradient(&verified, function, &request).map_err(errors::argument)?;
        let print = |function| text::write(&program_of(function, &source.program));
        Ok((print(forward), print(backward)))
    })
}
