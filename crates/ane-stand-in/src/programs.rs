//! What stands behind the interface: programs, compiled and run.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anemone_ane::chips::Chip;
use anemone_ane::simulator::Simulator;
use anemone_mil::eval::Interpreter;
use anemone_mil::runtime::{Executable, Port, Runtime};
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::types::{TensorType, Type};
use anemone_mil::verify::{Verified, verify};
use anemone_mil::weights::WeightDirectory;
use anemone_mil::{for_each_data, text};

use crate::misuse::Misuse;
use crate::objects::{Id, Operation, State};

/// The engine's bit in a mask.
const ENGINE: u64 = 4;

/// A compiled program.
pub(crate) struct Compiled {
    program: Arc<Verified>,
    directory: PathBuf,
    runtime: Arc<dyn Runtime>,
    /// Whether it is for the chip that the library stands for.
    runs_here: bool,
    /// What the compilation itself made ready, until an operation takes it.
    ready: Mutex<Vec<Ready>>,
}

/// The names that the compiler has for chips; any other name is silently the machine's own chip.
fn architecture(name: &str, own: Chip) -> Chip {
    let known = Chip::ALL.into_iter().find(|chip| {
        let (known, name) = (chip.architecture().to_ascii_lowercase(), name.to_ascii_lowercase());
        name == known || name == format!("{known}s")
    });
    known.unwrap_or(own)
}

/// Compiles a program for what the mask allows.
pub(crate) fn compile(
    state: &mut State,
    path: &Path,
    mask: u64,
    target: Option<&str>,
) -> Result<Compiled, Misuse> {
    if state.not_before.is_some_and(|time| Instant::now() < time) {
        return Err(Misuse::TooSoon);
    }
    if state.compilations >= state.settings.compilations {
        return Err(Misuse::NoCompilationLeft);
    }
    state.compilations += 1;
    let own = state.settings.chip;
    let chip = target.map_or(own, |name| architecture(name, own));
    crash_or_hang(state, path);
    let compiled = try_compile(path, mask, chip, chip == own);
    if compiled.is_err() {
        state.not_before = Instant::now().checked_add(state.settings.recovery);
    }
    compiled
}

/// Does what the settings ask for with the program's text, as compilers do with some programs.
fn crash_or_hang(state: &State, path: &Path) {
    let has = |text: &Option<String>| {
        let source = || std::fs::read_to_string(path).unwrap_or_default();
        text.as_ref().is_some_and(|text| source().contains(text))
    };
    if has(&state.settings.crash) {
        std::process::abort();
    }
    while has(&state.settings.hang) {
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn try_compile(path: &Path, mask: u64, chip: Chip, runs_here: bool) -> Result<Compiled, Misuse> {
    let refused = |error: &dyn ToString| Misuse::Compilation(error.to_string());
    let source = match std::fs::read_to_string(path) {
        Ok(source) if path.extension().is_some_and(|extension| extension == "mil") => source,
        _ => return Err(Misuse::MissingFile(path.display().to_string())),
    };
    let program = text::parse(&source).map_err(|errors| refused(&errors))?.program;
    let program = Arc::new(verify(program).map_err(|errors| refused(&errors))?);
    let directory = path.parent().unwrap_or(Path::new("")).to_owned();
    let simulator: Arc<dyn Runtime> = Arc::new(Simulator::new(chip));
    let compiled = prepare(&program, &simulator, &directory);
    // What the engine does not take runs elsewhere, if it may.
    let (runtime, ready) = match compiled {
        Err(_) if mask != ENGINE => {
            let elsewhere: Arc<dyn Runtime> = Arc::new(Interpreter::default());
            let ready = prepare(&program, &elsewhere, &directory)?;
            (elsewhere, ready)
        }
        compiled => (simulator, compiled?),
    };
    Ok(Compiled { program, directory, runtime, runs_here, ready: Mutex::new(ready) })
}

/// A function that is ready to run, with its name.
type Ready = (String, Box<dyn Executable>);

/// Makes every function of a program ready to run.
fn prepare(
    program: &Arc<Verified>,
    runtime: &Arc<dyn Runtime>,
    directory: &Path,
) -> Result<Vec<Ready>, Misuse> {
    let refused = |error: &dyn ToString| Misuse::Compilation(error.to_string());
    let mut ready = Vec::new();
    for function in &program.program().functions {
        let inputs: Option<Vec<TensorType>> =
            function.body.inputs.iter().map(|&id| known(&function.value(id).ty)).collect();
        let unknown = || refused(&format!("`{}` has inputs of unknown size, or states", function.name));
        let inputs = inputs.ok_or_else(unknown)?;
        let weights = WeightDirectory::new(directory);
        let executable = runtime.prepare(program, &function.name, &inputs, &weights);
        ready.push((function.name.clone(), executable.map_err(|error| refused(&error))?));
    }
    Ok(ready)
}

fn known(ty: &Type) -> Option<TensorType> {
    match ty {
        Type::Tensor(ty) if ty.shape.to_known().is_some() => Some(ty.clone()),
        _ => None,
    }
}

impl Compiled {
    /// Whether the program has a function.
    pub(crate) fn has(&self, function: &str) -> bool {
        self.program.program().function(function).is_some()
    }

    /// A function, ready to run with buffers of its own.
    pub(crate) fn executable(&self, function: &str) -> Result<Box<dyn Executable>, Misuse> {
        if !self.runs_here {
            return Err(Misuse::OtherChip);
        }
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(position) = ready.iter().position(|(name, _)| name == function) {
            return Ok(ready.remove(position).1);
        }
        let Some((_, found)) = self.program.program().function(function) else {
            return Err(Misuse::UnknownFunction(function.to_string()));
        };
        let inputs: Vec<TensorType> =
            found.body.inputs.iter().filter_map(|&id| known(&found.value(id).ty)).collect();
        let weights = WeightDirectory::new(&self.directory);
        let executable = self.runtime.prepare(&self.program, function, &inputs, &weights);
        executable.map_err(|error| Misuse::Run(error.to_string()))
    }
}

/// The bytes that a port takes; `None` where its size is not known.
pub(crate) fn port_bytes(port: &Port) -> Option<usize> {
    let zeros = Data::zeros(port.ty.dtype, 1)?;
    let width = for_each_data!(&zeros, values => size_of_val(&values[..]), strings _values => 0);
    usize::try_from(port.ty.shape.elements()?).ok()?.checked_mul(width)
}

/// Runs an operation on what its buffers hold.
pub(crate) fn run(state: &mut State, id: Id) -> Result<(), Misuse> {
    state.runs += 1;
    if state.settings.fail_run == Some(state.runs) {
        return Err(Misuse::Run("the settings say so".to_string()));
    }
    if state.settings.interrupt_run == Some(state.runs) {
        // SAFETY: raising a signal asks for nothing; what it does is up to the process.
        unsafe { libc::raise(libc::SIGINT) };
    }
    let (ports, buffers) = {
        let Operation { executable, inputs, outputs, .. } = state.operation(id)?;
        let ports = (executable.inputs().to_vec(), executable.outputs().to_vec());
        (ports, (inputs.clone(), outputs.clone()))
    };
    let mut inputs = Vec::new();
    for (port, buffer) in ports.0.iter().zip(buffers.0) {
        inputs.push(read(state, port, buffer)?);
    }
    let mut outputs = vec![Tensor::scalar(false); ports.1.len()];
    let operation = state.operation(id)?;
    operation.has_run = true;
    let ran = operation.executable.run(&inputs.iter().collect::<Vec<_>>(), &mut outputs);
    ran.map_err(|error| Misuse::Run(error.to_string()))?;
    for ((port, buffer), output) in ports.1.iter().zip(buffers.1).zip(&outputs) {
        write(state, port, buffer, output)?;
    }
    Ok(())
}

fn read(state: &mut State, port: &Port, buffer: Option<Id>) -> Result<Tensor, Misuse> {
    let unbound = || Misuse::UnboundPort(port.name.clone());
    let memory = state.buffer(buffer.ok_or_else(unbound)?)?;
    let tensor = port.ty.shape.to_known().and_then(|dims| Tensor::zeros(port.ty.dtype, &dims));
    let mut tensor = tensor.ok_or_else(|| Misuse::Run(format!("no memory for {}", port.name)))?;
    let bytes = memory.bytes();
    macro_rules! fill {
        ($($variant:ident),+) => {
            match tensor.data_mut() {
                $(Data::$variant(values) => {
                    let to: &mut [u8] = bytemuck::cast_slice_mut(values);
                    to.copy_from_slice(&bytes[..to.len()]);
                })+
                _ => return Err(Misuse::Run(format!("{} is {}", port.name, port.ty))),
            }
        };
    }
    fill!(F16, F32, Bf16, I8, I16, I32, U8, U16, U32);
    Ok(tensor)
}

fn write(state: &mut State, port: &Port, buffer: Option<Id>, output: &Tensor) -> Result<(), Misuse> {
    let unbound = || Misuse::UnboundPort(port.name.clone());
    let memory = state.buffer(buffer.ok_or_else(unbound)?)?.bytes_mut();
    macro_rules! empty {
        ($($variant:ident),+) => {
            match output.data() {
                $(Data::$variant(values) => {
                    let from: &[u8] = bytemuck::cast_slice(values);
                    memory[..from.len()].copy_from_slice(from);
                })+
                _ => return Err(Misuse::Run(format!("{} is {}", port.name, port.ty))),
            }
        };
    }
    empty!(F16, F32, Bf16, I8, I16, I32, U8, U16, U32);
    Ok(())
}
