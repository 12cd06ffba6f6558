//! Passes: what they make of the programs in `tests/passes`, and that they change no result, there and for random
//! programs of every op. And that what random programs give lies within the bounds that are known of it.
//!
//! `cargo test` makes a few hundred random programs. Ten thousand:
//!
//! ```text
//! ANEMONE_PROGRAMS=10000 cargo test -p anemone --test passes -- --nocapture
//! ```
//!
//! Program number `i` depends on `i` and the case files under `tests/ops` alone; `ANEMONE_PROGRAM_FIRST=i
//! ANEMONE_PROGRAMS=1` makes it again.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/bounds.rs"]
mod bounds;
#[path = "../common/mod.rs"]
mod common;

mod execute;
mod files;
mod fragments;
mod generator;
mod legalize;
mod programs;
mod ranges;
