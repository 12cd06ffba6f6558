//! What the command `anemone` and the Python package share: models and programs at work.
//!
//! - [`source`] opens a program: text, or the program of a Core ML model in any container, with the text that its
//!   mistakes are shown in ([`mistakes`]).
//! - [`mod@check`], [`passes`] and [`gradients`] are what is done to programs; [`findings`] have a place in the text;
//!   [`rules`] lists those of the engine.
//! - [`text`] and [`foreign`] read files of text, and say what a file is that is none.

#![warn(unreachable_pub)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))] // A test fails by panicking.

pub mod check;
pub mod findings;
pub mod foreign;
pub mod gradients;
pub mod mistakes;
pub mod passes;
pub mod rules;
pub mod source;
pub mod text;
