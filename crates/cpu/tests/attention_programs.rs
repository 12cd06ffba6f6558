//! Programs with attention and its gradients, each as one step, against the interpreter in fp64.

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
use common::written::{Masked, Written};
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
            let least = if exact.dtype() == DType::Fp16 { 1e-3 } else { 1e-5 };
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
        // So many heads that each is one task.
        (70, 8, DeviceDtype::Fp32, false),
        (8, 1, DeviceDtype::Fp32, false),
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

/// Forms of attention: few and many queries, of both types, in both layouts, with masks of each kind.
fn forms() -> [Written; 5] {
    let form = |dtype, [queries, keys, shared]: [usize; 3], by_rows, scaled, mask| Written {
        dtype,
        queries,
        keys,
        shared,
        by_rows,
        scaled,
        mask,
    };
    let added = |of_queries| Masked::Added { of_queries };
    [
        form("fp32", [67, 67, 2], true, true, Masked::Later),
        form("fp16", [67, 150, 2], true, false, Masked::Later),
        form("fp16", [130, 130, 1], false, true, added(true)),
        form("fp16", [9, 300, 2], true, true, added(false)),
        form("fp32", [70, 35, 5], false, false, added(true)),
    ]
}

/// A mask of keys that come later, by a number that says little, or by one that says all.
fn mask(dtype: DType, dims: &[usize], hidden: f64) -> Tensor {
    let (queries, keys) = (dims[2], dims[3]);
    let seen = |i: usize| i % keys <= i / keys % queries * keys / queries;
    let values = (0..dims.iter().product()).map(|i| if seen(i) { (i % 5) as f64 / 4.0 } else { hidden });
    Tensor::from_f64(dtype, dims, &values.collect::<Vec<f64>>()).unwrap()
}

#[test]
fn attention_and_gradients_that_are_written_out() {
    for (seed, form) in forms().into_iter().enumerate() {
        for hidden in [f64::NEG_INFINITY, -30000.0] {
            for source in [form.forward(), form.backward()] {
                let program = verified(text::parse(&source).unwrap().program);
                let function = &program.program().functions[0];
                let mut given = Named::new();
                for (i, &id) in function.body.inputs.iter().enumerate() {
                    let value = function.value(id);
                    let ty = value.ty.as_tensor().unwrap();
                    let dims = ty.shape.to_known().unwrap();
                    let tensor = match &*value.name {
                        "mask" => mask(ty.dtype, &dims, hidden),
                        _ => ordinary((900 + 10 * seed + i) as u64, ty.dtype, &dims),
                    };
                    given.insert(value.name.clone(), tensor);
                }
                let paths = if form.dtype == "fp16" { paths() } else { paths_without_products() };
                check(&format!("{form:?}"), &program, &given, paths);
            }
            if matches!(form.mask, Masked::Later) {
                break;
            }
        }
    }
}
