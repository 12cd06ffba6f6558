//! The command as people and scripts meet it: the built binary, its output and its exit status.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;
#[path = "../../cpu/tests/common/not_run.rs"]
mod not_run;

mod command {
    pub mod support;

    mod bench;
    mod check;
    mod closed_output;
    mod convert;
    mod data;
    mod device_report;
    mod emit;
    mod emit_layer;
    mod engine;
    mod export;
    mod fmt;
    mod foreign;
    mod generate;
    mod grad;
    mod opt;
    mod overwriting;
    mod plan;
    mod predict;
    mod reduce;
    mod rules;
    mod run;
    mod show;
    mod simulator;
    mod tokenizer;
    mod train;
    mod usage;
}
