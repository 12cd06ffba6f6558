//! A library with the functions of the engine's C interface, for tests on machines without the engine.
//!
//! `ANEMONE_E5RT` names it instead of the system's framework; then every line of the way from `--runtime ane` to results
//! is executed, but for the system's own. Its signatures are written down a second time here, from the published ones. A
//! runtime of ours computes in it. It is as strict as it can be ([`Misuse`]): whatever the system's library might take
//! amiss is refused here, with a status that is not 0 and a line on the standard error that says why. Compilations fail
//! for a while after one that failed, and when a process has had its number of them ([`Settings`]). What was not released
//! when the process ends it names on the standard error.
#![warn(unreachable_pub)]
#![allow(unsafe_code)] // It is called from foreign code, through pointers.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

mod memory;
mod misuse;
mod objects;
mod programs;
mod settings;

pub use misuse::Misuse;
pub use settings::Settings;

use objects::{Encoding, Id, Object, Operation, State, Way};

/// An object, as callers hold it.
pub type Handle = *mut c_void;
/// Where a new object or a pointer is written.
pub type Place = *mut *mut c_void;
/// A string that ends with 0.
pub type Text = *const c_char;

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// Runs `call` on what the library knows. A call that panicked changed nothing half, so the lock does not matter.
fn with_state<T>(call: impl FnOnce(&mut State) -> T) -> T {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        // SAFETY: the function takes nothing, returns, and does not unwind.
        unsafe { libc::atexit(report) };
    });
    let mut state: MutexGuard<'_, Option<State>> = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    call(state.get_or_insert_default())
}

/// Names what was not released.
extern "C" fn report() {
    let alive = with_state(|state| state.alive());
    if !alive.is_empty() {
        eprintln!("e5rt stand-in: {} objects were not released: {}", alive.len(), alive.join(", "));
    }
}

/// Changes how the library behaves, and begins to count compilations and runs anew.
pub fn configure(settings: Settings) {
    with_state(|state| {
        state.settings = settings;
        (state.compilations, state.runs, state.not_before) = (0, 0, None);
    });
}

fn answer(call: &str, result: Result<(), Misuse>) -> i64 {
    match result {
        Ok(()) => 0,
        Err(misuse) => {
            eprintln!("e5rt stand-in: {call}: {misuse}");
            misuse.status()
        }
    }
}

/// The number of a handle; it is not followed.
fn id(handle: Handle) -> Id {
    handle.addr()
}

/// Writes to a place, which the exported functions were promised to be one if it is not null.
fn put(place: Place, value: *mut c_void) -> Result<(), Misuse> {
    if place.is_null() {
        return Err(Misuse::NullPlace);
    }
    // SAFETY: it is not null, so the caller has a pointer there.
    unsafe { place.write(value) };
    Ok(())
}

/// Makes an object and writes it to a place.
fn make(
    place: Place,
    state: &mut State,
    object: impl FnOnce(&mut State) -> Result<(Object, Vec<Id>), Misuse>,
) -> Result<Id, Misuse> {
    if place.is_null() {
        return Err(Misuse::NullPlace);
    }
    let (object, needs) = object(state)?;
    let id = state.add(object, needs);
    put(place, std::ptr::without_provenance_mut(id))?;
    Ok(id)
}

/// Releases the object at a place by `take`, and leaves null there.
fn release<T>(place: Place, take: impl FnOnce(&mut State, Id) -> Result<T, Misuse>) -> Result<T, Misuse> {
    if place.is_null() {
        return Err(Misuse::NullPlace);
    }
    // SAFETY: it is not null, so the caller has a pointer there.
    let handle = unsafe { place.read() };
    let taken = with_state(|state| take(state, id(handle)))?;
    put(place, std::ptr::null_mut())?;
    Ok(taken)
}

fn string(text: Text) -> Result<String, Misuse> {
    if text.is_null() {
        return Err(Misuse::NullText);
    }
    // SAFETY: it is not null, so the caller has a string there that ends with 0.
    let text = unsafe { CStr::from_ptr(text) }.to_str();
    text.ok().filter(|text| !text.is_empty()).map(str::to_string).ok_or(Misuse::BadText)
}

fn flag(value: c_int) -> Result<(), Misuse> {
    if matches!(value, 0 | 1) { Ok(()) } else { Err(Misuse::WrongFlag(i64::from(value))) }
}

/// The exported functions: each returns 0, or the number of a [`Misuse`].
macro_rules! exports {
    ($($(#[$doc:meta])+ fn $name:ident($($argument:ident: $ty:ty),+) $body:block)+) => {$(
        $(#[$doc])+
        ///
        /// # Safety
        ///
        /// Places, if not null, can be read and written; strings, if not null, end with 0. Handles may be anything.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $ty),+) -> i64 {
            let call = || -> Result<(), Misuse> { $body };
            answer(stringify!($name), call())
        }
    )+};
}

exports! {
    /// Makes the settings of a compiler.
    fn e5rt_e5_compiler_config_options_create(config: Place) {
        with_state(|state| make(config, state, |_| Ok((Object::Config { directory: None }, vec![])))).map(drop)
    }

    /// Says where bundles are kept: a directory that exists.
    fn e5rt_e5_compiler_config_options_set_cache_bundle_location(config: Handle, directory: Text) {
        let given = string(directory)?;
        with_state(|state| {
            let Object::Config { directory } = state.config(id(config))? else { return Ok(()) };
            if !Path::new(&given).is_dir() {
                return Err(Misuse::MissingDirectory(given));
            }
            *directory = Some(PathBuf::from(given));
            Ok(())
        })
    }

    /// Has settings back.
    fn e5rt_e5_compiler_config_options_release(config: Place) {
        release(config, State::release_config).map(drop)
    }

    /// Makes a compiler.
    fn e5rt_e5_compiler_create_with_config(compiler: Place, config: Handle) {
        with_state(|state| make(compiler, state, |state| {
            let directory = match state.config(id(config))? {
                Object::Config { directory } => directory.clone(),
                _ => None,
            };
            Ok((Object::Compiler { directory }, vec![id(config)]))
        })).map(drop)
    }

    /// Has a compiler back.
    fn e5rt_e5_compiler_release(compiler: Place) {
        release(compiler, State::release_compiler).map(drop)
    }

    /// Makes the options of a compilation.
    fn e5rt_e5_compiler_options_create(options: Place) {
        let made = Object::CompilerOptions { mask: None, architecture: None };
        with_state(|state| make(options, state, |_| Ok((made, vec![])))).map(drop)
    }

    /// Says what a program may run on.
    fn e5rt_e5_compiler_options_set_compute_device_types_mask(options: Handle, mask: u64) {
        let given = mask;
        with_state(|state| {
            let Object::CompilerOptions { mask, .. } = state.compiler_options(id(options))? else { return Ok(()) };
            if given == 0 || given > 7 {
                return Err(Misuse::WrongMask(given));
            }
            *mask = Some(given);
            Ok(())
        })
    }

    /// With 1, has a program compiled though a bundle may be in the cache. There is no cache here.
    fn e5rt_e5_compiler_options_set_force_recompilation(options: Handle, force: c_int) {
        with_state(|state| state.compiler_options(id(options)).map(drop))?;
        flag(force)
    }

    /// Names how a program is cut into segments.
    fn e5rt_e5_compiler_options_set_segmenter(options: Handle, segmenter: Text) {
        let segmenter = string(segmenter)?;
        with_state(|state| state.compiler_options(id(options)).map(drop))?;
        if segmenter == "graph" { Ok(()) } else { Err(Misuse::UnknownSegmenter(segmenter)) }
    }

    /// Names the chip to compile for. A name that is none means the one at hand.
    fn e5rt_e5_compiler_options_set_custom_ane_compiler_options(options: Handle, text: Text) {
        let text = string(text)?;
        with_state(|state| {
            let Object::CompilerOptions { architecture, .. } = state.compiler_options(id(options))? else {
                return Ok(());
            };
            match text.strip_prefix("TargetArchitecture=").filter(|name| !name.is_empty()) {
                Some(name) => *architecture = Some(name.to_string()),
                None => return Err(Misuse::UnknownOption(text)),
            }
            Ok(())
        })
    }

    /// Has options back.
    fn e5rt_e5_compiler_options_release(options: Place) {
        release(options, State::release_compiler_options).map(drop)
    }

    /// Compiles the text in a file.
    fn e5rt_e5_compiler_compile(compiler: Handle, path: Text, options: Handle, library: Place) {
        let path = string(path)?;
        with_state(|state| make(library, state, |state| {
            if matches!(state.compiler(id(compiler))?, Object::Compiler { directory: None }) {
                return Err(Misuse::NoCacheLocation);
            }
            let (mask, target) = match state.compiler_options(id(options))? {
                Object::CompilerOptions { mask, architecture } => (*mask, architecture.clone()),
                _ => (None, None),
            };
            let mask = mask.ok_or(Misuse::NoMask)?;
            let compiled = programs::compile(state, Path::new(&path), mask, target.as_deref())?;
            Ok((Object::Library(compiled.into()), vec![]))
        })).map(drop)
    }

    /// Has compiled functions back.
    fn e5rt_program_library_release(library: Place) {
        release(library, State::release_library).map(drop)
    }

    /// Retains a compiled function by name.
    fn e5rt_program_library_retain_program_function(library: Handle, name: Text, function: Place) {
        let name = string(name)?;
        with_state(|state| make(function, state, |state| {
            let Object::Library(compiled) = state.library(id(library))? else { return Err(Misuse::UnknownObject) };
            let compiled = compiled.clone();
            if !compiled.has(&name) {
                return Err(Misuse::UnknownFunction(name));
            }
            Ok((Object::Function { compiled, name }, vec![id(library)]))
        })).map(drop)
    }

    /// Has a function back.
    fn e5rt_program_function_release(function: Place) {
        release(function, State::release_function).map(drop)
    }

    /// Makes the options of an operation.
    fn e5rt_precompiled_compute_op_create_options_create_with_program_function(options: Place, function: Handle) {
        with_state(|state| make(options, state, |state| {
            let Object::Function { compiled, name } = state.function(id(function))? else {
                return Err(Misuse::UnknownObject);
            };
            let (compiled, function_name) = (compiled.clone(), name.clone());
            Ok((Object::OperationOptions { compiled, function: function_name, name: None }, vec![id(function)]))
        })).map(drop)
    }

    /// Names the operation.
    fn e5rt_precompiled_compute_op_create_options_set_operation_name(options: Handle, name: Text) {
        let given = string(name)?;
        with_state(|state| {
            if let Object::OperationOptions { name, .. } = state.operation_options(id(options))? {
                *name = Some(given);
            }
            Ok(())
        })
    }

    /// With 1, has the operation allocate what lies between its inputs and outputs.
    fn e5rt_precompiled_compute_op_create_options_set_allocate_intermediate_buffers(options: Handle, allocate: c_int) {
        with_state(|state| state.operation_options(id(options)).map(drop))?;
        flag(allocate)
    }

    /// Has options back.
    fn e5rt_precompiled_compute_op_create_options_release(options: Place) {
        release(options, State::release_operation_options).map(drop)
    }

    /// Makes an operation.
    fn e5rt_execution_stream_operation_create_precompiled_compute_operation_with_options(
        operation: Place, options: Handle
    ) {
        with_state(|state| make(operation, state, |state| {
            let executable = match state.operation_options(id(options))? {
                Object::OperationOptions { name: None, .. } => return Err(Misuse::NoName),
                Object::OperationOptions { compiled, function, .. } => compiled.executable(function)?,
                _ => return Err(Misuse::UnknownObject),
            };
            let (inputs, outputs) = (vec![None; executable.inputs().len()], vec![None; executable.outputs().len()]);
            let encoding = Encoding::Never;
            let operation = Operation { executable, inputs, outputs, encoding, has_run: false };
            Ok((Object::Operation(operation), vec![id(options)]))
        })).map(drop)
    }

    /// Retains an input by name.
    fn e5rt_execution_stream_operation_retain_input_port(operation: Handle, name: Text, port: Place) {
        retain_port(operation, name, port, Way::In)
    }

    /// Retains an output by name.
    fn e5rt_execution_stream_operation_retain_output_port(operation: Handle, name: Text, port: Place) {
        retain_port(operation, name, port, Way::Out)
    }

    /// After a reset, makes an operation ready to be encoded again.
    fn e5rt_execution_stream_operation_prepare_op_for_encode(operation: Handle) {
        with_state(|state| {
            let operation = state.operation(id(operation))?;
            match operation.encoding {
                Encoding::Never => Err(Misuse::NeverEncoded),
                Encoding::Encoded => Err(Misuse::StillEncoded),
                Encoding::Before | Encoding::Prepared => {
                    operation.encoding = Encoding::Prepared;
                    Ok(())
                }
            }
        })
    }

    /// Has an operation back.
    fn e5rt_execution_stream_operation_release(operation: Place) {
        release(operation, State::release_operation).map(drop)
    }

    /// Allocates a buffer of the type 0.
    fn e5rt_buffer_object_alloc(buffer: Place, bytes: u64, kind: u32) {
        with_state(|state| make(buffer, state, |_| {
            if kind != 0 {
                return Err(Misuse::BufferType(kind));
            }
            let memory = Some(bytes).filter(|bytes| bytes.is_multiple_of(64)).and_then(memory::Memory::new);
            Ok((Object::Buffer(memory.ok_or(Misuse::BufferSize(bytes))?), vec![]))
        })).map(drop)
    }

    /// Gives the address of a buffer's bytes.
    fn e5rt_buffer_object_get_data_ptr(buffer: Handle, data: Place) {
        let address = with_state(|state| state.buffer(id(buffer)).map(|memory| memory.address()))?;
        put(data, address.cast())
    }

    /// Has a buffer back.
    fn e5rt_buffer_object_release(buffer: Place) {
        release(buffer, State::release_buffer).map(drop)
    }

    /// Binds a buffer to a port.
    fn e5rt_io_port_bind_buffer_object(port: Handle, buffer: Handle) {
        let (port, buffer) = (id(port), id(buffer));
        with_state(|state| {
            let Object::Port { operation, way, index } = *state.port(port)? else { return Ok(()) };
            let bytes = state.buffer(buffer)?.len();
            let bound = state.operation(operation)?;
            if bound.has_run {
                return Err(Misuse::BoundTooLate);
            }
            let ports = if way == Way::In { bound.executable.inputs() } else { bound.executable.outputs() };
            let needed = programs::port_bytes(&ports[index]);
            match needed {
                Some(needed) if needed <= bytes => {}
                other => return Err(Misuse::BufferTooSmall(other.unwrap_or(usize::MAX), bytes)),
            }
            let place = if way == Way::In { &mut bound.inputs } else { &mut bound.outputs };
            place[index] = Some(buffer);
            state.need_only(port, vec![operation, buffer]);
            Ok(())
        })
    }

    /// Has a port back.
    fn e5rt_io_port_release(port: Place) {
        release(port, State::release_port).map(drop)
    }

    /// Makes a stream.
    fn e5rt_execution_stream_create(stream: Place) {
        let made = Object::Stream { operation: None, was_encoded: false };
        with_state(|state| make(stream, state, |_| Ok((made, vec![])))).map(drop)
    }

    /// Puts an operation into a stream.
    fn e5rt_execution_stream_encode_operation(stream: Handle, operation: Handle) {
        let (stream, given) = (id(stream), id(operation));
        with_state(|state| {
            if matches!(state.stream(stream)?, Object::Stream { operation: Some(_), .. }) {
                return Err(Misuse::EncodedTwice);
            }
            let found = state.operation(given)?;
            match found.encoding {
                Encoding::Encoded => return Err(Misuse::EncodedTwice),
                Encoding::Before => return Err(Misuse::NotPrepared),
                Encoding::Never | Encoding::Prepared => {}
            }
            let inputs = found.executable.inputs().iter().zip(&found.inputs);
            let mut ports = inputs.chain(found.executable.outputs().iter().zip(&found.outputs));
            if let Some((port, _)) = ports.find(|(_, buffer)| buffer.is_none()) {
                return Err(Misuse::UnboundPort(port.name.clone()));
            }
            found.encoding = Encoding::Encoded;
            let buffers: Vec<Id> = found.inputs.iter().chain(&found.outputs).copied().flatten().collect();
            if let Object::Stream { operation, was_encoded } = state.stream(stream)? {
                (*operation, *was_encoded) = (Some(given), true);
            }
            state.need(stream, given);
            buffers.into_iter().for_each(|buffer| state.need(stream, buffer));
            Ok(())
        })
    }

    /// Runs what is in a stream.
    fn e5rt_execution_stream_execute_sync(stream: Handle) {
        with_state(|state| match state.stream(id(stream))? {
            Object::Stream { operation: Some(operation), .. } => {
                let operation = *operation;
                programs::run(state, operation)
            }
            _ => Err(Misuse::NeverEncoded),
        })
    }

    /// Empties a stream.
    fn e5rt_execution_stream_reset(stream: Handle) {
        let stream = id(stream);
        with_state(|state| {
            let Object::Stream { operation, was_encoded: true } = state.stream(stream)? else {
                return Err(Misuse::NeverEncoded);
            };
            let operation = operation.take();
            state.need_only(stream, vec![]);
            leave(state, operation);
            Ok(())
        })
    }

    /// Has a stream back.
    fn e5rt_execution_stream_release(stream: Place) {
        release(stream, |state, id| {
            if let Object::Stream { operation, .. } = state.release_stream(id)? {
                leave(state, operation);
            }
            Ok(())
        })
    }
}

/// Lets an operation know that its stream has it no more.
fn leave(state: &mut State, operation: Option<Id>) {
    if let Some(Ok(operation)) = operation.map(|operation| state.operation(operation)) {
        operation.encoding = Encoding::Before;
    }
}

fn retain_port(operation: Handle, name: Text, port: Place, way: Way) -> Result<(), Misuse> {
    let (operation, name) = (id(operation), string(name)?);
    let made = with_state(|state| {
        make(port, state, |state| {
            let executable = &state.operation(operation)?.executable;
            let ports = if way == Way::In { executable.inputs() } else { executable.outputs() };
            let index = ports.iter().position(|port| port.name == name);
            let index = index.ok_or(Misuse::UnknownPort(name))?;
            Ok((Object::Port { operation, way, index }, vec![operation]))
        })
    });
    made.map(drop)
}

/// The number of objects that were made and are not released.
#[unsafe(no_mangle)]
pub extern "C" fn e5rt_stand_in_live_objects() -> u64 {
    with_state(|state| state.alive().len() as u64)
}
