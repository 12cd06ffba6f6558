//! A new run from flags: its configuration, its first weights and its data.

use std::path::{Path, PathBuf};

use anemone_lm::config::{Config, TrainConfig};
use anemone_lm::data::{TokenDtype, built_in_text, read_text, training_part};
use anemone_lm::head::{HeadKind, Runtimes};
use anemone_lm::interchange::{self, hugging_face};
use anemone_lm::model::Model;
use anemone_lm::run::{DataSource, Run, RunData, RunError, written_files};
use anemone_lm::tokenizer::{Tokenizer, TokenizerFile};

use super::{Args, DEFAULT_OUT, TrainError};
use crate::common::config::{self, Loaded};
use crate::common::files::{FileError, refuse_overwriting};
use crate::common::output::warning;
use crate::common::{Failure, tokenizer};

/// A new run, as the flags say.
///
/// # Errors
///
/// When a file or the data are unusable, flags do not go together, or the directory holds a run.
pub(super) fn create(args: &Args, runtimes: Runtimes<'_>) -> Result<Run, Failure> {
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
        (Some(name), _) => Some(match tokenizer::learned(name)? {
            Some(vocab) => learned(&source(args, vocab)?, vocab)?,
            None => {
                refuse_overwriting(written(), tokenizer::file(name))?;
                tokenizer::load(name)?
            }
        }),
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
    set(&mut config, args);
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

/// The tokenizer of so many tokens that the text to train on gives, without the part that is for validation.
fn learned(source: &DataSource, vocab: usize) -> Result<Tokenizer, Failure> {
    let text = match source {
        DataSource::BuiltIn => built_in_text(),
        DataSource::Files(files) => read_text(files)?,
        DataSource::Tokens { .. } => return Err(TrainError::LearnFromTokens.into()),
    };
    Ok(Tokenizer::File(TokenizerFile::learn(training_part(&text), vocab)?))
}

/// Sets what flags give.
fn set(config: &mut Config, args: &Args) {
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
