//! Compiling and running a probe, and comparing what it gives with the simulator.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anemone_mil::program::{Function, LiteralValue};
use anemone_mil::runtime::{Port, Runtime, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{TensorType, Type};
use anemone_mil::verify::{Verified, verify_known};
use anemone_mil::weights::{MODEL_PATH, WeightDirectory, write_blob_file};
use serde::{Deserialize, Serialize};

use super::{Probe, Subject};
use crate::chips::Chip;
use crate::device::{DeviceError, Interface, Source, pack, unpack};
use crate::simulator::Simulator;

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observation {
    /// The compiler refuses the program.
    Refused {
        /// Its words.
        reason: String,
    },
    /// It compiles; it was not run, for what it takes cannot be made up.
    Compiled {
        /// Why it was not run.
        reason: String,
    },
    /// It compiles, and the run fails.
    Failed {
        /// What the interface says.
        reason: String,
    },
    /// It ran.
    Ran {
        /// How its results compare with the simulator's; `None` where it does not run there.
        comparison: Option<Comparison>,
        /// The median time of a run, in microseconds.
        microseconds: f64,
    },
    /// It could not be asked.
    NotAsked {
        /// Why.
        reason: String,
    },
}

/// Results, number by number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// How many there are.
    pub elements: usize,
    /// How many differ, NaN being NaN.
    pub different: usize,
    /// The largest difference, of those that are numbers.
    pub largest: f64,
    /// The first that differs, or the first of all.
    pub first: Option<Difference>,
}

/// One number, in decimal, `inf` or `NaN`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Its position, over all results.
    pub position: usize,
    /// What the engine gives.
    pub engine: String,
    /// What the simulator gives.
    pub simulator: String,
}

/// Runs whose time is taken end after about so long, however few they were.
const LONGEST: Duration = Duration::from_secs(1);
/// The largest weight files that are made up for a probe, in bytes.
const MOST_WEIGHTS: u64 = 1 << 26;

/// Compiles a probe by an interface, runs it if that succeeds, and compares its results with those of a chip's
/// simulator.
pub fn observe(interface: &dyn Interface, probe: &Probe, chip: Chip) -> Observation {
    match try_observe(interface, probe, chip) {
        Ok(observation) => observation,
        Err(reason) => Observation::NotAsked { reason },
    }
}

fn try_observe(interface: &dyn Interface, probe: &Probe, chip: Chip) -> Result<Observation, String> {
    let parsed = text::parse(&probe.text).map_err(|errors| errors.to_string())?;
    let verified = Arc::new(verify_known(parsed.program).map_err(|errors| errors.to_string())?);
    let function = verified.program().functions.first().ok_or("the program has no function")?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    write_weights(&verified, directory.path())?;
    let model = directory.path().join("model.mil");
    std::fs::write(&model, probe.text.as_bytes()).map_err(|error| error.to_string())?;
    let source = Source { directory: directory.path(), model: &model, function: &function.name };
    let compiled = match interface.compile(source) {
        Ok(compiled) => compiled,
        Err(DeviceError::Compilation(reason)) => return Ok(Observation::Refused { reason }),
        Err(error) => return Err(error.to_string()),
    };
    let (inputs, outputs) = match (ports(function, true), ports(function, false)) {
        (Some(inputs), Some(outputs)) => (inputs, outputs),
        _ => {
            let reason = "it takes or gives what is no tensor of known size".to_string();
            return Ok(Observation::Compiled { reason });
        }
    };
    let given = inputs.iter().enumerate().map(|(position, port)| given(probe, position, &port.ty));
    let given: Vec<Tensor> = given.collect::<Option<_>>().ok_or("an input cannot be made up")?;
    let ran = (|| {
        let mut bound = compiled.bind(&inputs, &outputs)?;
        for (position, tensor) in given.iter().enumerate() {
            pack(tensor, bound.input(position))?;
        }
        let mut times = Vec::new();
        let first = Instant::now();
        for _ in 0..probe.runs {
            let start = Instant::now();
            bound.run()?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
            if first.elapsed() > LONGEST {
                break;
            }
        }
        times.sort_by(f64::total_cmp);
        let mut results: Vec<Tensor> = outputs.iter().filter_map(|port| zeros(&port.ty)).collect();
        for (position, result) in results.iter_mut().enumerate() {
            unpack(bound.output(position), result)?;
        }
        Ok((results, times[times.len() / 2]))
    })();
    match ran {
        Err(error @ DeviceError::Unsupported(_)) => Ok(Observation::Compiled { reason: error.to_string() }),
        Err(error) => Ok(Observation::Failed { reason: error.to_string() }),
        Ok((results, microseconds)) => {
            let expected = match probe.subject {
                // Only the time is asked for.
                Subject::Speed { .. } => None,
                _ => simulated(&verified, function, directory.path(), &given, chip),
            };
            let comparison = expected.map(|expected| compare(&results, &expected));
            Ok(Observation::Ran { comparison, microseconds })
        }
    }
}

/// The inputs or outputs, where all are tensors of known size.
fn ports(function: &Function, inputs: bool) -> Option<Vec<Port>> {
    let ids = if inputs { &function.body.inputs } else { &function.body.outputs };
    ids.iter()
        .map(|&id| {
            let value = function.value(id);
            let ty = value.ty.as_tensor().filter(|_| !matches!(value.ty, Type::State(_)))?;
            ty.shape.to_known()?;
            Some(Port { name: value.name.clone(), ty })
        })
        .collect()
}

fn zeros(ty: &TensorType) -> Option<Tensor> {
    Tensor::zeros(ty.dtype, &ty.shape.to_known()?)
}

/// What an input holds.
fn given(probe: &Probe, position: usize, ty: &TensorType) -> Option<Tensor> {
    /// Small numbers of both signs, which add up to zero.
    const SMALL: [f64; 7] = [0.5, -1.0, 0.25, 1.5, -0.75, 0.0, -0.5];
    let values = probe.inputs.get(position).map_or(&SMALL[..], Vec::as_slice);
    let dims = ty.shape.to_known()?;
    let count = usize::try_from(ty.shape.elements()?).ok()?;
    if ty.dtype.is_float() {
        let all: Vec<f64> = values.iter().copied().cycle().take(count).collect();
        return Tensor::from_f64(ty.dtype, &dims, &all).ok();
    }
    zeros(ty)
}

/// Writes the weight files that a program names, of zeros.
fn write_weights(verified: &Verified, directory: &Path) -> Result<(), String> {
    let mut files: BTreeMap<&str, BTreeMap<u64, TensorType>> = BTreeMap::new();
    let mut bytes = 0u64;
    for (_, op) in verified.program().functions.iter().flat_map(Function::walk) {
        for (_, literal) in op.literals() {
            let (LiteralValue::Blob(blob), Some(ty)) = (&literal.value, literal.ty.as_tensor()) else {
                continue;
            };
            let elements = ty.shape.elements().unwrap_or(u64::MAX);
            bytes = bytes.saturating_add(elements.saturating_mul(u64::from(ty.dtype.bits()) / 8));
            files.entry(&blob.path).or_default().insert(blob.offset, ty);
        }
    }
    if bytes > MOST_WEIGHTS {
        return Err(format!("its weights would take {bytes} bytes"));
    }
    for (path, blobs) in files {
        let relative = path.strip_prefix(MODEL_PATH).map(|path| path.trim_start_matches('/'));
        let path = directory.join(relative.ok_or("a weight file lies elsewhere")?);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
        }
        let tensors: Option<Vec<Tensor>> = blobs.values().map(zeros).collect();
        let tensors = tensors.ok_or("a weight's size is not known")?;
        let offsets: Vec<u64> = blobs.keys().copied().collect();
        let written =
            write_blob_file(&path, |writer| tensors.iter().map(|tensor| writer.append(tensor)).collect());
        let written: Vec<u64> =
            written.map_err(|error: anemone_mil::weights::BlobError| error.to_string())?;
        if written != offsets {
            return Err("its weights do not lie one after the other".to_string());
        }
    }
    Ok(())
}

/// What the simulator gives, if the program runs there.
fn simulated(
    verified: &Arc<Verified>,
    function: &Function,
    directory: &Path,
    inputs: &[Tensor],
    chip: Chip,
) -> Option<Vec<Tensor>> {
    let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
    let weights = WeightDirectory::new(directory);
    let simulator = Simulator::without_rules(chip);
    let mut executable = simulator.prepare(verified, &function.name, &types, &weights).ok()?;
    let mut outputs = allocate_outputs(executable.as_ref()).ok()?;
    executable.run(&inputs.iter().collect::<Vec<_>>(), &mut outputs).ok()?;
    Some(outputs)
}

fn compare(engine: &[Tensor], simulator: &[Tensor]) -> Comparison {
    let numbers = |tensors: &[Tensor]| -> Vec<f64> {
        let integers =
            |tensor: &Tensor| Some(tensor.to_i64()?.into_iter().map(|value| value as f64).collect());
        tensors
            .iter()
            .flat_map(|tensor| tensor.to_f64().or_else(|| integers(tensor)).unwrap_or_default())
            .collect()
    };
    let (engine, simulator) = (numbers(engine), numbers(simulator));
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    let pairs = || engine.iter().copied().zip(simulator.iter().copied()).enumerate();
    let differing = || pairs().filter(|(_, (a, b))| !same(*a, *b));
    let distances = differing().map(|(_, (a, b))| (a - b).abs());
    // What is a number on one side alone is as far off as can be.
    let farther = |most: f64, one: f64| if one.is_nan() { f64::INFINITY } else { most.max(one) };
    let first = differing().next().or_else(|| pairs().next());
    Comparison {
        elements: engine.len().max(simulator.len()),
        different: differing().count() + engine.len().abs_diff(simulator.len()),
        largest: distances.fold(0.0, farther),
        first: first.map(|(position, (engine, simulator))| Difference {
            position,
            engine: engine.to_string(),
            simulator: simulator.to_string(),
        }),
    }
}
