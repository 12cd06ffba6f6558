//! Differentiates a program and prints its forward and backward.
//!
//! `cargo run -p anemone-mil --example differentiate`

use anemone_mil::grad::{Request, differentiate};
use anemone_mil::program::Program;
use anemone_mil::{text, verify};

const SOURCE: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp32, [2, 3]> x, tensor<fp32, [3]> gain) {
            tensor<fp32, [2, 3]> squares = mul(x = x, y = x)[name = string("squares")];
            tensor<fp32, [2, 3]> scaled = mul(x = squares, y = gain)[name = string("scaled")];
            tensor<fp32, [2, 3]> y = sub(x = scaled, y = x)[name = string("y")];
        } -> (y);
}
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let program = verify::verify(text::parse(SOURCE)?.program)?;
    let pair = differentiate(&program, "main", &Request::all(&["x", "gain"]))?;
    for function in [pair.forward, pair.backward] {
        let mut printed = Program::new(program.program().version);
        printed.functions.push(function);
        print!("{}", text::write(&printed));
        verify::verify(printed)?;
    }
    Ok(())
}
