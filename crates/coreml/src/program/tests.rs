//! Programs through their protobuf form and back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anemone_mil::program::Program;
use anemone_mil::text;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::weights::{pack, unpack};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::*;
use crate::model::Model;
use crate::package;
use proto::{BindingKind, DataType, TensorValues, TypeKind};

/// The packages with a program that coremltools made.
pub(crate) fn packages() -> Vec<PathBuf> {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/coreml"));
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut packages: Vec<PathBuf> = entries
        .filter(|path| package::is_package(path) && !path.to_string_lossy().ends_with("pipeline.mlpackage"))
        .collect();
    packages.sort();
    assert!(packages.len() >= 13, "{packages:?}");
    packages
}

/// The program's message in a package, and the whole model.
fn original(package: &Path) -> (proto::Program, Model) {
    #[derive(Clone, PartialEq, Message)]
    struct Whole {
        #[prost(message, optional, tag = "502")]
        program: Option<proto::Program>,
    }
    let bytes = std::fs::read(package.join(package::DATA).join(package::MODEL)).unwrap();
    (Whole::decode(bytes.as_slice()).unwrap().program.unwrap(), Model::from_bytes(&bytes).unwrap())
}

fn message(program: &Program) -> proto::Program {
    proto::Program::decode(to_bytes(program).unwrap().as_slice()).unwrap()
}

#[test]
fn programs_come_back_message_by_message() {
    for path in packages() {
        let (original, model) = original(&path);
        assert_eq!(model.left_out, Vec::<String>::new(), "{}", path.display());
        assert_eq!(message(&model.program), original, "{}", path.display());
    }
}

#[test]
fn programs_come_back_through_text() {
    for path in packages() {
        let (original, model) = original(&path);
        let written = text::write(&model.program);
        let parsed = text::parse(&written).unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
        assert_eq!(parsed.program, model.program, "{}", path.display());
        assert_eq!(message(&parsed.program), original, "{}", path.display());
    }
}

/// What text has, and coremltools does not write: tuples of one item and of none, literals as arguments, types within
/// types.
const RARE: &str = r#"program(1.3)
[answer = tuple<int32, list<tensor<fp16, [2]>, ?>>((42, [[0x1p+0, 0x1p-1], [inf, nan]])), table = dict<string, dict<int32, bool>>({{"a", {{1, true}}}, {"b", {}}})]
{
    func first<ios18>(tensor<fp32, [2, ?]> x, state<tensor<fp16, [3]>> s)[kind = tensor<uint3, [5]>([0, 1, 7, 3, 5])] {
            tensor<fp32, [2, ?]> one = concat(axis = int32(0), interleave = bool(false), values = (x))[name = string("one")];
            tensor<int32, [0]> none = const()[val = tensor<int32, [0]>([])];
            tensor<int4, [3]> small = const()[val = tensor<int4, [3]>([-8, 7, -1])];
            list<string, 2> words = const()[val = list<string, 2>(["a\n\"", "ä"])];
            unheard_of(x = x, y = ());
        } -> (one);
    func second<ios17>() {
            tensor<fp16, []> y = const()[val = tensor<fp16, []>(BLOBFILE(path = string("@model_path/w.bin"), offset = uint64(64)))];
            int64 large = const()[val = int64(-9223372036854775808)];
            uint64 larger = const()[val = uint64(18446744073709551615)];
        } -> (larger, large, y);
}
"#;

#[test]
fn what_is_rare_comes_back_too() {
    let program = text::parse(RARE).unwrap().program;
    let decoded = from_bytes(&to_bytes(&program).unwrap()).unwrap();
    assert!(decoded.left_out.is_empty());
    // A scalar and a tensor of rank 0 are one thing in a message.
    let written = text::write(&decoded.program).replace("fp16 y = const", "tensor<fp16, []> y = const");
    // An op that is not known takes what it is given.
    assert_eq!(written, text::write(&program));
}

#[test]
fn what_has_no_message_is_refused_with_its_place() {
    for (statement, words) in [
        (
            "tensor_buffer<fp16, shape=[2], strides=[1], interleave_factors=[1]> y = f(x = x);",
            "op `f` that gives `y`, the type of `y`: the protobuf form of tensor_buffer",
        ),
        ("fp32 y = f<ios17>(x = x);", "the function `main`, the op `f` that gives `y`: its own opset, ios17"),
    ] {
        let source = format!("program(1.3)\n{{ func main<ios18>(fp32 x) {{ {statement} }} -> (x); }}");
        let error = to_bytes(&text::parse(&source).unwrap().program).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let source = "program(1.3)\n{ func main<ios99>(fp32 x) { } -> (x); }";
    let error = to_bytes(&text::parse(source).unwrap().program).unwrap_err().to_string();
    assert_eq!(error, "the function `main`: Core ML has no opset ios99");
    // A second binding of the same name is another value.
    let source =
        "program(1.3)\n{ func main<ios18>(fp32 x) { fp32 a = f(x = x); fp32 a = f(x = a); } -> (a); }";
    let mut program = text::parse(source).unwrap().program;
    assert!(to_bytes(&program).is_ok());
    let first = program.functions[0].ops[0].results[0];
    program.functions[0].body.outputs = vec![first];
    let error = to_bytes(&program).unwrap_err().to_string();
    assert_eq!(error, "the function `main`: `a` is bound again before it is read");
}

/// A program of one op that reads its only input.
fn small() -> proto::Program {
    let source = "program(1.3)\n{ func main<ios18>(tensor<fp32, [2]> x) {
        tensor<fp32, [2]> c = const()[val = tensor<fp32, [2]>([1.0, 2.0])];
        tensor<fp32, [2]> y = add(x = x, y = c); } -> (y); }";
    message(&text::parse(source).unwrap().program)
}

fn main_of(program: &mut proto::Program) -> &mut proto::Function {
    program.functions.get_mut("main").unwrap()
}

fn body_of(program: &mut proto::Program) -> &mut proto::Block {
    main_of(program).block_specializations.get_mut("CoreML8").unwrap()
}

fn tensor_of(ty: &mut Option<proto::ValueType>) -> &mut proto::TensorType {
    match ty.as_mut().unwrap().kind.as_mut().unwrap() {
        TypeKind::Tensor(tensor) => tensor,
        other => panic!("{other:?}"),
    }
}

/// What the constant of [`small`] holds.
fn value_of(program: &mut proto::Program) -> &mut proto::Value {
    body_of(program).operations[0].attributes.get_mut("val").unwrap()
}

#[test]
fn faults_of_messages_are_named_with_their_place() {
    type Change = fn(&mut proto::Program);
    let faults: [(Change, &str); 21] = [
        (
            |p| {
                let input = main_of(p).inputs[0].clone();
                main_of(p).inputs.push(input);
            },
            "the name `x` is given to two values at once",
        ),
        (|p| p.version = 2, "the program: programs of version 2 are not known"),
        (
            |p| main_of(p).opset = "CoreML4".to_string(),
            "the function `main`: the opset `CoreML4` is not known",
        ),
        (
            |p| main_of(p).opset = "CoreML7".to_string(),
            "the function `main`: it has no block for its opset, CoreML7",
        ),
        (|p| main_of(p).inputs[0].ty = None, "the type of `x`: a type is missing"),
        (|p| main_of(p).inputs[0].name.clear(), "the function `main`: a value without a name"),
        (|p| tensor_of(&mut main_of(p).inputs[0].ty).rank = 3, "a tensor type of rank 3 with 1 dimensions"),
        (|p| tensor_of(&mut main_of(p).inputs[0].ty).rank = -1, "a tensor type of rank -1 with 1 dimensions"),
        (|p| tensor_of(&mut main_of(p).inputs[0].ty).data_type = 7, "no element type has the code 7"),
        (|p| tensor_of(&mut main_of(p).inputs[0].ty).data_type = DataType::Unused.into(), "the code 0"),
        (|p| tensor_of(&mut main_of(p).inputs[0].ty).dimensions[0].kind = None, "a dimension is neither"),
        (
            |p| {
                let unknown = proto::UnknownDimension { variadic: true };
                tensor_of(&mut main_of(p).inputs[0].ty).dimensions[0].kind =
                    Some(proto::DimensionKind::Unknown(unknown));
            },
            "any number of dimensions",
        ),
        (
            |p| body_of(p).outputs = vec!["z".to_string()],
            "the output `z` of a block is a name that nothing binds",
        ),
        (
            |p| {
                let argument = body_of(p).operations[1].inputs.get_mut("x").unwrap();
                argument.arguments[0].binding = Some(BindingKind::Name("y".to_string()));
            },
            "the op `add` that gives `y`, the argument `x`: it is `y`, a name that nothing binds before",
        ),
        (
            |p| body_of(p).operations[1].inputs.get_mut("x").unwrap().arguments[0].binding = None,
            "it is neither a name nor a value",
        ),
        (
            |p| value_of(p).kind = None,
            "the op `const` that gives `c`, the attribute `val`: a value of tensor<fp32, [2]> is missing",
        ),
        (
            |p| {
                let dims = &mut tensor_of(&mut value_of(p).ty).dimensions;
                dims[0].kind =
                    Some(proto::DimensionKind::Constant(proto::ConstantDimension { size: u64::MAX }));
            },
            "does not say how many values it has",
        ),
        (
            |p| {
                let ty = tensor_of(&mut value_of(p).ty);
                ty.dimensions[0].kind =
                    Some(proto::DimensionKind::Constant(proto::ConstantDimension { size: 3 }));
            },
            "tensor<fp32, [3]> does not hold the 2 values that it is given",
        ),
        (
            |p| tensor_of(&mut value_of(p).ty).data_type = DataType::Float16.into(),
            "a value of tensor<fp16, [2]> is kept in `floats`",
        ),
        (
            |p| {
                tensor_of(&mut value_of(p).ty).attributes =
                    BTreeMap::from([("a".to_string(), proto::Value::default())])
            },
            "a tensor type with the attribute `a`",
        ),
        (
            |p| {
                let ty = tensor_of(&mut value_of(p).ty);
                let dimension = |size| {
                    let kind = proto::DimensionKind::Constant(proto::ConstantDimension { size });
                    proto::Dimension { kind: Some(kind) }
                };
                (ty.rank, ty.dimensions) = (2, vec![dimension(1 << 40), dimension(0)]);
                let none = TensorValues::Floats(proto::Floats { values: Vec::new() });
                let tensor = proto::ImmediateKind::Tensor(proto::TensorValue { values: Some(none) });
                let immediate = proto::ImmediateValue { kind: Some(tensor) };
                value_of(p).kind = Some(proto::ValueKind::Immediate(immediate));
            },
            "which has no elements but more than 65536 rows",
        ),
    ];
    assert!(from_bytes(&small().encode_to_vec()).is_ok());
    for (change, words) in faults {
        let mut program = small();
        change(&mut program);
        let error = from_bytes(&program.encode_to_vec()).unwrap_err().to_string();
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    }
}

#[test]
fn what_is_not_kept_is_said() {
    let mut program = small();
    program.doc_string = "what it is for".to_string();
    value_of(&mut program).doc_string = "a value".to_string();
    body_of(&mut program).attributes = BTreeMap::from([("a".to_string(), proto::Value::default())]);
    main_of(&mut program).block_specializations.insert("CoreML9".to_string(), proto::Block::default());
    let decoded = from_bytes(&program.encode_to_vec()).unwrap();
    assert_eq!(
        decoded.left_out,
        [
            "the program's documentation",
            "the block for another opset, CoreML9, in the function `main`",
            "the attributes of a block, in the function `main`",
            "the documentation of a value, in the function `main`"
        ]
    );
}

/// Values of every element type are packed and come back, to the bit.
#[test]
fn tensors_of_every_type_come_back() {
    for dtype in DType::all() {
        let ty = TensorType::new(dtype, &[3, 7]);
        let bits = dtype.bits();
        // Every bit pattern is a value of these types, but for bool and string.
        let count = 21;
        let pattern =
            |size: usize| (0..count * size).map(|i| (i as u8).wrapping_mul(151)).collect::<Vec<u8>>();
        let values = match dtype {
            DType::Bool => {
                TensorValues::Bools(proto::Bools { values: (0..count).map(|i| i % 3 == 0).collect() })
            }
            DType::String => {
                TensorValues::Strings(proto::Strings { values: (0..count).map(|i| format!("{i}")).collect() })
            }
            DType::Fp32 => {
                TensorValues::Floats(proto::Floats { values: (0..count).map(|i| i as f32 / 3.0).collect() })
            }
            DType::Fp64 => {
                TensorValues::Doubles(proto::Doubles { values: (0..count).map(|i| i as f64 / 3.0).collect() })
            }
            DType::Int32 => TensorValues::Ints(proto::Ints {
                values: (0..count).map(|i| (i as i32).wrapping_mul(0x1234_5677)).collect(),
            }),
            DType::Int16 => TensorValues::Ints(proto::Ints {
                values: (0..count).map(|i| i as i32 * 3000 - 32_768).collect(),
            }),
            DType::UInt16 => {
                TensorValues::Ints(proto::Ints { values: (0..count).map(|i| i as i32 * 3000).collect() })
            }
            DType::Int64 | DType::UInt64 => TensorValues::LongInts(proto::LongInts {
                values: (0..count).map(|i| (i as i64).wrapping_mul(-0x0123_4567_89ab_cdef)).collect(),
            }),
            _ if bits < 8 => TensorValues::Bytes(proto::Bytes {
                values: pack(&(0..count).map(|i| i as u8 % (1 << bits)).collect::<Vec<u8>>(), bits),
            }),
            _ => TensorValues::Bytes(proto::Bytes { values: pattern(bits as usize / 8) }),
        };
        let value = proto::TensorValue { values: Some(values) };
        let tensor = tensors::decode(value.clone(), &ty).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (dtype, &[3, 7][..]));
        assert_eq!(tensors::encode(&tensor), value, "{dtype}");
        let short =
            proto::TensorValue { values: Some(TensorValues::Bytes(proto::Bytes { values: vec![0] })) };
        assert!(tensors::decode(short, &ty).is_err(), "{dtype}");
    }
}

/// As coremltools packs them: 4-bit integers from the least significant bits on.
#[test]
fn narrow_integers_are_packed_as_coremltools_does() {
    let bytes = pack(&[1, 2, 15], 4);
    assert_eq!(bytes, [0x21, 0x0f]);
    let mut values = [0; 3];
    unpack(&bytes, 4, &mut values);
    assert_eq!(values, [1, 2, 15]);
}

/// A message within a message within a message: first these fields, then those by turns, so many.
fn nested(first: &[u32], by_turns: &[u32], levels: usize) -> Vec<u8> {
    let fields: Vec<u32> = first.iter().chain(by_turns.iter().cycle().take(levels)).copied().collect();
    // From the innermost on, and from the end: a message's length comes before it.
    let mut reversed: Vec<u8> = Vec::new();
    for field in fields.into_iter().rev() {
        let mut start = Vec::new();
        encode_key(field, WireType::LengthDelimited, &mut start);
        encode_varint(reversed.len() as u64, &mut start);
        reversed.extend(start.iter().rev());
    }
    reversed.reverse();
    reversed
}

#[test]
fn deep_messages_are_refused() {
    // A function's block, then operations and blocks by turns; an attribute, then values in tuples.
    for (first, by_turns) in [(&[2, 2, 3, 2][..], &[3, 4][..]), (&[4, 2], &[3, 2, 1])] {
        for levels in [120, 100_000] {
            let error = from_bytes(&nested(first, by_turns, levels)).unwrap_err().to_string();
            assert!(error.contains("recursion limit"), "{error}");
        }
    }
}

#[test]
fn programs_that_nest_too_deeply_are_not_written() {
    let nest = |levels: usize| {
        let (open, close) = ("c(p = p) () { ".repeat(levels), "} -> (p); ".repeat(levels));
        let source = format!("program(1.3)\n{{ func main<ios18>(bool p) {{ {open}{close} }} -> (p); }}");
        text::parse(&source).unwrap().program
    };
    for levels in [1, 20, 35] {
        let program = nest(levels);
        assert_eq!(from_bytes(&to_bytes(&program).unwrap()).unwrap().program, program, "{levels}");
    }
    let error = to_bytes(&nest(60)).unwrap_err();
    assert!(error.to_string().contains("nests deeper than the 90 levels"), "{error}");
}
