//! What holds of whole functions: memory shared between values, constants replaced, outputs in place.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use anemone_mil::builder::{AnyCall, FunctionBuilder, Input};
use anemone_mil::program::ValueId;
use anemone_mil::runtime::{Runtime, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use common::paths::{cpu_on, paths, paths_without_products};
use common::{bools, builder, cpu, float, ordinary, prepare, program, reference, run, set_constant, special};
use proptest::prelude::*;

fn op(
    function: &mut FunctionBuilder,
    op: &'static str,
    inputs: impl IntoIterator<Item = (&'static str, Input)>,
) -> ValueId {
    function.bind("t", AnyCall::named(op, inputs)).expect("the op takes these operands")
}

/// Adds one of the ops whose results have no room for differences, so that chains of them have none.
fn add_step(function: &mut FunctionBuilder, values: &[ValueId], step: (u8, usize, usize)) -> Vec<ValueId> {
    let (kind, a, b) = step;
    let (x, y) = (values[a % values.len()], values[b % values.len()]);
    let pair = |function: &mut FunctionBuilder, name| op(function, name, [("x", x.into()), ("y", y.into())]);
    let reshape = |function: &mut FunctionBuilder, x: ValueId, shape: &[i32]| {
        op(function, "reshape", [("x", x.into()), ("shape", shape.to_vec().into())])
    };
    match kind {
        0 => vec![pair(function, "add")],
        1 => vec![pair(function, "mul")],
        2 => vec![pair(function, "maximum")],
        3 => vec![op(function, "identity", [("x", x.into())])],
        4 => {
            let flat = reshape(function, x, &[-1]);
            vec![reshape(function, flat, &[1, 4, 6])]
        }
        5 => {
            let joined = op(function, "concat", [("values", vec![x, y].into()), ("axis", 1.into())]);
            let parts = [("x", joined.into()), ("num_splits", 2.into()), ("axis", 1.into())];
            function.bind_all(&["t", "t"], AnyCall::named("split", parts)).expect("8 rows in 2 parts")
        }
        6 => {
            let turned = op(function, "transpose", [("x", x.into()), ("perm", [0, 2, 1].into())]);
            vec![reshape(function, turned, &[1, 4, 6])]
        }
        7 => {
            let less = pair(function, "less");
            vec![op(function, "select", [("cond", less.into()), ("a", x.into()), ("b", y.into())])]
        }
        8 => {
            let sum = pair(function, "add");
            let axes = [("x", sum.into()), ("axes", [1].into()), ("keep_dims", true.into())];
            let largest = op(function, "reduce_max", axes);
            let largest = op(function, "abs", [("x", largest.into())]);
            vec![op(function, "mul", [("x", x.into()), ("y", largest.into())])]
        }
        // No kernel: the op's meaning runs.
        _ => {
            let axes = [("x", x.into()), ("axes", [0].into()), ("keep_dims", true.into())];
            vec![op(function, "reduce_prod", axes)]
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn chains_have_the_bits_of_the_reference(
        seed: u64,
        dtype in float(),
        steps in proptest::collection::vec((0..10u8, 0..100usize, 0..100usize), 0..24),
        outputs in proptest::collection::vec(0..100usize, 1..5),
        threads in 1..3usize,
    ) {
        let mut function = builder();
        let inputs = [ordinary(seed, dtype, &[1, 4, 6]), special(seed ^ 1, dtype, &[1, 4, 6])];
        let mut values = vec![
            function.input("x", inputs[0].ty()),
            function.input("y", inputs[1].ty()),
            function.constant("c", ordinary(seed ^ 2, dtype, &[1, 4, 6])),
        ];
        for step in steps {
            let added = add_step(&mut function, &values, step);
            values.extend(added);
        }
        let constant = values[2];
        let outputs = outputs.iter().map(|&i| values[values.len() - 1 - i % values.len()]);
        // Only a constant that something needs can be replaced.
        let outputs: Vec<ValueId> = outputs.chain([constant]).collect();
        let program = program(function.finish(outputs));
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let mut expected = prepare(&reference(false), &program, &inputs);
        let mut actual = prepare(&cpu(threads), &program, &inputs);
        let first = run(actual.as_mut(), &inputs);
        prop_assert!(same(&first, &run(expected.as_mut(), &inputs)));
        prop_assert_eq!(&first, &run(actual.as_mut(), &inputs));
        // Another value of the constant reaches everything that was made of the first.
        let other = special(seed ^ 3, dtype, &[1, 4, 6]);
        set_constant(expected.as_mut(), "c", &other);
        set_constant(actual.as_mut(), "c", &other);
        prop_assert!(same(&run(actual.as_mut(), &inputs), &run(expected.as_mut(), &inputs)));
    }
}

/// Equal values; NaN equals NaN, whatever its bits, and 0 equals −0.
fn same(a: &[Tensor], b: &[Tensor]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| match (a.to_f64(), b.to_f64()) {
            (Some(x), Some(y)) => {
                a.ty() == b.ty() && x.iter().zip(&y).all(|(x, y)| x == y || x.is_nan() && y.is_nan())
            }
            _ => a == b,
        })
}

#[test]
fn outputs_that_no_kernel_writes_are_copied() {
    let mut function = builder();
    let (x, flags) = (ordinary(1, DType::Fp32, &[3]), bools(2, &[3]));
    let (x_id, flags_id) = (function.input("x", x.ty()), function.input("flags", flags.ty()));
    let c = ordinary(3, DType::Fp32, &[3]);
    let c_id = function.constant("c", c.clone());
    let sum = function.bind("sum", AnyCall::named("add", [("x", x_id.into()), ("y", c_id.into())])).unwrap();
    let less =
        function.bind("less", AnyCall::named("less", [("x", x_id.into()), ("y", c_id.into())])).unwrap();
    let program = program(function.finish([x_id, c_id, sum, sum, flags_id, less, less]));
    let inputs = [&x, &flags];
    let expected = run(prepare(&reference(false), &program, &inputs).as_mut(), &inputs);
    let mut executable = prepare(&cpu(2), &program, &inputs);
    assert_eq!(run(executable.as_mut(), &inputs), expected);
    // Tensors of other types are replaced.
    let mut outputs: Vec<Tensor> = expected.iter().map(|_| Tensor::scalar(1i32)).collect();
    executable.run(&inputs, &mut outputs).unwrap();
    assert_eq!(outputs, expected);
    assert!(executable.run(&inputs, &mut outputs[..2]).is_err());
    assert!(executable.run(&inputs[..1], &mut outputs).is_err());
}

#[test]
fn constants_that_a_kernel_keeps_are_replaced_under_an_epilogue() {
    let dtype = DType::Fp32;
    let mut function = builder();
    let x = ordinary(1, dtype, &[3, 40]);
    let x_id = function.input("x", x.ty());
    let epsilon = function.constant("epsilon", Tensor::from_f64(dtype, &[], &[0.5]).unwrap());
    let normal = op(
        &mut function,
        "layer_norm",
        [("x", x_id.into()), ("axes", [1].into()), ("epsilon", epsilon.into())],
    );
    let y = op(&mut function, "relu", [("x", normal.into())]);
    let program = program(function.finish([y]));
    let mut executable = prepare(&cpu(2), &program, &[&x]);
    let mut expected = prepare(&reference(false), &program, &[&x]);
    let mut results = Vec::new();
    for value in [0.5, 8.0] {
        for executable in [&mut executable, &mut expected] {
            set_constant(executable.as_mut(), "epsilon", &Tensor::from_f64(dtype, &[], &[value]).unwrap());
        }
        let (actual, expected) = (run(executable.as_mut(), &[&x]), run(expected.as_mut(), &[&x]));
        let (actual, expected) = (actual[0].to_f64().unwrap(), expected[0].to_f64().unwrap());
        assert!(
            actual.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6),
            "{value}: {actual:?} {expected:?}"
        );
        results.push(actual);
    }
    assert_ne!(results[0], results[1]);
}

#[test]
fn constants_are_replaced_wherever_they_went() {
    let dtype = DType::Fp16;
    let mut function = builder();
    let x = ordinary(1, dtype, &[1, 8, 1, 5]);
    let x_id = function.input("x", x.ty());
    let weight = function.constant("weight", ordinary(2, dtype, &[7, 8, 1, 1]));
    let epsilon = function.constant("epsilon", Tensor::from_f64(dtype, &[], &[0.5]).unwrap());
    let logits = function
        .bind("logits", AnyCall::named("conv", [("x", x_id.into()), ("weight", weight.into())]))
        .unwrap();
    let positive = function.bind("positive", AnyCall::named("abs", [("x", logits.into())])).unwrap();
    let root = function
        .bind("root", AnyCall::named("rsqrt", [("x", positive.into()), ("epsilon", epsilon.into())]))
        .unwrap();
    let shape = function.constant("turned_shape", Tensor::vector(vec![7i32, 8]));
    let turned = function
        .bind("turned", AnyCall::named("reshape", [("x", weight.into()), ("shape", shape.into())]))
        .unwrap();
    let program = program(function.finish([logits, root, turned]));
    let mut expected = prepare(&reference(false), &program, &[&x]);
    let mut actual = prepare(&cpu(2), &program, &[&x]);
    let agree = |actual: &[Tensor], expected: &[Tensor]| {
        for (a, b) in actual.iter().zip(expected) {
            for (a, b) in a.to_f64().unwrap().into_iter().zip(b.to_f64().unwrap()) {
                assert!((a - b).abs() <= 0.01 * b.abs() + 0.001, "{a} {b}");
            }
        }
    };
    agree(&run(actual.as_mut(), &[&x]), &run(expected.as_mut(), &[&x]));
    for (name, value) in [
        ("weight", ordinary(9, dtype, &[7, 8, 1, 1])),
        ("epsilon", Tensor::from_f64(dtype, &[], &[7.0]).unwrap()),
    ] {
        set_constant(expected.as_mut(), name, &value);
        set_constant(actual.as_mut(), name, &value);
        agree(&run(actual.as_mut(), &[&x]), &run(expected.as_mut(), &[&x]));
    }
    assert_eq!(allocate_outputs(actual.as_ref()).unwrap()[0].shape(), [1, 7, 1, 5]);
    for executable in [&mut expected, &mut actual] {
        // What shapes the function is refused by its name; what is no constant, too.
        for (name, reason) in [("turned_shape", "shapes the prepared function"), ("logits", "no constant")] {
            let refused = executable.constant(name).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
        let weight = executable.constant("weight").unwrap();
        let before = run(executable.as_mut(), &[&x]);
        for ty in [(dtype, &[8, 7, 1, 1]), (DType::Fp32, &[7, 8, 1, 1])] {
            let refused = executable.set_constant(weight, Arc::new(ordinary(1, ty.0, ty.1))).unwrap_err();
            assert!(refused.to_string().contains("the constant `weight` is"), "{refused}");
        }
        assert_eq!(run(executable.as_mut(), &[&x]), before);
    }
    let handle = expected.constant("weight").unwrap();
    let refused = actual.set_constant(handle, Arc::new(ordinary(1, dtype, &[7, 8, 1, 1]))).unwrap_err();
    assert!(refused.to_string().contains("another prepared function"), "{refused}");
}

/// The end of a range says how many numbers it has; only one that leaves that as it is can replace it.
#[test]
fn a_constant_that_a_shape_was_inferred_from_keeps_the_shape() {
    let mut function = builder();
    let x = ordinary(1, DType::Fp32, &[4]);
    let x_id = function.input("x", x.ty());
    let end = function.constant("end", Tensor::scalar(4.0f32));
    let start = function.constant("start", Tensor::scalar(0.0f32));
    let step = function.constant("step", Tensor::scalar(1.0f32));
    let arguments = [("end", end.into()), ("start", start.into()), ("step", step.into())];
    let range = op(&mut function, "range_1d", arguments);
    let sum = op(&mut function, "add", [("x", x_id.into()), ("y", range.into())]);
    let program = program(function.finish([sum]));
    let runtimes: [Box<dyn Runtime>; 2] = [Box::new(cpu(1)), Box::new(reference(false))];
    for runtime in &runtimes {
        let mut executable = prepare(runtime.as_ref(), &program, &[&x]);
        let before = run(executable.as_mut(), &[&x]);
        let end = executable.constant("end").unwrap();
        let refused = executable.set_constant(end, Arc::new(Tensor::scalar(5.0f32))).unwrap_err();
        assert!(refused.to_string().contains("`end` shapes the prepared function"), "{refused}");
        executable.set_constant(end, Arc::new(Tensor::scalar(3.5f32))).unwrap();
        assert_eq!(run(executable.as_mut(), &[&x]), before, "{}", runtime.name());
    }
}

/// Replaced constants are the caller's tensors, as long as they are not replaced again.
#[test]
fn constants_are_shared_and_let_go() {
    let mut function = builder();
    let x = ordinary(1, DType::Fp32, &[5, 8]);
    let x_id = function.input("x", x.ty());
    let weight = function.constant("weight", ordinary(2, DType::Fp32, &[7, 8]));
    let y = function
        .bind("y", AnyCall::named("linear", [("x", x_id.into()), ("weight", weight.into())]))
        .unwrap();
    let program = program(function.finish([y]));
    let runtimes: [Box<dyn Runtime>; 2] = [Box::new(cpu(2)), Box::new(reference(false))];
    for runtime in &runtimes {
        let mut executable = prepare(runtime.as_ref(), &program, &[&x]);
        let constant = executable.constant("weight").unwrap();
        let [first, second] = [3, 4].map(|seed| Arc::new(ordinary(seed, DType::Fp32, &[7, 8])));
        executable.set_constant(constant, first.clone()).unwrap();
        let with_first = run(executable.as_mut(), &[&x]);
        assert_eq!(Arc::strong_count(&first), 2, "{}", runtime.name());
        executable.set_constant(constant, second.clone()).unwrap();
        assert_ne!(run(executable.as_mut(), &[&x]), with_first);
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 2), "{}", runtime.name());
        // A refused one is not kept.
        let other = Arc::new(ordinary(5, DType::Fp32, &[8, 7]));
        assert!(executable.set_constant(constant, other.clone()).is_err());
        assert_eq!((Arc::strong_count(&other), Arc::strong_count(&second)), (1, 2), "{}", runtime.name());
    }
}

/// Small whole numbers, whose products and sums no type rounds.
fn whole(seed: u64, dtype: DType, shape: &[usize]) -> Tensor {
    let values: Vec<f64> = ordinary(seed, dtype, shape).to_f64().unwrap().iter().map(|x| x.round()).collect();
    Tensor::from_f64(dtype, shape, &values).unwrap()
}

#[test]
fn products_are_finished_by_what_follows_them() {
    // High, wide and low (which is computed transposed), in batches, longer than a strip, and of one column.
    let sizes = [[1, 40, 7, 9], [1, 3, 11, 700], [2, 33, 5, 34], [3, 1, 8, 1]];
    for (path, dtype, [batch, m, k, n]) in paths().into_iter().flat_map(|path| {
        let dtypes = [DType::Fp16, DType::Fp32];
        dtypes.into_iter().flat_map(move |dtype| sizes.map(|size| (path, dtype, size)))
    }) {
        let shapes: [&[usize]; 5] = [&[batch, m, k], &[batch, k, n], &[m, 1], &[batch, m, n], &[n]];
        let inputs: Vec<Tensor> =
            shapes.iter().enumerate().map(|(i, shape)| whole(i as u64, dtype, shape)).collect();
        let mut function = builder();
        let ids: Vec<ValueId> = inputs
            .iter()
            .zip(["a", "b", "bias", "late", "scale"])
            .map(|(input, name)| function.input(name, input.ty()))
            .collect();
        let least = function.constant("least", Tensor::from_f64(dtype, &[], &[-3.0]).unwrap());
        let product = op(&mut function, "matmul", [("x", ids[0].into()), ("y", ids[1].into())]);
        let sum = op(&mut function, "add", [("x", product.into()), ("y", ids[2].into())]);
        let clipped = op(
            &mut function,
            "clip",
            [
                ("x", sum.into()),
                ("alpha", least.into()),
                ("beta", Tensor::from_f64(dtype, &[], &[9.5]).unwrap().into()),
            ],
        );
        // Made after the product, and read by what finishes it.
        let turned = op(&mut function, "transpose", [("x", ids[3].into()), ("perm", [0, 2, 1].into())]);
        let turned = op(&mut function, "transpose", [("x", turned.into()), ("perm", [0, 2, 1].into())]);
        let scaled = op(&mut function, "mul", [("x", clipped.into()), ("y", turned.into())]);
        let result = op(&mut function, "real_div", [("x", scaled.into()), ("y", ids[4].into())]);
        // Two that are read twice stand alone.
        let product = op(&mut function, "matmul", [("x", ids[0].into()), ("y", ids[1].into())]);
        let both = op(&mut function, "mul", [("x", product.into()), ("y", result.into())]);
        let program = program(function.finish([result, product, both]));
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let cpu = cpu_on(path, 2);
        let (mut actual, mut expected) =
            (prepare(&cpu, &program, &inputs), prepare(&reference(false), &program, &inputs));
        assert!(
            same(&run(actual.as_mut(), &inputs), &run(expected.as_mut(), &inputs)),
            "{path} {dtype:?} {m}"
        );
        for executable in [&mut actual, &mut expected] {
            set_constant(executable.as_mut(), "least", &Tensor::from_f64(dtype, &[], &[2.5]).unwrap());
        }
        assert!(
            same(&run(actual.as_mut(), &inputs), &run(expected.as_mut(), &inputs)),
            "{path} {dtype:?} {m}"
        );
    }
}

#[test]
fn softmax_takes_over_what_is_before_and_after_it() {
    for (dtype, relative, absolute) in [(DType::Fp16, 0.003, 1e-7), (DType::Fp32, 1e-6, 1e-12)] {
        let inputs = [ordinary(1, dtype, &[2, 700, 1, 70]), ordinary(2, dtype, &[1, 700, 1, 1])];
        let mut function = builder();
        let [x, scale] =
            [("x", &inputs[0]), ("scale", &inputs[1])].map(|(name, input)| function.input(name, input.ty()));
        let scaled = op(&mut function, "mul", [("x", x.into()), ("y", scale.into())]);
        let masked = op(&mut function, "add", [("x", scaled.into()), ("y", scale.into())]);
        let p = op(&mut function, "softmax", [("x", masked.into()), ("axis", 1.into())]);
        let result = op(&mut function, "mul", [("x", p.into()), ("y", x.into())]);
        let program = program(function.finish([result]));
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let expected = run(prepare(&reference(false), &program, &inputs).as_mut(), &inputs);
        for path in paths_without_products() {
            let actual = run(prepare(&cpu_on(path, 2), &program, &inputs).as_mut(), &inputs);
            let pairs = actual[0].to_f64().unwrap().into_iter().zip(expected[0].to_f64().unwrap());
            for (actual, expected) in pairs {
                let near = (actual - expected).abs() <= relative * expected.abs() + absolute;
                assert!(near, "{path} {dtype:?}: {actual:e} {expected:e}");
            }
        }
    }
}

#[test]
fn what_finishes_a_product_does_not_depend_on_threads() {
    for (path, m) in paths().into_iter().flat_map(|path| [20, 50].map(|m| (path, m))) {
        let mut right: Vec<f64> = (0..600).map(|i| f64::from(4097 + 2 * i)).collect();
        right[290] = 0.0;
        let inputs = [
            Tensor::from_f64(DType::Fp32, &[m, 1], &vec![1.0; m]).unwrap(),
            Tensor::from_f64(DType::Fp32, &[1, 600], &right).unwrap(),
        ];
        let mut function = builder();
        let [x, y] =
            [("x", &inputs[0]), ("y", &inputs[1])].map(|(name, input)| function.input(name, input.ty()));
        let product = op(&mut function, "matmul", [("x", x.into()), ("y", y.into())]);
        let power = op(&mut function, "pow", [("x", product.into()), ("y", 2.0.into())]);
        let program = program(function.finish([power]));
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let results = [1, 2, 3, 7]
            .map(|threads| run(prepare(&cpu_on(path, threads), &program, &inputs).as_mut(), &inputs));
        assert!(results.iter().all(|result| result == &results[0]), "{path}, {m} rows");
    }
}

#[test]
fn taps_far_apart_need_no_padded_copy() {
    const FAR: i32 = 1 << 22;
    for dtype in [DType::Fp16, DType::Fp32] {
        let mut function = builder();
        let input = ordinary(1, dtype, &[1, 3, 5, 5]);
        let x = function.input("x", input.ty());
        let weight = function.constant("w", ordinary(2, dtype, &[3, 1, 3, 3]));
        let parameters = [
            ("x", x.into()),
            ("weight", weight.into()),
            ("groups", 3.into()),
            ("pad_type", "custom".into()),
            ("pad", [FAR; 4].into()),
            ("dilations", [FAR; 2].into()),
        ];
        let y = op(&mut function, "conv", parameters);
        let program = program(function.finish([y]));
        // Only the middle tap meets the image, so there is one product in each sum, rounded once.
        let expected = run(prepare(&reference(false), &program, &[&input]).as_mut(), &[&input]);
        let actual = run(prepare(&cpu(2), &program, &[&input]).as_mut(), &[&input]);
        let pairs = actual[0].to_f64().unwrap().into_iter().zip(expected[0].to_f64().unwrap());
        for (actual, expected) in pairs {
            assert!((actual - expected).abs() <= 1e-3 * expected.abs(), "{dtype:?}: {actual} {expected}");
        }
    }
}
