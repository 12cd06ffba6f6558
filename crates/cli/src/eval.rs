//! `anemone eval`.

use std::path::PathBuf;

use anemone_cpu::Options;
use anemone_lm::data::{Tokens, evaluation_batches, read_text};
use anemone_lm::head::Runtimes;
use anemone_lm::network::Network;
use anemone_lm::run::Trained;
use serde::Serialize;

use crate::common::runtime::RuntimeName;
use crate::common::{Failure, Output, tokenizer};

/// Flags of `eval`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of a run
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Text, one file after the other
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    data: Vec<PathBuf>,
    /// How text becomes tokens: bytes, or a tokenizer.json [default: the run's]
    #[arg(long, value_name = "bytes|FILE")]
    tokenizer: Option<PathBuf>,
}

/// What a model makes of a text.
#[derive(Debug, Serialize)]
struct Evaluation {
    /// Nats per token.
    loss: f64,
    /// e to the loss.
    perplexity: f64,
    loss_per_byte: f64,
    tokens: usize,
    bytes: usize,
}

/// Prints the loss of a text, of which each token but the first is predicted from those before it in its sequence.
///
/// # Errors
///
/// When there is no model, the text is too short, or the runtime fails.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let Trained { config, model, tokenizer } = Trained::load(&args.directory)?;
    let text = read_text(&args.data)?;
    let tokenizer = tokenizer::known(tokenizer, args.tokenizer.as_deref(), &config.model)?;
    let tokens = tokenizer.encode_pieces(&text)?.concat();
    if tokens.len() < 2 {
        return Err(Failure::new(format!("the text has {} token, at least 2 are needed", tokens.len())));
    }
    let runtime = RuntimeName::Cpu.open(Options::default())?.runtime;
    let runtimes = Runtimes::all(runtime.as_ref());
    let mut network = Network::new(&config, config.train.head, false, runtimes)?;
    network.set_weights(&model)?;
    // The first token is not predicted, and its bytes are not counted.
    let bytes = text.len().saturating_sub(tokenizer.decode(&tokens[..1])?.len());
    let predicted = tokens.len() - 1;
    let tokens = Tokens::from(tokens);
    let loss =
        network.mean_loss(&model, evaluation_batches(&tokens, config.train.batch, config.train.seq))?;
    let loss_per_byte = loss * predicted as f64 / bytes.max(1) as f64;
    let evaluation = Evaluation { loss, perplexity: loss.exp(), loss_per_byte, tokens: predicted, bytes };
    let text = format!(
        "loss        {loss} nats per token, {predicted} tokens\n\
         perplexity  {}\n\
         per byte    {loss_per_byte} nats, {bytes} bytes",
        evaluation.perplexity
    );
    output.result(text, &evaluation);
    Ok(())
}
