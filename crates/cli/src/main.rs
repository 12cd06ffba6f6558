//! The `anemone` command: results on standard output, messages on standard error, exit status 0 when done,
//! 1 when the input or the work failed, 2 for bad usage.

#![warn(unreachable_pub)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod check;
mod common;
mod convert;
mod device_report;
mod emit;
mod eval;
mod export;
mod fmt;
mod generate;
mod grad;
mod opt;
mod plan;
mod reduce;
mod rules;
mod run;
mod show;
mod train;

use common::{Failure, Output, Verbosity};

/// Train language models with MIL programs; check, print, run and time them.
#[derive(Debug, Parser)]
#[command(name = "anemone", version, arg_required_else_help = true, term_width = 0)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every subcommand.
#[derive(Debug, clap::Args)]
struct Global {
    /// Print one JSON object per result line, and nothing else, on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Print no messages but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more messages
    #[arg(short, long, global = true)]
    verbose: bool,
}

/// The subcommands: each has a file with its flags, `Args`, and its work, `run`.
macro_rules! subcommands {
    ($($(#[$help:meta])+ $name:ident = $module:ident,)+) => {
        #[derive(Debug, Subcommand)]
        enum Command {
            $($(#[$help])+ $name($module::Args),)+
        }

        impl Command {
            fn run(&self, output: &Output) -> Result<(), Failure> {
                match self {
                    $(Command::$name(args) => $module::run(args, output),)+
                }
            }
        }
    };
}

subcommands! {
    /// Train a model; without flags, a small Llama on built-in stories in less than two minutes
    Train = train,
    /// Continue a text with a model that was trained here
    Generate = generate,
    /// Compute the loss and perplexity of a trained model on a text
    Eval = eval,
    /// Time pieces of work on this machine
    Bench = bench,
    /// Print programs as Apple's compiler would
    Fmt = fmt,
    /// Verify programs, the weights they refer to, and the engine's rules
    Check = check,
    /// List what is known of the engine's limits: each rule with its chips, confidence and source
    Rules = rules,
    /// Ask this machine's engine whether the rules hold and the arithmetic is right, for a report
    DeviceReport = device_report,
    /// Rewrite a program: settle its types, leave out what is not needed, fold, bake, change the dialect
    Opt = opt,
    /// Write programs, and the weights they refer to
    Emit = emit,
    /// Write a program in another form: text (.mil), or a Core ML model (.mlpackage, .mlmodelc, .mlmodel)
    Convert = convert,
    /// Write a trained model in another form: llama2.c's .bin, or a Hugging Face directory
    Export = export,
    /// Plan how programs are cut for a chip of Apple's: tiles, buffers, time, and why
    Plan = plan,
    /// Differentiate a program: write forward.mil and backward.mil
    Grad = grad,
    /// Shrink a program while a command succeeds: why does a compiler refuse it?
    Reduce = reduce,
    /// Run a program on arrays in .npy files
    Run = run,
    /// Describe a program: inputs, outputs, operations, parameters, FLOPs and bytes
    Show = show,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let verbosity = match (cli.global.quiet, cli.global.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    };
    let output = Output::new(cli.global.json, verbosity);
    match cli.command.run(&output).and_then(|()| output.finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.status())
        }
    }
}
