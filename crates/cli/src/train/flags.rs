//! Flags of `anemone train`.

use std::path::PathBuf;

use anemone_lm::config::{MAX_DIMENSION, MAX_STEPS};
use anemone_lm::data::TokenDtype;
use clap::ValueEnum;

use crate::common::engine::{EngineFlags, WeightsName};
use crate::common::flags::{DtypeName, HeadName, ProductsName, count};
use crate::common::runtime::RuntimeName;
use crate::common::simulator::SimulatorFlags;

/// How files of tokens hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TokenDtypeName {
    U16,
    U32,
}

impl From<TokenDtypeName> for TokenDtype {
    fn from(name: TokenDtypeName) -> TokenDtype {
        match name {
            TokenDtypeName::U16 => TokenDtype::U16,
            TokenDtypeName::U32 => TokenDtype::U32,
        }
    }
}

/// What runs on the runtime that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Offload {
    Head,
    All,
}

/// Flags of `train`. Those that shape a run cannot be given when it is resumed: it goes on as it began.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration: built in (tiny, small, stories15m, stories42m, stories110m, qwen3-0.6b), a TOML file, or the model of a Hugging Face config.json [default: tiny]
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "resume")]
    pub(super) config: Option<PathBuf>,
    /// Begin with the weights of a model: a Hugging Face directory, or a llama2.c .bin; its dimensions are taken from it
    #[arg(long, value_name = "DIR|FILE.bin", conflicts_with = "resume")]
    pub(super) init: Option<PathBuf>,
    /// Text, or tokens as little-endian numbers (.bin), one file after the other; the last tenth is for validation [default: built-in stories]
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "resume")]
    pub(super) data: Vec<PathBuf>,
    /// Numbers in .bin files of tokens [default: u16, or u32 for vocabularies over 65536]
    #[arg(long, value_enum, conflicts_with = "resume")]
    pub(super) token_dtype: Option<TokenDtypeName>,
    /// How text becomes tokens: bytes; byte pairs that are learned from it, 2048 or N tokens; or a tokenizer.json. tiny and small take its vocabulary [default: that of --init, or else bytes]
    #[arg(long, value_name = "bytes|bpe[:N]|FILE", conflicts_with = "resume")]
    pub(super) tokenizer: Option<PathBuf>,
    /// Steps of the whole run [default: the configuration's]
    #[arg(long, value_name = "N", conflicts_with = "resume", allow_negative_numbers = true)]
    #[arg(value_parser = count::<u64, 1, { MAX_STEPS }>)]
    pub(super) steps: Option<u64>,
    /// Sequences per step, B [default: the configuration's]
    #[arg(long, value_name = "N", conflicts_with = "resume", allow_negative_numbers = true)]
    #[arg(value_parser = count::<usize, 1, { MAX_DIMENSION as u64 }>)]
    pub(super) batch: Option<usize>,
    /// Tokens per sequence, T [default: the configuration's]
    #[arg(long, value_name = "N", conflicts_with = "resume", allow_negative_numbers = true)]
    #[arg(value_parser = count::<usize, 1, { MAX_DIMENSION as u64 }>)]
    pub(super) seq: Option<usize>,
    /// Batches per step, whose gradients are summed [default: the configuration's]
    #[arg(long, value_name = "N", conflicts_with = "resume", allow_negative_numbers = true)]
    #[arg(value_parser = count::<u64, 1, { MAX_DIMENSION as u64 }>)]
    pub(super) accumulate: Option<u64>,
    /// Compute each layer's values once more in backward instead of keeping them: less memory, a third more work
    #[arg(long, conflicts_with = "resume")]
    pub(super) recompute: bool,
    /// Train only the tokens that the data have; the other rows of the model stay as they are, and so does its size
    #[arg(long, conflicts_with = "resume")]
    pub(super) compact_vocab: bool,
    /// Peak learning rate [default: the configuration's]
    #[arg(long, value_name = "F", conflicts_with = "resume", allow_negative_numbers = true)]
    pub(super) lr: Option<f64>,
    /// Spread this part of each target's weight evenly over the vocabulary, in training [default: the configuration's]
    #[arg(long, value_name = "F", conflicts_with = "resume", allow_negative_numbers = true)]
    pub(super) label_smoothing: Option<f64>,
    /// Add F·(ln Σ exp z)² to each position's loss, z its logits, in training [default: the configuration's]
    #[arg(long, value_name = "F", conflicts_with = "resume", allow_negative_numbers = true)]
    pub(super) z_loss: Option<f64>,
    /// Leave tokens out of the fused head's gradients whose probability is below F at every position and that are no target [default: the configuration's]
    #[arg(long, value_name = "F", conflicts_with = "resume", allow_negative_numbers = true)]
    pub(super) filter: Option<f64>,
    /// Cap the model's logits z to F·tanh(z/F) [default: the configuration's]
    #[arg(long, value_name = "F", conflicts_with = "resume", allow_negative_numbers = true)]
    pub(super) soft_cap: Option<f64>,
    /// Seed of weights and batches [default: the configuration's]
    #[arg(long, value_name = "N", conflicts_with = "resume", allow_negative_numbers = true)]
    #[arg(value_parser = count::<u64, 0, { u64::MAX }>)]
    pub(super) seed: Option<u64>,
    /// Element type of what runs on the device [default: the configuration's]
    #[arg(long, value_enum, conflicts_with = "resume")]
    pub(super) dtype: Option<DtypeName>,
    /// How the classifier and its loss are computed: as one program per step, or in one, without logits in memory [default: the configuration's; programs where the runtime does not offer the other]
    #[arg(long, value_enum, conflicts_with = "resume")]
    pub(super) head: Option<HeadName>,
    /// How exact the CPU's matrix products are: exact, full (on amx, without the least of four products of parts), or bf16 (factors rounded to 8 bits where the processor multiplies such faster); a resumed run goes on only with what it began with
    #[arg(long, value_enum, value_name = "PRECISION", default_value = "full")]
    pub(super) products: ProductsName,
    /// What runs the programs; a resumed run goes on only on the one it began on
    #[arg(long, value_enum, default_value = "cpu")]
    pub(super) runtime: RuntimeName,
    /// What that runtime computes; the rest is the CPU's (no difference for `cpu`). The engine gets layers rewritten for its chip: with `ane` that of `--chip`, else this machine's
    #[arg(long, value_enum, default_value = "head")]
    pub(super) offload: Offload,
    #[command(flatten)]
    pub(super) engine: EngineFlags,
    #[command(flatten)]
    pub(super) simulator: SimulatorFlags,
    /// Where weights are, for `--runtime ane`: inputs of the programs, or baked into them, which are then compiled anew at each step
    #[arg(long, value_enum, default_value = "inputs")]
    pub(super) weights: WeightsName,
    /// Compilations after which a run with `--runtime ane` goes on in a new process [default: 119]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = count::<u32, 1, { u32::MAX as u64 }>)]
    pub(super) compilations: Option<u32>,
    /// Directory for checkpoint, model (config.json, model.safetensors, tokenizer.json), log and curve [default: anemone-out]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub(super) out: Option<PathBuf>,
    /// Go on with the run in this directory, from its last checkpoint
    #[arg(long, value_name = "DIR")]
    pub(super) resume: Option<PathBuf>,
    /// Log, one JSON object per step [default: log.jsonl in the run's directory, or where a resumed run's was]
    #[arg(long, value_name = "FILE.jsonl")]
    pub(super) log: Option<PathBuf>,
}
