//! The language MIL, Apple's Model Intermediate Language: its programs as data, their text, the ops they
//! are made of, what is wrong with them, and what they mean.
//!
//! MIL is what Core ML models are compiled to. A program holds functions; a function takes tensors, binds the
//! results of ops one statement after the other, and yields some of them. Every value has a type that is written
//! down, `tensor<fp16, [1, 4]>`; a dimension may be `?` until the function is given its inputs. An op is a name
//! with named arguments, which are values or constants, and attributes. Which ops there are depends on the opset
//! that a function declares, `ios18`. Large constants stand in weight files, which the text refers to.
//!
//! # Quick start
//!
//! A program is read, verified, prepared for its inputs' shapes, and run:
//!
//! ```
//! use std::sync::Arc;
//!
//! use anemone_mil::eval::Interpreter;
//! use anemone_mil::runtime::{Runtime, allocate_outputs};
//! use anemone_mil::tensor::Tensor;
//! use anemone_mil::weights::WeightMap;
//! use anemone_mil::{text, verify};
//!
//! let source = r#"program(1.3)
//! {
//!     func main<ios18>(tensor<fp32, [?, 2]> x) {
//!             tensor<fp32, [1, 2]> w = const()[name = string("w"), val = tensor<fp32, [1, 2]>([[3.0, 4.0]])];
//!             tensor<fp32, [?, 1]> y = linear(weight = w, x = x)[name = string("y")];
//!         } -> (y);
//! }
//! "#;
//! let program = text::parse(source)?.program;
//! let verified = Arc::new(verify::verify(program)?);
//!
//! let x = Tensor::from_values(&[2, 2], vec![1.0f32, 0.0, 2.0, 1.0])?;
//! let mut main = Interpreter::default().prepare(&verified, "main", &[x.ty()], &WeightMap::default())?;
//! let mut outputs = allocate_outputs(main.as_ref())?;
//! main.run(&[&x], &mut outputs)?;
//! assert_eq!(outputs[0].as_slice::<f32>(), Some(&[3.0, 10.0][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The parts
//!
//! - [`program`], [`types`] and [`tensor`] are the data: programs, their types, and values.
//! - [`text`] reads and writes programs, [`weights`] the files with their large constants; [`builder`] makes
//!   functions op by op; [`files`] replaces files whole.
//! - [`mod@ops`] is the table of ops, one row each; all else takes from it what it knows of an op, with the operands
//!   as [`bind`] finds them.
//! - [`verify`] checks programs; [`error`] has the mistakes, and shows them with the line that they stand in.
//! - [`runtime`] says what a backend is, [`specialize`] settles a function's types for given inputs, and
//!   [`constants`] replaces its constants. [`eval`] is the reference: slow, readable, rounding each op's result once.

#![warn(unreachable_pub)]

pub mod bind;
pub mod builder;
pub mod constants;
pub mod error;
pub mod eval;
pub mod files;
pub mod grad;
pub mod linear_cross_entropy;
pub mod mapped;
pub mod ops;
pub mod passes;
pub mod program;
pub mod runtime;
pub mod specialize;
mod suggest;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;
pub mod weights;
