//! The engine itself, as a [`Runtime`](anemone_mil::runtime::Runtime).
//!
//! The system offers no public way to hand a program to the engine. There are private ones, each an [`Interface`]: the
//! C interface [`E5rt`](e5rt::E5rt), and the Objective-C one of [`in_memory()`]. An interface is narrow: it compiles a program that lies in a directory, binds
//! buffers to its inputs and outputs, and runs it; dropping what it gave releases it. All else stands above, in
//! [`Engine`], and is the same for every interface: writing programs and weights, packing tensors, sharing compiled
//! programs, the [`Budget`] of compilations that a process has, waiting after a failed one, and the CPU for programs that
//! the engine does not take.
//!
//! ```text
//! Engine::prepare ─▶ program::DeviceProgram ─▶ compiler::Compiler ─▶ Interface::compile ─▶ Compiled::bind
//!                    text, weights, ports      shared, budget, wait                         │
//! Executable::run ──────────────▶ packing ──▶ Bound::input, Bound::run, Bound::output ◀─────┘
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

use anemone_mil::runtime::Port;

mod budget;
mod compiler;
pub mod e5rt;
mod engine;
#[cfg(target_os = "macos")]
mod in_memory;
mod packing;
mod program;
#[cfg(any(target_os = "macos", test))]
mod staging;
mod system;
#[cfg(test)]
mod tests;

pub use budget::{Budget, Clock, SystemClock};
pub use engine::{Engine, Options, Weights};
pub(crate) use packing::{pack, unpack};

/// A program in a directory of its own, to be compiled.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The directory, which `@model_path` stands for. It lives as long as what is compiled from it.
    pub directory: &'a Path,
    /// The text, `model.mil` there.
    pub model: &'a Path,
    /// The one function of the program.
    pub function: &'a str,
}

/// A private way in to the engine.
pub trait Interface: Send + Sync {
    /// The name that `--interface` knows it by.
    fn name(&self) -> &'static str;

    /// Compiles and loads a program.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Compilation`] when the compiler refuses the program; another one when the interface fails.
    fn compile(&self, source: Source<'_>) -> Result<Box<dyn Compiled>, DeviceError>;
}

/// A compiled program, loaded.
pub trait Compiled: Send + Sync {
    /// Makes the program ready to run, with a buffer of its own for each input and output, of zeros. Ports are found by
    /// name; the types say how large they are.
    ///
    /// # Errors
    ///
    /// When the program has no such port, or there is no memory.
    fn bind(&self, inputs: &[Port], outputs: &[Port]) -> Result<Box<dyn Bound>, DeviceError>;
}

/// A program with its buffers: row-major values in each, from byte 0.
pub trait Bound: Send {
    /// The bytes of an input, by its position in what was bound.
    fn input(&mut self, position: usize) -> &mut [u8];

    /// Runs the program once.
    ///
    /// # Errors
    ///
    /// When the engine fails; what the outputs then hold is not said.
    fn run(&mut self) -> Result<(), DeviceError>;

    /// The bytes of an output, by its position in what was bound.
    fn output(&self, position: usize) -> &[u8];
}

/// The private Objective-C interface, which takes a program's text and weights from memory.
///
/// # Errors
///
/// On a system that is no Mac, or when the system's framework does not load or lacks what is needed.
pub fn in_memory() -> Result<Box<dyn Interface>, DeviceError> {
    #[cfg(target_os = "macos")]
    return Ok(Box::new(in_memory::InMemory::load()?));
    #[cfg(not(target_os = "macos"))]
    Err(DeviceError::NeedsMac)
}

/// Why the engine cannot be had, or does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not a Mac.
    #[error(
        "the runtime ane needs a Mac with Apple silicon, whose system has the engine's compiler; here, `--runtime ane-sim` \
         computes as the engine does"
    )]
    NeedsMac,
    /// A library that the system does not load.
    #[error("{library} cannot be loaded, so there is no way to the engine: {reason}", library = .library.display())]
    Load {
        /// The library.
        library: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A library that lacks a function.
    #[error(
        "{library} has no function `{function}`: it is of another version than that of macOS 26.5, which this interface \
         was published for; `anemone device-report` collects what its authors need to know",
        library = .library.display()
    )]
    MissingFunction {
        /// The library.
        library: PathBuf,
        /// The function.
        function: String,
    },
    /// A call that fails though nothing of the program was at stake.
    #[error(
        "the engine's library refuses `{call}` with the status {status}: it may be of another version than that of macOS \
         26.5, which this interface was published for"
    )]
    Call {
        /// The function.
        call: &'static str,
        /// What it returned.
        status: i64,
    },
    /// A program that the compiler refuses.
    #[error(
        "the engine's compiler refuses the program: {0}; `anemone check --chip` says which rules it breaks"
    )]
    Compilation(String),
    /// A run that fails.
    #[error("the engine fails to run the program: {0}")]
    Run(String),
    /// What no interface can take.
    #[error("{0}")]
    Unsupported(String),
    /// The compilations of this process are used up.
    #[error(
        "the {limit} compilations that the engine's compiler does for one process are used up; another can go on"
    )]
    Exhausted {
        /// How many there are.
        limit: u32,
    },
    /// The user wants an end.
    #[error("interrupted")]
    Interrupted,
    /// The directory for a program cannot be written.
    #[error("a program for the engine cannot be written to a temporary directory: {0}")]
    Files(String),
}

impl fmt::Debug for dyn Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interface({})", self.name())
    }
}
