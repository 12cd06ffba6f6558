//! Errors as exceptions: the classes of `anemone/_errors.py`.

use std::path::Path;

use anemone_coreml::container::ContainerError;
use anemone_coreml::model::ModelError;
use anemone_mil::runtime::RuntimeError;
use anemone_mil::tensor::TensorError;
use anemone_model::findings::{Finding, findings};
use anemone_model::mistakes::Mistakes;
use anemone_model::predictor::{OpenError, PredictError};
use anemone_model::source::SourceError;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

mod classes {
    pyo3::import_exception!(anemone._errors, Error);
    pyo3::import_exception!(anemone._errors, ReadError);
    pyo3::import_exception!(anemone._errors, ProgramError);
    pyo3::import_exception!(anemone._errors, UnsupportedError);
    pyo3::import_exception!(anemone._errors, InputError);
    pyo3::import_exception!(anemone._errors, InputNameError);
    pyo3::import_exception!(anemone._errors, InputTypeError);
}

/// What went wrong with the work that was asked for.
pub(crate) fn failed(message: impl ToString) -> PyErr {
    classes::Error::new_err(message.to_string())
}

/// Arguments that are not what a function takes.
pub(crate) fn argument(message: impl ToString) -> PyErr {
    classes::InputError::new_err(message.to_string())
}

/// No memory for a tensor.
pub(crate) fn memory(error: &TensorError) -> PyErr {
    PyMemoryError::new_err(error.to_string())
}

/// A file that cannot be read.
fn unreadable(path: &Path, message: impl ToString) -> PyErr {
    let error = classes::ReadError::new_err(message.to_string());
    with_attributes(error, |value| value.setattr("file", path.display().to_string()))
}

/// Mistakes in a program, with the place of the first of them.
pub(crate) fn mistakes(found: &Mistakes) -> PyErr {
    let error = classes::ProgramError::new_err(found.to_string());
    let listed = findings(&found.errors, &found.text, &found.spans);
    with_attributes(error, |value| {
        value.setattr("file", found.path.display().to_string())?;
        if let Some(first) = listed.first() {
            value.setattr("line", first.line)?;
            value.setattr("column", first.column)?;
        }
        value.setattr("findings", to_python(value.py(), &found.path, listed, found.errors.unlisted())?)
    })
}

/// An exception with its attributes; the exception that setting them raises, if one does.
fn with_attributes(error: PyErr, set: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<()>) -> PyErr {
    Python::attach(|py| match set(error.value(py).as_any()) {
        Ok(()) => error,
        Err(other) => other,
    })
}

/// Findings, as Python's; the last says how many more there are, if there are.
pub(crate) fn to_python<'py>(
    py: Python<'py>,
    path: &Path,
    mut listed: Vec<Finding>,
    unlisted: usize,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if let (Some(last), 1..) = (listed.last(), unlisted) {
        let message = format!("{unlisted} more are not listed");
        let severity = last.severity.clone();
        let (code, label) = ("more".to_string(), String::new());
        listed.push(Finding { line: None, column: None, severity, code, message, label, help: None });
    }
    let class = py.import("anemone._programs")?.getattr("Finding")?;
    let one = |finding: Finding| {
        let Finding { line, column, severity, code, message, label, help } = finding;
        class.call1((path.display().to_string(), line, column, severity, code, message, label, help))
    };
    listed.into_iter().map(one).collect()
}

/// Why a program cannot be opened.
pub(crate) fn source(path: &Path, error: SourceError) -> PyErr {
    match error {
        SourceError::Mistakes(found) => mistakes(&found),
        SourceError::Pipeline { .. }
        | SourceError::Model { error: ModelError::Kind(_), .. }
        | SourceError::Container(ContainerError::Model { error: ModelError::Kind(_), .. }) => {
            classes::UnsupportedError::new_err(error.to_string())
        }
        other => unreadable(path, other),
    }
}

/// Why a model is not ready to predict.
pub(crate) fn open(path: &Path, error: OpenError) -> PyErr {
    let message = error.to_string();
    open_with(path, error, message)
}

/// The same, in words that say which of a pipeline's models it is.
fn open_with(path: &Path, error: OpenError, message: String) -> PyErr {
    match error {
        OpenError::Stage { error, .. } => open_with(path, *error, message),
        OpenError::Mistakes(found) => mistakes(&found),
        OpenError::Description(_) | OpenError::Mismatch(_) | OpenError::Weights(_) => {
            unreadable(path, message)
        }
        OpenError::Source(error) => source(path, error),
        OpenError::NoFunction { .. } => argument(message),
        OpenError::Classifier(_) | OpenError::NotAnArray { .. } | OpenError::Pipeline(_) => {
            classes::UnsupportedError::new_err(message)
        }
    }
}

/// Why there is no prediction.
pub(crate) fn predict(error: PredictError) -> PyErr {
    let message = error.to_string();
    predict_with(error, message)
}

/// The same, in words that say in which of a pipeline's models it was.
fn predict_with(error: PredictError, message: String) -> PyErr {
    match error {
        PredictError::Stage { error, .. } => predict_with(*error, message),
        PredictError::Unknown { .. } | PredictError::Missing(_) => classes::InputNameError::new_err(message),
        PredictError::Kind { .. } => classes::InputTypeError::new_err(message),
        PredictError::Shape { .. }
        | PredictError::Values { .. }
        | PredictError::Image { .. }
        | PredictError::States(_) => classes::InputError::new_err(message),
        PredictError::Runtime(error) => runtime_with(&error, message),
        PredictError::Tensor(error) => memory(&error),
        PredictError::Output { .. } | PredictError::Classifier(_) => failed(message),
    }
}

/// What a runtime answers.
pub(crate) fn runtime(error: &RuntimeError) -> PyErr {
    runtime_with(error, error.to_string())
}

fn runtime_with(error: &RuntimeError, message: String) -> PyErr {
    match error {
        RuntimeError::Unsupported { .. } => classes::UnsupportedError::new_err(message),
        RuntimeError::Weight { .. } => classes::ReadError::new_err(message),
        _ => failed(message),
    }
}
