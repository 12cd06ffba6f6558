//! `anemone emit`: programs and the weights they refer to.

mod layer;
mod planned;

use std::path::{Path, PathBuf};

use anemone_ane::chips::Chip;
use anemone_lm::config::DeviceDtype;
use anemone_lm::head::transpose;
use anemone_lm::programs::head::{EPS, Head};
use anemone_lm::programs::{ProgramError, Target};
use anemone_lm::random::Random;
use anemone_mil::program::Program;
use anemone_mil::tensor::{Data, Tensor, TensorError};
use anemone_mil::text;
use anemone_mil::types::TensorType;
use anemone_mil::weights::{BlobError, write_blob_file};
use clap::ValueEnum;
use serde::Serialize;
use thiserror::Error;

use crate::common::engine::WeightsName;
use crate::common::files::{self, FileError, refuse_overwriting, serialize_path};
use crate::common::flags::{DtypeName, HeadDimensions, count};
use crate::common::random::normal;
use crate::common::{Failure, Output, npy};

/// Flags of `emit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Write the classifier head: final RMSNorm, classifier forward, softmax, classifier backward
    Head(HeadArgs),
    /// Write one layer of a model: forward.mil, and the backward.mil derived from it, which reads forward's results
    Layer(layer::LayerArgs),
}

#[derive(Debug, clap::Args)]
#[command(mut_arg("seed", |seed| seed.help("Seed of the weights that no file gives")))]
struct HeadArgs {
    #[command(flatten)]
    dimensions: HeadDimensions,
    /// Directory for the programs, with the weights under weights/; files of these names are replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Classifier matrix E, an array [V, D], rounded to the dtype (default: made from the seed)
    #[arg(long, value_name = "FILE.npy")]
    embed: Option<PathBuf>,
    /// Gain g of the RMSNorm, D numbers, rounded to the dtype (default: made from the seed)
    #[arg(long, value_name = "FILE.npy")]
    gain: Option<PathBuf>,
    #[command(flatten)]
    common: CommonFlags,
    /// Chip to cut the head for, as `anemone plan head` says: m1, m2, m3, m4, m5 or m6 (default: no cuts)
    #[arg(long, value_name = "CHIP", conflicts_with_all = ["dialect", "dtype"])]
    chip: Option<Chip>,
    /// Write the form without logits, for a chip
    #[arg(long, requires = "chip")]
    fused: bool,
    /// How programs for a chip get their weights
    #[arg(long, value_enum, value_name = "HOW", default_value = "inputs", requires = "chip")]
    weights: WeightsName,
}

/// Flags of head and layer alike.
#[derive(Debug, clap::Args)]
struct CommonFlags {
    /// Seed of the weights
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    #[arg(value_parser = count::<u64, 0, { u64::MAX }>)]
    seed: u64,
    /// Version of the program text; 1.0 is written for opset ios16, 1.3 for ios18
    #[arg(long, value_enum, value_name = "VERSION", default_value = "1.3")]
    dialect: Dialect,
    /// Element type of activations and weights
    #[arg(long, value_enum, value_name = "DTYPE", default_value = "fp16")]
    dtype: DtypeName,
}

impl CommonFlags {
    /// What programs are written for, where no chip is given.
    fn target(&self) -> Target {
        let dtype = DeviceDtype::from(self.dtype);
        match self.dialect {
            Dialect::V1_0 => Target::first_dialect(dtype),
            Dialect::V1_3 => Target::new(dtype),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dialect {
    #[value(name = "1.0")]
    V1_0,
    #[value(name = "1.3")]
    V1_3,
}

/// A weight file that cannot be written.
#[derive(Debug, Error)]
#[error("cannot write {}: {error}", path.display())]
struct WriteError {
    path: PathBuf,
    error: BlobError,
}

/// Writes programs and weights.
///
/// # Errors
///
/// When a dimension is out of range, an array cannot be read or has another shape, or a file cannot be written.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    match &args.what {
        What::Head(args) => head(args, output),
        What::Layer(args) => layer::emit(args, output),
    }
}

fn head(args: &HeadArgs, output: &Output) -> Result<(), Failure> {
    args.dimensions.validate()?;
    if let Some(chip) = args.chip {
        return planned::emit(args, chip, output);
    }
    let HeadDimensions { vocab, dim, seq } = args.dimensions;
    let head = Head { vocab, dim, positions: seq, eps: EPS, target: args.common.target() };
    let weights = ["rms_w.bin", "embed.bin", "embed_t.bin"].map(|name| args.out.join("weights").join(name));
    let programs: [(&str, Result<Program, ProgramError>); 4] = [
        ("final_rmsnorm.mil", head.final_rmsnorm()),
        ("classifier_forward.mil", head.classifier_forward()),
        ("softmax.mil", head.softmax()),
        ("classifier_backward.mil", head.classifier_backward()),
    ];
    let programs = programs.map(|(name, program)| (args.out.join(name), program));
    let written = weights.iter().chain(programs.iter().map(|(path, _)| path));
    refuse_overwriting(written, args.embed.iter().chain(&args.gain))?;

    let (gain, embed) = (gain(args, &head)?, embed(args, &head)?);
    let embed_t = transposed(&embed, vocab, dim)?;
    let tensors = [gain.reshaped(&[1, dim, 1, 1])?, embed.reshaped(&[vocab, dim, 1, 1])?, embed_t];
    files::make_directory(&args.out.join("weights"))?;
    // Weights first: a program that is there finds what it refers to.
    for (path, tensor) in weights.iter().zip(&tensors) {
        write_weight(path, tensor, output)?;
    }
    for (path, program) in programs {
        write_program(&path, &program?, output)?;
    }
    Ok(())
}

/// Streams of the seed's random numbers.
const GAIN_STREAM: u64 = 0;
const EMBED_STREAM: u64 = 1;

/// g: as given, else 1 + N(0, 0.1²), near what training leaves.
fn gain(args: &HeadArgs, head: &Head) -> Result<Tensor, Failure> {
    let ty = TensorType::new(head.target.mil_dtype(), &[head.dim]);
    match &args.gain {
        Some(path) => npy::read(path, &ty, &format!("the gain, {ty}")),
        None => {
            let random = Random::stream(args.common.seed, GAIN_STREAM);
            Ok(normal(&ty, &[head.dim], random, 1.0, 0.1)?)
        }
    }
}

/// E: as given, else N(0, 0.02²), the usual initial weights.
fn embed(args: &HeadArgs, head: &Head) -> Result<Tensor, Failure> {
    let dims = [head.vocab, head.dim];
    let ty = TensorType::new(head.target.mil_dtype(), &dims);
    match &args.embed {
        Some(path) => npy::read(path, &ty, &format!("the classifier matrix, {ty}")),
        None => {
            let random = Random::stream(args.common.seed, EMBED_STREAM);
            Ok(normal(&ty, &dims, random, 0.0, 0.02)?)
        }
    }
}

/// Eᵀ `[1, D, V]` from E `[V, D]`.
fn transposed(embed: &Tensor, vocab: usize, dim: usize) -> Result<Tensor, TensorError> {
    let mut data = Data::zeros(embed.dtype(), embed.len()).ok_or_else(|| TensorError::Memory(embed.ty()))?;
    match (embed.data(), &mut data) {
        (Data::F16(from), Data::F16(to)) => transpose(from, to, vocab, dim),
        (Data::F32(from), Data::F32(to)) => transpose(from, to, vocab, dim),
        _ => return Err(TensorError::Storage(embed.dtype())),
    }
    Tensor::new(embed.dtype(), &[1, dim, vocab], data)
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    ty: Option<String>,
    bytes: u64,
}

fn write_weight(path: &Path, tensor: &Tensor, output: &Output) -> Result<(), Failure> {
    write_blob_file(path, |writer| writer.append(tensor))
        .map_err(|error| WriteError { path: path.to_owned(), error })?;
    tell(path, Some(tensor.ty().to_string()), output)
}

/// Says that a file of weights is written.
fn tell(path: &Path, ty: Option<String>, output: &Output) -> Result<(), Failure> {
    let read = |source| FileError::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(read)?.len();
    let shape = ty.as_ref().map_or(String::new(), |ty| format!("{ty}, "));
    output.result(format!("{}: {shape}{bytes} bytes", path.display()), &Line { file: path, ty, bytes });
    Ok(())
}

fn write_program(path: &Path, program: &Program, output: &Output) -> Result<(), Failure> {
    let text = text::write(program);
    files::replace(path, text.as_bytes())?;
    let bytes = text.len() as u64;
    output.result(format!("{}: {bytes} bytes", path.display()), &Line { file: path, ty: None, bytes });
    Ok(())
}
