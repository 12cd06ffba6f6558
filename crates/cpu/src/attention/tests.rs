//! What is found, and what is not.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use anemone_lm::config::{DeviceDtype, ModelConfig};
use anemone_lm::programs::Target;
use anemone_lm::programs::layer::Layer;
use anemone_mil::program::Program;
use anemone_mil::specialize::Specialized;
use anemone_mil::text;
use anemone_mil::types::TensorType;
use anemone_mil::verify::verify;
use anemone_mil::weights::WeightMap;

use crate::constants::Constants;
use crate::execution::Execution;
use crate::memory::LINE_BYTES;
use crate::plan::{Action, Plan, Step, plan};

/// The steps, and the bytes of planned memory, of causal attention of 64 queries to as many keys, with these results.
fn planned(results: &str) -> (usize, usize) {
    let positions: Vec<String> = (0..64).map(|position| position.to_string()).collect();
    let keys = format!("[[[[{}]]]]", positions.join(", "));
    let queries = format!("[[[[{}]]]]", positions.join("], ["));
    let source = format!(
        "program(1.3) {{ func main<ios18>(tensor<fp32, [1, 2, 8, 64]> q, tensor<fp32, [1, 1, 8, 64]> k, tensor<fp32, [1, 1, 8, 64]> v) {{
            tensor<bool, [1, 1, 64, 64]> later = greater(x = tensor<int32, [1, 1, 1, 64]>({keys}), y = tensor<int32, [1, 1, 64, 1]>({queries}))[name = string(\"later\")];
            tensor<fp32, [1, 2, 64, 64]> scores = matmul(x = q, y = k, transpose_x = bool(true), transpose_y = bool(false))[name = string(\"scores\")];
            tensor<fp32, [1, 2, 64, 64]> masked = select(cond = later, a = fp32(-10000.0), b = scores)[name = string(\"masked\")];
            tensor<fp32, [1, 2, 64, 64]> p = softmax(x = masked, axis = int32(-1))[name = string(\"p\")];
            tensor<fp32, [1, 2, 8, 64]> y = matmul(x = v, y = p, transpose_x = bool(false), transpose_y = bool(true))[name = string(\"y\")];
        }} -> ({results}); }}"
    );
    let program = Arc::new(verify(text::parse(&source).unwrap().program).unwrap());
    let ty = |heads| TensorType::new(super::DType::Fp32, &[1, heads, 8, 64]);
    let types = [ty(2), ty(1), ty(1)];
    let threads = crate::Cpu::new().unwrap().threads;
    let execution = Execution::new(threads, &program, "main", &types, &WeightMap::default()).unwrap();
    (execution.ops_of_steps().len(), execution.planned_bytes())
}

#[test]
fn attention_is_one_step_and_plans_no_matrix() {
    assert_eq!(planned("y"), (1, 0));
}

#[test]
fn a_mask_that_is_read_besides_is_computed_besides_attention() {
    assert_eq!(planned("y, later").0, 2);
}

#[test]
fn probabilities_that_are_read_besides_are_no_attention() {
    assert_eq!(planned("y, p").0, 5);
}

/// The plan of `main`, with every input as declared.
fn plan_of(program: Program) -> (Constants, Plan) {
    let program = Arc::new(verify(program).unwrap());
    let function = &program.program().functions[0];
    let types = function.body.inputs.iter().map(|&id| function.value(id).ty.as_tensor().unwrap());
    let types: Vec<TensorType> = types.collect();
    let specialized = Specialized::new(&program, "main", &types, &WeightMap::default()).unwrap();
    let constants = Constants::new(specialized).unwrap();
    let plan = plan(&constants, &crate::Cpu::new().unwrap().threads).unwrap();
    (constants, plan)
}

/// Forward and backward of a layer.
fn layer(config: &ModelConfig, seq: usize) -> [Program; 2] {
    let layer = Layer { config, batch: 1, seq, target: Target::new(DeviceDtype::Fp16) };
    let pair = layer.differentiated().unwrap();
    [pair.forward, pair.backward]
}

#[test]
fn the_layers_of_models_are_planned_without_probabilities() {
    for name in ["tiny", "stories15m", "qwen3-0.6b"] {
        let config = ModelConfig::named(name).unwrap();
        let [forward, backward] = layer(&config, 100).map(plan_of);
        let joint = |plan: &Plan| {
            plan.steps.iter().filter(|step| matches!(step.action, Action::Joint { .. })).count()
        };
        assert_eq!([joint(&forward.1), joint(&backward.1)], [0, 1], "{name}");
        for (constants, plan) in [forward, backward] {
            let function = constants.specialized().function();
            let of = |step: &Step| {
                let fused = step.action.fused_ops().flatten().copied();
                fused.chain([step.op]).map(|id| function.op(id).name.clone()).collect::<Vec<_>>()
            };
            let ops: Vec<String> = plan.steps.iter().flat_map(of).collect();
            for op in ["softmax", "greater", "select"] {
                assert!(ops.iter().all(|name| name != op), "{name}: {op} among {ops:?}");
            }
        }
    }
}

#[test]
fn memory_is_linear_in_the_length_of_the_sequence() {
    for name in ["tiny", "stories15m", "qwen3-0.6b"] {
        let config = ModelConfig::named(name).unwrap();
        let bytes = |seq| {
            layer(&config, seq).map(|program| {
                let (_, plan) = plan_of(program);
                plan.lines * LINE_BYTES + plan.scratch * size_of::<f64>()
            })
        };
        for (short, long) in bytes(1024).into_iter().zip(bytes(2048)) {
            assert!(long as f64 <= 2.1 * short as f64, "{name}: {short} and {long}");
        }
    }
}
