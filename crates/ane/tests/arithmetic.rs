//! The published cases of the engine's arithmetic, as ops compute them on the simulator.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;

use anemone_ane::chips::Chip;
use anemone_ane::simulator::Simulator;
use anemone_mil::runtime::{Runtime, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::weights::WeightMap;
use anemone_mil::{text, verify};
use half::f16;
use serde_json::Value;

/// Runs `main` of a program on tensors of fp16; gives the first number of the first output.
fn run(chip: Chip, inputs: &str, ops: &str, values: &[Tensor]) -> f16 {
    let source = format!("program(1.3)\n{{\n    func main<ios18>({inputs}) {{\n{ops}    }} -> (y);\n}}\n");
    let program = text::parse(&source).unwrap_or_else(|errors| panic!("{errors}\n{source}")).program;
    let verified = Arc::new(verify::verify(program).unwrap_or_else(|errors| panic!("{errors}\n{source}")));
    let types: Vec<_> = values.iter().map(Tensor::ty).collect();
    let simulator = Simulator::without_rules(chip);
    let mut main = simulator.prepare(&verified, "main", &types, &WeightMap::default()).unwrap();
    let mut outputs = allocate_outputs(main.as_ref()).unwrap();
    main.run(&values.iter().collect::<Vec<_>>(), &mut outputs).unwrap();
    outputs[0].as_slice::<f16>().unwrap()[0]
}

fn number(value: &Value) -> f16 {
    match value.as_str() {
        Some("inf") => f16::INFINITY,
        Some("-inf") => f16::NEG_INFINITY,
        Some("nan") => f16::from_bits(0x7e00),
        Some(other) => panic!("{other} is no number"),
        None => {
            let exact = value.as_f64().unwrap();
            let number = f16::from_f64(exact);
            assert_eq!(number.to_f64(), exact, "{exact} is no number of fp16");
            number
        }
    }
}

fn tensor(shape: &[usize], values: &[f16]) -> Tensor {
    Tensor::from_values(shape, values.to_vec()).unwrap()
}

fn cases(kind: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/engine/arithmetic.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    all[kind].as_array().unwrap().clone()
}

/// A product by each op that forms one in fixed point, where the op can.
fn products(case: &Value) -> Vec<(&'static str, f16)> {
    let terms: Vec<[f16; 2]> =
        case["terms"].as_array().unwrap().iter().map(|pair| [number(&pair[0]), number(&pair[1])]).collect();
    let [x, w] = [0, 1].map(|side| terms.iter().map(|pair| pair[side]).collect::<Vec<f16>>());
    let k = terms.len();
    let bias = case.get("bias").map(number);
    let literal =
        |values: &[f16]| values.iter().map(|v| v.to_f64().to_string()).collect::<Vec<_>>().join(", ");
    let bias_argument =
        bias.map_or(String::new(), |bias| format!("bias = tensor<fp16, [1]>([{}]), ", literal(&[bias])));
    let both = [tensor(&[1, k, 1, 1], &x), tensor(&[1, k, 1, 1], &w)];
    let inputs = format!("tensor<fp16, [1, {k}, 1, 1]> w, tensor<fp16, [1, {k}, 1, 1]> x");
    let conv = |ty: &str, padding: &str| {
        format!(
            "        tensor<fp16, {ty}> y = conv({bias_argument}dilations = tensor<int32, [2]>([1, 1]), groups = int32(1), {padding}, strides = tensor<int32, [2]>([1, 1]), weight = w, x = x)[name = string(\"y\")];\n"
        )
    };
    let valid = r#"pad = tensor<int32, [4]>([0, 0, 0, 0]), pad_type = string("valid")"#;
    // Padding takes the way over windows.
    let padded = r#"pad = tensor<int32, [4]>([0, 0, 0, 1]), pad_type = string("custom")"#;
    let run_on = |inputs: &str, ops: &str, values: &[Tensor]| run(Chip::M4, inputs, ops, values);
    let mut found = vec![
        ("conv", run_on(&inputs, &conv("[1, 1, 1, 1]", valid), &both)),
        ("conv over windows", run_on(&inputs, &conv("[1, 1, 1, 2]", padded), &both)),
    ];
    if bias.is_none() {
        let inputs = format!("tensor<fp16, [1, {k}]> x, tensor<fp16, [{k}, 1]> w");
        let matmul = "        tensor<fp16, [1, 1]> y = matmul(transpose_x = bool(false), transpose_y = bool(false), x = x, y = w)[name = string(\"y\")];\n";
        found.push(("matmul", run_on(&inputs, matmul, &[tensor(&[1, k], &x), tensor(&[k, 1], &w)])));
    }
    if w.iter().all(|w| w.is_finite()) {
        let linear = format!(
            "        tensor<fp16, [1, 1]> y = linear({bias_argument}weight = tensor<fp16, [1, {k}]>([[{}]]), x = x)[name = string(\"y\")];\n",
            literal(&w)
        );
        found.push(("linear", run_on(&format!("tensor<fp16, [1, {k}]> x"), &linear, &[tensor(&[1, k], &x)])));
    }
    found
}

#[test]
fn sums_of_products_are_the_published_ones() {
    for case in cases("products") {
        for (op, found) in products(&case) {
            assert_eq!(found.to_bits(), number(&case["result"]).to_bits(), "{op}: {}", case["case"]);
        }
    }
}

#[test]
fn elementwise_ops_round_half_away_over_the_whole_range() {
    for case in cases("elementwise") {
        let op = case["op"].as_str().unwrap();
        let ops = format!("        tensor<fp16, [1]> y = {op}(x = a, y = b)[name = string(\"y\")];\n");
        let values = [tensor(&[1], &[number(&case["x"])]), tensor(&[1], &[number(&case["y"])])];
        let found = run(Chip::M4, "tensor<fp16, [1]> a, tensor<fp16, [1]> b", &ops, &values);
        assert_eq!(found.to_bits(), number(&case["result"]).to_bits(), "{}: {}", op, case["case"]);
    }
}

#[test]
fn reductions_add_up_in_fp16() {
    for case in cases("reduce_sum") {
        let x: Vec<f16> = case["x"].as_array().unwrap().iter().map(number).collect();
        let ops = "        tensor<fp16, [1]> y = reduce_sum(axes = tensor<int32, [1]>([0]), keep_dims = bool(true), x = x)[name = string(\"y\")];\n";
        let found = run(Chip::M4, &format!("tensor<fp16, [{}]> x", x.len()), ops, &[tensor(&[x.len()], &x)]);
        assert_eq!(found.to_bits(), number(&case["result"]).to_bits(), "{}", case["case"]);
    }
}

/// What one op gives for one number on a chip.
fn unary(chip: Chip, op: &str, x: f32) -> f32 {
    let ops = format!("        tensor<fp16, [1]> y = {op}(x = x)[name = string(\"y\")];\n");
    run(chip, "tensor<fp16, [1]> x", &ops, &[tensor(&[1], &[f16::from_f32(x)])]).to_f32()
}

#[test]
fn chips_get_wrong_what_rules_say_of_them() {
    // R36.
    assert_eq!([Chip::M4, Chip::M5].map(|chip| unary(chip, "round", 2.5)), [2.0, 3.0]);
    assert_eq!([Chip::M4, Chip::M5].map(|chip| unary(chip, "round", 1025.0)), [1025.0, 1026.0]);
    // R37.
    assert_eq!([Chip::M4, Chip::M3, Chip::M5].map(|chip| unary(chip, "softplus", 12.0)), [12.0, 0.0, 0.0]);
    // R41.
    let small = "        tensor<fp16, [1]> y = log(epsilon = fp16(0x0p+0), x = x)[name = string(\"y\")];\n";
    let logarithm =
        |x: f32| run(Chip::M4, "tensor<fp16, [1]> x", small, &[tensor(&[1], &[f16::from_f32(x)])]);
    assert_eq!(logarithm(7.6e-6), f16::NEG_INFINITY);
    assert!(logarithm(8.1e-6).is_finite());
    // R35.
    let scaled = "        tensor<fp16, [1]> f = floor(x = x)[name = string(\"f\")];\n        tensor<fp16, [1]> y = mul(x = f, y = fp16(0.5))[name = string(\"y\")];\n";
    let halves = [Chip::M4, Chip::M5].map(|chip| {
        run(chip, "tensor<fp16, [1]> x", scaled, &[tensor(&[1], &[f16::from_f32(3.7)])]).to_f32()
    });
    assert_eq!(halves, [1.5, 3.0]);
    // R29.
    let slice = |begin: i32| {
        format!(
            "        tensor<fp16, [1]> y = slice_by_size(begin = tensor<int32, [1]>([{begin}]), size = tensor<int32, [1]>([1]), x = x)[name = string(\"y\")];\n"
        )
    };
    let x = [tensor(&[2], &[f16::from_f32(5000.0), f16::from_f32(-5000.0)])];
    let cut = |chip, begin| run(chip, "tensor<fp16, [2]> x", &slice(begin), &x).to_f32();
    assert_eq!((cut(Chip::M1, 0), cut(Chip::M1, 1), cut(Chip::M4, 1)), (5000.0, f32::NEG_INFINITY, -5000.0));
}
