//! Training language models on any runtime that runs MIL programs.
//!
//! This crate holds the host's side of a training step, on plain slices: [text as data](data), [byte
//! tokens](tokenizer), [AdamW, the schedule and the loss scale](optimizer), and the
//! [configuration](config) that defines the dimension letters used throughout.
//!
//! ```
//! use anemone_lm::{data::Dataset, tokenizer::Tokenizer};
//! let data = Dataset::built_in(&Tokenizer::Bytes, 128)?;
//! let batch = data.batch(/* seed */ 0, /* step */ 0, /* B */ 16);
//! assert_eq!(batch.inputs.len(), 16 * 128);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod checkpoint;
pub mod config;
pub mod data;
pub mod element;
pub mod embedding;
pub mod files;
pub mod loss;
pub mod optimizer;
pub mod random;
pub mod stories;
pub mod tokenizer;
