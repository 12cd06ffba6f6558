//! Training language models on any runtime that runs MIL programs.
//!
//! The device's side of a training step is [`programs`], written in MIL and run by [`head`] on whichever runtime
//! it is given; [`train`] joins it with the host's side, on plain slices: whatever indexes by token, keeps fp32
//! master weights, or touches a file.
//!
//! | of a step | module |
//! |---|---|
//! | text → tokens → batches, validation windows | [`data`], [`tokenizer`], [`stories`] |
//! | what counting alone predicts: byte bigrams, byte 5-grams | [`data`], [`baseline`] |
//! | tokens → x `[1, D, 1, S]`, and dx → dE | [`embedding`] |
//! | logits and probabilities `[V, S]` → loss and scaled gradient | [`loss`] |
//! | gradients → new weights: AdamW, clipping, schedule, loss scale | [`optimizer`] |
//! | only the tokens that the data have | [`compact`] |
//! | what stays of a run: checkpoints, log, loss curve | [`checkpoint`], [`log`], [`curve`], [`files`] |
//! | logits → the next token | [`generate`] |
//! | models from and for Hugging Face's transformers and llama2.c | [`interchange`] |
//!
//! The dimension letters (V, D, B, T, S) and the layout of device tensors are defined in [`config`]; every random
//! choice draws from [`random`], so a run is determined by its seed. Device tensors are slices of an
//! [`DeviceElement`], f32 or f16.
//!
//! A step of a model without layers or programs, in which each token's row of a `[V, V]` matrix holds the logits
//! of the next token:
//!
//! ```
//! use anemone_lm::loss::LogitsGradient;
//! use anemone_lm::optimizer::{LossScale, Moments, clip_factor, global_norm};
//! use anemone_lm::{AdamW, Dataset, Tokenizer, embedding, loss};
//! use anemone_mil::linear_cross_entropy::LossOptions;
//! use half::f16;
//!
//! let (vocab, seq, sequences) = (256, 32, 4);
//! let data = Dataset::built_in(&Tokenizer::Bytes, seq)?;
//! let mut weights = vec![0.0_f32; vocab * vocab];
//! let mut moments = Moments::new(weights.len());
//! let (adamw, mut loss_scale) = (AdamW::default(), LossScale::dynamic());
//!
//! let mut last_loss = f64::INFINITY;
//! for step in 0..3 {
//!     let batch = data.batch(/* seed */ 7, step, sequences);
//!     let mut logits = vec![f16::ZERO; vocab * batch.inputs.len()];
//!     embedding::gather(&weights, vocab, &batch.inputs, &mut logits)?;
//!
//!     let mut dlogits = vec![f16::ZERO; logits.len()];
//!     let scale = loss_scale.scale();
//!     let gradient = LogitsGradient { scale, probabilities: None, to: &mut dlogits };
//!     let options = LossOptions::default();
//!     let totals = loss::cross_entropy(&logits, vocab, &batch.targets, &options, Some(gradient))?;
//!     assert!(totals.loss < last_loss);
//!     last_loss = totals.loss;
//!
//!     let mut gradient = vec![0.0_f32; weights.len()];
//!     embedding::scatter_add(&dlogits, vocab, &batch.inputs, 1.0 / scale, &mut gradient)?;
//!     let norm = global_norm([&gradient[..]]);
//!     if loss_scale.update(norm) {
//!         let factor = clip_factor(norm, 1.0) as f32;
//!         adamw.update(step + 1, 0.1, factor, &gradient, &mut weights, &mut moments);
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(unreachable_pub)]

pub mod baseline;
pub mod checkpoint;
pub mod compact;
pub mod config;
pub mod curve;
pub mod data;
pub mod device;
pub mod element;
pub mod embedding;
pub mod files;
pub mod generate;
pub mod head;
pub mod interchange;
pub mod layers;
pub mod log;
pub mod loss;
pub mod model;
pub mod network;
pub mod optimizer;
mod prepared;
pub mod programs;
pub mod random;
pub mod rewriting;
pub mod run;
pub mod stories;
pub mod tokenizer;
pub mod train;

pub use checkpoint::Checkpoint;
pub use config::{Config, DeviceDtype, ModelConfig, TrainConfig};
pub use data::{Batch, Dataset, IGNORE_INDEX};
pub use element::DeviceElement;
pub use generate::Sampler;
pub use optimizer::AdamW;
pub use random::Random;
pub use tokenizer::Tokenizer;
