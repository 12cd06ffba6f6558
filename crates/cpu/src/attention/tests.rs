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

#[path = "../../tests/common/written.rs"]
mod written;

use written::{Masked, Written};

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
    let execution =
        Execution::new(threads, &program, ("main", &types), &WeightMap::default(), usize::MAX).unwrap();
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

/// The steps, and the bytes of planned memory, of the op of attention for 64 queries and as many keys, with these inputs
/// besides and this mask.
fn planned_op(dtype: &str, inputs: &str, mask: &str) -> (usize, usize) {
    let source = format!(
        "program(1.3) {{ func main<ios18>(tensor<{dtype}, [1, 2, 64, 8]> q, tensor<{dtype}, [1, 2, 64, 8]> k, tensor<{dtype}, [1, 2, 64, 8]> v{inputs}) {{
            tensor<{dtype}, [1, 2, 64, 8]> y = scaled_dot_product_attention({mask}key = k, query = q, value = v)[name = string(\"y\")];
        }} -> (y); }}"
    );
    let program = Arc::new(verify(text::parse(&source).unwrap().program).unwrap());
    let function = &program.program().functions[0];
    let types = function.body.inputs.iter().map(|&id| function.value(id).ty.as_tensor().unwrap());
    let types: Vec<TensorType> = types.collect();
    let threads = crate::Cpu::new().unwrap().threads;
    let execution =
        Execution::new(threads, &program, ("main", &types), &WeightMap::default(), usize::MAX).unwrap();
    (execution.ops_of_steps().len(), execution.planned_bytes())
}

#[test]
fn the_op_of_attention_is_one_step_too() {
    assert_eq!(planned_op("fp32", "", ""), (1, 0));
    let mask = "attn_mask = mask, ";
    assert_eq!(planned_op("fp32", ", tensor<fp32, [64, 64]> mask", mask), (1, 0));
    // The mask as numbers is planned, scores and probabilities of two heads are not.
    let (steps, bytes) = planned_op("fp32", ", tensor<bool, [64, 64]> mask", mask);
    assert_eq!((steps, bytes), (2, 64 * 64 * 4));
    // Operands and result are cast from and to fp16.
    assert_eq!(planned_op("fp16", "", ""), (5, 4 * 2 * 64 * 8 * 4));
}

/// The plan of `main`, with every input as declared.
fn plan_of(program: Program) -> (Constants, Plan) {
    let program = Arc::new(verify(program).unwrap());
    let function = &program.program().functions[0];
    let types = function.body.inputs.iter().map(|&id| function.value(id).ty.as_tensor().unwrap());
    let types: Vec<TensorType> = types.collect();
    let specialized = Specialized::new(&program, "main", &types, &WeightMap::default()).unwrap();
    let threads = crate::Cpu::new().unwrap().threads;
    let constants = Constants::new(specialized, &WeightMap::default(), usize::MAX, &threads).unwrap();
    let plan = plan(&constants, &threads).unwrap();
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

/// A form of attention that is found.
const WRITTEN: Written = Written {
    dtype: "fp16",
    queries: 64,
    keys: 96,
    shared: 2,
    by_rows: true,
    scaled: true,
    mask: Masked::Later,
};

/// How many ops are steps of their own, if a program is this text with some of it replaced.
fn steps(source: &str, from: &str, to: &str) -> usize {
    let changed = source.replace(from, to);
    assert!(from == to || changed != source, "{from} is there");
    plan_of(text::parse(&changed).unwrap().program).1.steps.len()
}

#[test]
fn every_form_is_one_step() {
    for by_rows in [false, true] {
        for scaled in [false, true] {
            for mask in
                [Masked::Later, Masked::Added { of_queries: true }, Masked::Added { of_queries: false }]
            {
                let form = Written { by_rows, scaled, mask, ..WRITTEN };
                for source in [form.forward(), form.backward()] {
                    assert_eq!(steps(&source, "", ""), 1, "{form:?}");
                    // Factors and terms may stand the other way round.
                    let factors =
                        source.replace("x = products, y = fp16(0.375)", "x = fp16(0.375), y = products");
                    let factors = factors.replace("x = ds, y = fp16(0.375)", "x = fp16(0.375), y = ds");
                    let terms = factors.replace("add(x = scores, y = mask)", "add(x = mask, y = scores)");
                    assert_eq!(steps(&terms, "", ""), 1, "{form:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_quite_the_gradient_is_no_step() {
    let source = WRITTEN.backward();
    // Sums along queries.
    let turned = source
        .replace("axes = tensor<int32, [1]>([3])", "axes = tensor<int32, [1]>([2])")
        .replace("[2, 2, 64, 1]> sums", "[2, 2, 1, 96]> sums");
    assert!(steps(&turned, "", "") > 5);
    for (from, to) in [
        ("sub(x = dp, y = sums)", "add(x = dp, y = sums)"),
        ("mul(x = dp, y = p)", "mul(x = dp, y = dp)"),
        ("mul(x = ds, y = fp16(0.375))", "mul(x = ds, y = fp16(0.5))"),
        ("mul(x = products, y = fp16(0.375))", "mul(x = products, y = fp16(0.5))"),
        ("-> (dq, dk, dv)", "-> (dq, dk, dv, p)"),
        ("-> (dq, dk, dv)", "-> (dq, dk, dv, dp)"),
        ("-> (dq, dk, dv)", "-> (dq, dk, dv, scaled)"),
    ] {
        assert!(steps(&source, from, to) > 5, "{to}");
    }
    // What is read besides is computed besides.
    assert_eq!(steps(&source, "-> (dq, dk, dv)", "-> (dq, dk, dv, later)"), 2);
}

#[test]
fn what_reads_a_value_in_between_twice_is_no_attention() {
    let source = "program(1.3) { func main<ios18>(tensor<fp32, [1, 16, 16]> q, tensor<fp32, [1, 16, 16]> k, tensor<fp32, [1, 16, 16]> v, tensor<fp32, [1, 16, 16]> mask) {
            tensor<fp32, [1, 16, 16]> s = matmul(x = q, y = k, transpose_x = bool(false), transpose_y = bool(true))[name = string(\"s\")];
            tensor<fp32, [1, 16, 16]> masked = add(x = s, y = mask)[name = string(\"masked\")];
            tensor<fp32, [1, 16, 16]> p = softmax(x = masked, axis = int32(-1))[name = string(\"p\")];
            tensor<fp32, [1, 16, 16]> y = matmul(x = p, y = v, transpose_x = bool(false), transpose_y = bool(false))[name = string(\"y\")];
        } -> (y); }";
    assert_eq!(steps(source, "", ""), 1);
    assert!(steps(source, "add(x = s, y = mask)", "add(x = s, y = s)") > 2);
    assert!(steps(source, "matmul(x = p, y = v", "matmul(x = p, y = p") > 2);
}
