//! What a model answers to a text: the logits after each of its tokens, and the most likely tokens after it, as JSON.
//!
//! ```text
//! cargo run --example logits -- MODEL COUNT TOKEN...
//! ```
//!
//! MODEL is a directory of Hugging Face's form or a llama2.c `.bin`; COUNT tokens are generated.

use std::error::Error;
use std::path::Path;

use anemone_cpu::Cpu;
use anemone_lm::generate::{Generator, Sampler, position_logits};
use anemone_lm::head::{HeadKind, Runtimes};
use anemone_lm::network::Network;
use anemone_lm::{Config, DeviceDtype, Random, TrainConfig, interchange};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(count)) = (arguments.next(), arguments.next()) else {
        return Err("usage: logits MODEL COUNT TOKEN...".into());
    };
    let (count, text) =
        (count.parse()?, arguments.map(|token| token.parse()).collect::<Result<Vec<u32>, _>>()?);
    let model = interchange::read(Path::new(&path))?;
    let cpu = Cpu::new()?;
    let runtimes = Runtimes::all(&cpu);
    let of_length = |seq| Config {
        model: model.config.clone(),
        train: TrainConfig { batch: 1, seq, dtype: DeviceDtype::Fp32, ..TrainConfig::default() },
    };

    let mut network = Network::new(&of_length(text.len()), HeadKind::Programs, false, runtimes)?;
    network.set_weights(&model)?;
    let hidden = network.hidden(&model, &text)?.clone();
    let logits = network.logits(&hidden)?.as_slice::<f32>().unwrap_or_default();
    let rows: Vec<_> = (0..text.len()).map(|at| position_logits(logits, text.len(), at)).collect();

    let mut generator = Generator::new(&of_length(text.len() + count), &model, runtimes)?;
    let greedy = Sampler::new(0.0, 1.0)?;
    let mut tokens = Vec::new();
    generator.generate(&model, &text, count, (greedy, &mut Random::new(0)), |token| {
        tokens.push(token);
        true
    })?;
    println!("{}", json!({ "logits": rows, "tokens": tokens }));
    Ok(())
}
