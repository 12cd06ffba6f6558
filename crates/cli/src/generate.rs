//! `anemone generate`.

use std::path::PathBuf;
use std::time::Instant;

use anemone_cpu::Options;
use anemone_lm::generate::{Generator, Sampler};
use anemone_lm::head::Runtimes;
use anemone_lm::random::Random;
use anemone_lm::run::Trained;
use anemone_lm::tokenizer::TextStream;
use anemone_model::text::printable;
use serde::Serialize;

use crate::common::runtime::RuntimeName;
use crate::common::{Failure, Output, tokenizer};

/// Flags of `generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of a run
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Text to continue; printed before what comes after it
    #[arg(long, value_name = "TEXT", default_value = "\n", hide_default_value = true)]
    prompt: String,
    /// How text becomes tokens: bytes, or a tokenizer.json [default: the run's]
    #[arg(long, value_name = "bytes|FILE")]
    tokenizer: Option<PathBuf>,
    /// Tokens to add
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// Temperature: 1 draws as the model says, less makes likely tokens likelier, 0 always takes the likeliest
    #[arg(long, value_name = "F", default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw from the likeliest tokens that together reach this probability
    #[arg(long, value_name = "F", default_value_t = 0.9, allow_negative_numbers = true)]
    top_p: f64,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// A text that was continued.
#[derive(Debug, Serialize)]
struct Continued {
    prompt: String,
    text: String,
    tokens: usize,
    tokens_per_s: f64,
}

/// Continues a text, and prints it as it comes.
///
/// # Errors
///
/// When there is no model, a setting is out of range, or the runtime fails.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let sampler = Sampler::new(args.temperature, args.top_p)?;
    let Trained { config, model, tokenizer } = Trained::load(&args.directory)?;
    let tokenizer = tokenizer::known(tokenizer, args.tokenizer.as_deref(), &config.model)?;
    let prompt = tokenizer.encode(args.prompt.as_bytes())?;
    let runtime = RuntimeName::Cpu.open(Options::default())?.runtime;
    let mut generator = Generator::new(&config, &model, Runtimes::all(runtime.as_ref()))?;
    let mut random = Random::new(args.seed);
    let show = |text: &str| {
        if !output.is_json() {
            output.raw(printable(text));
        }
    };
    show(&args.prompt);
    let (mut stream, mut text, mut tokens) = (TextStream::new(&tokenizer, &prompt), String::new(), 0usize);
    let mut failed = None;
    let start = Instant::now();
    generator.generate(&model, &prompt, args.tokens as usize, (sampler, &mut random), |token| {
        let more = stream.add(token).unwrap_or_else(|error| {
            failed = Some(error);
            String::new()
        });
        show(&more);
        if output.is_json() {
            text.push_str(&more);
        }
        tokens += 1;
        failed.is_none() && output.is_open()
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let tokens_per_s = tokens as f64 / start.elapsed().as_secs_f64();
    let rest = stream.finish()?;
    show(&rest);
    show("\n");
    text.push_str(&rest);
    output.json(&Continued { prompt: args.prompt.clone(), text, tokens, tokens_per_s });
    output.message(format_args!("{tokens} tokens, {tokens_per_s:.1} tokens/s"));
    Ok(())
}
