//! Every kernel against the reference, over awkward shapes and special values.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use common::{Case, bools, float, integers, length, ordinary, special};
use proptest::prelude::*;
use proptest::sample::select;

/// Two shapes that broadcast together.
fn broadcasting() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    let dims = proptest::collection::vec((length(), 0..4usize), 0..4usize);
    (dims, 0..3usize).prop_map(|(dims, dropped)| {
        let x = dims.iter().map(|&(length, which)| if which == 0 { 1 } else { length }).collect();
        let y: Vec<usize> = dims.iter().map(|&(length, which)| if which == 1 { 1 } else { length }).collect();
        let dropped = dropped.min(y.len());
        (x, y[dropped..].to_vec())
    })
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(length(), 1..4usize)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn binary(seed: u64, dtype in float(), shapes in broadcasting(), constant: [bool; 2],
              op in select(vec!["add", "sub", "mul", "real_div", "floor_div", "mod", "maximum", "minimum", "pow",
                                "equal", "not_equal", "less", "less_equal", "greater", "greater_equal"])) {
        let (x, y) = (special(seed, dtype, &shapes.0), special(seed ^ 1, dtype, &shapes.1));
        Case::new(op, vec![("x", x), ("y", y)]).constants(&constant).check()?;
    }

    #[test]
    fn inverse_roots_as_powers(seed: u64, dtype in float(), shape in shape()) {
        let y = Tensor::from_f64(dtype, &[], &[-0.5]).unwrap();
        let case = Case::new("pow", vec![("x", special(seed, dtype, &shape)), ("y", y)]);
        case.constants(&[false, true]).check()?;
    }

    #[test]
    fn selection(seed: u64, dtype in float(), shapes in broadcasting(), whole: bool) {
        let (a, b) = (special(seed, dtype, &shapes.0), special(seed ^ 1, dtype, &shapes.1));
        let cond = bools(seed, if whole { &shapes.0 } else { &[] });
        Case::new("select", vec![("cond", cond), ("a", a), ("b", b)]).check()?;
    }

    #[test]
    fn unary(seed: u64, dtype in float(), shape in shape(),
             op in select(vec!["abs", "sign", "square", "sqrt", "rsqrt", "inverse", "log", "exp", "exp2",
                               "erf", "floor", "ceil", "round", "relu", "tanh", "sigmoid", "silu",
                               "softplus", "gelu", "relu6", "softsign", "acos", "asin", "atan", "atanh"])) {
        Case::new(op, vec![("x", special(seed, dtype, &shape))]).check()?;
    }

    #[test]
    fn periodic(seed: u64, dtype in float(), shape in shape(), op in select(vec!["sin", "cos", "tan"])) {
        Case::new(op, vec![("x", ordinary(seed, dtype, &shape))]).check()?;
    }

    #[test]
    fn unary_with_parameters(seed: u64, dtype in float(), shape in shape(), epsilon in 0.0..2.0f64,
                             which in 0..6usize) {
        let x = special(seed, dtype, &shape);
        let scalar = |value| Tensor::from_f64(dtype, &[], &[value]).unwrap();
        let mode = |name: &str| Tensor::scalar(name.to_string());
        let case = match which {
            0 => Case::new("rsqrt", vec![("x", x)]).with("epsilon", scalar(epsilon)),
            1 => Case::new("log", vec![("x", x)]).with("epsilon", scalar(epsilon)),
            2 => Case::new("inverse", vec![("x", x)]).with("epsilon", scalar(epsilon)),
            3 => Case::new("clip", vec![("x", x)])
                .with("alpha", scalar(-epsilon)).with("beta", scalar(epsilon + 0.5)),
            4 => Case::new("gelu", vec![("x", x)]).with("mode", mode("TANH_APPROXIMATION")),
            _ => Case::new("gelu", vec![("x", x)]).with("mode", mode("SIGMOID_APPROXIMATION")),
        };
        case.check()?;
    }

    #[test]
    fn rectifiers(seed: u64, dtype in float(), shape in shape(), alpha in -2.0..2.0f64, beta in -2.0..2.0f64,
                  op in select(vec!["elu", "leaky_relu", "linear_activation", "clamped_relu", "scaled_tanh",
                                    "sigmoid_hard", "threshold", "thresholded_relu"])) {
        let scalar = |value| Tensor::from_f64(dtype, &[], &[value]).unwrap();
        let mut case = Case::new(op, vec![("x", special(seed, dtype, &shape))]).with("alpha", scalar(alpha));
        if ["linear_activation", "clamped_relu", "scaled_tanh", "sigmoid_hard"].contains(&op) {
            case = case.with("beta", scalar(beta));
        }
        case.check()?;
    }

    #[test]
    fn slopes_of_channels(seed: u64, dtypes in (float(), float()), dims: [u8; 4]) {
        let shape = dims.map(|length| 1 + usize::from(length) % 19);
        let alpha = ordinary(seed ^ 1, dtypes.1, &shape[1..2]);
        Case::new("prelu", vec![("x", special(seed, dtypes.0, &shape))]).with("alpha", alpha).check()?;
    }

    #[test]
    fn softmax(seed: u64, dtype in float(), shape in shape(), axis in 0..3i32, back: bool, specials: bool,
               scale in 0..7i32) {
        let rank = shape.len() as i32;
        let axis = axis % rank - if back { rank } else { 0 };
        let x = if specials { special(seed, dtype, &shape) } else { ordinary(seed, dtype, &shape) };
        let factor = 2f64.powi(scale);
        let values: Vec<f64> = x.to_f64().unwrap().into_iter().map(|value| value * factor).collect();
        let x = Tensor::from_f64(dtype, &shape, &values).unwrap();
        Case::new("softmax", vec![("x", x)]).with("axis", Tensor::scalar(axis)).check()?;
    }

    #[test]
    fn masked_softmax(seed: u64, dtype in float(), rows in 1..150usize, inner in 1..40usize,
                      masked in 0..150usize, last: bool) {
        let shape = [rows, inner];
        let mut values = ordinary(seed, dtype, &shape).to_f64().unwrap();
        // Whole runs, before what is not masked or after it; of some columns, all.
        let masked = masked.min(rows);
        let run = if last { rows - masked..rows } else { 0..masked };
        values[run.start * inner..run.end * inner].fill(f64::NEG_INFINITY);
        values.iter_mut().step_by(inner).for_each(|value| *value = f64::NEG_INFINITY);
        let x = Tensor::from_f64(dtype, &shape, &values).unwrap();
        Case::new("softmax", vec![("x", x)]).with("axis", Tensor::scalar(0i32)).check()?;
    }

    #[test]
    fn reductions(seed: u64, dtype in float(), shape in shape(), reduced: [bool; 3], keep: bool, all: bool,
                  specials: bool,
                  op in select(vec!["reduce_sum", "reduce_mean", "reduce_max", "reduce_min",
                                    "reduce_sum_square"])) {
        let exact = op == "reduce_max" || op == "reduce_min";
        let x = if specials && exact { special(seed, dtype, &shape) } else { ordinary(seed, dtype, &shape) };
        let axes: Vec<i32> = (0..shape.len()).filter(|&i| reduced[i]).map(|i| i as i32).collect();
        let empty = (0..shape.len()).any(|i| (all || reduced[i]) && shape[i] == 0);
        prop_assume!(!(empty && exact) && (all || !axes.is_empty()));
        let mut case = Case::new(op, vec![("x", x)]).with("keep_dims", Tensor::scalar(keep));
        if !all {
            case = case.with("axes", Tensor::vector(axes));
        }
        case.check()?;
    }

    #[test]
    fn transposes(seed: u64, dtype in float(), shape in shape(), turn in 0..6usize) {
        let orders: [&[i32]; 6] = [&[0, 1, 2], &[0, 2, 1], &[1, 0, 2], &[1, 2, 0], &[2, 0, 1], &[2, 1, 0]];
        let perm: Vec<i32> = orders[turn].iter().copied().filter(|&i| (i as usize) < shape.len()).collect();
        for x in [special(seed, dtype, &shape), integers(seed, &shape), bools(seed, &shape)] {
            Case::new("transpose", vec![("x", x)]).with("perm", Tensor::vector(perm.clone())).check()?;
        }
    }

    #[test]
    fn squares_and_channels(seed: u64, dtype in float(), n in 1..3usize, c in 1..5usize, h in 1..12usize,
                            w in 1..40usize, side in 2..5usize) {
        let planes = special(seed, dtype, &[n, c * side * side, h, w]);
        let plane = special(seed, dtype, &[n, c, h * side, w * side]);
        let factor = || Tensor::scalar(side as i32);
        Case::new("pixel_shuffle", vec![("x", planes.clone())]).with("upscale_factor", factor()).check()?;
        Case::new("depth_to_space", vec![("x", planes)]).with("block_size", factor()).check()?;
        Case::new("space_to_depth", vec![("x", plane.clone())]).with("block_size", factor()).check()?;
        let factor = Tensor::scalar(side as u32);
        Case::new("pixel_unshuffle", vec![("x", plane)]).with("downscale_factor", factor).check()?;
    }

    #[test]
    fn repeats_and_turns(seed: u64, dtype in float(), shape in shape(), axes: [bool; 3], reps: [u8; 3]) {
        let axes: Vec<i32> = (0..shape.len()).filter(|&i| axes[i]).map(|i| i as i32).collect();
        let reps: Vec<i32> = shape.iter().zip(reps).map(|(_, times)| 1 + i32::from(times % 4)).collect();
        for x in [special(seed, dtype, &shape), integers(seed, &shape), bools(seed, &shape)] {
            Case::new("tile", vec![("x", x.clone())]).with("reps", Tensor::vector(reps.clone())).check()?;
            Case::new("reverse", vec![("x", x)]).with("axes", Tensor::vector(axes.clone())).check()?;
        }
    }

    #[test]
    fn cuts_and_borders(seed: u64, dtype in float(), shape: [u8; 4], amounts: [u8; 4], rank in 3..5usize,
                        mode in select(vec!["constant", "reflect", "replicate"]), given: bool) {
        let shape: Vec<usize> = shape[..rank].iter().map(|length| 1 + usize::from(length % 21)).collect();
        let x = special(seed, dtype, &shape);
        let (height, width) = (shape[rank - 2], shape[rank - 1]);
        let most = |amount: u8, length: usize| (usize::from(amount) % (length + 1)) as i32;
        let rows = [most(amounts[0], height / 2), most(amounts[1], height / 2)];
        let columns = [most(amounts[2], width / 2), most(amounts[3], width / 2)];
        let cut = Case::new("crop", vec![("x", x.clone())]);
        let cut = cut.with("crop_height", Tensor::vector(rows.to_vec()));
        cut.with("crop_width", Tensor::vector(columns.to_vec())).check()?;

        let least = usize::from(mode == "reflect");
        let around = |amount: u8, length: usize| most(amount, if mode == "constant" { 9 } else { length - least });
        let pad = vec![around(amounts[0], height), around(amounts[1], height), around(amounts[2], width),
                       around(amounts[3], width)];
        let mut case = Case::new("pad", vec![("x", x)]).with("mode", Tensor::scalar(mode.to_string()));
        if given {
            case = case.with("constant_val", Tensor::from_f64(dtype, &[], &[-1.5]).unwrap());
        }
        case.with("pad", Tensor::vector(pad)).check()?;
    }

    #[test]
    fn resized_planes(seed: u64, dtype in float(), outer in 1..5usize, from: [u8; 2], to: [u8; 2], corners: bool,
                      op in select(vec!["upsample_nearest_neighbor", "upsample_bilinear", "resize_nearest_neighbor",
                                        "resize_bilinear", "resize"]),
                      mode in select(vec!["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS",
                                          "UNALIGN_CORNERS"])) {
        let [from, to] = [from, to].map(|lengths| lengths.map(|length| 1 + usize::from(length % 60)));
        let shape = [outer, from[0], from[1]];
        let nearest = op.ends_with("neighbor");
        let x = if nearest { special(seed, dtype, &shape) } else { ordinary(seed, dtype, &shape) };
        let case = Case::new(op, vec![("x", x)]);
        let mode = Tensor::scalar(mode.to_string());
        let scalar = |length: usize| Tensor::scalar(length as i32);
        let case = match op {
            "upsample_nearest_neighbor" | "upsample_bilinear" => {
                let scales = [to[0] % 4 + 1, to[1] % 5 + 1];
                let case = case.with("scale_factor_height", scalar(scales[0]));
                let case = case.with("scale_factor_width", scalar(scales[1]));
                if nearest { case } else { case.with("align_corners", Tensor::scalar(corners)) }
            }
            "resize" => {
                let (shape, count) = (Tensor::vector(vec![to[0] as i32, to[1] as i32]), 1 + u32::from(corners));
                case.with("shape", shape).with("resized_dims", Tensor::scalar(count)).with("sampling_mode", mode)
            }
            _ => {
                let case = case.with("target_size_height", scalar(to[0])).with("target_size_width", scalar(to[1]));
                if nearest { case } else { case.with("sampling_mode", mode) }
            }
        };
        case.check()?;
    }

    #[test]
    fn casts(seed: u64, shape in shape(), from in 0..4usize,
             to in select(vec!["fp16", "fp32", "int32", "bool"])) {
        let x = match from {
            0 => special(seed, DType::Fp16, &shape),
            1 => special(seed, DType::Fp32, &shape),
            2 => integers(seed, &shape),
            _ => bools(seed, &shape),
        };
        Case::new("cast", vec![("x", x)]).with("dtype", Tensor::scalar(to.to_string())).check()?;
    }
}

#[test]
fn large_tensors_are_shared_among_threads() {
    let dtype = DType::Fp16;
    let shapes: [(&[usize], &[usize]); 4] = [
        (&[70_001], &[70_001]),
        (&[1, 300, 1, 257], &[1, 300, 1, 1]),
        (&[1, 300, 1, 257], &[1, 1, 1, 257]),
        (&[70_001], &[]),
    ];
    for (x, y) in shapes {
        let (x, y) = (special(3, dtype, x), special(4, dtype, y));
        for op in ["add", "less", "pow"] {
            Case::new(op, vec![("x", x.clone()), ("y", y.clone())]).check().unwrap();
        }
    }
    let x = ordinary(5, dtype, &[1, 1000, 1, 70]);
    for (axis, op) in [(1, "reduce_sum"), (3, "reduce_sum"), (1, "reduce_max"), (3, "reduce_mean")] {
        let case = Case::new(op, vec![("x", x.clone())]).with("axes", Tensor::vector(vec![axis]));
        case.check().unwrap();
    }
    for axis in [1, 3] {
        for dtype in [DType::Fp16, DType::Fp32] {
            let x = ordinary(6, dtype, &[2, 700, 1, 70]);
            Case::new("softmax", vec![("x", x)]).with("axis", Tensor::scalar(axis)).check().unwrap();
        }
    }
    let x = integers(7, &[300, 301]);
    Case::new("transpose", vec![("x", x)]).with("perm", Tensor::vector(vec![1, 0])).check().unwrap();
}
