//! A budget ends whatever a program can ask for.

use std::fmt::Write;
use std::sync::Arc;

use anemone_mil::eval::{Budget, Interpreter};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::verify;
use anemone_mil::weights::{BlobFile, BlobWriter, WeightMap, WeightSource};

/// Runs a program whose only input is `x`, an fp32 vector of this length.
fn run(
    source: &str,
    length: usize,
    weights: &dyn WeightSource,
    budget: Budget,
) -> Result<Vec<Tensor>, String> {
    let program = text::parse(source).expect("a program").program;
    let verified = Arc::new(verify(program).expect("a sound program"));
    let x = Tensor::vector(vec![1.0f32; length]);
    let interpreter = Interpreter { budget, ..Interpreter::default() };
    let prepared = interpreter.prepare(&verified, "main", &[x.ty()], weights);
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
    let names: Vec<String> = (0..sums).map(|i| format!("s{i}")).collect();
    writeln!(source, "}} -> ({});\n}}", names.join(", ")).expect("a string that grows");
    // Beside `x`, an op reads its axes and the flag.
    let work = sums * (length as u64 + 2);
    let enough = run(&source, length, &WeightMap::default(), Budget { elements: 1000, work })
        .expect("a budget that suffices");
    assert_eq!(enough, vec![Tensor::scalar(length as f32); names.len()]);
    let error = run(&source, length, &WeightMap::default(), Budget { elements: 1000, work: work - 1 })
        .expect_err("too much work");
    assert!(error.contains("budget of work"), "{error}");
}

/// Each of the types that a program gives a blob makes a tensor of its own.
#[test]
fn a_blob_counts_for_each_type_it_is_read_as() {
    let mut writer = BlobWriter::new(std::io::Cursor::new(Vec::new())).expect("a writer");
    let offset = writer.append(&Tensor::vector(vec![1.0f32; 24])).expect("a blob");
    let bytes = writer.finish().expect("a whole file").into_inner();
    let mut weights = WeightMap::default();
    weights.insert("@model_path/w.bin", BlobFile::from_bytes(bytes).expect("a blob file"));
    let shapes: [&[usize]; 3] = [&[24], &[4, 6], &[2, 12]];
    let mut source = String::from("program(1.3)\n{\n    func main<ios18>(tensor<fp32, [1]> x) {\n");
    for (i, shape) in shapes.iter().enumerate() {
        let ty = TensorType::new(DType::Fp32, shape);
        let file = format!("BLOBFILE(path = string(\"@model_path/w.bin\"), offset = uint64({offset}))");
        writeln!(source, "{ty} w{i} = const()[name = string(\"w\"), val = {ty}({file})];")
            .expect("a string that grows");
    }
    source.push_str("} -> (w0, w1, w2);\n}");
    let budget = Budget { elements: 72, work: 0 };
    run(&source, 1, &weights, budget).expect("a budget that suffices");
    let error = run(&source, 1, &weights, Budget { elements: 71, ..budget }).expect_err("too many elements");
    assert!(error.contains("budget of memory does not suffice for its 24 elements"), "{error}");
}
