//! Every kind of misuse that the library refuses, and the use that it does not refuse.

#![allow(clippy::unwrap_used, unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::ptr::{null, null_mut, without_provenance_mut};
use std::time::Duration;

use anemone_ane_stand_in::*;
use tempfile::TempDir;

const PROGRAM: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 40]> x) {
            tensor<fp16, [1, 40]> y = add(x = x, y = x)[name = string("y")];
        } -> (y);
}
"#;

/// Calls a function of the library.
macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: places and strings of these tests are ones, or null; handles may be anything.
        unsafe { $name($($argument),*) }
    };
}

/// Calls a function that must succeed.
macro_rules! ok {
    ($name:ident($($argument:expr),* $(,)?)) => {
        assert_eq!(call!($name($($argument),*)), 0, stringify!($name))
    };
}

fn text(text: impl AsRef<str>) -> CString {
    CString::new(text.as_ref()).unwrap()
}

/// An address that was never given.
fn nonsense() -> Handle {
    without_provenance_mut(0x1234_5678)
}

/// One object of each kind, encoded and ready to run.
struct Session {
    directory: TempDir,
    config: Handle,
    compiler: Handle,
    options: Handle,
    library: Handle,
    function: Handle,
    operation_options: Handle,
    operation: Handle,
    x: Handle,
    y: Handle,
    buffers: [Handle; 2],
    stream: Handle,
}

impl Session {
    fn new() -> Session {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("model.mil"), PROGRAM).unwrap();
        let mut s = Session {
            directory,
            config: null_mut(),
            compiler: null_mut(),
            options: null_mut(),
            library: null_mut(),
            function: null_mut(),
            operation_options: null_mut(),
            operation: null_mut(),
            x: null_mut(),
            y: null_mut(),
            buffers: [null_mut(); 2],
            stream: null_mut(),
        };
        ok!(e5rt_e5_compiler_config_options_create(&mut s.config));
        let place = text(s.directory.path().to_str().unwrap());
        ok!(e5rt_e5_compiler_config_options_set_cache_bundle_location(s.config, place.as_ptr()));
        ok!(e5rt_e5_compiler_create_with_config(&mut s.compiler, s.config));
        ok!(e5rt_e5_compiler_options_create(&mut s.options));
        ok!(e5rt_e5_compiler_options_set_compute_device_types_mask(s.options, 4));
        ok!(e5rt_e5_compiler_options_set_force_recompilation(s.options, 1));
        ok!(e5rt_e5_compiler_options_set_segmenter(s.options, c"graph".as_ptr()));
        let model = s.model();
        ok!(e5rt_e5_compiler_compile(s.compiler, model.as_ptr(), s.options, &mut s.library));
        ok!(e5rt_program_library_retain_program_function(s.library, c"main".as_ptr(), &mut s.function));
        ok!(e5rt_precompiled_compute_op_create_options_create_with_program_function(
            &mut s.operation_options,
            s.function
        ));
        let options = s.operation_options;
        ok!(e5rt_precompiled_compute_op_create_options_set_operation_name(options, c"main".as_ptr()));
        ok!(e5rt_precompiled_compute_op_create_options_set_allocate_intermediate_buffers(options, 1));
        s.operation = s.new_operation();
        ok!(e5rt_execution_stream_operation_retain_input_port(s.operation, c"x".as_ptr(), &mut s.x));
        ok!(e5rt_execution_stream_operation_retain_output_port(s.operation, c"y".as_ptr(), &mut s.y));
        for (port, buffer) in [s.x, s.y].into_iter().zip(&mut s.buffers) {
            ok!(e5rt_buffer_object_alloc(buffer, 128, 0));
            ok!(e5rt_io_port_bind_buffer_object(port, *buffer));
        }
        ok!(e5rt_execution_stream_create(&mut s.stream));
        ok!(e5rt_execution_stream_encode_operation(s.stream, s.operation));
        s
    }

    fn model(&self) -> CString {
        text(self.directory.path().join("model.mil").to_str().unwrap())
    }

    fn new_operation(&self) -> Handle {
        let mut operation = null_mut();
        let options = self.operation_options;
        ok!(e5rt_execution_stream_operation_create_precompiled_compute_operation_with_options(
            &mut operation,
            options
        ));
        operation
    }

    fn compile(&self, model: &Path, compiler: Handle, options: Handle) -> i64 {
        let (model, mut library) = (text(model.to_str().unwrap()), null_mut());
        let status = call!(e5rt_e5_compiler_compile(compiler, model.as_ptr(), options, &mut library));
        if !library.is_null() {
            ok!(e5rt_program_library_release(&mut library));
        }
        status
    }

    fn compile_text(&self, program: &str) -> i64 {
        let model = self.directory.path().join("other.mil");
        fs::write(&model, program).unwrap();
        self.compile(&model, self.compiler, self.options)
    }

    /// What `work` gives for a new operation, which is released.
    fn with_operation(&self, work: impl FnOnce(Handle) -> i64) -> i64 {
        let mut operation = self.new_operation();
        let status = work(operation);
        ok!(e5rt_execution_stream_operation_release(&mut operation));
        status
    }

    /// What `work` gives for a new stream, which is released.
    fn with_stream(&self, work: impl FnOnce(Handle) -> i64) -> i64 {
        let mut stream = null_mut();
        ok!(e5rt_execution_stream_create(&mut stream));
        let status = work(stream);
        ok!(e5rt_execution_stream_release(&mut stream));
        status
    }

    fn with_options(&self, work: impl FnOnce(Handle) -> i64) -> i64 {
        let mut options = null_mut();
        ok!(e5rt_e5_compiler_options_create(&mut options));
        let status = work(options);
        ok!(e5rt_e5_compiler_options_release(&mut options));
        status
    }

    /// Binds a new buffer of so many bytes to a port; the buffer is released with the port.
    fn bind_new(&mut self, bytes: u64) -> i64 {
        let mut buffer = null_mut();
        ok!(e5rt_buffer_object_alloc(&mut buffer, bytes, 0));
        let status = call!(e5rt_io_port_bind_buffer_object(self.x, buffer));
        ok!(e5rt_buffer_object_release(&mut buffer));
        status
    }

    /// Releases all, in the order that is right.
    fn release(mut self) {
        ok!(e5rt_execution_stream_release(&mut self.stream));
        ok!(e5rt_io_port_release(&mut self.x));
        ok!(e5rt_io_port_release(&mut self.y));
        self.buffers.iter_mut().for_each(|buffer| ok!(e5rt_buffer_object_release(buffer)));
        ok!(e5rt_execution_stream_operation_release(&mut self.operation));
        ok!(e5rt_precompiled_compute_op_create_options_release(&mut self.operation_options));
        ok!(e5rt_program_function_release(&mut self.function));
        ok!(e5rt_program_library_release(&mut self.library));
        ok!(e5rt_e5_compiler_options_release(&mut self.options));
        ok!(e5rt_e5_compiler_release(&mut self.compiler));
        ok!(e5rt_e5_compiler_config_options_release(&mut self.config));
    }
}

type Case = (&'static str, Misuse, fn(&mut Session) -> i64);

/// Each is a call that must be refused; the session is whole afterwards.
fn cases() -> Vec<Case> {
    let none = String::new;
    vec![
        ("a null place", Misuse::NullPlace, |_| call!(e5rt_execution_stream_create(null_mut()))),
        ("a null place for a pointer", Misuse::NullPlace, |s| {
            call!(e5rt_buffer_object_get_data_ptr(s.buffers[0], null_mut()))
        }),
        ("a null place of a release", Misuse::NullPlace, |_| call!(e5rt_buffer_object_release(null_mut()))),
        ("a null object", Misuse::NullObject, |_| call!(e5rt_execution_stream_execute_sync(null_mut()))),
        ("a release of null", Misuse::NullObject, |_| call!(e5rt_execution_stream_release(&mut null_mut()))),
        ("a null string", Misuse::NullText, |s| {
            call!(e5rt_program_library_retain_program_function(s.library, null(), &mut null_mut()))
        }),
        ("an empty string", Misuse::BadText, |s| {
            call!(e5rt_program_library_retain_program_function(s.library, c"".as_ptr(), &mut null_mut()))
        }),
        ("a string that is not UTF-8", Misuse::BadText, |s| {
            call!(e5rt_e5_compiler_options_set_segmenter(s.options, c"\xff".as_ptr()))
        }),
        ("an address from elsewhere", Misuse::UnknownObject, |_| {
            call!(e5rt_execution_stream_execute_sync(nonsense()))
        }),
        ("an object to be", Misuse::UnknownObject, |_| {
            call!(e5rt_execution_stream_execute_sync(without_provenance_mut(1 << 40)))
        }),
        ("a second release", Misuse::ReleasedObject, |_| {
            let mut buffer = null_mut();
            ok!(e5rt_buffer_object_alloc(&mut buffer, 64, 0));
            let mut again = buffer;
            ok!(e5rt_buffer_object_release(&mut buffer));
            call!(e5rt_buffer_object_release(&mut again))
        }),
        ("use after release", Misuse::ReleasedObject, |_| {
            let mut buffer = null_mut();
            ok!(e5rt_buffer_object_alloc(&mut buffer, 64, 0));
            let released = buffer;
            ok!(e5rt_buffer_object_release(&mut buffer));
            call!(e5rt_buffer_object_get_data_ptr(released, &mut null_mut()))
        }),
        ("a stream for a compiler", Misuse::WrongKind("", ""), |s| {
            let model = s.model();
            call!(e5rt_e5_compiler_compile(s.stream, model.as_ptr(), s.options, &mut null_mut()))
        }),
        ("a port by the release of a buffer", Misuse::WrongKind("", ""), |s| {
            call!(e5rt_buffer_object_release(&mut { s.x }))
        }),
        ("settings before their compiler", Misuse::InUse("", 0), |s| {
            call!(e5rt_e5_compiler_config_options_release(&mut { s.config }))
        }),
        ("a library before its function", Misuse::InUse("", 0), |s| {
            call!(e5rt_program_library_release(&mut { s.library }))
        }),
        ("a function before its operation's options", Misuse::InUse("", 0), |s| {
            call!(e5rt_program_function_release(&mut { s.function }))
        }),
        ("options before their operation", Misuse::InUse("", 0), |s| {
            call!(e5rt_precompiled_compute_op_create_options_release(&mut { s.operation_options }))
        }),
        ("an operation before its ports and stream", Misuse::InUse("", 0), |s| {
            call!(e5rt_execution_stream_operation_release(&mut { s.operation }))
        }),
        ("a buffer before its port", Misuse::InUse("", 0), |s| {
            call!(e5rt_buffer_object_release(&mut { s.buffers[0] }))
        }),
        ("no device", Misuse::WrongMask(0), |s| {
            call!(e5rt_e5_compiler_options_set_compute_device_types_mask(s.options, 0))
        }),
        ("a fourth device", Misuse::WrongMask(0), |s| {
            call!(e5rt_e5_compiler_options_set_compute_device_types_mask(s.options, 12))
        }),
        ("a flag of 2", Misuse::WrongFlag(0), |s| {
            call!(e5rt_e5_compiler_options_set_force_recompilation(s.options, 2))
        }),
        ("a flag of -1", Misuse::WrongFlag(0), |s| {
            let options = s.operation_options;
            call!(e5rt_precompiled_compute_op_create_options_set_allocate_intermediate_buffers(options, -1))
        }),
        ("a segmenter that there is not", Misuse::UnknownSegmenter(none()), |s| {
            call!(e5rt_e5_compiler_options_set_segmenter(s.options, c"tree".as_ptr()))
        }),
        ("an option that there is not", Misuse::UnknownOption(none()), |s| {
            let option = c"Architecture=h13".as_ptr();
            call!(e5rt_e5_compiler_options_set_custom_ane_compiler_options(s.options, option))
        }),
        ("a directory that there is not", Misuse::MissingDirectory(none()), |s| {
            let path = text(s.directory.path().join("none").to_str().unwrap());
            call!(e5rt_e5_compiler_config_options_set_cache_bundle_location(s.config, path.as_ptr()))
        }),
        ("a compiler that knows no directory", Misuse::NoCacheLocation, |s| {
            let (mut config, mut compiler) = (null_mut(), null_mut());
            ok!(e5rt_e5_compiler_config_options_create(&mut config));
            ok!(e5rt_e5_compiler_create_with_config(&mut compiler, config));
            let status = s.compile(&s.directory.path().join("model.mil"), compiler, s.options);
            ok!(e5rt_e5_compiler_release(&mut compiler));
            ok!(e5rt_e5_compiler_config_options_release(&mut config));
            status
        }),
        ("a compilation without a mask", Misuse::NoMask, |s| {
            s.with_options(|options| s.compile(&s.directory.path().join("model.mil"), s.compiler, options))
        }),
        ("a program that there is not", Misuse::MissingFile(none()), |s| {
            s.compile(&s.directory.path().join("none.mil"), s.compiler, s.options)
        }),
        ("a text by another name", Misuse::MissingFile(none()), |s| {
            let path = s.directory.path().join("model.txt");
            fs::write(&path, PROGRAM).unwrap();
            s.compile(&path, s.compiler, s.options)
        }),
        ("a text that is no program", Misuse::Compilation(none()), |s| s.compile_text("program(1.3) {")),
        ("a program with a mistake", Misuse::Compilation(none()), |s| {
            s.compile_text(&PROGRAM.replace("add", "ad"))
        }),
        ("a program without its weights", Misuse::Compilation(none()), |s| {
            let weight = r#"tensor<fp16, [1, 40]> w = const()[name = string("w"), val = tensor<fp16, [1, 40]>(BLOBFILE(path = string("@model_path/w.bin"), offset = uint64(64)))]; "#;
            let program =
                PROGRAM.replace("tensor<fp16, [1, 40]> y", &format!("{weight}tensor<fp16, [1, 40]> y"));
            s.compile_text(&program.replace("y = x)", "y = w)"))
        }),
        ("a compilation right after one that failed", Misuse::TooSoon, |s| {
            configure(Settings { recovery: Duration::from_secs(60), ..Settings::default() });
            s.compile_text("");
            s.compile(&s.directory.path().join("model.mil"), s.compiler, s.options)
        }),
        ("a compilation too many", Misuse::NoCompilationLeft, |s| {
            configure(Settings { compilations: 1, ..Settings::default() });
            assert_eq!(s.compile(&s.directory.path().join("model.mil"), s.compiler, s.options), 0);
            s.compile(&s.directory.path().join("model.mil"), s.compiler, s.options)
        }),
        ("a function that there is not", Misuse::UnknownFunction(none()), |s| {
            call!(e5rt_program_library_retain_program_function(s.library, c"mian".as_ptr(), &mut null_mut()))
        }),
        ("a run of what is for another chip", Misuse::OtherChip, |s| {
            let [mut library, mut function, mut options, mut operation] = [null_mut(); 4];
            let (model, h13) = (s.model(), c"TargetArchitecture=h13".as_ptr());
            ok!(e5rt_e5_compiler_options_set_custom_ane_compiler_options(s.options, h13));
            ok!(e5rt_e5_compiler_compile(s.compiler, model.as_ptr(), s.options, &mut library));
            ok!(e5rt_program_library_retain_program_function(library, c"main".as_ptr(), &mut function));
            ok!(e5rt_precompiled_compute_op_create_options_create_with_program_function(
                &mut options,
                function
            ));
            ok!(e5rt_precompiled_compute_op_create_options_set_operation_name(options, c"f".as_ptr()));
            let status =
                call!(e5rt_execution_stream_operation_create_precompiled_compute_operation_with_options(
                    &mut operation,
                    options
                ));
            ok!(e5rt_precompiled_compute_op_create_options_release(&mut options));
            ok!(e5rt_program_function_release(&mut function));
            ok!(e5rt_program_library_release(&mut library));
            status
        }),
        ("an operation without a name", Misuse::NoName, |s| {
            let [mut options, mut operation] = [null_mut(); 2];
            let function = s.function;
            ok!(e5rt_precompiled_compute_op_create_options_create_with_program_function(
                &mut options,
                function
            ));
            let status =
                call!(e5rt_execution_stream_operation_create_precompiled_compute_operation_with_options(
                    &mut operation,
                    options
                ));
            ok!(e5rt_precompiled_compute_op_create_options_release(&mut options));
            status
        }),
        ("an output for an input", Misuse::UnknownPort(none()), |s| {
            call!(e5rt_execution_stream_operation_retain_input_port(
                s.operation,
                c"y".as_ptr(),
                &mut null_mut()
            ))
        }),
        ("an output that there is not", Misuse::UnknownPort(none()), |s| {
            call!(e5rt_execution_stream_operation_retain_output_port(
                s.operation,
                c"z".as_ptr(),
                &mut null_mut()
            ))
        }),
        ("a buffer of 0 bytes", Misuse::BufferSize(0), |_| {
            call!(e5rt_buffer_object_alloc(&mut null_mut(), 0, 0))
        }),
        ("a buffer of 32 bytes", Misuse::BufferSize(0), |_| {
            call!(e5rt_buffer_object_alloc(&mut null_mut(), 32, 0))
        }),
        ("a buffer of 100 bytes", Misuse::BufferSize(0), |_| {
            call!(e5rt_buffer_object_alloc(&mut null_mut(), 100, 0))
        }),
        ("a buffer that no memory holds", Misuse::BufferSize(0), |_| {
            call!(e5rt_buffer_object_alloc(&mut null_mut(), u64::MAX - 63, 0))
        }),
        ("a buffer of the type 1", Misuse::BufferType(0), |_| {
            call!(e5rt_buffer_object_alloc(&mut null_mut(), 64, 1))
        }),
        ("a buffer smaller than its port", Misuse::BufferTooSmall(0, 0), |s| s.bind_new(64)),
        ("a buffer bound after a run", Misuse::BoundTooLate, |s| {
            ok!(e5rt_execution_stream_execute_sync(s.stream));
            s.bind_new(128)
        }),
        ("an operation with no buffers", Misuse::UnboundPort(none()), |s| {
            s.with_operation(|operation| {
                s.with_stream(|stream| call!(e5rt_execution_stream_encode_operation(stream, operation)))
            })
        }),
        ("a second encoding", Misuse::EncodedTwice, |s| {
            call!(e5rt_execution_stream_encode_operation(s.stream, s.operation))
        }),
        ("an encoding in a second stream", Misuse::EncodedTwice, |s| {
            s.with_stream(|stream| call!(e5rt_execution_stream_encode_operation(stream, s.operation)))
        }),
        ("an encoding after a reset alone", Misuse::NotPrepared, |s| {
            ok!(e5rt_execution_stream_reset(s.stream));
            call!(e5rt_execution_stream_encode_operation(s.stream, s.operation))
        }),
        ("a run after a reset", Misuse::NeverEncoded, |s| {
            ok!(e5rt_execution_stream_reset(s.stream));
            call!(e5rt_execution_stream_execute_sync(s.stream))
        }),
        ("a run of nothing", Misuse::NeverEncoded, |s| {
            s.with_stream(|stream| call!(e5rt_execution_stream_execute_sync(stream)))
        }),
        ("a reset of nothing", Misuse::NeverEncoded, |s| {
            s.with_stream(|stream| call!(e5rt_execution_stream_reset(stream)))
        }),
        ("a preparation of what was never encoded", Misuse::NeverEncoded, |s| {
            s.with_operation(|operation| {
                call!(e5rt_execution_stream_operation_prepare_op_for_encode(operation))
            })
        }),
        ("a preparation without a reset", Misuse::StillEncoded, |s| {
            call!(e5rt_execution_stream_operation_prepare_op_for_encode(s.operation))
        }),
        ("a run that fails", Misuse::Run(none()), |s| {
            configure(Settings { fail_run: Some(1), ..Settings::default() });
            call!(e5rt_execution_stream_execute_sync(s.stream))
        }),
    ]
}

/// All in one test, as the library's objects are the process's.
#[test]
fn every_misuse_is_refused_and_right_use_is_not() {
    for (name, expected, case) in cases() {
        configure(Settings { recovery: Duration::ZERO, ..Settings::default() });
        let mut session = Session::new();
        assert_eq!(case(&mut session), expected.status(), "{name}: should be {expected:?}");
        session.release();
        assert_eq!(e5rt_stand_in_live_objects(), 0, "{name}");
    }
    configure(Settings::default());
    results_are_in_the_output_s_buffer();
    an_output_s_buffer_may_be_an_input_s();
    assert_eq!(e5rt_stand_in_live_objects(), 0);
}

fn values(buffer: Handle) -> &'static mut [u16] {
    let mut data = null_mut();
    ok!(e5rt_buffer_object_get_data_ptr(buffer, &mut data));
    // SAFETY: the buffer has 128 bytes and lives longer than what the tests do with them, which is over before it runs.
    unsafe { std::slice::from_raw_parts_mut(data.cast(), 64) }
}

fn results_are_in_the_output_s_buffer() {
    let s = Session::new();
    values(s.buffers[0])[..2].copy_from_slice(&[0x3c00, 0x4000]);
    ok!(e5rt_execution_stream_execute_sync(s.stream));
    assert_eq!(values(s.buffers[1])[..3], [0x4000, 0x4400, 0]);
    // Encoded again, it runs again.
    ok!(e5rt_execution_stream_reset(s.stream));
    ok!(e5rt_execution_stream_operation_prepare_op_for_encode(s.operation));
    ok!(e5rt_execution_stream_encode_operation(s.stream, s.operation));
    values(s.buffers[0])[0] = 0x4000;
    ok!(e5rt_execution_stream_execute_sync(s.stream));
    assert_eq!(values(s.buffers[1])[..3], [0x4400, 0x4400, 0]);
    s.release();
}

fn an_output_s_buffer_may_be_an_input_s() {
    let mut s = Session::new();
    ok!(e5rt_execution_stream_release(&mut s.stream));
    ok!(e5rt_io_port_bind_buffer_object(s.y, s.buffers[0]));
    ok!(e5rt_execution_stream_create(&mut s.stream));
    ok!(e5rt_execution_stream_operation_prepare_op_for_encode(s.operation));
    ok!(e5rt_execution_stream_encode_operation(s.stream, s.operation));
    values(s.buffers[0])[0] = 0x3c00;
    (0..3).for_each(|_| ok!(e5rt_execution_stream_execute_sync(s.stream)));
    assert_eq!(values(s.buffers[0])[0], 0x4800);
    s.release();
}
