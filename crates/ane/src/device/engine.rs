//! The engine as a runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anemone_mil::constants::ReplaceableConstants;
use anemone_mil::runtime::{
    ConstantHandle, Executable, Port, Runtime, RuntimeError, check_inputs, check_output_count,
};
use anemone_mil::specialize::Specialized;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;
use anemone_mil::verify::Verified;
use anemone_mil::weights::{WeightMap, WeightSource};

use super::budget::{Budget, Clock, SystemClock};
use super::compiler::{Compiler, Loaded};
use super::packing::{pack, unpack};
use super::program::{DeviceProgram, specialize, weights_in_files, with_values};
use super::{Bound, DeviceError, Interface};

/// Where a program's weights are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// Inputs of the program: another value is a copy to a buffer.
    #[default]
    Inputs,
    /// In the program: another value is another compilation.
    Baked,
}

/// How programs are compiled and run.
#[derive(Clone)]
pub struct Options {
    /// Where weights are.
    pub weights: Weights,
    /// The compilations that there are.
    pub budget: Budget,
    /// How long after a failed compilation the next one waits.
    pub recovery: Duration,
    /// The time by which it waits.
    pub clock: Arc<dyn Clock>,
    /// What runs the programs that the engine does not take; without it they are errors.
    pub fallback: Option<Arc<dyn Runtime>>,
    /// Once true, compilations and runs end with an error: so that whoever asks for an end leaves nothing unreleased.
    pub interrupted: Arc<AtomicBool>,
    /// Who is told that a program is run by [`Options::fallback`], and why.
    pub warn: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Options {
    /// How long a failed compilation makes others fail is published as "some seconds".
    pub const RECOVERY: Duration = Duration::from_secs(10);
}

impl Default for Options {
    fn default() -> Options {
        Options {
            weights: Weights::Inputs,
            budget: Budget::of_process(Budget::COMPILATIONS),
            recovery: Options::RECOVERY,
            clock: Arc::new(SystemClock::default()),
            fallback: None,
            interrupted: Arc::default(),
            warn: Arc::new(|_| {}),
        }
    }
}

/// The engine, by one of its interfaces.
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    compiler: Compiler,
    options: Options,
}

impl Shared {
    /// An error, once the user wants an end.
    fn go_on(&self) -> Result<(), DeviceError> {
        if self.options.interrupted.load(Ordering::Relaxed) { Err(DeviceError::Interrupted) } else { Ok(()) }
    }
}

impl Engine {
    /// The name that `--runtime` knows it by.
    pub const NAME: &'static str = "ane";

    /// The engine by this interface.
    pub fn new(interface: Box<dyn Interface>, options: Options) -> Engine {
        let compiler =
            Compiler::new(interface, options.budget.clone(), options.clock.clone(), options.recovery);
        Engine { shared: Arc::new(Shared { compiler, options }) }
    }
}

impl From<DeviceError> for RuntimeError {
    fn from(error: DeviceError) -> RuntimeError {
        let (runtime, reason) = (Engine::NAME, error.to_string());
        match error {
            DeviceError::Exhausted { .. } => RuntimeError::Exhausted { runtime, reason },
            DeviceError::Unsupported(reason) => RuntimeError::Unsupported { runtime, reason },
            _ => RuntimeError::Failed { runtime, reason },
        }
    }
}

impl Runtime for Engine {
    fn name(&self) -> &'static str {
        Engine::NAME
    }

    fn prepare(
        &self,
        program: &Arc<Verified>,
        function: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Box<dyn Executable>, RuntimeError> {
        let specialized = specialize(program, function, inputs, weights)?;
        let constants = ReplaceableConstants::new(&specialized);
        let mut prepared = Prepared {
            shared: self.shared.clone(),
            specialized,
            constants,
            device: None,
            place: Place::Nowhere,
        };
        match DeviceProgram::new(&prepared.specialized, self.shared.options.weights) {
            Ok(device) => {
                // Weights in the program are as a rule replaced before it first runs.
                let wait = prepared.has_baked_weights(&device);
                prepared.device = Some(device);
                if !wait {
                    prepared.load()?;
                }
            }
            Err(error) => prepared.fall_back(error)?,
        }
        Ok(Box::new(prepared))
    }
}

/// Where a prepared function runs.
enum Place {
    /// It is still to be compiled, with the constants that it now has.
    Nowhere,
    /// On the engine. The buffers go before the program that they are bound to.
    Device { bound: Box<dyn Bound>, _program: Arc<Loaded> },
    /// On the runtime that stands in for the engine.
    Elsewhere(Box<dyn Executable>),
}

/// A function that the engine is ready to run.
struct Prepared {
    shared: Arc<Shared>,
    specialized: Specialized,
    constants: ReplaceableConstants,
    /// The program for the engine; none where the engine cannot take it.
    device: Option<DeviceProgram>,
    place: Place,
}

impl Prepared {
    /// Whether weights that [`Executable::set_constant`] can replace are part of the program.
    fn has_baked_weights(&self, device: &DeviceProgram) -> bool {
        let is_baked = |id| self.constants.handle_of(id).is_some() && !device.weights.contains(&id);
        weights_in_files(self.specialized.function()).any(is_baked)
    }

    fn value(&self, id: anemone_mil::program::ValueId) -> Option<Arc<Tensor>> {
        self.specialized.facts.constant(id).cloned()
    }

    /// Brings the program to the engine with its present constants, or to the other runtime.
    fn load(&mut self) -> Result<(), RuntimeError> {
        match self.on_engine() {
            Ok(place) => {
                self.place = place;
                Ok(())
            }
            Err(error @ (DeviceError::Exhausted { .. } | DeviceError::Interrupted)) => Err(error.into()),
            Err(error) => self.fall_back(error),
        }
    }

    fn on_engine(&self) -> Result<Place, DeviceError> {
        self.shared.go_on()?;
        let Some(device) = &self.device else { return Ok(Place::Nowhere) };
        let values = device.files.iter().filter_map(|(_, id)| self.value(*id)).collect();
        let loaded = self.shared.compiler.compile(device, values)?;
        let mut bound = loaded.compiled.bind(&device.inputs, &device.outputs)?;
        for (position, id) in device.weights.iter().enumerate() {
            if let Some(value) = self.value(*id) {
                pack(&value, bound.input(self.specialized.inputs.len() + position))?;
            }
        }
        Ok(Place::Device { bound, _program: loaded })
    }

    /// Hands the function with its present constants to the other runtime, and says why.
    fn fall_back(&mut self, error: DeviceError) -> Result<(), RuntimeError> {
        let options = &self.shared.options;
        let Some(fallback) = &options.fallback else { return Err(error.into()) };
        let function = &self.specialized.function().name;
        let program = Arc::new(with_values(&self.specialized)?);
        let types: Vec<TensorType> = self.specialized.inputs.iter().map(|port| port.ty.clone()).collect();
        let executable = fallback.prepare(&program, function, &types, &WeightMap::default())?;
        let outputs: Vec<&str> = self.specialized.outputs.iter().map(|port| port.name.as_str()).collect();
        let (runtime, outputs) = (fallback.name(), outputs.join(", "));
        (options.warn)(&format!(
            "`{function}`, which gives {outputs}, runs on {runtime}, not the engine: {error}"
        ));
        self.place = Place::Elsewhere(executable);
        Ok(())
    }

    fn run_on_engine(
        bound: &mut dyn Bound,
        ports: &[Port],
        inputs: &[&Tensor],
        outputs: &mut [Tensor],
    ) -> Result<(), DeviceError> {
        for (position, input) in inputs.iter().enumerate() {
            pack(input, bound.input(position))?;
        }
        bound.run()?;
        for (position, (port, output)) in ports.iter().zip(outputs).enumerate() {
            if !output.has_type(&port.ty) {
                let zeros = port.ty.shape.to_known().and_then(|dims| Tensor::zeros(port.ty.dtype, &dims));
                *output = zeros.ok_or_else(|| {
                    DeviceError::Run(format!(
                        "there is no memory for the output `{}`, {}",
                        port.name, port.ty
                    ))
                })?;
            }
            unpack(bound.output(position), output)?;
        }
        Ok(())
    }
}

impl Executable for Prepared {
    fn inputs(&self) -> &[Port] {
        &self.specialized.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.specialized.outputs
    }

    fn run(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<(), RuntimeError> {
        check_inputs(&self.specialized.inputs, inputs)?;
        let ports = &self.specialized.outputs;
        check_output_count(ports, outputs)?;
        if matches!(self.place, Place::Nowhere) {
            self.load()?;
        }
        match &mut self.place {
            Place::Device { bound, .. } => {
                Prepared::run_on_engine(bound.as_mut(), &self.specialized.outputs, inputs, outputs)?;
                Ok(self.shared.go_on()?)
            }
            Place::Elsewhere(executable) => executable.run(inputs, outputs),
            Place::Nowhere => Err(RuntimeError::Interface("the function is not loaded".to_string())),
        }
    }

    fn constant(&self, name: &str) -> Result<ConstantHandle, RuntimeError> {
        self.constants.handle(&self.specialized, name)
    }

    fn set_constant(&mut self, constant: ConstantHandle, value: Arc<Tensor>) -> Result<(), RuntimeError> {
        let (id, _) = self.constants.replace(&mut self.specialized, constant, value.clone())?;
        if let Place::Elsewhere(executable) = &mut self.place {
            let handle = executable.constant(&self.specialized.function().value(id).name)?;
            return executable.set_constant(handle, value);
        }
        let Some(device) = &self.device else { return Ok(()) };
        match (device.weights.iter().position(|weight| *weight == id), &mut self.place) {
            (Some(position), Place::Device { bound, .. }) => {
                pack(&value, bound.input(self.specialized.inputs.len() + position))?;
            }
            (Some(_), _) => {}
            // The next run compiles the program with the constants that it then has.
            (None, _) => {
                let in_file = device.files.iter().any(|(_, file)| *file == id);
                self.place = Place::Nowhere;
                if !in_file {
                    self.device = Some(DeviceProgram::new(&self.specialized, self.shared.options.weights)?);
                }
            }
        }
        Ok(())
    }

    fn state(&self, name: &str) -> Option<&Tensor> {
        match &self.place {
            Place::Elsewhere(executable) => executable.state(name),
            _ => None,
        }
    }

    fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), RuntimeError> {
        match &mut self.place {
            Place::Elsewhere(executable) => executable.set_state(name, value),
            _ => Err(RuntimeError::Interface(format!("no state is named `{name}`"))),
        }
    }
}
