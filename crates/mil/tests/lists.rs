//! Lists built, not read: declared as lists, in both dialects.

#![allow(clippy::unwrap_used, clippy::panic)]

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops::call;
use anemone_mil::program::{Program, Version};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, Opset, TensorType};
use anemone_mil::{text, verify};

fn built(version: Version, opset: Opset, shape: Vec<Tensor>) -> String {
    let mut f = FunctionBuilder::new("main", version, opset);
    let x = f.input("x", TensorType::new(DType::Fp32, &[2]));
    let of_scalars = shape.is_empty();
    let ls = f.bind("ls", call::make_list(shape).dynamic_length(true)).unwrap();
    let length = f.bind("length", call::list_length(ls)).unwrap();
    let mut outputs = vec![length];
    if !of_scalars {
        let written = f.bind("written", call::list_write(ls, 1, x)).unwrap();
        outputs.push(f.bind("y", call::list_read(written, 0)).unwrap());
    }
    let mut program = Program::new(version);
    program.functions.push(f.finish(outputs));
    let printed = text::write(&program);
    let verified = verify::verify(program).unwrap_or_else(|errors| panic!("{errors}\n{printed}"));
    assert!(verified.warnings().is_empty(), "{printed}");
    let read = text::parse(&printed).unwrap_or_else(|errors| panic!("{errors}\n{printed}"));
    assert_eq!(&read.program, verified.program());
    printed
}

#[test]
fn results_are_declared_as_lists() {
    let two = vec![Tensor::scalar(2i32)];
    let printed = built(Version::V1_3, Opset::IOS18, two.clone());
    assert!(printed.contains("list<tensor<fp32, [2]>, ?> written = list_write("), "{printed}");
    let printed = built(Version::V1_3, Opset::IOS18, Vec::new());
    assert!(printed.contains("list<fp32, ?> ls = make_list("), "{printed}");
    let printed = built(Version::V1_0, Opset::IOS15, Vec::new());
    assert!(printed.contains("list<tensor<fp32, []>, ?> ls = make_list("), "{printed}");
    let printed = built(Version::V1_0, Opset::IOS15, two);
    assert!(printed.contains("list<tensor<fp32, [2]>, ?> ls = make_list("), "{printed}");
}
