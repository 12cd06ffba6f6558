//! What the simulator refuses, what it warns of, and what it reports.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::Arc;

use anemone_ane::chips::Chip;
use anemone_ane::report::Events;
use anemone_ane::simulator::Simulator;
use anemone_mil::runtime::{Executable, Runtime, RuntimeError, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::weights::WeightMap;
use anemone_mil::{text, verify};
use half::f16;

fn prepare(
    simulator: &Simulator,
    body: &str,
    inputs: &[&Tensor],
) -> Result<Box<dyn Executable>, RuntimeError> {
    let source = format!("program(1.3)\n{{\n    func main<ios18>({body}}}\n");
    let program = text::parse(&source).unwrap_or_else(|errors| panic!("{errors}\n{source}")).program;
    let verified = Arc::new(verify::verify(program).unwrap_or_else(|errors| panic!("{errors}\n{source}")));
    let types: Vec<_> = inputs.iter().map(|input| input.ty()).collect();
    simulator.prepare(&verified, "main", &types, &WeightMap::default())
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::from_values(&[1, values.len()], values.iter().map(|&v| f16::from_f32(v)).collect()).unwrap()
}

const CUMSUM: &str = r#"tensor<fp16, [1, 4]> x) {
        tensor<fp16, [1, 4]> sums = cumsum(axis = int32(1), exclusive = bool(false), reverse = bool(false), x = x)[name = string("sums")];
    } -> (sums);
"#;

#[test]
fn what_a_measured_rule_refuses_is_an_error_that_cites_it() {
    let x = tensor(&[1.0; 4]);
    let refused = prepare(&Simulator::new(Chip::M4), CUMSUM, &[&x]).err().unwrap().to_string();
    for part in ["ane-sim", "R28", "`sums`, cumsum", "m4", "instead: "] {
        assert!(refused.contains(part), "{refused}");
    }
    assert!(prepare(&Simulator::without_rules(Chip::M4), CUMSUM, &[&x]).is_ok());
}

#[test]
fn the_limits_are_those_of_the_dimensions_that_the_inputs_settle() {
    let body = r#"tensor<fp16, [1, ?]> x) {
        tensor<fp16, [1, ?]> y = relu(x = x)[name = string("y")];
    } -> (y);
"#;
    let simulator = Simulator::new(Chip::M4);
    assert!(prepare(&simulator, body, &[&tensor(&[1.0; 64])]).is_ok());
    let refused = prepare(&simulator, body, &[&tensor(&vec![1.0; 70_000])]).err().unwrap().to_string();
    assert!(refused.contains("R2: `"), "{refused}");
}

#[test]
fn events_are_counted_op_by_op_and_the_first_is_named() {
    let body = r#"tensor<fp16, [1, 32]> x, tensor<fp16, [32, 32]> w) {
        tensor<fp16, [1, 32]> squares = mul(x = x, y = x)[name = string("squares")];
        bool no = const()[name = string("no"), val = bool(false)];
        tensor<fp16, [1, 32]> sums = matmul(transpose_x = no, transpose_y = no, x = x, y = w)[name = string("sums")];
    } -> (squares, sums);
"#;
    let mut values = [0.0; 32];
    // 256² overflows, (2⁻¹⁴)² is flushed; 2⁻¹⁴ · 2⁻³ is dropped.
    (values[0], values[1]) = (256.0, 2f32.powi(-14));
    let x = tensor(&values);
    let w = Tensor::from_values(&[32, 32], vec![f16::from_f32(0.125); 1024]).unwrap();
    let simulator = Simulator::new(Chip::M4);
    let mut main = prepare(&simulator, body, &[&x, &w]).unwrap();
    let mut outputs = allocate_outputs(main.as_ref()).unwrap();
    for _ in 0..2 {
        main.run(&[&x, &w], &mut outputs).unwrap();
    }
    let [program] = &simulator.report().programs()[..] else { panic!("one program") };
    assert_eq!(program.program, "main → squares, sums");
    let ops: Vec<_> = program.ops.iter().map(|op| (op.value.as_str(), op.op.as_str(), op.events)).collect();
    let none = Events::default();
    let squares = Events { overflows: 2, flushed: 2, ..none };
    assert_eq!(ops, [("squares", "mul", squares), ("sums", "matmul", Events { dropped: 64, ..none })]);
    let text = simulator.report().to_string();
    assert!(text.contains("64, first in `sums`, matmul, of main → squares, sums\n"), "{text}");
    assert_eq!(simulator.report().total(), Events { dropped: 64, ..squares });
}

#[test]
fn sums_that_depend_on_their_order_are_reported() {
    let body = r#"tensor<fp16, [1, 32]> x, tensor<fp16, [32, 1]> w) {
        bool no = const()[name = string("no"), val = bool(false)];
        tensor<fp16, [1, 1]> sum = matmul(transpose_x = no, transpose_y = no, x = x, y = w)[name = string("sum")];
    } -> (sum);
"#;
    let x = tensor(&[16384.0, -16384.0].repeat(16));
    let w = Tensor::from_values(&[32, 1], vec![f16::ONE; 32]).unwrap();
    let simulator = Simulator::without_rules(Chip::M4);
    let mut main = prepare(&simulator, body, &[&x, &w]).unwrap();
    let mut outputs = allocate_outputs(main.as_ref()).unwrap();
    main.run(&[&x, &w], &mut outputs).unwrap();
    assert_eq!(outputs[0].as_slice::<f16>().unwrap(), [f16::ZERO]);
    assert_eq!(simulator.report().total(), Events { order_sensitive: 1, ..Events::default() });
}
