//! What subcommands share: nothing here knows any of them.

pub mod config;
pub mod cost;
pub mod failure;
pub mod files;
pub mod findings;
pub mod flags;
pub mod foreign;
pub mod memory;
pub mod npy;
pub mod output;
pub mod random;
pub mod runtime;
pub mod source;

pub use failure::Failure;
pub use output::{Output, Verbosity};
