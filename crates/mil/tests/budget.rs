//! A budget ends whatever a program can ask for.

use std::fmt::Write;
use std::sync::Arc;

use anemone_mil::eval::{Budget, Interpreter};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::verify::verify;
use anemone_mil::weights::WeightMap;

/// Runs a program whose only input is `x`, an fp32 vector of this length.
fn run(source: &str, length: usize, budget: Budget) -> Result<Vec<Tensor>, String> {
    let program = text::parse(source).expect("a program").program;
    let verified = Arc::new(verify(program).expect("a sound program"));
    let x = Tensor::vector(vec![1.0f32; length]);
    let interpreter = Interpreter { budget, ..Interpreter::default() };
    let prepared = interpreter.prepare(&verified, "main", &[x.ty()], &WeightMap::default());
    let mut executable = prepared.map_err(|error| error.to_string())?;
    let mut outputs = vec![Tensor::scalar(0.0f32); executable.outputs().len()];
    executable.run(&[&x], &mut outputs).map_err(|error| error.to_string())?;
    Ok(outputs)
}

/// Each result is one element, but each sum reads all of `x`.
#[test]
fn reading_a_large_operand_again_and_again_is_work() {
    let (length, sums) = (1000, 100);
    let mut source = format!("program(1.3)\n{{\n    func main<ios18>(tensor<fp32, [{length}]> x) {{\n");
    for i in 0..sums {
        let axes = "tensor<int32, [1]>([0])";
        writeln!(
            source,
            "fp32 s{i} = reduce_sum(axes = {axes}, keep_dims = bool(false), x = x)[name = string(\"s\")];"
        )
        .expect("a string that grows");
    }
    writeln!(source, "}} -> (s{});\n}}", sums - 1).expect("a string that grows");
    // Beside `x`, an op reads its axes and the flag.
    let work = sums * (length as u64 + 2);
    let enough = run(&source, length, Budget { elements: 1000, work }).expect("a budget that suffices");
    assert_eq!(enough, [Tensor::scalar(length as f32)]);
    let error = run(&source, length, Budget { elements: 1000, work: work - 1 }).expect_err("too much work");
    assert!(error.contains("budget of work"), "{error}");
}
