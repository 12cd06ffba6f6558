//! `anemone train`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anemone_cpu::Options;
use anemone_lm::config::{MAX_DIMENSION, MAX_STEPS, TrainConfig};
use anemone_lm::data::TokenDtype;
use anemone_lm::head::{HeadKind, Runtimes};
use anemone_lm::interchange::{self, Difference, hugging_face};
use anemone_lm::log::Record;
use anemone_lm::model::Model;
use anemone_lm::rewriting::Rewriting;
use anemone_lm::run::{DataSource, Observer, Run, RunData, RunError, Summary, written_files};
use anemone_lm::tokenizer::Tokenizer;
use anemone_mil::runtime::Runtime;
use anemone_mil::verify::Verified;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use thiserror::Error;

use crate::common::config::Loaded;
use crate::common::engine::{EngineFlags, WeightsName};
use crate::common::files::{FileError, refuse_overwriting};
use crate::common::flags::{DtypeName, HeadName, ProductsName, count};
use crate::common::output::{printable, warning};
use crate::common::runtime::RuntimeName;
use crate::common::simulator::{SimulatorFlags, SimulatorReport};
use crate::common::{Failure, Output, config, interrupt, tokenizer};

mod placement;

use placement::Placement;

/// The directory that a run writes to unless told otherwise.
const DEFAULT_OUT: &str = "anemone-out";

/// How files of tokens hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TokenDtypeName {
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
enum Offload {
    Head,
    All,
}

/// Flags of `train`. Those that shape a run cannot be given when it is resumed: it goes on as it began.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration: built in (tiny, small, stories15m, stories42m, stories110m, qwen3-0.6b), a TOML file, or the model of a Hugging Face config.json [default: tiny]
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Begin with the weights of a model: a Hugging Face directory, or a llama2.c .bin; its dimensions are taken from it
    #[arg(long, value_name = "DIR|FILE.bin", conflicts_with = "resume")]
    init: Option<PathBuf>,
    /// Text, or tokens as little-endian numbers (.bin), one file after the other; the last tenth is for validation [default: built-in stories]
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "resume")]
    data: Vec<PathBuf>,
    /// Numbers in .bin files of tokens [default: u16, or u32 for vocabularies over 65536]
    #[arg(long, value_enum, conflicts_with = "resume")]
    token_dtype: Option<TokenDtypeName>,
    /// How text becomes tokens: bytes, or a tokenizer.json, of which tiny and small take the vocabulary [default: that of --init, or else bytes]
    #[arg(long, value_name = "bytes|FILE", conflicts_with = "resume")]
    tokenizer: Option<PathBuf>,
    /// Steps of the whole run [default: the configuration's]
    #[arg(long, value_name = "N", conflicts_with = "resume", allow_negative_numbers = true)]
    #[arg(value_parser = count::<u64, 1, { MAX_STEPS }>)]
    steps: Option<u64>,
    /// Sequences per step, B [default: the configuration's]
    #[arg(long, value_name = "N", conflicts_with = "resume", allow_negative_numbers = true)]
    #[arg(value_parser = count::<usize, 1, { MAX_DIMENSION as u64 }>)]
    batch: Option<usize>,
    /// Tokens per sequence, T [default: the configuration's]
    #[arg(long, value_name = "N", conflicts_with = "resume", allow_negative_numbers = true)]
    #[arg(value_parser = count::<usize, 1, { MAX_DIMENSION as u64 }>)]
    seq: Option<usize>,
    /// Batches per step, whose gradients are summed [default: the configuration's]
    #[arg(long, value_name = "N", conflicts_with = "resume", allow_negative_numbers = true)]
    #[arg(value_parser = count::<u64, 1, { MAX_DIMENSION as u64 }>)]
    accumulate: Option<u64>,
    /// Compute each layer's values once more in backward instead of keeping them: less memory, a third more work
    #[arg(long, conflicts_with = "resume")]
    recompute: bool,
    /// Train only the tokens that the data have; the other rows of the model stay as they are, and so does its size
    #[arg(long, conflicts_with = "resume")]
    compact_vocab: bool,
    /// Peak learning rate [default: the configuration's]
    #[arg(long, value_name = "F", conflicts_with = "resume", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Spread this part of each target's weight evenly over the vocabulary, in training [default: the configuration's]
    #[arg(long, value_name = "F", conflicts_with = "resume", allow_negative_numbers = true)]
    label_smoothing: Option<f64>,
    /// Add F·(ln Σ exp z)² to each position's loss, z its logits, in training [default: the configuration's]
    #[arg(long, value_name = "F", conflicts_with = "resume", allow_negative_numbers = true)]
    z_loss: Option<f64>,
    /// Leave tokens out of the fused head's gradients whose probability is below F at every position and that are no target [default: the configuration's]
    #[arg(long, value_name = "F", conflicts_with = "resume", allow_negative_numbers = true)]
    filter: Option<f64>,
    /// Cap the model's logits z to F·tanh(z/F) [default: the configuration's]
    #[arg(long, value_name = "F", conflicts_with = "resume", allow_negative_numbers = true)]
    soft_cap: Option<f64>,
    /// Seed of weights and batches [default: the configuration's]
    #[arg(long, value_name = "N", conflicts_with = "resume", allow_negative_numbers = true)]
    #[arg(value_parser = count::<u64, 0, { u64::MAX }>)]
    seed: Option<u64>,
    /// Element type of what runs on the device [default: the configuration's]
    #[arg(long, value_enum, conflicts_with = "resume")]
    dtype: Option<DtypeName>,
    /// How the classifier and its loss are computed: as one program per step, or in one, without logits in memory [default: the configuration's; programs where the runtime does not offer the other]
    #[arg(long, value_enum, conflicts_with = "resume")]
    head: Option<HeadName>,
    /// How exact the CPU's matrix products are: exact, full (on amx, without the least of four products of parts), or bf16 (factors rounded to 8 bits where the processor multiplies such faster); a resumed run goes on only with what it began with
    #[arg(long, value_enum, value_name = "PRECISION", default_value = "full")]
    products: ProductsName,
    /// What runs the programs; a resumed run goes on only on the one it began on
    #[arg(long, value_enum, default_value = "cpu")]
    runtime: RuntimeName,
    /// What that runtime computes; the rest is the CPU's (no difference for `cpu`). The engine gets layers rewritten for its chip: with `ane` that of `--chip`, else this machine's
    #[arg(long, value_enum, default_value = "head")]
    offload: Offload,
    #[command(flatten)]
    engine: EngineFlags,
    #[command(flatten)]
    simulator: SimulatorFlags,
    /// Where weights are, for `--runtime ane`: inputs of the programs, or baked into them, which are then compiled anew at each step
    #[arg(long, value_enum, default_value = "inputs")]
    weights: WeightsName,
    /// Compilations after which a run with `--runtime ane` goes on in a new process [default: 119]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = count::<u32, 1, { u32::MAX as u64 }>)]
    compilations: Option<u32>,
    /// Directory for checkpoint, model (config.json, model.safetensors, tokenizer.json), log and curve [default: anemone-out]
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    out: Option<PathBuf>,
    /// Go on with the run in this directory, from its last checkpoint
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Log, one JSON object per step [default: log.jsonl in the run's directory, or where a resumed run's was]
    #[arg(long, value_name = "FILE.jsonl")]
    log: Option<PathBuf>,
}

/// Flags that do not go together with what is there.
#[derive(Debug, Error)]
enum TrainError {
    /// The output directory holds a run already.
    #[error(
        "{dir} holds a run already; go on with it by `--resume {dir}`, or choose another directory with `--out`",
        dir = .0.display()
    )]
    Occupied(PathBuf),
    /// A configuration of another model than the one whose weights are taken.
    #[error(
        "`{field}` is {configured} by `--config {config}`, and {found} in {init}; leave `--config` out, or its model",
        field = .0.field, configured = .0.values[0], found = .0.values[1], config = .1.display(), init = .2.display()
    )]
    OtherModel(Difference, PathBuf, PathBuf),
    /// Text and tokens together.
    #[error("{} holds tokens and {} text; `--data` takes files of one kind", .0.display(), .1.display())]
    MixedData(PathBuf, PathBuf),
    /// A flag about files of tokens, without one.
    #[error("`--token-dtype` is about files of tokens, which end in `.bin`, and `--data` names none")]
    NoTokens,
    /// Something else than a run's directory, maybe the checkpoint in it.
    #[error("`--resume` takes the directory of a run, and {} is a file", .0.display())]
    NotADirectory(PathBuf),
    /// A runtime that does not compute the classifier and its loss in one.
    #[error("the runtime {} does not offer `--head fused`; those that do: {}", .0.name(), RuntimeName::with_fused_head())]
    NoFusedHead(RuntimeName),
    /// A run that the user ended.
    #[error("interrupted; the run is saved after step {step}, go on with it by `--resume {dir}`", dir = directory.display())]
    Interrupted {
        /// The steps done.
        step: u64,
        /// Where the run is.
        directory: PathBuf,
    },
    /// A run that should go on in a new process, which cannot be started.
    #[error("the run in {dir} must go on in a new process, which cannot be started: {1}; use `--resume {dir}`", dir = .0.display())]
    NoNewProcess(PathBuf, std::io::Error),
}

/// Trains, or goes on with training.
///
/// # Errors
///
/// When a setting, the data or a file is unusable, or training fails.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    match train(args, output)? {
        None => Ok(()),
        // All that the run had open is closed by now.
        Some(directory) => go_on(args, &directory, output),
    }
}

/// Trains to the end, or until the runtime can do no more in this process; gives the run's directory then.
fn train(args: &Args, output: &Output) -> Result<Option<PathBuf>, Failure> {
    let placement = Placement::of(args);
    if placement.is_none() {
        args.simulator.refuse_without_simulator(args.runtime)?;
    }
    let options = Options { products: args.products.into(), ..Options::default() };
    let mut report = None;
    let head: Box<dyn Runtime> = match args.runtime {
        RuntimeName::Ane => Box::new(args.engine.open(args.weights, args.compilations)?),
        RuntimeName::AneSim => {
            let simulator = args.simulator.open();
            report = Some(SimulatorReport::of(&simulator));
            Box::new(simulator)
        }
        other => other.open(options)?.runtime,
    };
    let products = RuntimeName::Cpu.open(options)?.runtime;
    let layers = match args.offload {
        Offload::Head => products.as_ref(),
        Offload::All => head.as_ref(),
    };
    let placement = placement.as_ref();
    let rewrite = placement.map(|placement| |program: &Verified| placement.rewrite(program, output));
    let rewriting = placement.zip(rewrite.as_ref());
    let layers_rewriting = rewriting.map(|(to, rewrite)| Rewriting { name: to.name(), rewrite });
    let runtimes = Runtimes { head: head.as_ref(), layers, layers_rewriting, products: products.as_ref() };
    let mut run = match &args.resume {
        Some(file) if file.is_file() => return Err(TrainError::NotADirectory(file.clone()).into()),
        Some(directory) => Run::resume(directory, args.log.as_deref(), runtimes)?,
        None => create(args, runtimes)?,
    };
    let trainer = run.trainer();
    let train = &trainer.config().train;
    output.message(format_args!(
        "{} weights, {} tokens to train on, {} steps of {} tokens, {}, on {}",
        trainer.model().weights(),
        trainer.data().train().len(),
        train.steps,
        train.positions(),
        train.dtype.name(),
        head.name(),
    ));
    if matches!(args.runtime, RuntimeName::Ane | RuntimeName::AneSim) {
        output.message(placement::plan(trainer.config(), &head.identity(), placement));
    }
    if trainer.steps_done() > 0 {
        output.message(format_args!("going on after step {}", trainer.steps_done()));
    }
    let mut progress = Progress::new(output, trainer.steps_done(), train.steps, interrupt::flag()?);
    let summary = run.finish(runtimes, &mut progress);
    progress.bar.finish_and_clear();
    let directory = args.resume.as_deref().or(args.out.as_deref()).unwrap_or(Path::new(DEFAULT_OUT));
    match summary {
        Err(RunError::Exhausted { reason, .. }) => {
            output.detail(format_args!("{reason}"));
            Ok(Some(directory.to_owned()))
        }
        Err(RunError::Interrupted { step }) => {
            Err(TrainError::Interrupted { step, directory: directory.to_owned() }.into())
        }
        summary => {
            let summary = summary?;
            output.result(describe(&summary), &summary);
            if let Some(report) = report {
                report.print(output);
            }
            Ok(None)
        }
    }
}

/// Goes on with a run in a new process, which takes this one's place.
fn go_on(args: &Args, directory: &Path, output: &Output) -> Result<(), Failure> {
    output.finish()?;
    let failed = |error: std::io::Error| TrainError::NoNewProcess(directory.to_owned(), error);
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["train", "--resume"]).arg(directory).args(output.arguments());
    command.args(["--runtime".to_string(), args.runtime.name()]).args(args.engine.arguments());
    for (flag, value) in [
        ("--weights", args.weights.to_possible_value()),
        ("--offload", args.offload.to_possible_value()),
        ("--products", args.products.to_possible_value()),
    ] {
        if let Some(value) = value {
            command.args([flag, value.get_name()]);
        }
    }
    if let Some(chip) = args.simulator.chip {
        command.args(["--chip", chip.name()]);
    }
    if let Some(limit) = args.compilations {
        command.args(["--compilations".to_string(), limit.to_string()]);
    }
    if let Some(log) = &args.log {
        command.arg("--log").arg(log);
    }
    Err(failed(replace_process(&mut command)).into())
}

/// Returns only when the system refuses.
#[cfg(unix)]
fn replace_process(command: &mut Command) -> std::io::Error {
    std::os::unix::process::CommandExt::exec(command)
}

/// Where no process can take another's place, the user starts the next.
#[cfg(not(unix))]
fn replace_process(_: &mut Command) -> std::io::Error {
    std::io::ErrorKind::Unsupported.into()
}

fn create(args: &Args, runtimes: Runtimes<'_>) -> Result<Run, Failure> {
    let directory = args.out.as_deref().unwrap_or(Path::new(DEFAULT_OUT));
    let written = || written_files(directory, args.log.as_deref());
    let config = args.config.as_deref().unwrap_or(Path::new(config::DEFAULT));
    refuse_overwriting(written(), config::file(config))?;
    let model = match &args.init {
        None => None,
        Some(init) => {
            refuse_overwriting(written(), interchange::files(init)?)?;
            Some(interchange::read(init)?)
        }
    };
    let tokenizer = match (&args.tokenizer, &args.init) {
        (Some(name), _) => {
            refuse_overwriting(written(), tokenizer::file(name))?;
            Some(tokenizer::load(name)?)
        }
        (None, Some(init)) => hugging_face::read_tokenizer(init)?,
        (None, None) => None,
    };
    let Loaded { mut config, gives_model, gives_head } =
        config::load_parts(config, model.as_ref().map(|model| &model.config))?;
    if let (Some(init), Some(read)) = (&args.init, &model) {
        if let Some(given) = args.config.as_ref().filter(|_| gives_model)
            && let Some(difference) = interchange::difference(&config.model, &read.config)
        {
            return Err(TrainError::OtherModel(difference, given.clone(), init.clone()).into());
        }
        config.model = read.config.clone();
        if args.config.is_none() {
            config.train = TrainConfig::of_llamas();
        }
    }
    let train = &mut config.train;
    train.steps = args.steps.unwrap_or(train.steps);
    train.batch = args.batch.unwrap_or(train.batch);
    train.seq = args.seq.unwrap_or(train.seq);
    train.accumulate = args.accumulate.unwrap_or(train.accumulate);
    train.recompute |= args.recompute;
    train.compact_vocab |= args.compact_vocab;
    train.lr = args.lr.unwrap_or(train.lr);
    train.label_smoothing = args.label_smoothing.unwrap_or(train.label_smoothing);
    train.z_loss = args.z_loss.unwrap_or(train.z_loss);
    train.filter = args.filter.unwrap_or(train.filter);
    train.seed = args.seed.unwrap_or(train.seed);
    train.dtype = args.dtype.map_or(train.dtype, Into::into);
    train.head = args.head.map_or(train.head, Into::into);
    config.model.soft_cap = args.soft_cap.or(config.model.soft_cap);
    let model = model.map(|model| Model { config: config.model.clone(), ..model });
    if let (Some(tokenizer), None) = (&tokenizer, &args.init)
        && config::is_built_in_for_bytes(&args.config)
    {
        config.model.vocab = config.model.vocab.max(tokenizer.vocab());
    }
    let mut data = RunData::from(source(args, config.model.vocab)?);
    data.tokenizer = tokenizer.or(data.tokenizer);
    let (vocab, bytes) = (config.model.vocab, Tokenizer::Bytes.vocab());
    if vocab > bytes && matches!(data.tokenizer, Some(Tokenizer::Bytes)) {
        warning(&format!("text is read as bytes, which are {bytes} of the {vocab} tokens of this model"));
    }
    if config.train.head == HeadKind::Fused && !args.runtime.offers_fused_head()? {
        if args.head.is_some() || gives_head {
            return Err(TrainError::NoFusedHead(args.runtime).into());
        }
        config.train.head = HeadKind::Programs;
    }
    match Run::create_from(model, config, data, directory, args.log.as_deref(), runtimes) {
        Err(RunError::Occupied(directory)) => Err(TrainError::Occupied(directory).into()),
        other => Ok(other?),
    }
}

/// What is trained on. Files that end in `.bin` hold tokens.
fn source(args: &Args, vocab: usize) -> Result<DataSource, Failure> {
    let (tokens, text): (Vec<&PathBuf>, Vec<&PathBuf>) = args
        .data
        .iter()
        .partition(|file| file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("bin")));
    let files = absolute(&args.data)?;
    match (tokens.first(), text.first()) {
        (None, _) if args.token_dtype.is_some() => Err(TrainError::NoTokens.into()),
        (None, None) => Ok(DataSource::BuiltIn),
        (None, Some(_)) => Ok(DataSource::Files(files)),
        (Some(_), None) => {
            let dtype = args.token_dtype.map_or_else(|| TokenDtype::of_vocab(vocab), Into::into);
            Ok(DataSource::Tokens { files, dtype })
        }
        (Some(&tokens), Some(&text)) => Err(TrainError::MixedData(tokens.clone(), text.clone()).into()),
    }
}

/// The paths as they are from any directory: a run may be resumed from another one.
fn absolute(paths: &[PathBuf]) -> Result<Vec<PathBuf>, FileError> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|source| FileError::Read { path: path.clone(), source })
    };
    paths.iter().map(absolute).collect()
}

fn describe(summary: &Summary) -> String {
    let counted = |nats: Option<f64>, what: &str| {
        nats.map_or("none: the data are tokens".to_string(), |nats| {
            format!("{nats} nats per byte (byte {what} of the training text)")
        })
    };
    let model =
        summary.model.as_ref().map_or("none: transformers has no soft cap".to_string(), |directory| {
            let files = [hugging_face::CONFIG, hugging_face::WEIGHTS, hugging_face::TOKENIZER];
            let files: Vec<_> = files.into_iter().filter(|file| directory.join(file).exists()).collect();
            format!("{} ({})", directory.display(), files.join(", "))
        });
    let sample = summary
        .sample
        .as_ref()
        .map_or_else(String::new, |sample| format!("\nsample\n\n{}", printable(sample.trim())));
    format!(
        "steps                 {}\n\
         validation loss       {} nats per token\n\
         loss per byte         {}\n\
         5-gram cross entropy  {}\n\
         bigram cross entropy  {}\n\
         checkpoint            {}\n\
         model                 {model}\n\
         log                   {}\n\
         loss curve            {}{sample}",
        summary.steps,
        summary.validation_loss,
        summary
            .validation_loss_per_byte
            .map_or_else(|| "none: the data are tokens".to_string(), |nats| format!("{nats} nats")),
        counted(summary.five_gram_cross_entropy, "5-grams, Witten-Bell,"),
        counted(summary.bigram_cross_entropy, "bigrams, add-one smoothing,"),
        summary.checkpoint.display(),
        summary.log.display(),
        summary.curve.display(),
    )
}

/// A bar on a terminal; elsewhere, a line for every validation.
struct Progress<'a> {
    output: &'a Output,
    bar: ProgressBar,
    is_terminal: bool,
    validation: String,
    interrupted: Arc<AtomicBool>,
}

impl<'a> Progress<'a> {
    fn new(output: &'a Output, done: u64, steps: u64, interrupted: Arc<AtomicBool>) -> Progress<'a> {
        let is_terminal = std::io::stderr().is_terminal() && output.has_messages();
        let target =
            if is_terminal { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} steps, {eta} left, {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_position(done);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { output, bar, is_terminal, validation: String::new(), interrupted }
    }
}

impl Observer for Progress<'_> {
    fn step(&mut self, record: &Record, steps: u64) {
        if let Some(loss) = record.val_loss {
            self.validation = format!(", validation {loss:.4}");
            if !self.is_terminal {
                self.output.message(format_args!(
                    "step {}/{steps}  loss {:.4}  validation {loss:.4}  {:.0} tokens/s",
                    record.step, record.loss, record.tokens_per_s
                ));
            }
        }
        self.bar.set_position(record.step);
        self.bar.set_message(format!(
            "loss {:.4}{}, {:.0} tokens/s",
            record.loss, self.validation, record.tokens_per_s
        ));
    }

    fn checkpoint(&mut self, step: u64, path: &Path) {
        if !self.is_terminal {
            self.output.detail(format_args!("checkpoint after step {step}: {}", path.display()));
        }
    }

    fn interrupts(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
