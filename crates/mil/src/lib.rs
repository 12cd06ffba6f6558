//! The language MIL, Apple's Model Intermediate Language: its programs as data, their text, the ops they
//! are made of, what is wrong with them, and what they mean.

pub mod bind;
pub mod builder;
pub mod error;
pub mod eval;
pub mod linear_cross_entropy;
pub mod mapped;
pub mod ops;
pub mod program;
pub mod runtime;
pub mod specialize;
mod suggest;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;
pub mod weights;
