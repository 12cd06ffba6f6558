//! Core ML models, read and written on any machine: `.mlpackage`, `.mlmodelc` and `.mlmodel`, whose programs become
//! those of [`anemone_mil`].
//!
//! A package that is read, looked at, and compiled as Core ML loads it:
//!
//! ```
//! use anemone_coreml::{compiled, package};
//! use anemone_mil::weights::WeightDirectory;
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/coreml/conv_relu.mlpackage");
//! # let directory = tempfile::tempdir()?;
//! # let out = directory.path().join("conv_relu.mlmodelc");
//! let package = package::read(path.as_ref())?;
//! let main = package.model.description.model().function("main").unwrap();
//! assert_eq!(main.inputs[0].kind.as_ref().unwrap().to_string(), "fp32 [1, 3, 8, 8]");
//! assert_eq!(package.model.program.functions[0].walk().count(), 12);
//!
//! let weights = WeightDirectory::new(package.model_path());
//! compiled::write(package.model, &weights, &out)?;
//! assert_eq!(compiled::read(&out)?.specification_version, 6);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`container`] opens and writes what a path's ending says; [`package`], [`compiled`] and [`loose`] (a program as text,
//!   with its description beside it) are the containers.
//! - [`model`] is the message in them, [`mod@description`] what a model takes and gives, [`labels`] a classifier's labels,
//!   [`pipeline`] several models in one.
//! - [`program`] turns messages into programs and back.
//!
//! A model is what somebody else made: nothing in it is trusted. Paths stay within a package, links in one are refused,
//! and no size that a file claims is asked of memory.

#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))] // A test fails by panicking.

mod assets;
pub mod compiled;
pub mod container;
pub mod description;
mod flexible;
pub mod labels;
pub mod loose;
pub mod model;
pub mod package;
pub mod pipeline;
pub mod program;
mod proto;
