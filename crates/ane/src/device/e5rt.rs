//! e5rt, the C interface of the system's Espresso framework, loaded at run time.
//!
//! Source of every signature and of every word on ownership: ANEForge 0.4.0, which ran on macOS 26.5 (M5 Pro). The
//! interface is private, so a system may change it. All functions return 0 where they succeed. Objects are opaque; a
//! function that makes or retains one writes it to a *place*, and the caller owns it until a `release` function, which
//! takes the place's address, has it back. What is made of an object is released before it.
//!
//! No object is shared between threads: one thread at a time has it, but for a library of compiled functions, which is
//! behind a lock. A process that has been forked must not go on with the interface; nothing here forks.
#![allow(unsafe_code)] // Every call into the library is foreign code.

use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

use anemone_mil::runtime::Port;

use super::packing::{buffer_bytes, size_bytes};
use super::system::{library, load_reason, path_text, status, text};
use super::{Bound, Compiled, DeviceError, Interface, Source};

/// Names a library with e5rt's functions, instead of the system's.
pub const LIBRARY_VARIABLE: &str = "ANEMONE_E5RT";
/// The system's.
const FRAMEWORK: &str = "/System/Library/PrivateFrameworks/Espresso.framework/Espresso";
/// The engine alone, of CPU 1, GPU 2 and engine 4: what it cannot run does not compile.
const ENGINE_ALONE: u64 = 4;

/// An object of the library.
type Object = *mut c_void;
/// Where a new object, or a pointer to data, is written: the caller's, written to during the call only.
type Place = *mut *mut c_void;
/// A string that ends with 0: the caller's, read during the call only.
type Text = *const c_char;

/// Declares the functions of the library, finds them when it is loaded, and calls them.
macro_rules! functions {
    ($($(#[$doc:meta])+ fn $name:ident($($argument:ident: $ty:ty),+);)+) => {
        /// The library's functions.
        struct Functions {
            $($name: unsafe extern "C" fn($($ty),+) -> i64,)+
            /// Never unloaded: a framework does not expect that.
            _library: ManuallyDrop<libloading::Library>,
        }

        impl Functions {
            fn find(library: libloading::Library, path: &Path) -> Result<Functions, DeviceError> {
                Ok(Functions {
                    $(
                        // SAFETY: the type is the function's published signature, and the library stays loaded.
                        $name: *unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }.map_err(|_| {
                            let (library, function) = (path.to_owned(), stringify!($name).to_string());
                            DeviceError::MissingFunction { library, function }
                        })?,
                    )+
                    _library: ManuallyDrop::new(library),
                })
            }

            $(
                $(#[$doc])+
                ///
                /// # Safety
                ///
                /// Objects are live ones of this library, of the kinds that the arguments' names say; places may be
                /// written to; strings end with 0.
                unsafe fn $name(&self, $($argument: $ty),+) -> Result<(), DeviceError> {
                    // SAFETY: the caller keeps what the function asks for.
                    match unsafe { (self.$name)($($argument),+) } {
                        0 => Ok(()),
                        status => Err(DeviceError::Call { call: stringify!($name), status }),
                    }
                }
            )+
        }
    };
}

functions! {
    /// Makes the settings of a compiler. `config`: the caller's.
    fn e5rt_e5_compiler_config_options_create(config: Place);
    /// Says where compiled bundles are kept. `directory` is copied.
    fn e5rt_e5_compiler_config_options_set_cache_bundle_location(config: Object, directory: Text);
    /// Has settings back. `config`: points to what `create` gave.
    fn e5rt_e5_compiler_config_options_release(config: Place);
    /// Makes a compiler. `compiler`: the caller's; `config` stays the caller's, and outlives it.
    fn e5rt_e5_compiler_create_with_config(compiler: Place, config: Object);
    /// Has a compiler back. `compiler`: points to what `create` gave.
    fn e5rt_e5_compiler_release(compiler: Place);
    /// Makes the options of a compilation. `options`: the caller's.
    fn e5rt_e5_compiler_options_create(options: Place);
    /// Says what a program may run on: the sum of CPU 1, GPU 2 and engine 4.
    fn e5rt_e5_compiler_options_set_compute_device_types_mask(options: Object, mask: u64);
    /// With 1, compiles though a bundle may be in the cache.
    fn e5rt_e5_compiler_options_set_force_recompilation(options: Object, force: c_int);
    /// Names how a program is cut into segments: `graph`. `segmenter` is copied.
    fn e5rt_e5_compiler_options_set_segmenter(options: Object, segmenter: Text);
    /// Has options back. `options`: points to what `create` gave.
    fn e5rt_e5_compiler_options_release(options: Place);
    /// Compiles the MIL text in a file; `@model_path` is the file's directory. `library`: the caller's, which may outlive
    /// compiler and options; these stay the caller's.
    fn e5rt_e5_compiler_compile(compiler: Object, path: Text, options: Object, library: Place);
    /// Has compiled functions back. `library`: points to what `compile` gave.
    fn e5rt_program_library_release(library: Place);
    /// Retains a compiled function by name. `function`: the caller's; `library` stays the caller's, and outlives it.
    fn e5rt_program_library_retain_program_function(library: Object, name: Text, function: Place);
    /// Has a function back. `function`: points to what `retain` gave.
    fn e5rt_program_function_release(function: Place);
    /// Makes the options of an operation. `options`: the caller's; `function` stays the caller's, and outlives them.
    fn e5rt_precompiled_compute_op_create_options_create_with_program_function(options: Place, function: Object);
    /// Names the operation. `name` is copied.
    fn e5rt_precompiled_compute_op_create_options_set_operation_name(options: Object, name: Text);
    /// With 1, has the operation allocate what lies between its inputs and outputs.
    fn e5rt_precompiled_compute_op_create_options_set_allocate_intermediate_buffers(options: Object, allocate: c_int);
    /// Has options back. `options`: points to what `create` gave.
    fn e5rt_precompiled_compute_op_create_options_release(options: Place);
    /// Makes an operation, which a stream can run. `operation`: the caller's; `options` stay the caller's, and outlive it.
    fn e5rt_execution_stream_operation_create_precompiled_compute_operation_with_options(
        operation: Place, options: Object
    );
    /// Retains an input by name. `port`: the caller's; `operation` stays the caller's, and outlives it.
    fn e5rt_execution_stream_operation_retain_input_port(operation: Object, name: Text, port: Place);
    /// Retains an output by name. `port`: the caller's; `operation` stays the caller's, and outlives it.
    fn e5rt_execution_stream_operation_retain_output_port(operation: Object, name: Text, port: Place);
    /// Has an operation back. `operation`: points to what `create` gave.
    fn e5rt_execution_stream_operation_release(operation: Place);
    /// Allocates a buffer of so many bytes, at least 64 and a multiple of 64, of the type 0. `buffer`: the caller's.
    fn e5rt_buffer_object_alloc(buffer: Place, bytes: u64, kind: u32);
    /// Gives the address of a buffer's bytes. `data`: the buffer's, as long as that lives.
    fn e5rt_buffer_object_get_data_ptr(buffer: Object, data: Place);
    /// Has a buffer back. `buffer`: points to what `alloc` gave.
    fn e5rt_buffer_object_release(buffer: Place);
    /// Binds a buffer to a port, before the first run. Both stay the caller's; the buffer outlives the operation's runs.
    fn e5rt_io_port_bind_buffer_object(port: Object, buffer: Object);
    /// Has a port back. `port`: points to what `retain` gave.
    fn e5rt_io_port_release(port: Place);
    /// Makes a stream. `stream`: the caller's.
    fn e5rt_execution_stream_create(stream: Place);
    /// Puts an operation with all its buffers into a stream, once. Both stay the caller's; `operation` outlives `stream`.
    fn e5rt_execution_stream_encode_operation(stream: Object, operation: Object);
    /// Runs what is in a stream, and returns when it is done.
    fn e5rt_execution_stream_execute_sync(stream: Object);
    /// Has a stream back. `stream`: points to what `create` gave.
    fn e5rt_execution_stream_release(stream: Place);
}

/// An object of the library that is ours, released when dropped.
struct Owned {
    object: Object,
    functions: Arc<Functions>,
    release: unsafe fn(&Functions, Place) -> Result<(), DeviceError>,
}

// SAFETY: an object is not tied to the thread that made it; it is used by one at a time, as it is not `Sync`.
unsafe impl Send for Owned {}

impl Owned {
    /// What `make` writes to the place that it is given.
    fn new(
        functions: &Arc<Functions>,
        release: unsafe fn(&Functions, Place) -> Result<(), DeviceError>,
        make: impl FnOnce(Place) -> Result<(), DeviceError>,
    ) -> Result<Owned, DeviceError> {
        let mut object = null_mut();
        make(&mut object)?;
        if object.is_null() {
            return Err(DeviceError::Run("the engine's library succeeds and gives no object".to_string()));
        }
        Ok(Owned { object, functions: functions.clone(), release })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the object is live, of the kind that `release` takes, ours, and not used again. What was made of it
        // is released before, by the order of fields. A failure leaves nothing to be done.
        let _ = unsafe { (self.release)(&self.functions, &mut self.object) };
    }
}

/// The C interface.
pub struct E5rt {
    functions: Arc<Functions>,
}

impl E5rt {
    /// Loads the library at `path`; without one, that which [`LIBRARY_VARIABLE`] names, or the system's.
    ///
    /// # Errors
    ///
    /// Without a library on a system that is no Mac, or when it does not load or lacks a function.
    pub fn load(path: Option<&Path>) -> Result<E5rt, DeviceError> {
        let path = library(path, FRAMEWORK, LIBRARY_VARIABLE)?;
        // SAFETY: what a library does when it is loaded is up to whoever names it.
        let library = unsafe { libloading::Library::new(&path) }
            .map_err(|error| DeviceError::Load { library: path.clone(), reason: load_reason(&error) })?;
        Ok(E5rt { functions: Arc::new(Functions::find(library, &path)?) })
    }
}

impl Interface for E5rt {
    fn name(&self) -> &'static str {
        "e5rt"
    }

    fn compile(&self, source: Source<'_>) -> Result<Box<dyn Compiled>, DeviceError> {
        let f = &self.functions;
        let (directory, model) = (path_text(source.directory)?, path_text(source.model)?);
        let name = text(source.function)?;
        // SAFETY: in all calls, objects are those that the calls before made, which live till the end of this function
        // or in what it returns; places are `Owned`'s; strings are of this frame.
        let config = Owned::new(f, Functions::e5rt_e5_compiler_config_options_release, |place| unsafe {
            f.e5rt_e5_compiler_config_options_create(place)
        })?;
        // SAFETY: as above.
        unsafe {
            f.e5rt_e5_compiler_config_options_set_cache_bundle_location(config.object, directory.as_ptr())
        }?;
        // SAFETY: as above.
        let compiler = Owned::new(f, Functions::e5rt_e5_compiler_release, |place| unsafe {
            f.e5rt_e5_compiler_create_with_config(place, config.object)
        })?;
        // SAFETY: as above.
        let options = Owned::new(f, Functions::e5rt_e5_compiler_options_release, |place| unsafe {
            f.e5rt_e5_compiler_options_create(place)
        })?;
        // SAFETY: as above.
        unsafe {
            f.e5rt_e5_compiler_options_set_compute_device_types_mask(options.object, ENGINE_ALONE)?;
            f.e5rt_e5_compiler_options_set_force_recompilation(options.object, 1)?;
            f.e5rt_e5_compiler_options_set_segmenter(options.object, c"graph".as_ptr())?;
        }
        // SAFETY: as above.
        let library = Owned::new(f, Functions::e5rt_program_library_release, |place| unsafe {
            f.e5rt_e5_compiler_compile(compiler.object, model.as_ptr(), options.object, place)
        });
        let library = library.map_err(|error| DeviceError::Compilation(status(&error)))?;
        // In the reverse of their order, and before the compiled program is used.
        drop((options, compiler));
        drop(config);
        // SAFETY: as above.
        let function = Owned::new(f, Functions::e5rt_program_function_release, |place| unsafe {
            f.e5rt_program_library_retain_program_function(library.object, name.as_ptr(), place)
        })?;
        let objects = Arc::new(Mutex::new((function, library)));
        Ok(Box::new(CompiledFunction { functions: f.clone(), name, objects }))
    }
}

/// A function, and the library that it is of; dropped in this order.
type FunctionObjects = (Owned, Owned);

/// A compiled function.
struct CompiledFunction {
    functions: Arc<Functions>,
    name: CString,
    objects: Arc<Mutex<FunctionObjects>>,
}

impl Compiled for CompiledFunction {
    fn bind(&self, inputs: &[Port], outputs: &[Port]) -> Result<Box<dyn Bound>, DeviceError> {
        let f = &self.functions;
        // Nothing is half done where a panic could leave it.
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let make = Functions::e5rt_precompiled_compute_op_create_options_create_with_program_function;
        let release = Functions::e5rt_precompiled_compute_op_create_options_release;
        // SAFETY: the function is locked, and what is bound keeps it; the rest as in `compile`.
        let options = Owned::new(f, release, |place| unsafe { make(f, place, objects.0.object) })?;
        // SAFETY: as above.
        unsafe {
            f.e5rt_precompiled_compute_op_create_options_set_operation_name(
                options.object,
                self.name.as_ptr(),
            )?;
            f.e5rt_precompiled_compute_op_create_options_set_allocate_intermediate_buffers(
                options.object,
                1,
            )?;
        }
        let make =
            Functions::e5rt_execution_stream_operation_create_precompiled_compute_operation_with_options;
        let release = Functions::e5rt_execution_stream_operation_release;
        // SAFETY: as above.
        let operation = Owned::new(f, release, |place| unsafe { make(f, place, options.object) })?;
        let bind = |ports: &[Port], retain| -> Result<Vec<Buffer>, DeviceError> {
            ports.iter().map(|port| Buffer::bound(f, &operation, port, retain)).collect()
        };
        let inputs = bind(inputs, Functions::e5rt_execution_stream_operation_retain_input_port)?;
        let outputs = bind(outputs, Functions::e5rt_execution_stream_operation_retain_output_port)?;
        // SAFETY: as above; the operation's buffers are all bound.
        let stream = Owned::new(f, Functions::e5rt_execution_stream_release, |place| unsafe {
            f.e5rt_execution_stream_create(place)
        })?;
        // SAFETY: as above.
        unsafe { f.e5rt_execution_stream_encode_operation(stream.object, operation.object) }?;
        let function = self.objects.clone();
        drop(objects);
        Ok(Box::new(Operation {
            stream,
            inputs,
            outputs,
            _operation: operation,
            _options: options,
            _function: function,
        }))
    }
}

type Retain = unsafe fn(&Functions, Object, Text, Place) -> Result<(), DeviceError>;

/// A buffer bound to a port. Dropped, the port goes first.
struct Buffer {
    _port: Owned,
    data: *mut u8,
    bytes: usize,
    _buffer: Owned,
}

// SAFETY: `data` points into the buffer, which is `Send` and owned with it.
unsafe impl Send for Buffer {}

impl Buffer {
    /// A buffer of zeros for a port of an operation.
    fn bound(
        f: &Arc<Functions>,
        operation: &Owned,
        port: &Port,
        retain: Retain,
    ) -> Result<Buffer, DeviceError> {
        let bytes = buffer_bytes(size_bytes(&port.name, &port.ty)?);
        let memory =
            || DeviceError::Unsupported(format!("there is no buffer for `{}`, {}", port.name, port.ty));
        let bytes = bytes.filter(|bytes| isize::try_from(*bytes).is_ok()).ok_or_else(memory)?;
        let name = text(&port.name)?;
        // SAFETY: the operation is live; places are `Owned`'s; the string is of this frame.
        let found = Owned::new(f, Functions::e5rt_io_port_release, |place| unsafe {
            retain(f, operation.object, name.as_ptr(), place)
        })?;
        // SAFETY: as above.
        let buffer = Owned::new(f, Functions::e5rt_buffer_object_release, |place| unsafe {
            f.e5rt_buffer_object_alloc(place, bytes as u64, 0)
        })?;
        let mut data = null_mut();
        // SAFETY: as above; `data` is of this frame.
        unsafe { f.e5rt_buffer_object_get_data_ptr(buffer.object, &mut data) }?;
        if data.is_null() {
            return Err(memory());
        }
        // SAFETY: the buffer has `bytes` bytes at `data`, and nothing else refers to them yet.
        unsafe { data.cast::<u8>().write_bytes(0, bytes) };
        // SAFETY: as above.
        unsafe { f.e5rt_io_port_bind_buffer_object(found.object, buffer.object) }?;
        Ok(Buffer { _port: found, data: data.cast(), bytes, _buffer: buffer })
    }
}

/// An operation in a stream, with its buffers; dropped in the order of the fields.
struct Operation {
    stream: Owned,
    inputs: Vec<Buffer>,
    outputs: Vec<Buffer>,
    _operation: Owned,
    _options: Owned,
    _function: Arc<Mutex<FunctionObjects>>,
}

impl Bound for Operation {
    fn input(&mut self, position: usize) -> &mut [u8] {
        let Buffer { data, bytes, .. } = &self.inputs[position];
        // SAFETY: `data` points to so many initialised bytes, which live as long as `self`; no run is going on, and no
        // other reference exists, as `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(*data, *bytes) }
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        // SAFETY: the stream is live and has its operation, whose buffers live as long as `self`, and none is borrowed.
        let run = unsafe { self.stream.functions.e5rt_execution_stream_execute_sync(self.stream.object) };
        run.map_err(|error| DeviceError::Run(status(&error)))
    }

    fn output(&self, position: usize) -> &[u8] {
        let Buffer { data, bytes, .. } = &self.outputs[position];
        // SAFETY: as in `input`; the bytes change only in `run`, which borrows `self` alone.
        unsafe { std::slice::from_raw_parts(*data, *bytes) }
    }
}
