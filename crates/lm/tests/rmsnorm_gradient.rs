//! The gradient of the fp16 RMSNorm: that of its parts beside the backward written for it, against exact arithmetic.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use anemone_lm::config::DeviceDtype;
use anemone_lm::programs::Target;
use anemone_lm::programs::head::Head;
use anemone_lm::programs::normalization::recognize;
use anemone_lm::random::Random;
use anemone_mil::eval::Interpreter;
use anemone_mil::grad::{Pair, Request, differentiate};
use anemone_mil::program::{Function, Program, Version};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use anemone_mil::verify::{Verified, verify};
use anemone_mil::weights::WeightMap;

const DIM: usize = 768;
const POSITIONS: usize = 4;

/// x̂ of `x`, the part of the final RMSNorm before the gain.
fn normalization() -> Verified {
    let target = Target::new(DeviceDtype::Fp16);
    let head = Head { vocab: 2, dim: DIM, positions: POSITIONS, eps: 1e-5, target };
    let mut program = head.final_rmsnorm().unwrap();
    let function = &mut program.functions[0];
    function.body.outputs = vec![function.value_named("x_hat").unwrap()];
    verify(program).unwrap()
}

fn run(interpreter: &Interpreter, function: &Function, inputs: &[(&str, &Tensor)]) -> Vec<(String, Tensor)> {
    let mut program = Program::new(Version::V1_3);
    program.functions.push(function.clone());
    let verified = Arc::new(verify(program).unwrap());
    let given = |id: &_| {
        let name = &function.value(*id).name;
        inputs.iter().find(|(input, _)| input == name).map(|(_, tensor)| *tensor).unwrap()
    };
    let inputs: Vec<&Tensor> = function.body.inputs.iter().map(given).collect();
    let types = function.body.inputs.iter().map(|&id| function.value(id).ty.as_tensor().unwrap());
    let types: Vec<_> = types.collect();
    let mut main = interpreter.prepare(&verified, "main", &types, &WeightMap::default()).unwrap();
    let mut outputs = vec![Tensor::scalar(false); main.outputs().len()];
    main.run(&inputs, &mut outputs).unwrap();
    main.outputs().iter().map(|port| port.name.clone()).zip(outputs).collect()
}

/// dx of a pair of functions.
fn gradient(interpreter: &Interpreter, pair: &Pair, x: &Tensor, d_x_hat: &Tensor) -> Vec<f64> {
    let saved = run(interpreter, &pair.forward, &[("x", x)]);
    let mut inputs = vec![("x", x), ("d_x_hat", d_x_hat)];
    inputs.extend(saved.iter().map(|(name, tensor)| (name.as_str(), tensor)));
    run(interpreter, &pair.backward, &inputs)[0].1.to_f64().unwrap()
}

/// The largest difference, relative to the largest exact value.
fn error(found: &[f64], exact: &[f64]) -> f64 {
    let largest = exact.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let differences =
        found.iter().zip(exact).map(|(a, b)| if a.is_finite() { (a - b).abs() } else { f64::INFINITY });
    differences.fold(0.0, f64::max) / largest
}

#[test]
fn the_backward_written_for_it_is_more_exact_than_that_of_its_parts() {
    let program = normalization();
    let function = &program.program().functions[0];
    let found = recognize(function, program.program().version);
    assert_eq!(found.len(), 1);
    let (input, rule) = (found[0].input(), found[0].rule());
    let of_parts = differentiate(&program, "main", &Request::all(&["x"])).unwrap();
    let groups = vec![found[0].group(&input, &rule)];
    let own = differentiate(&program, "main", &Request { groups, ..Request::all(&["x"]) }).unwrap();
    let mut random = Random::stream(7, 0);
    let mut normal = |scale: f64| {
        let values: Vec<f64> = (0..DIM * POSITIONS).map(|_| scale * random.normal()).collect();
        values
    };
    let tensor = |values: &[f64]| Tensor::from_f64(DType::Fp16, &[1, DIM, 1, POSITIONS], values).unwrap();
    let mut only_its_own = 0;
    for rms in [1e-3, 1e-1, 1.0, 1e2, 1e4] {
        for scale in [1e-3, 1.0, 1e2, 1e3] {
            let mut x: Vec<f64> = normal(rms).iter().map(|x| x.clamp(-6e4, 6e4)).collect();
            x[0] = (5.0 * x[0]).clamp(-6e4, 6e4);
            let (x, d_x_hat) = (tensor(&x), tensor(&normal(scale)));
            let exact = gradient(&Interpreter::exact(), &of_parts, &x, &d_x_hat);
            let declared = Interpreter::default();
            let [of_parts, own] =
                [&of_parts, &own].map(|pair| error(&gradient(&declared, pair, &x, &d_x_hat), &exact));
            println!("rms {rms:e}, gradients of {scale:e}: of its parts {of_parts:.1e}, its own {own:.1e}");
            let largest = exact.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
            // What fp16 holds without becoming infinite or subnormal.
            if (2f64.powi(-12)..32768.0).contains(&largest) {
                assert!(
                    own < 2e-3 && own < 1.5 * of_parts,
                    "rms {rms}, gradients of {scale}: {own}, {of_parts}"
                );
                only_its_own += usize::from(of_parts.is_infinite());
            }
        }
    } // The parts overflow where the whole does not.
    assert!(only_its_own >= 4, "{only_its_own}");
}
