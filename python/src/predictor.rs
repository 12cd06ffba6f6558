//! Models that answer, and what they keep.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anemone_model::classifier::Label;
use anemone_model::image::{Image, Pixels};
use anemone_model::pipeline::Opened;
use anemone_model::predictor::{Given, Output, States};
use numpy::PyUntypedArray;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::{arrays, description, errors, runtime};

/// A function of a model on a runtime. `anemone/_model.py` is what people use.
#[pyclass(frozen, module = "anemone._native")]
pub(crate) struct Predictor {
    predictor: Mutex<anemone_model::predictor::Predictor>,
    /// What the model says of itself.
    #[pyo3(get)]
    description: Py<PyDict>,
}

/// What a model keeps between predictions.
#[pyclass(frozen, module = "anemone._native")]
pub(crate) struct State {
    states: Mutex<States>,
}

/// A lock; whoever panicked while holding it left it whole, since predictions replace what it guards in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Predictor {
    /// Opens a model or program.
    #[new]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        function: Option<String>,
        weights: Option<PathBuf>,
        runtime: &str,
        chip: Option<&str>,
    ) -> PyResult<Predictor> {
        let predictor = py.detach(|| {
            let runtime = runtime::open(runtime, chip)?;
            let opened = Opened::read(&path).map_err(|error| errors::source(&path, error))?;
            let (function, weights) = (function.as_deref(), weights.as_deref());
            let predictor = anemone_model::predictor::Predictor::new(opened, function, weights, runtime);
            predictor.map_err(|error| errors::open(&path, error))
        })?;
        let (described, version) = (predictor.description(), predictor.specification_version());
        let description = description::to_python(py, described, version, predictor.function())?;
        Ok(Predictor { description: description.unbind(), predictor: Mutex::new(predictor) })
    }

    /// The outputs by name, for inputs by name: arrays, and images as `(mode, width, height, bytes)`.
    fn predict<'py>(
        &self,
        py: Python<'py>,
        inputs: Vec<(String, Bound<'py, PyAny>)>,
        state: Option<&Bound<'py, State>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let given: Vec<(String, Given)> = inputs
            .into_iter()
            .map(|(name, value)| Ok((name, self::given(&value)?)))
            .collect::<PyResult<_>>()?;
        let state = state.map(Bound::get);
        let outputs = py.detach(|| {
            let mut predictor = lock(&self.predictor);
            let mut states = state.map(|state| lock(&state.states));
            predictor.predict(given, states.as_deref_mut())
        });
        let answer = PyDict::new(py);
        for (name, output) in outputs.map_err(errors::predict)? {
            answer.set_item(name, self::output(py, output)?)?;
        }
        Ok(answer)
    }

    /// A new state, of zeros.
    fn make_state(&self, py: Python<'_>) -> PyResult<State> {
        let states = py.detach(|| lock(&self.predictor).states());
        Ok(State { states: Mutex::new(states.map_err(|error| errors::memory(&error))?) })
    }
}

#[pymethods]
impl State {
    /// The names of what is kept.
    #[getter]
    fn names(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| lock(&self.states).names().map(str::to_string).collect())
    }

    /// What one holds.
    fn read<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let value = py.detach(|| lock(&self.states).get(name).cloned());
        let missing = || {
            let names = self.names(py).join(", ");
            errors::argument(format!("there is no state {name:?}; the states are {names}"))
        };
        arrays::to_numpy(py, value.ok_or_else(missing)?)
    }

    /// Replaces what one holds.
    fn write(&self, py: Python<'_>, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let value = arrays::to_tensor(value)?;
        py.detach(|| lock(&self.states).set(name, value)).map_err(errors::predict)
    }
}

/// What Python gives for an input: an array, or an image.
fn given(value: &Bound<'_, PyAny>) -> PyResult<Given> {
    if value.is_instance_of::<PyUntypedArray>() {
        return arrays::to_tensor(value).map(Given::Array);
    }
    let (mode, width, height, bytes): (String, usize, usize, Bound<'_, PyBytes>) = value.extract()?;
    let bytes = bytes.as_bytes();
    let pixels = match mode.as_str() {
        "RGB" => Pixels::Rgb(bytes.to_vec()),
        "L" => Pixels::Grey(bytes.to_vec()),
        "F" => {
            let floats = bytes.as_chunks().0.iter().map(|&bytes| f32::from_ne_bytes(bytes));
            Pixels::GreyFloat(floats.collect())
        }
        other => return Err(PyTypeError::new_err(format!("images of mode {other} are not known"))),
    };
    Ok(Given::Image(Image { width, height, pixels }))
}

/// What Python is given of an output: an array, an image, a label, or a dictionary of probabilities.
fn output(py: Python<'_>, output: Output) -> PyResult<Bound<'_, PyAny>> {
    match output {
        Output::Array(tensor) => arrays::to_numpy(py, tensor),
        Output::Image(Image { width, height, pixels }) => {
            let (mode, bytes) = match pixels {
                Pixels::Rgb(values) => ("RGB", values),
                Pixels::Grey(values) => ("L", values),
                Pixels::GreyFloat(values) => {
                    ("F", values.iter().flat_map(|value| value.to_ne_bytes()).collect())
                }
            };
            let image = (mode, width, height, PyBytes::new(py, &bytes));
            Ok(image.into_pyobject(py)?.into_any())
        }
        Output::Label(label) => self::label(py, label),
        Output::Probabilities(all) => {
            let answer = PyDict::new(py);
            for (label, probability) in all {
                answer.set_item(self::label(py, label)?, probability)?;
            }
            Ok(answer.into_any())
        }
    }
}

fn label(py: Python<'_>, label: Label) -> PyResult<Bound<'_, PyAny>> {
    match label {
        Label::String(word) => Ok(word.into_pyobject(py)?.into_any()),
        Label::Integer(number) => Ok(number.into_pyobject(py)?.into_any()),
    }
}
