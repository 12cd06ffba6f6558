//! The native part of the Python package: models and programs of `anemone-model`, as Python's types. What is Python's own,
//! such as images of Pillow, is in the Python files beside this.
//!
//! Nothing here holds the interpreter while it reads, prepares or runs; no lock is waited for while holding it.

mod arrays;
mod description;
mod errors;
mod predictor;
mod programs;
mod runtime;

#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use super::description::describe;
    #[pymodule_export]
    use super::predictor::{Predictor, State};
    #[pymodule_export]
    use super::programs::{check, fmt, grad, opt, rules};
}
