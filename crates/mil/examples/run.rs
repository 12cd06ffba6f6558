//! Reads a program, checks it, and runs it on the reference interpreter.
//!
//! `cargo run -p anemone-mil --example run`

use std::error::Error;
use std::sync::Arc;

use anemone_mil::error::{Errors, Spans};
use anemone_mil::eval::Interpreter;
use anemone_mil::runtime::{Runtime, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use anemone_mil::weights::WeightMap;
use anemone_mil::{text, verify};

// `?` is a dimension that the input decides.
const SOURCE: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [?, 3]> scores) {
            int32 axis = const()[name = string("axis"), val = int32(-1)];
            tensor<fp16, [?, 3]> p = softmax(axis = axis, x = scores)[name = string("p")];
        } -> (p);
}
"#;

fn main() -> Result<(), Box<dyn Error>> {
    // Reading finds what is no program, verifying what is a wrong one. Both find all mistakes, and `render` shows each
    // with the line that it stands in.
    let show = |errors: Errors, spans: &Spans| errors.render("scores.mil", SOURCE, spans);
    let parsed = text::parse(SOURCE)?;
    let verified = verify::verify(parsed.program).map_err(|errors| show(errors, &parsed.spans))?;

    // A runtime prepares a function once for the types of its inputs; then it runs as often as one likes. Another
    // runtime, such as `anemone_cpu::Cpu`, is used in the same way.
    let scores = Tensor::from_f64(DType::Fp16, &[2, 3], &[0.0, 1.0, 2.0, 4.0, 4.0, 4.0])?;
    let runtime = Interpreter::default();
    let mut softmax = runtime.prepare(&Arc::new(verified), "main", &[scores.ty()], &WeightMap::default())?;
    let mut outputs = allocate_outputs(softmax.as_ref())?;
    softmax.run(&[&scores], &mut outputs)?;

    for (port, output) in softmax.outputs().iter().zip(&outputs) {
        println!("{}: {} = {:?}", port.name, output.ty(), output.to_f64());
    }
    Ok(())
}
