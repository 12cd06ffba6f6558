//! Constants in their stored form: what is decoded in each run has the bits of what is decompressed once, and of the
//! meanings.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fmt::Write;
use std::io::Cursor;
use std::sync::Arc;

use anemone_cpu::{Cpu, Options};
use anemone_mil::runtime::{Executable, Runtime};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::{Verified, verify};
use anemone_mil::weights::{BlobFile, BlobWriter, WeightMap};
use common::paths::paths;
use common::{ordinary, reference};

/// Rows and columns of the matrix that is compressed: no multiples of what is decoded at a time.
const ROWS: usize = 37;
const COLUMNS: usize = 1080;

/// A program with weights in a file.
#[derive(Default)]
struct Source {
    /// Whether scalars are written as tensors.
    old: bool,
    statements: String,
    weights: Vec<Tensor>,
    /// The constant of floating point that can be replaced.
    replaceable: &'static str,
}

impl Source {
    /// Where a tensor is, which is put into the weight file.
    fn blob(&mut self, tensor: Tensor) -> String {
        let offset = 64 + self.weights.iter().map(record_bytes).sum::<u64>();
        let scalar = |ty: &str| if self.old { format!("tensor<{ty}, []>") } else { ty.to_string() };
        let (string, uint64, ty) = (scalar("string"), scalar("uint64"), tensor.ty());
        let blob =
            format!("{ty}(BLOBFILE(path = {string}(\"@model_path/w.bin\"), offset = {uint64}({offset})))");
        self.weights.push(tensor);
        blob
    }

    /// Binds a constant in the weight file.
    fn constant(&mut self, name: &str, tensor: Tensor) {
        let (ty, blob) = (tensor.ty(), self.blob(tensor));
        writeln!(self.statements, "{ty} {name} = const()[name = string(\"{name}\"), val = {blob}];").unwrap();
    }

    fn weights(&self) -> WeightMap {
        let mut writer = BlobWriter::new(Cursor::new(Vec::new())).unwrap();
        let mut expected = 64;
        for tensor in &self.weights {
            assert_eq!(writer.append(tensor).unwrap(), expected);
            expected += record_bytes(tensor);
        }
        let mut weights = WeightMap::default();
        let file = BlobFile::from_bytes(writer.finish().unwrap().into_inner()).unwrap();
        weights.insert("@model_path/w.bin", file);
        weights
    }
}

/// Bytes that a tensor takes in a weight file, with its record.
fn record_bytes(tensor: &Tensor) -> u64 {
    64 + (tensor.len() as u64 * u64::from(tensor.dtype().bits())).div_ceil(8).next_multiple_of(64)
}

/// Pseudo-random integers of a type.
fn integers(dtype: DType, shape: &[usize]) -> Tensor {
    let bits = dtype.bits();
    let signed = matches!(dtype, DType::Int4 | DType::Int8);
    let values: Vec<i64> = (0..shape.iter().product::<usize>() as u64)
        .map(|i| {
            let code = (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - bits)) as i64;
            if signed { code - (1 << (bits - 1)) } else { code }
        })
        .collect();
    Tensor::from_i64(dtype, shape, &values).unwrap()
}

/// The integers packed into bytes, as they stand in older programs.
fn packed(tensor: &Tensor) -> Tensor {
    let values: Vec<u8> = tensor.to_i64().unwrap().into_iter().map(|value| value as u8).collect();
    Tensor::vector(anemone_mil::weights::pack(&values, tensor.dtype().bits()))
}

/// Every form in which a constant can be stored, as a matrix `w` of this type.
fn forms(dtype: DType) -> Vec<(String, Source)> {
    let name = dtype.name();
    let ty = format!("tensor<{name}, [{ROWS}, {COLUMNS}]>");
    let mut forms = Vec::new();
    let bits = [DType::UInt1, DType::UInt2, DType::UInt3, DType::UInt4, DType::UInt6, DType::UInt8];
    for (dtype_of_indices, groups) in
        bits.into_iter().zip([[1, 1], [ROWS, 1], [1, 4], [ROWS, 5], [1, 1], [1, 1]])
    {
        let mut source = Source { replaceable: "lut", ..Source::default() };
        source.constant("indices", integers(dtype_of_indices, &[ROWS, COLUMNS]));
        source.constant("lut", ordinary(3, dtype, &[groups[0], groups[1], 1 << dtype_of_indices.bits(), 1]));
        writeln!(
            source.statements,
            "{ty} w = constexpr_lut_to_dense(indices = indices, lut = lut)[name = string(\"w\")];"
        )
        .unwrap();
        forms.push((format!("palette of {dtype_of_indices} in {groups:?} groups"), source));
    }
    let scaled = [
        (DType::Int8, [ROWS, 1], None),
        (DType::Int4, [ROWS, 27], None),
        (DType::UInt4, [1, 1], Some(integers(DType::UInt4, &[1, 1]))),
        (DType::UInt8, [1, COLUMNS], Some(ordinary(4, dtype, &[1, COLUMNS]))),
        (DType::Int8, [ROWS, 4], Some(integers(DType::Int8, &[ROWS, 4]))),
    ];
    for (data, groups, offset) in scaled {
        let mut source = Source { replaceable: "scale", ..Source::default() };
        source.constant("data", integers(data, &[ROWS, COLUMNS]));
        source.constant("scale", ordinary(5, dtype, &groups));
        let given = if offset.is_some() { "offset = offset, " } else { "" };
        let form = format!("{data} scaled in {groups:?} groups, {:?}", offset.as_ref().map(Tensor::ty));
        offset.into_iter().for_each(|offset| source.constant("offset", offset));
        writeln!(source.statements, "{ty} w = constexpr_blockwise_shift_scale(data = data, {given}scale = scale)[name = string(\"w\")];").unwrap();
        forms.push((form, source));
    }
    let mut source = Source { replaceable: "values", ..Source::default() };
    let mask = integers(DType::UInt1, &[ROWS, COLUMNS]);
    let ones = mask.to_i64().unwrap().iter().sum::<i64>() as usize;
    source.constant("mask", mask);
    source.constant("values", ordinary(6, dtype, &[ones]));
    writeln!(
        source.statements,
        "{ty} w = constexpr_sparse_to_dense(mask = mask, nonzero_data = values)[name = string(\"w\")];"
    )
    .unwrap();
    forms.push(("sparse".to_string(), source));
    forms
}

/// A program that multiplies by `w` and takes rows of it.
fn program(opset: &str, dtype: DType, source: &Source) -> Arc<Verified> {
    let (name, statements) = (dtype.name(), &source.statements);
    let version = if opset == "ios18" { "1.3" } else { "1.0" };
    let scalar = |ty: &str| if opset == "ios18" { ty.to_string() } else { format!("tensor<{ty}, []>") };
    let (string, int32) = (scalar("string"), scalar("int32"));
    let text = format!(
        "program({version})
{{
    func main<{opset}>(tensor<{name}, [3, {COLUMNS}]> x, tensor<{name}, [3, {ROWS}]> z, tensor<int32, [2, 3]> i) {{
{statements}
        tensor<{name}, [3, {ROWS}]> y = linear(x = x, weight = w)[name = {string}(\"y\")];
        {int32} axis = const()[name = {string}(\"axis\"), val = {int32}(0)];
        tensor<{name}, [2, 3, {COLUMNS}]> rows = gather(axis = axis, indices = i, x = w)[name = {string}(\"rows\")];
        {bool} no = const()[name = {string}(\"no\"), val = {bool}(false)];
        tensor<{name}, [3, {COLUMNS}]> t = matmul(transpose_x = no, transpose_y = no, x = z, y = w)[name = {string}(\"t\")];
    }} -> (y, rows, t);
}}
",
        bool = scalar("bool"),
    );
    let parsed = text::parse(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    let verified = verify(parsed.program);
    Arc::new(verified.unwrap_or_else(|errors| panic!("{}", errors.render("main", &text, &parsed.spans))))
}

fn inputs(dtype: DType) -> [Tensor; 3] {
    let rows = Tensor::from_i64(DType::Int32, &[2, 3], &[5, 0, 36, 5, 17, 1]).unwrap();
    [ordinary(1, dtype, &[3, COLUMNS]), ordinary(2, dtype, &[3, ROWS]), rows]
}

fn types(inputs: &[Tensor]) -> Vec<TensorType> {
    inputs.iter().map(Tensor::ty).collect()
}

fn run(executable: &mut dyn Executable, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let mut outputs = vec![Tensor::scalar(false); 3];
    executable.run(&inputs, &mut outputs).map(|()| outputs).map_err(|error| error.to_string())
}

/// A runtime whose compressed constants may take so many bytes decompressed.
fn runtime(path: Option<anemone_cpu::InstructionPath>, bytes: usize) -> Cpu {
    Cpu::with_options(Options {
        threads: Some(2),
        path,
        decompressed_bytes: Some(bytes),
        ..Options::default()
    })
    .unwrap()
}

/// The ops of the steps that a run takes.
fn steps(cpu: &Cpu, program: &Arc<Verified>, inputs: &[Tensor], weights: &WeightMap) -> Vec<String> {
    let profile = cpu.profile(program, "main", &types(inputs), weights).unwrap();
    profile.steps().iter().flat_map(|step| step.ops.clone()).collect()
}

#[test]
fn every_form_is_decoded_to_the_same_bits_whenever_that_is() {
    for dtype in [DType::Fp16, DType::Fp32] {
        let inputs = inputs(dtype);
        for (form, source) in forms(dtype) {
            let (program, weights) = (program("ios18", dtype, &source), source.weights());
            check(&form, &program, &inputs, &weights, source.replaceable);
        }
    }
}

fn check(form: &str, program: &Arc<Verified>, inputs: &[Tensor], weights: &WeightMap, replaceable: &str) {
    let prepare = |runtime: &dyn Runtime| runtime.prepare(program, "main", &types(inputs), weights).unwrap();
    let mut meaning = prepare(&reference(false));
    let expected = run(meaning.as_mut(), inputs).unwrap();
    for path in paths() {
        let [decoding, dense] = [0, usize::MAX].map(|bytes| runtime(Some(path), bytes));
        let decodes =
            |cpu: &Cpu| steps(cpu, program, inputs, weights).iter().any(|op| op.starts_with("constexpr"));
        assert!(decodes(&decoding) && !decodes(&dense), "{form} on {path}");
        let [mut decoding, mut dense] = [&decoding, &dense].map(|cpu| prepare(cpu));
        let first = run(decoding.as_mut(), inputs).unwrap();
        assert!(
            first == run(dense.as_mut(), inputs).unwrap(),
            "{form} on {path}: other bits than when it is dense"
        );
        assert!(first[1] == expected[1], "{form} on {path}: other bits than the meaning's");
        if replaceable.is_empty() {
            continue;
        }
        let old = type_of(program, replaceable);
        let value = ordinary(9, old.dtype, &old.shape.to_known().unwrap());
        for executable in [&mut decoding, &mut dense, &mut meaning] {
            let constant = executable.constant(replaceable);
            executable.set_constant(constant.unwrap(), Arc::new(value.clone())).unwrap();
        }
        let changed = run(decoding.as_mut(), inputs).unwrap();
        assert!(changed != first, "{form} on {path}: {replaceable} counts for nothing");
        assert!(changed == run(dense.as_mut(), inputs).unwrap(), "{form} on {path}: other bits, replaced");
        assert!(
            changed[1] == run(meaning.as_mut(), inputs).unwrap()[1],
            "{form} on {path}: not the meaning, replaced"
        );
        meaning = prepare(&reference(false));
    }
}

/// The type of a constant.
fn type_of(program: &Verified, name: &str) -> TensorType {
    let function = &program.program().functions[0];
    function.value(function.value_named(name).unwrap()).ty.as_tensor().unwrap()
}

#[test]
fn what_older_programs_keep_in_attributes_is_decoded_too() {
    let dtype = DType::Fp16;
    let ty = format!("tensor<fp16, [{ROWS}, {COLUMNS}]>");
    let shape = format!("tensor<uint32, [2]>([{ROWS}, {COLUMNS}])");
    let mut forms = Vec::new();
    for bits in [DType::UInt1, DType::UInt2, DType::UInt4, DType::UInt6, DType::UInt8] {
        let mut source = Source { old: true, ..Source::default() };
        let indices = source.blob(packed(&integers(bits, &[ROWS, COLUMNS])));
        let lut = source.blob(ordinary(3, dtype, &[1 << bits.bits()]));
        let call = format!(
            "{ty} w = constexpr_lut_to_dense()[indices = {indices}, lut = {lut}, name = tensor<string, []>(\"w\"), shape = {shape}];"
        );
        source.statements = call;
        forms.push((format!("packed palette of {bits}"), source));
    }
    let mut source = Source { old: true, ..Source::default() };
    let mask = integers(DType::UInt1, &[ROWS, COLUMNS]);
    let ones = mask.to_i64().unwrap().iter().sum::<i64>() as usize;
    let (mask, values) = (source.blob(packed(&mask)), source.blob(ordinary(6, dtype, &[ones])));
    source.statements = format!(
        "{ty} w = constexpr_sparse_to_dense()[mask = {mask}, name = tensor<string, []>(\"w\"), nonzero_data = {values}, shape = {shape}];"
    );
    forms.push(("packed mask".to_string(), source));
    for (axis, length) in [(0, ROWS), (-1, COLUMNS)] {
        let mut source = Source { old: true, ..Source::default() };
        let data = source.blob(integers(DType::UInt8, &[ROWS, COLUMNS]));
        let (scale, zero) =
            (source.blob(ordinary(5, dtype, &[length])), source.blob(integers(DType::UInt8, &[length])));
        source.statements = format!(
            "{ty} w = constexpr_affine_dequantize()[axis = tensor<int32, []>({axis}), name = tensor<string, []>(\"w\"), quantized_data = {data}, scale = {scale}, zero_point = {zero}];"
        );
        forms.push((format!("affine along {axis}"), source));
    }
    for (form, source) in forms {
        let (program, weights) = (program("ios16", dtype, &source), source.weights());
        check(&form, &program, &inputs(dtype), &weights, "");
    }
}

#[test]
fn indices_of_no_row_are_what_they_are_for_dense_constants() {
    let dtype = DType::Fp16;
    for (opset, indices) in
        [("ios18", [0, 37, 1, 1, 1, 1]), ("ios18", [0, -1, 1, 1, 1, 1]), ("ios16", [0, -1, -37, 1, 1, 1])]
    {
        let mut source = Source { old: opset != "ios18", ..Source::default() };
        if opset == "ios18" {
            source = forms(dtype).remove(0).1;
        } else {
            let data = source.blob(integers(DType::UInt8, &[ROWS, COLUMNS]));
            source.statements = format!(
                "tensor<fp16, [{ROWS}, {COLUMNS}]> w = constexpr_affine_dequantize()[axis = tensor<int32, []>(0), name = tensor<string, []>(\"w\"), quantized_data = {data}, scale = tensor<fp16, []>(0x1p-3), zero_point = tensor<uint8, []>(7)];"
            );
        }
        let (program, weights) = (program(opset, dtype, &source), source.weights());
        let [x, z, _] = inputs(dtype);
        let inputs = [x, z, Tensor::from_i64(DType::Int32, &[2, 3], &indices).unwrap()];
        let outcome = |runtime: &dyn Runtime| {
            let mut executable = runtime.prepare(&program, "main", &types(&inputs), &weights).unwrap();
            run(executable.as_mut(), &inputs).map(|outputs| outputs[1].clone())
        };
        let expected = outcome(&reference(false));
        assert_eq!(outcome(&runtime(None, 0)), expected, "{opset} {indices:?}");
        assert_eq!(outcome(&runtime(None, usize::MAX)), expected, "{opset} {indices:?}");
        assert_eq!(expected.is_ok(), opset == "ios16");
    }
}

#[test]
fn a_mask_that_marks_other_than_what_is_stored_is_refused() {
    let dtype = DType::Fp16;
    let (_, mut source) = forms(dtype).pop().unwrap();
    // Bytes enough, and one more bit.
    let mut mask = source.weights[0].to_i64().unwrap();
    let zero = mask.iter().position(|&bit| bit == 0).unwrap();
    mask[zero] = 1;
    source.weights[0] = Tensor::from_i64(DType::UInt1, &[ROWS, COLUMNS], &mask).unwrap();
    let (program, weights) = (program("ios18", dtype, &source), source.weights());
    for bytes in [0, usize::MAX] {
        let refused = runtime(None, bytes).prepare(&program, "main", &types(&inputs(dtype)), &weights);
        let message = refused.err().unwrap().to_string();
        assert!(message.contains("must hold a number for each of the"), "{message}");
    }
}

/// So few integers that, packed, they take as many bytes as each alone would.
#[test]
fn few_integers_are_not_taken_for_packed_ones() {
    for (bits, count) in [(6, 1), (6, 2), (6, 3), (4, 1), (3, 2), (1, 1)] {
        let entries = 1 << bits;
        let codes: Vec<String> = (0..count).map(|i| ((5 + 2 * i) % entries).to_string()).collect();
        let lut: Vec<String> = (0..entries).map(|i| format!("[0x1.{i:02x}p+0]")).collect();
        let text = format!(
            "program(1.3)
{{
    func main<ios18>(tensor<fp32, [{count}]> x) {{
        tensor<uint{bits}, [{count}]> indices = const()[name = string(\"indices\"), val = tensor<uint{bits}, [{count}]>([{}])];
        tensor<fp32, [1, {entries}, 1]> lut = const()[name = string(\"lut\"), val = tensor<fp32, [1, {entries}, 1]>([[{}]])];
        tensor<fp32, [{count}]> w = constexpr_lut_to_dense(indices = indices, lut = lut)[name = string(\"w\")];
        tensor<fp32, [{count}]> y = add(x = x, y = w)[name = string(\"y\")];
    }} -> (y);
}}
",
            codes.join(", "),
            lut.join(", "),
        );
        let program = Arc::new(verify(text::parse(&text).unwrap().program).unwrap());
        let x = Tensor::zeros(DType::Fp32, &[count]).unwrap();
        let outcome = |runtime: &dyn Runtime| {
            let mut executable = common::prepare(runtime, &program, &[&x]);
            common::run(executable.as_mut(), &[&x])
        };
        assert_eq!(outcome(&runtime(None, usize::MAX)), outcome(&reference(false)), "{count} of {bits} bits");
    }
}
