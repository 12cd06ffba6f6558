//! What the command `anemone` and the Python package share: models and programs at work.
//!
//! - [`source`] opens a program: text, or the program of a Core ML model in any container, with the text that its
//!   mistakes are shown in ([`mistakes`]); [`pipeline`] opens those, and pipelines of several models.
//! - [`predictor`] runs a model by its description: arrays ([`numbers`]) and images ([`mod@image`]) by name in, arrays,
//!   images and a [`classifier`]'s labels by name out.
//! - [`mod@check`], [`passes`] and [`gradients`] are what is done to programs; [`findings`] have a place in the text;
//!   [`rules`] lists those of the engine.
//! - [`text`] and [`foreign`] read files of text, and say what a file is that is none.

#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))] // A test fails by panicking.

pub mod check;
pub mod classifier;
pub mod findings;
pub mod foreign;
pub mod gradients;
pub mod image;
pub mod mistakes;
pub mod numbers;
pub mod passes;
pub mod pipeline;
pub mod predictor;
pub mod rules;
pub mod source;
pub mod text;
