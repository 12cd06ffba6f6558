//! One layer of a model: its forward and backward, and its weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anemone_ane::chips::Chip;
use anemone_lm::config::{Config, DeviceDtype, MAX_DIMENSION};
use anemone_lm::programs::Target;
use anemone_lm::programs::layer::{Layer, LayerPair, LayerParameter, Role, layer_parameters};
use anemone_lm::random::Random;
use anemone_lm::rewriting::Rewriting;
use anemone_mil::passes::{bake, store_constants};
use anemone_mil::program::{BlobReference, Program};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;
use anemone_mil::verify::{Verified, verify};
use anemone_mil::weights::{BlobError, MODEL_PATH, write_blob_file};

use super::{CommonFlags, WriteError, tell, write_program};
use crate::common::engine::WeightsName;
use crate::common::files::{self, refuse_overwriting};
use crate::common::flags::count;
use crate::common::legal::{legal_layer, purpose};
use crate::common::random::normal;
use crate::common::{Failure, Output, config, npy};

/// Flags of `emit layer`.
#[derive(Debug, clap::Args)]
pub(super) struct LayerArgs {
    /// Configuration of the model: built in (tiny, small, stories15m, stories42m, stories110m, qwen3-0.6b), a TOML file, or a Hugging Face config.json
    #[arg(long, value_name = "NAME|FILE", default_value = config::DEFAULT)]
    config: PathBuf,
    /// Tokens per sequence, T [default: the configuration's]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    #[arg(value_parser = count::<usize, 1, { MAX_DIMENSION as u64 }>)]
    seq: Option<usize>,
    /// Sequences, B [default: the configuration's]
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    #[arg(value_parser = count::<usize, 1, { MAX_DIMENSION as u64 }>)]
    batch: Option<usize>,
    /// Directory for the programs, with the weights under weights/; files of these names are replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    common: CommonFlags,
    /// Chip whose engine is to take the programs: m1, m2, m3, m4, m5 or m6 (default: as they stand in formulas)
    #[arg(long, value_name = "CHIP", conflicts_with_all = ["dialect", "dtype"])]
    chip: Option<Chip>,
    /// How the programs get their weights: as inputs, an array of each in weights/NAME.npy, or as constants in weights/forward.bin and weights/backward.bin
    #[arg(long, value_enum, value_name = "HOW", default_value = "inputs")]
    weights: WeightsName,
}

/// A program of the layer, before it is written.
struct Part {
    name: &'static str,
    program: Program,
}

/// Writes forward.mil and backward.mil of one layer, and its weights.
///
/// # Errors
///
/// When a dimension is out of range, the model has no layers, the chip's engine does not take them, or a file cannot be
/// written.
pub(super) fn emit(args: &LayerArgs, output: &Output) -> Result<(), Failure> {
    let config = settings(args)?;
    let parameters = layer_parameters(&config.model);
    let target = args.common.target();
    let layer = Layer { config: &config.model, batch: config.train.batch, seq: config.train.seq, target };
    let LayerPair { forward, backward } = layer.differentiated()?;
    let weights = weights(args.common.seed, &parameters, target)?;
    let parts = [("forward", forward), ("backward", backward)].map(|(name, program)| {
        let program = part(args, program, &parameters, &weights, output)?;
        Ok::<_, Failure>(Part { name, program })
    });
    let [forward, backward] = parts;
    let mut parts = [forward?, backward?];

    let directory = args.out.join("weights");
    let blobs = parts.each_ref().map(|part| directory.join(format!("{}.bin", part.name)));
    let texts = parts.each_ref().map(|part| args.out.join(format!("{}.mil", part.name)));
    let arrays: Vec<(PathBuf, Tensor)> = match args.weights {
        WeightsName::Baked => Vec::new(),
        WeightsName::Inputs => arrays(&directory, &parts[0].program, &parameters, &weights)?,
    };
    let written = arrays.iter().map(|(path, _)| path).chain(&blobs).chain(&texts);
    refuse_overwriting(written, config::file(&args.config).map(Path::to_owned).as_ref())?;
    files::make_directory(&directory)?;
    // Weights first: a program that is there finds what it refers to.
    for (path, tensor) in &arrays {
        npy::write(path, tensor)?;
        tell(path, Some(tensor.ty().to_string()), output)?;
    }
    for ((part, blob), text) in parts.iter_mut().zip(&blobs).zip(&texts) {
        if store(&mut part.program, blob, part.name)? {
            tell(blob, None, output)?;
        }
        write_program(text, &part.program, output)?;
    }
    Ok(())
}

/// The configuration, with what the flags say.
fn settings(args: &LayerArgs) -> Result<Config, Failure> {
    let mut config = config::load(&args.config)?;
    let train = &mut config.train;
    train.batch = args.batch.unwrap_or(train.batch);
    train.seq = args.seq.unwrap_or(train.seq);
    train.dtype = DeviceDtype::from(args.common.dtype);
    config.validate()?;
    if config.model.layers == 0 {
        return Err(Failure::new(format!("the model of `{}` has no layers", args.config.display())));
    }
    Ok(config)
}

/// Weights as their programs have them: gains of 1 + N(0, 0.1²), near what training leaves, and matrices of N(0, 0.02²),
/// the usual initial weights.
fn weights(seed: u64, parameters: &[LayerParameter], target: Target) -> Result<Vec<Arc<Tensor>>, Failure> {
    let weight = |(stream, parameter): (u64, &LayerParameter)| {
        let dims = parameter.device_shape();
        let ty = TensorType::new(target.mil_dtype(), &dims);
        let (mean, sd) = if parameter.role == Role::Gain { (1.0, 0.1) } else { (0.0, 0.02) };
        Ok(Arc::new(normal(&ty, &dims, Random::stream(seed, stream), mean, sd)?))
    };
    (0..).zip(parameters).map(weight).collect()
}

/// A program with its weights where they are wanted, as the chip takes it.
fn part(
    args: &LayerArgs,
    program: Program,
    parameters: &[LayerParameter],
    weights: &[Arc<Tensor>],
    output: &Output,
) -> Result<Program, Failure> {
    let mut program = program;
    if args.weights == WeightsName::Baked {
        let function = &program.functions[0];
        let inputs: Vec<&str> =
            function.body.inputs.iter().map(|&id| function.value(id).name.as_str()).collect();
        let given = parameters.iter().zip(weights).filter(|(parameter, _)| inputs.contains(&parameter.input));
        let values: Vec<_> = given.map(|(parameter, weight)| (parameter.input, weight.clone())).collect();
        let name = function.name.clone();
        program = bake(&verify(program)?, &name, &values)?.program.into_program();
    }
    let Some(chip) = args.chip else { return Ok(program) };
    let rewrite = |program: &Verified| legal_layer(program, chip.into(), output);
    Ok(Rewriting { name: &purpose(chip.into()), rewrite: &rewrite }.apply(program)?)
}

/// The weights in the dimensions of forward's inputs, each with its file.
fn arrays(
    directory: &Path,
    forward: &Program,
    parameters: &[LayerParameter],
    weights: &[Arc<Tensor>],
) -> Result<Vec<(PathBuf, Tensor)>, Failure> {
    let function = &forward.functions[0];
    let inputs = function.body.inputs.iter().skip(1).map(|&id| function.value(id));
    let array =
        |((parameter, weight), input): ((&LayerParameter, &Arc<Tensor>), &anemone_mil::program::Value)| {
            let dims = input.ty.as_tensor().and_then(|ty| ty.shape.to_known()).unwrap_or_default();
            let path = directory.join(format!("{}.npy", parameter.input));
            Ok((path, Tensor::clone(weight).reshaped(&dims)?))
        };
    parameters.iter().zip(weights).zip(inputs).map(array).collect()
}

/// Constants of more elements than these stand in the file beside the text.
const IN_TEXT: usize = 64;

/// Puts a program's longer constants into a file; says whether there are any.
fn store(program: &mut Program, path: &Path, name: &str) -> Result<bool, Failure> {
    let (dialect, nothing) = (program.version.dialect(), Program::new(program.version));
    let goes = |tensor: &Tensor| tensor.len() > IN_TEXT && tensor.dtype().blob_code().is_some();
    let mut found = false;
    store_constants::<BlobError>(&mut program.clone(), &nothing, |_, tensor| {
        found |= goes(tensor);
        Ok(None)
    })?;
    if !found {
        return Ok(false);
    }
    write_blob_file(path, |writer| {
        store_constants(program, &nothing, |_, tensor| {
            if !goes(tensor) {
                return Ok(None);
            }
            let offset = writer.append(tensor)?;
            let path = format!("{MODEL_PATH}/weights/{name}.bin");
            Ok::<_, BlobError>(Some(BlobReference { path, offset, dialect }))
        })
    })
    .map_err(|error| WriteError { path: path.to_owned(), error })?;
    Ok(true)
}
