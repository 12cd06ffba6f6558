//! A function as the engine is given it: one text, weights in files beside it or as further inputs.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anemone_mil::ops::Conv;
use anemone_mil::passes::{PassError, Rewritten, bind_literals, unbake};
use anemone_mil::program::{BlobReference, Function, Literal, LiteralValue, Op, OpId, Program, ValueId};
use anemone_mil::runtime::{Port, RuntimeError};
use anemone_mil::specialize::Specialized;
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{TensorType, Type};
use anemone_mil::verify::{CONST, Verified, verify, verify_known};
use anemone_mil::weights::{ALIGNMENT, BlobError, BlobWriter, MODEL_PATH, WeightSource};

use crate::chips::Chips;
use crate::legalize::{convolutions_to_products, named_parameters};

use super::engine::Weights;
use super::{DeviceError, packing};

/// Constants of more elements than these stand in files, not in the text.
const IN_TEXT: usize = 64;

/// A function for the engine.
#[derive(Debug)]
pub(super) struct DeviceProgram {
    /// The text of a program with the one function.
    pub text: String,
    /// The function's name.
    pub function: String,
    /// Its inputs: those that a run takes, then [`DeviceProgram::weights`].
    pub inputs: Vec<Port>,
    /// Its outputs.
    pub outputs: Vec<Port>,
    /// The constants of the function that are inputs here, in their order; ids are those of the specialized function.
    pub weights: Vec<ValueId>,
    /// The constants in files: path under the directory, and which.
    pub files: Vec<(String, ValueId)>,
}

/// A program of one function alone, in which every weight in a file has a name, settled for inputs of these types.
///
/// # Errors
///
/// Those of [`Specialized::new`].
pub(super) fn specialize(
    program: &Verified,
    function: &str,
    inputs: &[TensorType],
    weights: &dyn WeightSource,
) -> Result<Specialized, RuntimeError> {
    let Some((_, found)) = program.program().function(function) else {
        // The error says which there are.
        return Specialized::new(program, function, inputs, weights);
    };
    let mut alone = Program { functions: vec![found.clone()], ..program.program().clone() };
    bind_literals(&mut alone.functions[0], program.program().version.dialect());
    let alone = verify_known(alone).map_err(|errors| RuntimeError::Interface(errors.to_string()))?;
    Specialized::new(&alone, function, inputs, weights)
}

/// The function's constants in files, each with its values in the program: what any other runtime takes as it is.
pub(super) fn with_values(specialized: &Specialized) -> Result<Verified, DeviceError> {
    let mut program = specialized.program.program().clone();
    for (id, result) in constants(&program.functions[0]) {
        let Some(value) = specialized.facts.constant(result) else { continue };
        set_value(&mut program.functions[0], id, LiteralValue::Tensor(value.clone()));
    }
    checked(program)
}

impl DeviceProgram {
    /// Writes a specialized function for the engine.
    ///
    /// # Errors
    ///
    /// When it has states, a size is not known before a run, or no buffer holds one of its inputs or outputs.
    pub(super) fn new(specialized: &Specialized, weights: Weights) -> Result<DeviceProgram, DeviceError> {
        if let Some((_, state)) = specialized.states.first() {
            let message = format!("`{}` is a state, which the engine's compiler refuses (R42)", state.name);
            return Err(DeviceError::Unsupported(message));
        }
        let function = specialized.function().name.clone();
        let mut rewriting = Rewriting::of(specialized)?;
        if weights == Weights::Inputs {
            // The engine is reported to ignore a convolution's weight that is an input.
            let wanted = |row: &Conv| row.weight.id.is_some_and(|id| is_large(rewriting.function(), id));
            let products = convolutions_to_products(&rewriting.program, "R25", wanted);
            rewriting.take(products)?;
            let names = replaceable(&rewriting.program);
            if !names.is_empty() {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let unbaked = unbake(&rewriting.program, &function, &names);
                rewriting.take(unbaked.map(|(rewritten, _)| rewritten))?;
            }
        }
        let named = named_parameters(&rewriting.program, Chips::NONE);
        rewriting.take(named)?;
        let Rewriting { program, ids } = rewriting;
        let mut program = program.into_program();
        let old = |new: ValueId| ids.iter().position(|id| *id == Some(new)).map(|old| ValueId(old as u32));
        let taken = specialized.inputs.len();
        let weights: Vec<ValueId> =
            program.functions[0].body.inputs.iter().skip(taken).filter_map(|&id| old(id)).collect();
        let mut files = Vec::new();
        for (id, result) in constants(&program.functions[0]) {
            let value = old(result).and_then(|old| Some((old, specialized.facts.constant(old)?)));
            let Some((old, value)) = value else { continue };
            let literal = if value.len() > IN_TEXT && value.dtype().blob_code().is_some() {
                let path = format!("weights/{}.bin", files.len());
                let dialect = program.version.dialect();
                let reference =
                    BlobReference { path: format!("{MODEL_PATH}/{path}"), offset: ALIGNMENT, dialect };
                files.push((path, old));
                LiteralValue::Blob(reference)
            } else {
                LiteralValue::Tensor(value.clone())
            };
            set_value(&mut program.functions[0], id, literal);
        }
        let ports = |ids: &[ValueId]| {
            ids.iter().map(|&id| port(&program.functions[0], id)).collect::<Result<Vec<_>, _>>()
        };
        let inputs = ports(&program.functions[0].body.inputs)?;
        let outputs = ports(&program.functions[0].body.outputs)?;
        let mut seen = HashSet::new();
        if let Some(twice) = inputs.iter().chain(&outputs).find(|port| !seen.insert(&port.name)) {
            let message = format!("`{}` is an input or output twice (R47)", twice.name);
            return Err(DeviceError::Unsupported(message));
        }
        Ok(DeviceProgram { text: text::write(&program), function, inputs, outputs, weights, files })
    }

    /// Writes text and weights into a directory, and gives the text's path.
    ///
    /// # Errors
    ///
    /// When the system refuses, or a weight has no form in a file.
    pub(super) fn write(&self, directory: &Path, values: &[Arc<Tensor>]) -> Result<PathBuf, DeviceError> {
        let failed = |error: std::io::Error| DeviceError::Files(error.to_string());
        let model = directory.join("model.mil");
        fs::create_dir(directory.join("weights")).map_err(failed)?;
        for ((path, _), value) in self.files.iter().zip(values) {
            let file = File::create(directory.join(path)).map_err(failed)?;
            write_blob(file, value).map_err(|error| DeviceError::Files(error.to_string()))?;
        }
        fs::write(&model, &self.text).map_err(failed)?;
        Ok(model)
    }
}

/// A program that passes rewrite, and what its first function's values have become.
struct Rewriting {
    program: Verified,
    /// By the ids of the specialized function.
    ids: Vec<Option<ValueId>>,
}

impl Rewriting {
    fn of(specialized: &Specialized) -> Result<Rewriting, DeviceError> {
        let program = checked(specialized.program.program().clone())?;
        let ids = (0..specialized.function().values.len()).map(|id| Some(ValueId(id as u32))).collect();
        Ok(Rewriting { program, ids })
    }

    fn function(&self) -> &Function {
        &self.program.program().functions[0]
    }

    fn take(&mut self, rewritten: Result<Rewritten, PassError>) -> Result<(), DeviceError> {
        let rewritten = rewritten.map_err(|error| DeviceError::Unsupported(error.to_string()))?;
        let map = &rewritten.ids[0];
        self.ids.iter_mut().for_each(|id| *id = id.and_then(|id| map.value(id)));
        self.program = rewritten.program;
        Ok(())
    }
}

fn write_blob(file: File, value: &Tensor) -> Result<(), BlobError> {
    let mut writer = BlobWriter::new(BufWriter::new(file))?;
    writer.append(value)?;
    writer.finish()?;
    Ok(())
}

fn checked(program: Program) -> Result<Verified, DeviceError> {
    verify(program).map_err(|errors| DeviceError::Unsupported(errors.to_string()))
}

/// The constants of a function that are tensors, with what they bind.
fn constants(function: &Function) -> Vec<(OpId, ValueId)> {
    let ops = function.walk().filter(|(_, op)| op.name == CONST);
    let bound = ops.filter_map(|(id, op)| Some((id, *op.results.first()?)));
    bound.filter(|(_, result)| function.value(*result).ty.as_tensor().is_some()).collect()
}

/// The constants of a function that stand in files.
pub(super) fn weights_in_files(function: &Function) -> impl Iterator<Item = ValueId> {
    let is_blob =
        |op: &Op| matches!(op.attributes.get("val"), Some(Literal { value: LiteralValue::Blob(_), .. }));
    let ops = function.walk().filter(move |(_, op)| op.name == CONST && is_blob(op));
    ops.filter_map(|(_, op)| op.results.first().copied())
}

fn set_value(function: &mut Function, op: OpId, value: LiteralValue) {
    if let Some(Literal { value: held, .. }) = function.ops[op.index()].attributes.get_mut("val") {
        *held = value;
    }
}

fn port(function: &Function, id: ValueId) -> Result<Port, DeviceError> {
    let value = function.value(id);
    let Type::Tensor(ty) = &value.ty else {
        return Err(DeviceError::Unsupported(format!("`{}` is {}, no tensor", value.name, value.ty)));
    };
    packing::size_bytes(&value.name, ty)?;
    Ok(Port { name: value.name.clone(), ty: ty.clone() })
}

/// The names of the constants of floating point that may be inputs: those in files, or too large for the text, that no op
/// needs as constants. The weight of a convolution stays: the engine is reported to ignore one that is an input (R25).
fn replaceable(program: &Verified) -> Vec<String> {
    let function = &program.program().functions[0];
    let mut fixed: HashSet<ValueId> = HashSet::new();
    for (id, op) in function.walk() {
        let row = program.row(0, id);
        for (name, argument) in op.arguments.iter() {
            let constant = row.is_none_or(|row| row.parameter(name).is_some_and(|p| p.kind.constant));
            if constant || matches!((op.name.as_str(), name), ("conv" | "conv_transpose", "weight")) {
                fixed.extend(argument.values());
            }
        }
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    function.values.iter().for_each(|value| *counts.entry(value.name.as_str()).or_default() += 1);
    let chosen = constants(function).into_iter().filter(|(_, result)| {
        // A name that is bound twice does not say which constant is meant.
        !fixed.contains(result)
            && is_large(function, *result)
            && counts[function.value(*result).name.as_str()] == 1
    });
    chosen.map(|(_, result)| function.value(result).name.clone()).collect()
}

/// Whether a constant is one of floating point that stands in a file, or is too large for the text.
fn is_large(function: &Function, constant: ValueId) -> bool {
    let ty = function.value(constant).ty.as_tensor();
    let fits = ty.is_some_and(|ty| ty.dtype.is_float() && packing::size_bytes("", &ty).is_ok());
    let op = function.walk().find(|(_, op)| op.name == CONST && op.results.first() == Some(&constant));
    fits && match op.and_then(|(_, op)| op.attributes.get("val")) {
        Some(Literal { value: LiteralValue::Blob(_), .. }) => true,
        Some(literal) => literal.as_tensor().is_some_and(|tensor| tensor.len() > IN_TEXT),
        None => false,
    }
}
