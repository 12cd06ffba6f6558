//! Cases of ops on single elements, pairs of elements, and along axes.

use anemone_mil::builder::BuildError;
use anemone_mil::ops::call;
use anemone_mil::program::ValueId;
use anemone_mil::types::DType;

use super::case::{Case, Maker, Random};

/// A case of an op on single elements: `$values` gives those of `x`.
macro_rules! of_elements {
    ($op:ident, $values:expr) => {
        (stringify!($op), |case| {
            let dims = case.dims_between(0, 3);
            let x = case.input_of(&dims, $values);
            case.bind(call::$op(x))
        })
    };
    ($op:ident, $values:expr, $mark:ident) => {
        (stringify!($op), |case| {
            case.$mark();
            let dims = case.dims_between(0, 3);
            let x = case.input_of(&dims, $values);
            case.bind(call::$op(x))
        })
    };
}

/// A case of an op on single elements with an epsilon, given or not.
macro_rules! of_shifted_elements {
    ($op:ident) => {
        (stringify!($op), |case| {
            let dims = case.dims_between(0, 3);
            let x = case.input_of(&dims, positive);
            let op = call::$op(x);
            let epsilon = case.pick(&[None, Some(0.0), Some(0.25)]);
            case.bind(match epsilon {
                Some(epsilon) => op.epsilon(epsilon),
                None => op,
            })
        })
    };
}

/// A case of an op on pairs of elements that broadcast, in any pair of values.
macro_rules! of_pairs {
    ($op:ident) => {
        (stringify!($op), |case| {
            let (x, y) = case.broadcast_dims();
            let (x, y) = (case.input(&x), case.input(&y));
            case.bind(call::$op(x, y))
        })
    };
}

/// A case of an op with kinks where `x = y`: pairs are equal or far from that.
macro_rules! of_compared_pairs {
    ($op:ident) => {
        (stringify!($op), |case| {
            case.kinked();
            let (x, y) = case.broadcast_dims();
            let (x, y) = (case.input_of(&x, coarse), case.input_of(&y, coarse));
            case.bind(call::$op(x, y))
        })
    };
}

/// Cases of a reduction over given axes and over all, with values that no two of are near each other.
macro_rules! of_axes {
    ($op:ident $(, $mark:ident)?) => {
        (stringify!($op), |case| {
            $(case.$mark();)?
            let dims = case.dims_between(0, 4);
            let (x, keep) = (case.distinct_input(&dims, 0.0625), case.coin());
            let op = call::$op(x).keep_dims(keep);
            if dims.is_empty() || case.coin() {
                return case.bind(op);
            }
            let axes = case.axes(dims.len());
            case.bind(op.axes(axes))
        })
    };
}

/// As `of_axes`, of `$values`.
macro_rules! of_axes_clear_of_zero {
    ($op:ident, $values:expr) => {
        (stringify!($op), |case| {
            let dims = case.dims_between(0, 4);
            let (x, keep) = (case.input_of(&dims, $values), case.coin());
            let op = call::$op(x).keep_dims(keep);
            if dims.is_empty() || case.coin() {
                return case.bind(op);
            }
            let axes = case.axes(dims.len());
            case.bind(op.axes(axes))
        })
    };
}

fn positive(random: &mut Random) -> f64 {
    random.between(0.5, 2.0)
}

fn coarse(random: &mut Random) -> f64 {
    0.25 * (random.below(17) as f64 - 8.0)
}

/// Clear of whole numbers and of the halves between them.
fn between_steps(random: &mut Random) -> f64 {
    random.below(7) as f64 - 3.0 + random.between(0.125, 0.375)
}

/// The cases, several for some ops.
pub const CASES: &[(&str, Maker)] = &[
    of_pairs!(add),
    of_pairs!(sub),
    of_pairs!(mul),
    of_pairs!(real_div),
    ("mul", |case| {
        let (x, y) = case.broadcast_dims();
        let (x, y) = (case.input(&x), case.constant(&y));
        case.bind(call::mul(x, y))
    }),
    ("mul", |case| {
        let dims = case.dims_between(0, 3);
        let x = case.input(&dims);
        case.bind(call::mul(x, x))
    }),
    ("floor_div", |case| {
        case.kinked();
        let (x, y) = case.broadcast_dims();
        // The quotient is 2 and a half or more, or as far below 0, and clear of whole numbers.
        let (x, y) = (
            case.input_of(&x, |_| 2.5),
            case.input_of(&y, |random| if random.below(2) == 0 { 1.0 } else { -1.0 }),
        );
        case.bind(call::floor_div(x, y))
    }),
    of_compared_pairs!(maximum),
    of_compared_pairs!(minimum),
    ("pow", |case| {
        let (x, y) = case.broadcast_dims();
        let (x, y) = (case.input_of(&x, positive), case.input(&y));
        case.bind(call::pow(x, y))
    }),
    ("pow", |case| {
        // Whole exponents: the base may be negative, and 0 where the power is a polynomial.
        let (x, y) = case.broadcast_dims();
        let x = case.input_of(&x, coarse);
        let count = y.iter().product();
        let exponents: Vec<f64> = (0..count).map(|_| case.random.below(4) as f64).collect();
        let exponents = anemone_mil::tensor::Tensor::from_f64(case.dtype, &y, &exponents).unwrap();
        case.bind(call::pow(x, exponents))
    }),
    of_compared_pairs!(equal),
    of_compared_pairs!(not_equal),
    of_compared_pairs!(less),
    of_compared_pairs!(less_equal),
    of_compared_pairs!(greater),
    of_compared_pairs!(greater_equal),
    ("select", |case| {
        let ((cond, a), b) = (case.broadcast_dims(), case.dims(0));
        let b = if case.coin() { a.clone() } else { b };
        let (cond, a, b) = (case.bool_input(&cond), case.input(&a), case.input(&b));
        case.bind(call::select(cond, a, b))
    }),
    ("identity", |case| {
        let dims = case.dims_between(0, 3);
        let x = case.input(&dims);
        case.bind(call::identity(x))
    }),
    ("cast", |case| {
        let dims = case.dims_between(0, 3);
        let (x, dtype) = (case.input(&dims), case.pick(&[DType::Fp16, DType::Fp32]));
        case.bind(call::cast(x, dtype.name()))
    }),
    ("cast", |case| {
        case.kinked();
        let dims = case.dims_between(0, 3);
        let x = case.input_of(&dims, between_steps);
        let whole = call::cast(call::cast(x, "int32"), case.dtype.name());
        case.bind(call::mul(whole, x))
    }),
    ("cast", |case| {
        let dims = case.dims_between(0, 3);
        let (n, x) = (case.int_input(&dims, 9), case.input(&dims));
        case.bind(call::mul(call::cast(n, case.dtype.name()), x))
    }),
    of_elements!(abs, Random::signed, kinked),
    of_elements!(sign, Random::signed, kinked),
    of_elements!(square, Random::signed),
    of_elements!(sqrt, positive),
    of_shifted_elements!(rsqrt),
    of_shifted_elements!(inverse),
    of_shifted_elements!(log),
    of_elements!(exp, Random::signed),
    of_elements!(exp2, Random::signed, has_rounded_factors),
    of_elements!(sin, Random::signed),
    of_elements!(cos, Random::signed),
    of_elements!(sinh, Random::signed),
    of_elements!(cosh, Random::signed),
    of_elements!(erf, Random::signed, has_rounded_factors),
    of_elements!(floor, between_steps, kinked),
    of_elements!(ceil, between_steps, kinked),
    of_elements!(round, between_steps, kinked),
    ("clip", |case| {
        case.kinked();
        let dims = case.dims_between(0, 3);
        let x = case.distinct_input(&dims, 0.125);
        case.bind(call::clip(x, -0.5, 1.0))
    }),
    of_elements!(relu, Random::signed, kinked),
    of_elements!(tanh, Random::signed),
    of_elements!(sigmoid, Random::signed),
    of_elements!(silu, Random::signed),
    of_elements!(softplus, Random::signed),
    ("silu", |case| {
        let dims = case.dims_between(0, 3);
        let x = case.input_between(&dims, -7.5, 7.5);
        case.bind(call::silu(x))
    }),
    ("gelu", |case| {
        case.has_rounded_factors();
        let dims = case.dims_between(0, 3);
        let x = case.input(&dims);
        let mode = case.pick(&["", "EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"]);
        let op = call::gelu(x);
        case.bind(if mode.is_empty() { op } else { op.mode(mode) })
    }),
    of_axes!(reduce_sum),
    of_axes!(reduce_mean),
    of_axes!(reduce_max, kinked),
    of_axes!(reduce_min, kinked),
    of_axes!(reduce_prod),
    of_axes!(reduce_log_sum_exp),
    of_axes!(reduce_sum_square),
    of_axes!(reduce_l1_norm, kinked),
    of_axes_clear_of_zero!(reduce_l2_norm, Random::signed),
    of_axes_clear_of_zero!(reduce_log_sum, positive),
    ("reduce_max", |case| {
        // Pairs of equal elements.
        case.kinked();
        let mut dims = case.dims_between(0, 3);
        let half = case.distinct_input(&dims, 0.125);
        dims.push(2);
        let both = call::stack([half, half], -1);
        case.bind(call::reduce_max(both).axes([-1]))
    }),
    ("reduce_prod", |case| {
        // Rows with one zero, and with several.
        let zeros = 1 + case.random.below(3);
        let x = case.input_of(&[2, 5], {
            let mut at = 0;
            move |random| {
                at += 1;
                if at % 5 < zeros { 0.0 } else { random.signed() }
            }
        });
        case.bind(call::reduce_prod(x).axes([1]))
    }),
    ("reduce_argmax", |case| {
        let dims = case.dims_between(1, 3);
        let (x, keep) = (case.distinct_input(&dims, 0.125), case.coin());
        case.bind(call::reduce_argmax(x).keep_dims(keep))
    }),
    ("reduce_argmin", |case| {
        let dims = case.dims_between(1, 3);
        let (x, keep) = (case.distinct_input(&dims, 0.125), case.coin());
        case.bind(call::reduce_argmin(x).keep_dims(keep))
    }),
    ("softmax", |case| {
        let dims = case.dims_between(1, 4);
        let (x, axis) = (case.input(&dims), case.random.below(dims.len()) as i32);
        let axis = if case.coin() { axis } else { axis - dims.len() as i32 };
        case.bind(call::softmax(x).axis(axis))
    }),
    ("layer_norm", layer_norm),
    ("batch_norm", batch_norm),
    ("instance_norm", instance_norm),
    ("l2_norm", |case| {
        let dims = case.dims_between(3, 5);
        let op = call::l2_norm(case.input(&dims));
        let op = if case.coin() { op.epsilon(0.5) } else { op };
        case.bind(op)
    }),
    ("local_response_norm", |case| {
        let mut dims = case.dims_between(3, 4);
        dims[1] += 2;
        let (x, size) = (case.input(&dims), 1 + case.random.below(6) as i32);
        let op = call::local_response_norm(x, size);
        let op = if case.coin() { op.alpha(0.75).beta(1.5).k(0.5) } else { op };
        case.bind(op)
    }),
];

fn instance_norm(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let mut dims = case.dims_between(3, 4);
    dims[2] += 1;
    let x = case.distinct_input(&dims, 0.25);
    let mut op = call::instance_norm(x);
    let (dtype, channels) = (case.parameter_dtype(), [dims[1]]);
    if case.coin() {
        op = op.gamma(case.constant_of(dtype, &channels, Random::signed));
    }
    if case.coin() {
        op = op.beta(case.constant_of(dtype, &channels, Random::signed));
    }
    if case.coin() {
        op = op.epsilon(0.5);
    }
    case.bind(op)
}

fn layer_norm(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let dims = case.dims_between(1, 4);
    let x = case.distinct_input(&dims, 0.25);
    let mut op = call::layer_norm(x);
    let mut normalized = dims.clone();
    if case.coin() {
        let axes = case.axes(dims.len());
        let rank = dims.len() as i32;
        let has = |axis: i32| axes.contains(&axis) || axes.contains(&(axis - rank));
        normalized = (0..rank).filter(|&axis| has(axis)).map(|axis| dims[axis as usize]).collect();
        op = op.axes(axes);
    }
    let dtype = case.parameter_dtype();
    if case.coin() {
        op = op.gamma(case.constant_of(dtype, &normalized, Random::signed));
    }
    if case.coin() {
        op = op.beta(case.constant_of(dtype, &normalized, Random::signed));
    }
    if case.coin() {
        op = op.epsilon(0.5);
    }
    case.bind(op)
}

fn batch_norm(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let dims = case.dims_between(3, 5);
    let x = case.input(&dims);
    let (dtype, channels) = (case.parameter_dtype(), [dims[1]]);
    let mean = case.constant_of(dtype, &channels, Random::signed);
    let variance = case.constant_of(dtype, &channels, positive);
    let mut op = call::batch_norm(x, mean, variance);
    if case.coin() {
        op = op.gamma(case.constant_of(dtype, &channels, Random::signed));
    }
    if case.coin() {
        op = op.beta(case.constant_of(dtype, &channels, Random::signed));
    }
    if case.coin() {
        op = op.epsilon(0.5);
    }
    case.bind(op)
}
