//! The gradients of attention as one step, against the interpreter in fp64.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use anemone_cpu::InstructionPath;
use anemone_lm::config::{DeviceDtype, ModelConfig};
use anemone_lm::programs::Target;
use anemone_lm::programs::layer::Layer;
use anemone_mil::program::Program;
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::{Verified, verify};
use anemone_mil::weights::WeightMap;
use common::paths::{cpu_on, paths, paths_without_products};
use common::{ordinary, reference};

/// Tensors by name.
type Named = HashMap<String, Tensor>;

/// Runs `main` on inputs that are among these.
fn run(runtime: &dyn Runtime, program: &Arc<Verified>, given: &Named) -> Vec<(String, Tensor)> {
    let function = &program.program().functions[0];
    let inputs: Vec<&Tensor> =
        function.body.inputs.iter().map(|&id| &given[&function.value(id).name]).collect();
    let types: Vec<TensorType> = inputs.iter().map(|tensor| tensor.ty()).collect();
    let mut main = runtime.prepare(program, "main", &types, &WeightMap::default()).unwrap();
    let outputs = common::run(&mut *main, &inputs);
    main.outputs().iter().map(|port| port.name.clone()).zip(outputs).collect()
}

fn verified(program: Program) -> Arc<Verified> {
    Arc::new(verify(program).unwrap())
}

/// The largest difference of two tensors, relative to the largest value of the second.
fn difference(ours: &Tensor, exact: &Tensor) -> f64 {
    let (ours, exact) = (ours.to_f64().unwrap(), exact.to_f64().unwrap());
    let largest = exact.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    let difference = ours.iter().zip(&exact).fold(0.0f64, |most, (x, y)| most.max((x - y).abs()));
    // A NaN is no small difference.
    if ours.iter().all(|x| x.is_finite()) { difference / largest.max(1e-30) } else { f64::INFINITY }
}

/// Compares what every path computes, by one thread and by three, with exact arithmetic: no error is much larger than that of
/// ops that are rounded one by one.
fn check(what: &str, program: &Arc<Verified>, given: &Named, paths: Vec<InstructionPath>) {
    let exact = run(&reference(true), program, given);
    let rounded = run(&reference(false), program, given);
    for path in paths {
        let [ours, others] = [1, 3].map(|threads| run(&cpu_on(path, threads), program, given));
        assert_eq!(ours, others, "{what} on {path}: threads make no difference");
        for (((name, ours), (_, exact)), (_, rounded)) in ours.iter().zip(&exact).zip(&rounded) {
            let (error, allowed) = (difference(ours, exact), difference(rounded, exact));
            let least = if exact.dtype() == DType::Fp16 { 1e-3 } else { 2e-6 };
            assert!(
                error <= 2.0 * allowed + least,
                "{what} on {path}: {name} is off by {error:e}, ops by {allowed:e}"
            );
        }
    }
}

/// A small model: heads of 8 channels, each two of queries sharing one of keys.
fn model(qk_norm: bool) -> ModelConfig {
    let config = ModelConfig::named("tiny").unwrap();
    ModelConfig { dim: 24, heads: 4, kv_heads: 2, head_dim: Some(8), hidden: 16, qk_norm, ..config }
}

#[test]
fn gradients_of_layers() {
    for (seed, (seq, batch, dtype, qk_norm)) in [
        (70, 1, DeviceDtype::Fp32, true),
        (33, 2, DeviceDtype::Fp16, true),
        (130, 1, DeviceDtype::Fp16, false),
        (8, 3, DeviceDtype::Fp32, false),
        (1, 2, DeviceDtype::Fp16, true),
    ]
    .into_iter()
    .enumerate()
    {
        let config = model(qk_norm);
        let layer = Layer { config: &config, batch, seq, target: Target::new(dtype) };
        let pair = layer.differentiated().unwrap();
        let (forward, backward) = (verified(pair.forward), verified(pair.backward));
        let function = &forward.program().functions[0];
        let mut given = Named::new();
        for (i, &id) in function.body.inputs.iter().enumerate() {
            let value = function.value(id);
            let dims = value.ty.as_tensor().unwrap().shape.to_known().unwrap();
            let tensor = ordinary((100 * seed + i) as u64, layer.target.mil_dtype(), &dims);
            given.insert(value.name.clone(), tensor);
        }
        let saved = run(&reference(false), &forward, &given);
        let y = saved[0].1.shape().to_vec();
        given.insert("d_y".into(), ordinary(7, layer.target.mil_dtype(), &y));
        // The matrix unit is emulated where there is none, and slow at fp32.
        let paths = || if dtype == DeviceDtype::Fp16 { paths() } else { paths_without_products() };
        check(&format!("forward of {seq} tokens, {dtype:?}"), &forward, &given, paths());
        given.extend(saved);
        check(&format!("backward of {seq} tokens, {dtype:?}"), &backward, &given, paths());
    }
}

/// Gradients of causal attention of heads `[T, C]` or `[C, T]` to keys that every `shared` of them have in common.
fn written(dtype: &str, queries: usize, keys: usize, shared: usize, by_rows: bool, scale: bool) -> Program {
    let kv =
        |n: usize, c: usize| if by_rows { format!("[2, 1, {n}, {c}]") } else { format!("[2, 1, {c}, {n}]") };
    let of = |n: usize, c: usize| {
        if by_rows { format!("[2, {shared}, {n}, {c}]") } else { format!("[2, {shared}, {c}, {n}]") }
    };
    let square = format!("[2, {shared}, {queries}, {keys}]");
    let (by, turned) = (by_rows, !by_rows);
    let shift = keys as i64 - queries as i64;
    let list = |count: usize, shift: i64, separator: &str| {
        (0..count as i64).map(|i| (i + shift).to_string()).collect::<Vec<_>>().join(separator)
    };
    let t = |name: &str, dims: &str, call: String| {
        format!("            tensor<{dtype}, {dims}> {name} = {call}[name = string(\"{name}\")];\n")
    };
    let weigh = |weights: &str, other: &str, transposed: bool| {
        if by_rows {
            format!(
                "matmul(x = {weights}, y = {other}, transpose_x = bool({transposed}), transpose_y = bool(false))"
            )
        } else {
            format!(
                "matmul(x = {other}, y = {weights}, transpose_x = bool(false), transpose_y = bool({}))",
                !transposed
            )
        }
    };
    let pair = |x: &str, y: &str| {
        format!("matmul(x = {x}, y = {y}, transpose_x = bool({turned}), transpose_y = bool({by}))")
    };
    let mut body = format!(
        "            tensor<bool, [1, 1, {queries}, {keys}]> later = greater(x = tensor<int32, [1, 1, 1, {keys}]>([[[[{}]]]]), y = tensor<int32, [1, 1, {queries}, 1]>([[[[{}]]]]))[name = string(\"later\")];\n",
        list(keys, 0, ", "),
        list(queries, shift, "], [")
    );
    body += &t("products", &square, pair("q", "k"));
    let scores = if scale {
        body += &t("scores", &square, format!("mul(x = products, y = {dtype}(0.35))"));
        "scores"
    } else {
        "products"
    };
    body += &t("masked", &square, format!("select(cond = later, a = {dtype}(-inf), b = {scores})"));
    body += &t("p", &square, "softmax(x = masked, axis = int32(-1))".into());
    body += &t("dp", &square, pair("do", "v"));
    body += &t("along", &square, "mul(x = dp, y = p)".into());
    let sums = "reduce_sum(x = along, axes = tensor<int32, [1]>([3]), keep_dims = bool(true))";
    body += &t("sums", &format!("[2, {shared}, {queries}, 1]"), sums.into());
    body += &t("centred", &square, "sub(x = dp, y = sums)".into());
    body += &t("ds", &square, "mul(x = centred, y = p)".into());
    let ds = if scale {
        body += &t("scaled", &square, format!("mul(x = ds, y = {dtype}(0.35))"));
        "scaled"
    } else {
        "ds"
    };
    body += &t("dq", &of(queries, 8), weigh(ds, "k", false));
    let mut sum = |name: &str, weights: &str, other: &str, channels: usize| {
        body += &t(&format!("{name}_all"), &of(keys, channels), weigh(weights, other, true));
        let sum =
            format!("reduce_sum(x = {name}_all, axes = tensor<int32, [1]>([1]), keep_dims = bool(true))");
        body += &t(name, &kv(keys, channels), sum);
    };
    sum("dk", ds, "q", 8);
    sum("dv", "p", "do", 5);
    let source = format!(
        "program(1.3)\n{{\n    func main<ios18>(tensor<{dtype}, {}> q, tensor<{dtype}, {}> k, tensor<{dtype}, {}> v, tensor<{dtype}, {}> do) {{\n{body}        }} -> (dq, dk, dv);\n}}\n",
        of(queries, 8),
        kv(keys, 8),
        kv(keys, 5),
        of(queries, 5),
    );
    text::parse(&source).unwrap().program
}

#[test]
fn gradients_that_are_written_out() {
    for (seed, (dtype, queries, keys, shared, by_rows, scale)) in [
        ("fp32", 67, 67, 2, true, true),
        ("fp16", 67, 130, 2, true, false),
        ("fp16", 130, 130, 1, false, true),
        ("fp32", 9, 140, 3, false, false),
    ]
    .into_iter()
    .enumerate()
    {
        let program = verified(written(dtype, queries, keys, shared, by_rows, scale));
        let function = &program.program().functions[0];
        let mut given = Named::new();
        for (i, &id) in function.body.inputs.iter().enumerate() {
            let value = function.value(id);
            let ty = value.ty.as_tensor().unwrap();
            let tensor = ordinary((900 + 10 * seed + i) as u64, ty.dtype, &ty.shape.to_known().unwrap());
            given.insert(value.name.clone(), tensor);
        }
        check(&format!("{queries} queries of {dtype}"), &program, &given, paths());
    }
}
