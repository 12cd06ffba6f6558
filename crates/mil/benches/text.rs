//! Time to read and to print a large program, such as Apple's compiler writes for a model of many layers.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)] // Criterion's macro defines an undocumented function; tests unwrap.

use std::fmt::Write;
use std::hint::black_box;

use anemone_mil::text;
use criterion::{Criterion, criterion_group, criterion_main};

/// A function of transformer-like layers in Apple's style: about 200 bytes per statement, half of them
/// constants, weights in a blob file.
fn large_program(layers: usize) -> String {
    let mut out = String::from(
        "program(1.3)\n[buildInfo = dict<string, string>({{\"coremlc-component-MIL\", \"3510.2.1\"}, \
         {\"coremlc-version\", \"3505.4.1\"}})]\n{\n    func main<ios18>(tensor<fp16, [1, 768, 1, 256]> x) {\n",
    );
    let ty = "tensor<fp16, [1, 768, 1, 256]>";
    let mut input = "x".to_string();
    let mut line = |text: &str| writeln!(out, "            {text}").unwrap();
    for layer in 0..layers {
        let name = |part: &str| format!("model_layers_{layer}_self_attn_{part}_cast_fp16");
        for (part, offset) in [("q_proj", 64), ("k_proj", 1_179_840), ("v_proj", 2_359_616)] {
            let weight = name(&format!("{part}_weight"));
            line(&format!(
                "tensor<fp16, [768, 768, 1, 1]> {weight} = const()[name = string(\"{weight}\"), val = \
                 tensor<fp16, [768, 768, 1, 1]>(BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), \
                 offset = uint64({})))];",
                offset + layer * 4_000_000
            ));
            let strides = name(&format!("{part}_strides_0"));
            line(&format!(
                "tensor<int32, [2]> {strides} = const()[name = string(\"{strides}\"), \
                 val = tensor<int32, [2]>([1, 1])];"
            ));
            let pad = name(&format!("{part}_pad_0"));
            line(&format!(
                "tensor<int32, [4]> {pad} = const()[name = string(\"{pad}\"), \
                 val = tensor<int32, [4]>([0, 0, 0, 0])];"
            ));
            let kind = name(&format!("{part}_pad_type_0"));
            line(&format!("string {kind} = const()[name = string(\"{kind}\"), val = string(\"valid\")];"));
            let result = name(part);
            line(&format!(
                "{ty} {result} = conv(dilations = {strides}, pad = {pad}, pad_type = {kind}, strides = {strides}, \
                 weight = {weight}, x = {input})[BackendSupport = list<string, 2>([\"bnns\", \"ane\"]), \
                 EstimatedRuntime = dict<string, fp64>({{{{\"ane\", 0.0012258781209570095}}, {{\"bnns\", 0}}}}), \
                 milId = uint64({layer}), name = string(\"{result}\")];"
            ));
        }
        let scale = name("scale");
        line(&format!("fp16 {scale} = const()[name = string(\"{scale}\"), val = fp16(0x1.6ap-4)];"));
        let scaled = name("scaled");
        let query = name("q_proj");
        line(&format!("{ty} {scaled} = mul(x = {query}, y = {scale})[name = string(\"{scaled}\")];"));
        let sum = name("sum");
        let key = name("k_proj");
        line(&format!("{ty} {sum} = add(x = {scaled}, y = {key})[name = string(\"{sum}\")];"));
        input = sum;
    }
    writeln!(out, "        }} -> ({input});\n}}").unwrap();
    out
}

/// The size that the limits are set for: as near as whole layers allow.
const SOURCE_BYTES: usize = 600_000;

/// The program whose text is nearest to [`SOURCE_BYTES`].
fn program_of_size() -> String {
    let layer_bytes = large_program(101).len() - large_program(100).len();
    let layers = 100 + SOURCE_BYTES.saturating_sub(large_program(100).len()).div_ceil(layer_bytes);
    let distance = |layers: &usize| large_program(*layers).len().abs_diff(SOURCE_BYTES);
    let nearest = [layers - 1, layers].into_iter().min_by_key(distance).unwrap();
    large_program(nearest)
}

fn text(c: &mut Criterion) {
    let source = program_of_size();
    let parsed = text::parse(&source).unwrap();
    assert_eq!(text::write(&parsed.program), source);
    let statements = parsed.program.functions[0].ops.len();
    let size = format!("{} KB, {statements} statements", source.len() / 1000);
    let mut group = c.benchmark_group(format!("{size}; limits: parse 12 ms, write 12 ms"));
    group.bench_function("parse", |b| b.iter(|| text::parse(black_box(&source)).unwrap()));
    group.bench_function("write", |b| b.iter(|| text::write(black_box(&parsed.program))));
    group.finish();
}

criterion_group!(benches, text);
criterion_main!(benches);
