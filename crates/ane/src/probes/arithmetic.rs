//! The table of arithmetic, row by row, and functions at many points.

use super::{Probe, Subject};

/// Sums of products: a name, and the factors `(x, w)` of each term.
const SUMS: &[(&str, &[(f64, f64)])] = &[
    ("32752", &[(32752.0, 1.0)]),
    ("32768", &[(32768.0, 1.0)]),
    ("16384+16376", &[(16384.0, 1.0), (16376.0, 1.0)]),
    ("16384+16384", &[(16384.0, 1.0), (16384.0, 1.0)]),
    (
        "16384+16384-16384-16384+1",
        &[(16384.0, 1.0), (16384.0, 1.0), (-16384.0, 1.0), (-16384.0, 1.0), (1.0, 1.0)],
    ),
    ("16384+2^-16-16384", &[(16384.0, 1.0), (1.0 / 65536.0, 1.0), (-16384.0, 1.0)]),
    ("2^-17", &[(1.0 / 131_072.0, 1.0)]),
    ("2^-18", &[(1.0 / 262_144.0, 1.0)]),
    ("2048+1", &[(2048.0, 1.0), (1.0, 1.0)]),
    ("-4096-2", &[(-4096.0, 1.0), (-2.0, 1.0)]),
    ("1.99*2^-14*1.99*2^-3", &[(1.99 / 16384.0, 1.99 / 8.0)]),
    ("1.5*2^-13*0.125", &[(1.5 / 8192.0, 0.125)]),
    ("inf", &[(f64::INFINITY, 0.25)]),
    ("nan", &[(f64::NAN, 0.25)]),
    ("-0", &[(-0.0, 1.0)]),
];

/// A convolution's bias, in hexadecimal, and the terms.
const BIASED: &[(&str, &str, [f64; 2])] =
    &[("bias-16384,16384+16384", "-0x1p+14", [16384.0, 16384.0]), ("bias32,32736", "0x1p+5", [32736.0, 0.0])];

/// Ops on two numbers.
const PAIRS: &[(&str, &str, f64, f64)] = &[
    ("2048+1", "add", 2048.0, 1.0),
    ("20000+20000", "add", 20000.0, 20000.0),
    ("nan+1", "add", f64::NAN, 1.0),
    ("2048-4095", "sub", 2048.0, 4095.0),
    ("256*256", "mul", 256.0, 256.0),
    ("2^-14*2^-10", "mul", 1.0 / 16384.0, 1.0 / 1024.0),
    ("3*0.5+ulp", "mul", 1.0009765625, 1.5),
];

/// Functions, what they are given beside `x`, and where they are evaluated: from, to.
const FUNCTIONS: &[(&str, &str, f64, f64)] = &[
    ("sigmoid", "", -12.0, 12.0),
    ("tanh", "", -6.0, 6.0),
    ("erf", "", -4.0, 4.0),
    ("exp", "", -12.0, 11.0),
    ("exp2", "", -16.0, 15.0),
    ("log", "epsilon = epsilon, ", 0.001, 1000.0),
    ("sqrt", "", 0.0, 1000.0),
    ("rsqrt", "epsilon = epsilon, ", 0.001, 1000.0),
    ("inverse", "epsilon = epsilon, ", 0.001, 100.0),
    ("gelu", "mode = mode, ", -8.0, 8.0),
    ("silu", "", -12.0, 12.0),
    ("softplus", "", -12.0, 12.0),
    ("round", "", -1100.0, 1100.0),
    ("floor", "", -100.0, 100.0),
];

/// How many numbers a row of 32 holds for each of 32 terms: the sizes that every source takes.
const WIDTH: usize = 32;
/// A function is evaluated at so many points.
const POINTS: usize = 1024;

/// A program with one function `main` of these inputs and statements, which gives `y`.
pub(super) fn program(inputs: &str, statements: &[String]) -> String {
    let body: String = statements.iter().map(|statement| format!("        {statement};\n")).collect();
    format!("program(1.0)\n{{\n    func main<ios17>({inputs}) {{\n{body}    }} -> (y);\n}}\n")
}

/// A constant of the element type and shape in `ty`.
pub(super) fn constant(name: &str, ty: &str, value: &str) -> String {
    format!("{ty} {name} = const()[name = tensor<string, []>(\"{name}\"), val = {ty}({value})]")
}

/// An op that gives `y`.
pub(super) fn gives(ty: &str, call: &str) -> String {
    format!("{ty} y = {call}[name = tensor<string, []>(\"y\")]")
}

/// A matrix product of the inputs `x` and `w`.
pub(super) fn matmul(x: &str, w: &str, y: &str) -> String {
    program(&format!("{x} x, {w} w"), &multiplied("w", y))
}

/// A matrix product of the input `x` and a constant `weight`.
pub(super) fn product(x: &str, weight: &str, y: &str) -> String {
    let statements = [vec![weight.to_string()], multiplied("weight", y)].concat();
    program(&format!("{x} x"), &statements)
}

fn multiplied(w: &str, y: &str) -> Vec<String> {
    let bool_type = "tensor<bool, []>";
    let call = format!("matmul(transpose_x = transpose_x, transpose_y = transpose_y, x = x, y = {w})");
    vec![
        constant("transpose_x", bool_type, "false"),
        constant("transpose_y", bool_type, "false"),
        gives(y, &call),
    ]
}

/// Every row of the table.
pub(super) fn rows() -> Vec<Probe> {
    let square = format!("tensor<fp16, [{WIDTH}, {WIDTH}]>");
    let mut probes = Vec::new();
    for (name, terms) in SUMS {
        let mut probe =
            Probe::new(format!("sum {name}"), Subject::Arithmetic, matmul(&square, &square, &square));
        let mut x: Vec<f64> = terms.iter().map(|(x, _)| *x).collect();
        x.resize(WIDTH, 0.0);
        // A row of `x` holds the terms; each row of `w` is one factor, again and again.
        let factor = |row: usize| terms.get(row).map_or(0.0, |(_, w)| *w);
        let w = (0..WIDTH).flat_map(|row| std::iter::repeat_n(factor(row), WIDTH)).collect();
        probe.inputs = vec![x, w];
        probes.push(probe);
    }
    for (name, bias, terms) in BIASED {
        let mut probe = Probe::new(format!("sum {name}"), Subject::Arithmetic, biased(bias));
        probe.inputs = vec![terms.iter().flat_map(|&term| [term; WIDTH]).collect()];
        probes.push(probe);
    }
    let flat = "tensor<fp16, [1, 32]>";
    for (name, op, x, y) in PAIRS {
        let text = program(&format!("{flat} x, {flat} z"), &[gives(flat, &format!("{op}(x = x, y = z)"))]);
        let mut probe = Probe::new(format!("{op} {name}"), Subject::Arithmetic, text);
        probe.inputs = vec![vec![*x], vec![*y]];
        probes.push(probe);
    }
    let long = "tensor<fp16, [1, 4096]>";
    let statements = [
        constant("axes", "tensor<int32, [1]>", "[1]"),
        constant("keep", "tensor<bool, []>", "true"),
        gives("tensor<fp16, [1, 1]>", "reduce_sum(axes = axes, keep_dims = keep, x = x)"),
    ];
    let mut ones = Probe::new(
        "reduce_sum of 4096 ones",
        Subject::Arithmetic,
        program(&format!("{long} x"), &statements),
    );
    ones.inputs = vec![vec![1.0]];
    probes.push(ones);
    probes
}

/// A 1×1 convolution of two channels by ones, with a bias.
fn biased(bias: &str) -> String {
    let constants = [
        constant("weight", "tensor<fp16, [1, 2, 1, 1]>", "[[[[0x1p+0]], [[0x1p+0]]]]"),
        constant("bias", "tensor<fp16, [1]>", &format!("[{bias}]")),
    ];
    convolution("tensor<fp16, [1, 2, 1, 32]>", &constants, "bias = bias, ", "tensor<fp16, [1, 1, 1, 32]>")
}

/// A 1×1 convolution of the input `x` by the constant `weight`; `more` is what else it is given.
pub(super) fn convolution(x: &str, constants: &[String], more: &str, y: &str) -> String {
    let call = format!(
        "conv({more}dilations = dilations, groups = groups, pad = pad, pad_type = pad_type, strides = strides, \
         weight = weight, x = x)"
    );
    let mut statements = constants.to_vec();
    statements.extend([
        constant("dilations", "tensor<int32, [2]>", "[1, 1]"),
        constant("groups", "tensor<int32, []>", "1"),
        constant("pad", "tensor<int32, [4]>", "[0, 0, 0, 0]"),
        constant("pad_type", "tensor<string, []>", "\"valid\""),
        constant("strides", "tensor<int32, [2]>", "[1, 1]"),
        gives(y, &call),
    ]);
    program(&format!("{x} x"), &statements)
}

/// Functions of one number, each at points that are equally far apart.
pub(super) fn functions() -> Vec<Probe> {
    let ty = format!("tensor<fp16, [1, {POINTS}]>");
    let probe = |(op, given, from, to): &(&str, &str, f64, f64)| {
        let mut statements = Vec::new();
        if given.starts_with("epsilon") {
            statements.push(constant("epsilon", "tensor<fp16, []>", "0x0p+0"));
        }
        if given.starts_with("mode") {
            statements.push(constant("mode", "tensor<string, []>", "\"EXACT\""));
        }
        statements.push(gives(&ty, &format!("{op}({given}x = x)")));
        let mut probe =
            Probe::new(format!("function {op}"), Subject::Function, program(&format!("{ty} x"), &statements));
        let step = (to - from) / (POINTS - 1) as f64;
        probe.inputs = vec![(0..POINTS).map(|point| from + step * point as f64).collect()];
        probe
    };
    FUNCTIONS.iter().map(probe).collect()
}
