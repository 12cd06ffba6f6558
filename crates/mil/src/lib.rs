//! The language MIL, Apple's Model Intermediate Language: its programs as data, their text, the ops they
//! are made of, what is wrong with them, and what they mean.

pub mod error;
pub mod mapped;
pub mod program;
pub mod tensor;
pub mod types;
pub mod weights;
