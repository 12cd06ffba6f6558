//! What the case files under `tests/ops` do not say of the arithmetic ops: refusals, empty tensors, unknown
//! dimensions, and sizes that only a careless loop would notice.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::Instant;

use anemone_mil::eval::{Budget, Evaluation};
use anemone_mil::ops::{self, Given, OpError, Operand, Operands};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, Dim, Opset, Shape, TensorType};

fn given<'a>(operands: &[(&'a str, &Tensor)]) -> Operands<'a> {
    let one = |tensor: &Tensor| Given::One(Operand::constant(Arc::new(tensor.clone())));
    Operands(operands.iter().map(|&(name, tensor)| (name, one(tensor))).collect())
}

/// Infers, then evaluates, and checks that both give the same type.
fn run(op: &str, opset: Opset, operands: &[(&str, &Tensor)]) -> Result<Tensor, OpError> {
    let row = ops::lookup(op, opset).expect("the op is in the table");
    let operands = given(operands);
    let inferred = (row.infer)(&operands)?;
    let mut results = (row.eval)(&operands, &mut Evaluation::new(Budget::ORDINARY))?;
    assert_eq!((inferred.len(), results.len()), (1, 1));
    assert_eq!(inferred[0], results[0].ty());
    Ok(results.remove(0))
}

fn error(op: &str, operands: &[(&str, &Tensor)]) -> OpError {
    run(op, Opset::IOS18, operands).expect_err("the op refuses this")
}

fn infer(op: &str, operands: &[(&'static str, TensorType)]) -> Result<TensorType, OpError> {
    let row = ops::lookup(op, Opset::IOS18).expect("the op is in the table");
    let one = |ty: &TensorType| Given::One(Operand::of_type(ty.clone()));
    let operands = Operands(operands.iter().map(|(name, ty)| (*name, one(ty))).collect());
    (row.infer)(&operands).map(|mut types| types.remove(0))
}

fn open(dims: &[Option<u64>]) -> TensorType {
    let dims = dims.iter().map(|dim| dim.map_or(Dim::Unknown, Dim::Known));
    TensorType { dtype: DType::Fp32, shape: Shape(dims.collect()) }
}

fn ints(shape: &[usize], values: &[i32]) -> Tensor {
    Tensor::from_values(shape, values.to_vec()).expect("as many values as the shape holds")
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_values(shape, values.to_vec()).expect("as many values as the shape holds")
}

fn empty(shape: &[usize]) -> Tensor {
    floats(shape, &[])
}

#[test]
fn integers_wrap() {
    let (x, y) = (ints(&[3], &[i32::MAX, i32::MIN, 65536]), ints(&[3], &[1, -1, 65536]));
    let compute = |op| run(op, Opset::IOS15, &[("x", &x), ("y", &y)]).unwrap();
    assert_eq!(compute("add"), ints(&[3], &[i32::MIN, i32::MAX, 131072]));
    assert_eq!(compute("mul"), ints(&[3], &[i32::MAX, i32::MIN, 0]));
    assert_eq!(compute("floor_div"), ints(&[3], &[i32::MAX, i32::MIN, 1]));
    assert_eq!(compute("real_div"), ints(&[3], &[i32::MAX, i32::MIN, 1]));
    let abs = run("abs", Opset::IOS15, &[("x", &ints(&[], &[i32::MIN]))]).unwrap();
    assert_eq!(abs, ints(&[], &[i32::MIN]));
    let sum = run("reduce_sum", Opset::IOS15, &[("x", &ints(&[2], &[i32::MAX, 2]))]).unwrap();
    assert_eq!(sum, ints(&[], &[i32::MIN + 1]));
    let power = run("pow", Opset::IOS15, &[("x", &ints(&[2], &[3, 2])), ("y", &ints(&[2], &[21, 31]))]);
    // 3^21 = 10460353203 = 2·2^32 + 1870418611.
    assert_eq!(power.unwrap(), ints(&[2], &[1870418611, i32::MIN]));
    let exponents = ints(&[5], &[31, 32, 64, -1, i32::MIN]);
    assert_eq!(run("exp2", Opset::IOS15, &[("x", &exponents)]).unwrap(), ints(&[5], &[i32::MIN, 0, 0, 0, 0]));
}

#[test]
fn quotients_of_integers_round_as_documented() {
    let (x, y) = (ints(&[4], &[7, -7, 7, -7]), ints(&[4], &[2, 2, -2, -2]));
    let compute = |op| run(op, Opset::IOS15, &[("x", &x), ("y", &y)]).unwrap();
    assert_eq!(compute("floor_div"), ints(&[4], &[3, -4, -4, 3]));
    assert_eq!(compute("real_div"), ints(&[4], &[3, -3, -3, 3]));
}

#[test]
fn what_integers_cannot_do_is_an_error() {
    let (x, zero, negative) = (ints(&[2], &[1, 2]), ints(&[2], &[1, 0]), ints(&[], &[-1]));
    for op in ["floor_div", "real_div"] {
        assert_eq!(error(op, &[("x", &x), ("y", &zero)]).to_string(), "`y`: an integer is divided by zero");
    }
    assert_eq!(
        error("pow", &[("x", &x), ("y", &negative)]).to_string(),
        "`y`: an integer cannot be raised to a negative power"
    );
}

#[test]
fn refusals_name_the_argument_and_what_was_found() {
    let (a, b) = (floats(&[2, 3], &[0.0; 6]), floats(&[2], &[0.0; 2]));
    let refused = error("add", &[("x", &a), ("y", &b)]);
    assert_eq!(refused.to_string(), "`y`: [2, 3] and [2] do not broadcast together");
    let cond = Tensor::from_values(&[2], vec![true, false]).unwrap();
    let refused = error("select", &[("cond", &cond), ("a", &a), ("b", &a)]);
    assert_eq!(refused.to_string(), "`cond`: does not broadcast with [2, 3], the shape of `a` and `b`");
    assert_eq!(refused.label, "found [2]");
    let (one, two) = (floats(&[], &[1.0]), floats(&[], &[2.0]));
    let refused = error("clip", &[("x", &a), ("alpha", &two), ("beta", &one)]);
    assert_eq!(refused.to_string(), "`alpha`: must be less than `beta`");
    assert!(run("clip", Opset::IOS16, &[("x", &a), ("alpha", &two), ("beta", &one)]).is_ok());
    let refused = error("gelu", &[("x", &a), ("mode", &Tensor::scalar("TANH".to_string()))]);
    assert_eq!(refused.label, "found \"TANH\"");
    let refused = error("softmax", &[("x", &one)]);
    assert_eq!(refused.to_string(), "`axis`: axis -1 is out of range for rank 0");
    let refused = error("reduce_sum", &[("x", &a), ("axes", &ints(&[2], &[1, -1]))]);
    assert_eq!(refused.to_string(), "`axes`: axis -1 is given twice");
    let refused = error("reduce_argmax", &[("x", &a), ("output_dtype", &Tensor::scalar("fp16".to_string()))]);
    assert_eq!(refused.to_string(), "`output_dtype`: must be int32 or uint16");
    let refused = error("layer_norm", &[("x", &a), ("axes", &ints(&[1], &[1])), ("gamma", &b)]);
    assert_eq!(
        (refused.to_string().as_str(), refused.label.as_str()),
        ("`gamma`: must have the shape [3]", "found [2]")
    );
    let refused = error("batch_norm", &[("x", &a), ("mean", &b), ("variance", &b)]);
    assert_eq!(refused.to_string(), "`x`: must have rank 3 to 5: [n, C, *D]");
    let x = floats(&[1, 3, 1], &[0.0; 3]);
    let refused = error("batch_norm", &[("x", &x), ("mean", &b), ("variance", &b)]);
    assert_eq!(refused.to_string(), "`mean`: must have the shape [3]");
}

#[test]
fn reductions_of_nothing() {
    let x = empty(&[2, 0]);
    let axes = ints(&[1], &[1]);
    let reduce = |op| run(op, Opset::IOS18, &[("x", &x), ("axes", &axes)]);
    for op in ["reduce_sum", "reduce_sum_square"] {
        assert_eq!(reduce(op).unwrap(), floats(&[2], &[0.0; 2]));
    }
    assert_eq!(reduce("reduce_prod").unwrap(), floats(&[2], &[1.0; 2]));
    assert!(reduce("reduce_mean").unwrap().as_slice::<f32>().unwrap().iter().all(|mean| mean.is_nan()));
    for op in ["reduce_max", "reduce_min", "reduce_log_sum_exp"] {
        let message = "`x`: there is nothing to reduce: a reduced dimension has length 0";
        assert_eq!(reduce(op).unwrap_err().to_string(), message);
    }
    assert!(run("reduce_argmax", Opset::IOS18, &[("x", &x)]).is_err());
    // No result needs a largest element here.
    let largest = run("reduce_max", Opset::IOS18, &[("x", &x), ("axes", &ints(&[1], &[0]))]);
    assert_eq!(largest.unwrap(), empty(&[0]));
    let mean = run("reduce_mean", Opset::IOS18, &[("x", &ints(&[0], &[]))]);
    assert!(mean.is_err());
}

#[test]
fn empty_tensors_are_neither_walked_nor_multiplied_out() {
    let shape = [0, 1 << 23, 1 << 23];
    let x = empty(&shape);
    let start = Instant::now();
    for op in ["softmax", "layer_norm", "exp", "round"] {
        assert_eq!(run(op, Opset::IOS18, &[("x", &x)]).unwrap(), x);
    }
    assert_eq!(run("reduce_sum", Opset::IOS18, &[("x", &x)]).unwrap(), floats(&[], &[0.0]));
    assert_eq!(run("add", Opset::IOS18, &[("x", &x), ("y", &floats(&[], &[1.0]))]).unwrap(), x);
    let x = empty(&[1 << 40, 0]);
    let axes = ints(&[1], &[0]);
    assert_eq!(run("layer_norm", Opset::IOS18, &[("x", &x), ("axes", &axes)]).unwrap(), x);
    assert_eq!(run("reduce_sum", Opset::IOS18, &[("x", &x)]).unwrap(), floats(&[], &[0.0]));
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn unknown_dimensions_are_carried_through() {
    let (x, y) = (open(&[None, Some(3)]), open(&[Some(4), None, Some(1)]));
    assert_eq!(infer("add", &[("x", x.clone()), ("y", y.clone())]).unwrap(), open(&[Some(4), None, Some(3)]));
    let less = infer("less", &[("x", x.clone()), ("y", y)]).unwrap();
    assert_eq!((less.dtype, less.shape), (DType::Bool, open(&[Some(4), None, Some(3)]).shape));
    assert_eq!(infer("exp", &[("x", x.clone())]).unwrap(), x);
    assert_eq!(infer("softmax", &[("x", x.clone())]).unwrap(), x);
    assert_eq!(infer("layer_norm", &[("x", x.clone())]).unwrap(), x);
    assert_eq!(infer("reduce_sum", &[("x", x.clone())]).unwrap(), open(&[]));
    let argmax = infer("reduce_argmax", &[("x", x)]).unwrap();
    assert_eq!((argmax.dtype, argmax.shape), (DType::Int32, open(&[None]).shape));
    let channels = Operand::constant(Arc::new(floats(&[3], &[1.0; 3])));
    let row = ops::lookup("batch_norm", Opset::IOS18).unwrap();
    let x = open(&[None, None, Some(2)]);
    let operands = Operands(vec![
        ("x", Given::One(Operand::of_type(x.clone()))),
        ("mean", Given::One(channels.clone())),
        ("variance", Given::One(channels)),
    ]);
    assert_eq!((row.infer)(&operands).unwrap(), [x]);
}

#[test]
fn nan_is_kept_where_an_order_is_asked_for() {
    let x = floats(&[4], &[1.0, f32::NAN, 2.0, f32::NAN]);
    let zero = floats(&[], &[0.0]);
    for op in ["maximum", "minimum"] {
        for operands in [[("x", &x), ("y", &zero)], [("x", &zero), ("y", &x)]] {
            let result = run(op, Opset::IOS18, &operands).unwrap();
            let nan: Vec<bool> =
                result.as_slice::<f32>().unwrap().iter().map(|value| value.is_nan()).collect();
            assert_eq!(nan, [false, true, false, true]);
        }
    }
    assert_eq!(run("reduce_argmax", Opset::IOS18, &[("x", &x)]).unwrap(), ints(&[], &[1]));
    let ties = floats(&[4], &[1.0, 3.0, 3.0, 2.0]);
    assert_eq!(run("reduce_argmax", Opset::IOS18, &[("x", &ties)]).unwrap(), ints(&[], &[1]));
}

#[test]
fn select_repeats_its_condition_too() {
    let cond = Tensor::from_values(&[2, 1], vec![true, false]).unwrap();
    let (a, b) = (ints(&[3], &[1, 2, 3]), ints(&[], &[-1]));
    let chosen = run("select", Opset::IOS15, &[("cond", &cond), ("a", &a), ("b", &b)]).unwrap();
    assert_eq!(chosen, ints(&[2, 3], &[1, 2, 3, -1, -1, -1]));
}
