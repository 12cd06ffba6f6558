//! `anemone train`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anemone_cpu::Options;
use anemone_lm::head::Runtimes;
use anemone_lm::interchange::Difference;
use anemone_lm::interchange::hugging_face;
use anemone_lm::log::Record;
use anemone_lm::rewriting::Rewriting;
use anemone_lm::run::{Observer, Run, RunError, Summary};
use anemone_mil::runtime::Runtime;
use anemone_mil::verify::Verified;
use anemone_model::text::printable;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use thiserror::Error;

use crate::common::runtime::RuntimeName;
use crate::common::simulator::SimulatorReport;
use crate::common::{Failure, Output, interrupt};

mod create;
mod flags;
mod placement;

use create::create;
use flags::Offload;
use placement::Placement;

pub(crate) use flags::Args;

/// The directory that a run writes to unless told otherwise.
const DEFAULT_OUT: &str = "anemone-out";

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
    /// A tokenizer to be learned from data that are tokens already.
    #[error("`--tokenizer bpe` learns from text, and `--data` names files of tokens")]
    LearnFromTokens,
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
