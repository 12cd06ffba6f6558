//! `anemone run`.

use std::fs;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::process::Command;

use anemone_mil::tensor::Tensor;
use anemone_mil::weights::write_blob_file;
use half::f16;
use npyz::{Deserialize, NpyFile};

#[cfg(target_os = "linux")]
use super::support::finished;
use super::support::{ACCUMULATE, LINEAR, Place, Run, anemone, array};

/// An array with any header and data, as version 1.0.
fn raw(place: &Place, name: &str, header: &str, data: &[u8]) -> String {
    let length = (header.len() as u16).to_le_bytes();
    place.file(name, [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat())
}

fn header(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
}

fn read<T: Deserialize>(path: &Path) -> (Vec<u64>, Vec<T>) {
    let bytes = fs::read(path).unwrap();
    let file = NpyFile::new(&bytes[..]).unwrap();
    (file.shape().to_vec(), file.into_vec().unwrap())
}

/// Runs a program with its inputs; results go to `out`.
fn run(place: &Place, program: &str, inputs: &[(&str, &str)]) -> Run {
    let file = place.file("program.mil", program);
    let mut arguments = vec!["run".to_string(), file, "--output".to_string(), place.text("out")];
    for (name, path) in inputs {
        arguments.extend(["--input".to_string(), format!("{name}={path}")]);
    }
    anemone(arguments)
}

/// A program that returns its input.
fn identity(ty: &str) -> String {
    format!(
        "program(1.3)\n{{\n    func main<ios18>({ty} x) {{\n            {ty} y = identity(x = x)[name = \
         string(\"y\")];\n        }} -> (y);\n}}\n"
    )
}

#[test]
fn writes_one_array_per_result() {
    let place = Place::new();
    let x = array(&place, "x.npy", &[2, 3], &[1.0f32, 2.0, 3.0, -1.0, 0.5, 4.0]);
    let run = run(&place, LINEAR, &[("x", &x)]).ended(0);
    let y = place.path("out/y.npy");
    assert_eq!(run.stdout, format!("y: fp32 [2, 4] in {}\n", y.display()));
    assert_eq!(read::<f32>(&y), (vec![2, 4], vec![1.0, 2.0, 3.0, 6.5, -1.0, 0.5, 4.0, 4.0]));
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 1);

    let json = anemone([
        "run",
        "--json",
        &place.text("program.mil"),
        "--input",
        &format!("x={x}"),
        "--output",
        &place.text("out"),
    ]);
    let json = json.ended(0).json();
    assert_eq!(json[0], serde_json::json!({"output": "y", "dtype": "fp32", "shape": [2, 4], "file": y}));
}

#[test]
fn floats_are_rounded_once_to_the_inputs_type() {
    let place = Place::new();
    // In two steps, through fp32, the first would become 1: it is just above half an ulp of fp16.
    let values = [1.0 + 2f64.powi(-11) + 2f64.powi(-40), 0.1, 1e9, -1e-9, f64::NAN, 65519.0];
    let x = array(&place, "x.npy", &[6], &values);
    run(&place, &identity("tensor<fp16, [6]>"), &[("x", &x)]).ended(0);
    let (_, y) = read::<f16>(&place.path("out/y.npy"));
    let expected = [0x3c01, 0x2e66, 0x7c00, 0x8000, 0x7e00, 0x7bff];
    let bits: Vec<u16> = y.iter().map(|y| y.to_bits()).collect();
    assert_eq!((&bits[..4], bits[5]), (&expected[..4], expected[5]));
    assert!(y[4].is_nan());
}

#[test]
fn every_numeric_type_and_order_is_read() {
    let place = Place::new();
    let case = |descr: &str, fortran: &str, data: &[u8]| {
        let x = raw(&place, "x.npy", &header(descr, fortran, "(2, 2)"), data);
        run(&place, &identity("tensor<fp32, [2, 2]>"), &[("x", &x)]).ended(0);
        read::<f32>(&place.path("out/y.npy")).1
    };
    let expected = [1.0, 2.0, 3.0, 4.0];
    macro_rules! check {
        ($ty:ty, $letter:literal) => {
            let values = [1 as $ty, 2 as $ty, 3 as $ty, 4 as $ty];
            let size = size_of::<$ty>();
            let (little, big) =
                (values.map(<$ty>::to_le_bytes).concat(), values.map(<$ty>::to_be_bytes).concat());
            if size > 1 {
                assert_eq!(case(&format!("<{}{size}", $letter), "False", &little), expected);
                assert_eq!(case(&format!(">{}{size}", $letter), "False", &big), expected);
            } else {
                assert_eq!(case(&format!("|{}1", $letter), "False", &little), expected);
            }
            let columns = [values[0], values[2], values[1], values[3]].map(<$ty>::to_be_bytes).concat();
            assert_eq!(case(&format!(">{}{size}", $letter), "True", &columns), expected);
        };
    }
    check!(f32, "f");
    check!(f64, "f");
    check!(i8, "i");
    check!(i16, "i");
    check!(i32, "i");
    check!(i64, "i");
    check!(u8, "u");
    check!(u16, "u");
    check!(u32, "u");
    check!(u64, "u");
    let halves = [1.0, 2.0, 3.0, 4.0].map(|value| f16::from_f32(value).to_be_bytes()).concat();
    assert_eq!(case(">f2", "False", &halves), expected);
    assert_eq!(case("|b1", "False", &[0, 1, 1, 0]), [0.0, 1.0, 1.0, 0.0]);
}

#[test]
fn results_keep_their_type_and_bf16_becomes_fp32() {
    let place = Place::new();
    let x = array(&place, "x.npy", &[2], &[3i64, -7]);
    run(&place, &identity("tensor<int32, [2]>"), &[("x", &x)]).ended(0);
    assert_eq!(read::<i32>(&place.path("out/y.npy")), (vec![2], vec![3, -7]));
    let x = array(&place, "x.npy", &[2], &[true, false]);
    run(&place, &identity("tensor<bool, [2]>"), &[("x", &x)]).ended(0);
    assert_eq!(read::<bool>(&place.path("out/y.npy")).1, [true, false]);
    let x = array(&place, "x.npy", &[], &[2.5f64]);
    run(&place, &identity("fp32"), &[("x", &x)]).ended(0);
    assert_eq!(read::<f32>(&place.path("out/y.npy")), (vec![], vec![2.5]));
}

#[test]
fn integers_must_fit() {
    let place = Place::new();
    let large = array(&place, "large.npy", &[2], &[1i64, 1 << 31]);
    run(&place, &identity("tensor<int32, [2]>"), &[("x", &large)])
        .failed(1, &["large.npy", "`x`", "2147483648 at index 1", "int32"]);
    let inexact = array(&place, "inexact.npy", &[2], &[2048i32, 2049]);
    run(&place, &identity("tensor<fp16, [2]>"), &[("x", &inexact)]).failed(1, &["2049 at index 1", "fp16"]);
    let two = array(&place, "two.npy", &[2], &[1u8, 2]);
    run(&place, &identity("tensor<bool, [2]>"), &[("x", &two)]).failed(1, &["2 at index 1", "bool"]);
    let float = array(&place, "float.npy", &[2], &[1.0f32, 2.0]);
    run(&place, &identity("tensor<int32, [2]>"), &[("x", &float)]).failed(1, &["floating point", "int32"]);
    assert!(!place.path("out").exists(), "nothing is written where nothing is run");
}

#[test]
fn wrong_inputs_are_named() {
    let place = Place::new();
    let x = array(&place, "x.npy", &[2, 3], &[0.5f32; 6]);
    let turned = array(&place, "turned.npy", &[3, 2], &[0.5f32; 6]);
    run(&place, LINEAR, &[]).failed(1, &["nothing is given for `x`"]);
    run(&place, LINEAR, &[("x", &x), ("z", &x)]).failed(1, &["no input named `z`", "`x`"]);
    run(&place, LINEAR, &[("x", &x), ("x", &x)]).failed(1, &["`x` is given twice"]);
    run(&place, LINEAR, &[("x", &turned)]).failed(1, &["turned.npy", "[3, 2]", "[2, 3] is expected"]);
    run(&place, LINEAR, &[("x", &place.text("none.npy"))]).failed(1, &["none.npy", "No such file"]);
    run(&place, LINEAR, &[("x", &place.text(""))]).failed(1, &["is a directory"]);
    let (program, out) = (place.text("program.mil"), place.text("out"));
    anemone(["run", &program, "--input", "x", "--output", &out]).failed(2, &["NAME=FILE is expected"]);
    anemone(["run", &program, "--input", &format!("x={x}")]).failed(2, &["--output"]);
    let input = format!("x={x}");
    let with = |rest: &[&str]| anemone([&["run", &program, "--input", &input, "--output"], rest].concat());
    with(&[&x]).failed(1, &["cannot make the directory", "x.npy: it is a file"]);
    with(&[&out, "--function", "other"]).failed(1, &["`other`", "`main`"]);
    with(&[&out, "--runtime", "gpu"]).failed(2, &["gpu", "cpu, eval"]);
    with(&[&out, "--chip", "m7"]).failed(2, &["m7"]);
    with(&[&out]).ended(0);
    with(&[&out, "--runtime", "eval"]).ended(0);
}

#[test]
fn damaged_and_absurd_arrays_are_errors() {
    let place = Place::new();
    let good = header("<f4", "False", "(2, 3)");
    let data = [0; 24];
    for (name, file, words) in [
        (
            "short.npy",
            raw(&place, "short.npy", &good, &data[..20]),
            "holds 20 bytes of data, its shape takes 24",
        ),
        ("long.npy", raw(&place, "long.npy", &good, &[0; 40]), "or more bytes of data, its shape takes 24"),
        ("text.npy", place.file("text.npy", "1, 2, 3"), "not a .npy file"),
        ("empty.npy", place.file("empty.npy", ""), "not a .npy file"),
        ("cut.npy", place.file("cut.npy", b"\x93NUMPY\x01\x00\xff\x00{'descr"), "ends within it"),
        ("huge.npy", place.file("huge.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"), "4294967295 bytes"),
        ("object.npy", raw(&place, "object.npy", &header("|O", "False", "(2, 3)"), &data), "`|O`"),
    ] {
        run(&place, LINEAR, &[("x", &file)]).failed(1, &[name, words]);
    }
    let flexible = LINEAR.replace("[2, 3]> x", "[?, 3]> x").replace("[2, 4]> y", "[?, 4]> y");
    for shape in ["(4611686018427387904, 3)", "(18446744073709551615, 3)", "(1000000000000, 3)"] {
        let file = raw(&place, "claim.npy", &header("<f4", "False", shape), &data);
        run(&place, &flexible, &[("x", &file)]).failed(1, &["claim.npy"]);
    }
}

#[test]
fn dimensions_that_inputs_settle_and_functions_by_name() {
    let place = Place::new();
    let flexible = LINEAR.replace("[2, 3]> x", "[?, 3]> x").replace("[2, 4]> y", "[?, 4]> y");
    let x = array(&place, "x.npy", &[1, 3], &[1.0f32, 2.0, 3.0]);
    run(&place, &flexible, &[("x", &x)]).ended(0);
    assert_eq!(read::<f32>(&place.path("out/y.npy")), (vec![1, 4], vec![1.0, 2.0, 3.0, 6.5]));

    let function = |name: &str, op: &str| {
        format!(
            "    func {name}<ios18>(fp32 x) {{\n            fp32 y = {op}(x = x)[name = string(\"y\")];\n        }} -> (y);\n"
        )
    };
    let program =
        format!("program(1.3)\n{{\n{}{}}}\n", function("negate", "identity"), function("root", "sqrt"));
    let x = array(&place, "x.npy", &[], &[9.0f32]);
    run(&place, &program, &[("x", &x)]).failed(1, &["--function", "`negate`, `root`"]);
    let file = place.text("program.mil");
    anemone([
        "run",
        &file,
        "--function",
        "root",
        "--input",
        &format!("x={x}"),
        "--output",
        &place.text("out"),
    ])
    .ended(0);
    assert_eq!(read::<f32>(&place.path("out/y.npy")).1, [3.0]);
}

#[test]
fn weights_are_looked_for_beside_the_program_or_where_told() {
    let place = Place::new();
    let program = r#"program(1.3)
{
    func main<ios18>(tensor<fp32, [2]> x) {
            tensor<fp32, [2]> w = const()[name = string("w"), val = tensor<fp32, [2]>(BLOBFILE(path = string("@model_path/w.bin"), offset = uint64(64)))];
            tensor<fp32, [2]> y = mul(x = x, y = w)[name = string("y")];
        } -> (y);
}
"#;
    let x = array(&place, "x.npy", &[2], &[2.0f32, 3.0]);
    run(&place, program, &[("x", &x)]).failed(1, &["`w`", "does not exist", "`--weights DIR`"]);
    let write = |path: &str, values: [f32; 2]| {
        write_blob_file(place.path(path), |writer| writer.append(&Tensor::vector(values.to_vec()))).unwrap();
    };
    write("w.bin", [1.0, 2.0]);
    run(&place, program, &[("x", &x)]).ended(0);
    assert_eq!(read::<f32>(&place.path("out/y.npy")).1, [2.0, 6.0]);
    fs::create_dir(place.path("other")).unwrap();
    write("other/w.bin", [10.0, 20.0]);
    let (file, out, other) = (place.text("program.mil"), place.text("out"), place.text("other"));
    let from = |weights: &str| {
        anemone(["run", &file, "--input", &format!("x={x}"), "--output", &out, "--weights", weights])
    };
    from(&other).ended(0);
    assert_eq!(read::<f32>(&place.path("out/y.npy")).1, [20.0, 60.0]);
    from(&place.text("none")).failed(1, &["cannot read weights", "no such directory"]);
    from(&place.text("w.bin")).failed(1, &["w.bin: it is not a directory", "`@model_path`"]);
    let in_the_way = format!("cannot make the directory {x}: it is a file");
    anemone(["run", &file, "--input", &format!("x={x}"), "--output", &x]).failed(1, &[&in_the_way]);
}

/// Sizes that no machine has: an output, an intermediate value, a state.
#[test]
fn sizes_beyond_memory_are_errors() {
    let place = Place::new();
    let x = array(&place, "x.npy", &[1], &[1.0f32]);
    let output = "tensor<fp32, [1099511627776]> y = tile(reps = tensor<int32, [1]>([1099511627776]), x = x)";
    let wide = "tensor<fp32, [1048576, 1]> a = fill(shape = tensor<int32, [2]>([1048576, 1]), value = fp32(1))\
                [name = string(\"a\")];\n\
                tensor<fp32, [1, 1048576]> b = fill(shape = tensor<int32, [2]>([1, 1048576]), value = fp32(1))\
                [name = string(\"b\")];\n\
                tensor<fp32, [1048576, 1048576]> y = add(x = a, y = b)";
    for (state, ops) in [
        ("", output),
        ("", wide),
        (", state<tensor<fp16, [1048576, 1048576]>> s", "tensor<fp32, [1]> y = identity(x = x)"),
    ] {
        let program = format!(
            "program(1.3)\n{{\n    func main<ios18>(tensor<fp32, [1]> x{state}) {{\n{ops}[name = string(\"y\")];\n\
             }} -> (y);\n}}\n"
        );
        let program = place.file("large.mil", &program);
        for runtime in ["cpu", "eval"] {
            let run = anemone([
                "run",
                &program,
                "--input",
                &format!("x={x}"),
                "--output",
                &place.text("out"),
                "--runtime",
                runtime,
            ]);
            let run = run.ended(1);
            assert!(run.stderr.lines().count() < 12 && !run.stderr.contains("panicked"), "{}", run.stderr);
        }
    }
}

/// Moving data takes the memory of its results and no tables beside them; what cannot be had is an error. 256 MiB of fp16
/// in 1 GiB of address space, in which a position for each element would not fit.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_cannot_be_had_is_an_error() {
    const ELEMENTS: usize = 1 << 27;
    let place = Place::new();
    let x = array(&place, "x.npy", &[1], &[1.0f32]);
    let large = format!("tensor<fp16, [{ELEMENTS}]> a");
    let filled = format!("{large} = fill(shape = tensor<int32, [1]>([{ELEMENTS}]), value = fp16(1))");
    let tiled = format!(
        "tensor<fp16, [1]> h = cast(dtype = string(\"fp16\"), x = x)[name = string(\"h\")];\n\
         {large} = tile(reps = tensor<int32, [1]>([{ELEMENTS}]), x = h)"
    );
    let padded = format!(
        "tensor<fp16, [1]> h = cast(dtype = string(\"fp16\"), x = x)[name = string(\"h\")];\n\
         {large} = pad(pad = tensor<int32, [2]>([{}, 0]), mode = string(\"constant\"), constant_val = fp16(0), \
         x = h)",
        ELEMENTS - 1
    );
    let few = "tensor<fp16, [2]> y = slice_by_size(begin = tensor<int32, [1]>([5]), size = tensor<int32, [1]>([2]), \
               x = a)";
    let sums = format!(
        "tensor<fp16, [{ELEMENTS}]> b = cumsum(axis = int32(0), exclusive = bool(false), reverse = bool(false), \
         x = a)[name = string(\"b\")];\n{}",
        few.replace("x = a", "x = b")
    );
    for (ops, status) in
        [([&filled, few], 0), ([&tiled, few], 0), ([&padded, few], 0), ([&filled, sums.as_str()], 1)]
    {
        let ops = ops.join("[name = string(\"a\")];\n");
        let program = format!(
            "program(1.3)\n{{\n    func main<ios18>(tensor<fp32, [1]> x) {{\n{ops}[name = string(\"y\")];\n\
             }} -> (y);\n}}\n"
        );
        let program = place.file("large.mil", &program);
        for runtime in ["cpu", "eval"] {
            let run = Command::new("sh")
                .args(["-c", "ulimit -v 1048576 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_anemone")])
                .args(["run", &program, "--input", &format!("x={x}"), "--output", &place.text("out")])
                .args(["--runtime", runtime])
                // Every thread of the allocator's own would reserve address space.
                .env("MALLOC_ARENA_MAX", "1")
                .output()
                .unwrap();
            let run = finished(run);
            match status {
                0 => drop(run.ended(0)),
                _ => drop(run.failed(1, &["no memory"])),
            }
        }
    }
}

#[test]
fn a_state_is_given_like_an_input_and_written_like_a_result() {
    let place = Place::new();
    let x = array(&place, "x.npy", &[2], &[1.5f32, 2.0]);
    let s = array(&place, "s.npy", &[2], &[10.0f64, -2.0]);
    let program = place.file("accumulate.mil", ACCUMULATE);
    for runtime in ["cpu", "eval"] {
        let out = place.text(runtime);
        let x = format!("x={x}");
        let flags = ["run", "--json", &program, "--runtime", runtime, "--output", &out, "--input", &x];
        let read = |name: &str| {
            read::<f16>(&place.path(runtime).join(name)).1.iter().map(|v| v.to_f32()).collect::<Vec<_>>()
        };
        let json = anemone(flags).ended(0).json();
        assert_eq!(json.len(), 2);
        assert_eq!((&json[1]["output"], &json[1]["dtype"]), (&"s".into(), &"fp16".into()));
        assert_eq!((read("y.npy"), read("s.npy")), (vec![0.0, 0.0], vec![1.5, 2.0]));
        anemone([&flags[..], &["--input", &format!("s={s}")]].concat()).ended(0);
        assert_eq!((read("y.npy"), read("s.npy")), (vec![15.0, -4.0], vec![11.5, 0.0]));
    }
    let out = place.text("out");
    let run = |inputs: &[&str]| {
        let inputs = inputs.iter().flat_map(|input| ["--input", input]);
        anemone(["run", &program, "--output", &out].into_iter().chain(inputs))
    };
    let (x, s) = (format!("x={x}"), format!("s={s}"));
    run(&[&x, &s, &s]).failed(1, &["`s` is given twice"]);
    run(&[&s]).failed(1, &["nothing is given for `x`"]);
    run(&[&x, &s.replace("s=", "t=")]).failed(1, &["no input named `t`", "`s`, `x`"]);
    let long = format!("s={}", array(&place, "long.npy", &[3], &[1.0f32; 3]));
    run(&[&x, &long]).failed(1, &["the state `s`", "[3]", "[2] is expected"]);
    assert!(!place.path("out").exists());
}

/// On Linux a path is any bytes. JSON is UTF-8, so there what is not becomes U+FFFD.
#[cfg(target_os = "linux")]
#[test]
fn paths_need_not_be_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let place = Place::new();
    let odd = place.path("").join(OsStr::from_bytes(b"caf\xe9="));
    let within = |name: &str| odd.join(name).into_os_string();
    fs::create_dir(&odd).unwrap();
    let x = array(&place, "x.npy", &[2, 3], &[1.0f32; 6]);
    fs::copy(&x, odd.join("x.npy")).unwrap();
    fs::write(odd.join("linear.mil"), LINEAR).unwrap();
    fs::write(odd.join("config"), "[model]\ndim = 8\n[train]\nbatch = 2\nseq = 8\nsteps = 2\n").unwrap();

    let input = [OsStr::new("x="), &within("x.npy")].join(OsStr::new(""));
    let (json, program, out) = (OsStr::new("--json"), within("linear.mil"), within("out"));
    let of = |subcommand: &str, arguments: &[&OsStr]| {
        anemone([&[OsStr::new(subcommand), json], arguments].concat()).ended(0).json()
    };
    let flag = OsStr::new;
    let results = of("run", &[&program, flag("--input"), &input, flag("--output"), &out]);
    assert!(results[0]["file"].as_str().unwrap().ends_with("caf\u{fffd}=/out/y.npy"), "{results:?}");
    assert!(odd.join("out/y.npy").exists());
    for subcommand in ["check", "fmt", "show"] {
        let lines = of(subcommand, &[&program]);
        assert!(lines[0]["file"].as_str().unwrap().ends_with("caf\u{fffd}=/linear.mil"), "{lines:?}");
    }
    let failed = anemone([flag("check"), json, &within("none.mil"), &program]).ended(1).json();
    assert_eq!((&failed[1]["ok"], &failed[2]["ok"]), (&false.into(), &true.into()));
    let dimensions = ["--vocab", "5", "--dim", "4", "--seq", "3", "--out"].map(OsStr::new);
    let lines = of("emit", &[&[flag("head")], &dimensions[..], &[&within("head")]].concat());
    assert_eq!(lines.len(), 3 + 4);
    let trained = of("train", &[flag("--config"), &within("config"), flag("--out"), &within("trained")]);
    assert!(trained[0]["checkpoint"].as_str().unwrap().contains("caf\u{fffd}="), "{trained:?}");
    let resumed = of("train", &[flag("--resume"), &within("trained")]);
    assert_eq!(resumed, trained);
}

#[test]
fn a_list_is_neither_given_nor_written() {
    let source = r#"program(1.3)
{
    func taken<ios18>(list<fp32, 2> ls) {
            int32 n = list_length(ls = ls);
        } -> (n);
    func given<ios18>() {
            list<tensor<fp32, [2]>, 1> ls = make_list(dynamic_length = bool(false), elem_shape = (int32(2)));
        } -> (ls);
}
"#;
    let place = Place::new();
    let (file, out) = (place.file("lists.mil", source), place.text("out"));
    for runtime in ["cpu", "eval"] {
        let run = ["run", &file, "--output", &out, "--runtime", runtime, "--function"];
        let of = |function| anemone(run.iter().copied().chain([function]));
        of("taken").failed(1, &["`ls` is list<fp32, 2>, which no .npy file can hold"]);
        of("given").failed(1, &["`ls` is list<tensor<fp32, [2]>, 1>, and only tensors"]);
        assert!(!place.path("out").exists());
    }
}
