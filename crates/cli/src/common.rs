//! What subcommands share: nothing here knows any of them.

pub(crate) mod config;
pub(crate) mod cost;
pub(crate) mod engine;
pub(crate) mod failure;
pub(crate) mod files;
pub(crate) mod findings;
pub(crate) mod flags;
pub(crate) mod interrupt;
pub(crate) mod legal;
pub(crate) mod memory;
pub(crate) mod npy;
pub(crate) mod output;
pub(crate) mod random;
pub(crate) mod runtime;
pub(crate) mod simulator;
pub(crate) mod tokenizer;
pub(crate) mod weight_files;

pub(crate) use anemone_model::{pipeline, source};
pub(crate) use failure::Failure;
pub(crate) use output::{Output, Verbosity};
