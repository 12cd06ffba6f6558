//! Changes a program: `mul(x, sigmoid(x))` becomes `silu(x)`.
//!
//! `cargo run -p anemone-mil --example change`

use std::error::Error;

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops::call;
use anemone_mil::passes::remove_dead_code;
use anemone_mil::program::{Function, Op, OpId, ValueId};
use anemone_mil::{text, verify};

const SOURCE: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 8, 1, 4]> x, tensor<fp16, [1, 8, 1, 4]> up) {
            tensor<fp16, [1, 8, 1, 4]> gate = sigmoid(x = x)[name = string("gate")];
            tensor<fp16, [1, 8, 1, 4]> activated = mul(x = x, y = gate)[name = string("activated")];
            tensor<fp16, [1, 8, 1, 4]> y = mul(x = activated, y = up)[name = string("y")];
        } -> (y);
}
"#;

/// What a multiplication multiplies with its own sigmoid.
fn gated(function: &Function, op: &Op) -> Option<ValueId> {
    let factors: Vec<ValueId> = op.reads().collect();
    let &[a, b] = factors.as_slice() else { return None };
    let is_sigmoid = |gate: ValueId, x: ValueId| {
        function.walk().any(|(_, op)| op.name == "sigmoid" && op.results == [gate] && op.reads().eq([x]))
    };
    match op.name.as_str() {
        "mul" if is_sigmoid(b, a) => Some(a),
        "mul" if is_sigmoid(a, b) => Some(b),
        _ => None,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut program = text::parse(SOURCE)?.program;
    let version = program.version;
    for function in &mut program.functions {
        // Whoever walks a function walks its blocks, nested ones too; what no block holds does not exist.
        let found: Vec<(OpId, ValueId, ValueId)> =
            function.walk().filter_map(|(id, op)| Some((id, op.results[0], gated(function, op)?))).collect();

        // The builder goes on with the function, and puts what it adds before the op that it is told. It infers the
        // types of results, and each op is a typed call.
        let outputs = function.body.outputs.clone();
        let mut builder = FunctionBuilder::resume(function.clone(), version);
        let mut replaced = Vec::new();
        for (id, product, x) in found {
            builder.insert_before(Some(id));
            replaced.push((product, builder.bind("silu", call::silu(x))?));
        }
        *function = builder.finish(outputs);

        // Whatever read the product now reads the new value; the product and the sigmoid are then read by nothing.
        for (product, silu) in replaced {
            function.replace_uses(product, silu);
        }
        remove_dead_code(function);
        function.compact();
    }
    print!("{}", text::write(&program));
    verify::verify(program)?;
    Ok(())
}
