//! Core ML models, read and written on any machine.

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
