//! Cases of activations with parameters, and of inverses of trigonometric functions.

use anemone_mil::builder::{AnyCall, BuildError};
use anemone_mil::ops::call;
use anemone_mil::program::ValueId;

use super::case::{Case, Maker, Random};

/// The cases, several for some ops.
pub const CASES: &[(&str, Maker)] = &[
    ("elu", |case| {
        // With alpha = 1 there is a slope at 0 too, but none of it.
        case.kinked();
        let alpha = case.pick(&[1.0, 0.375, -1.5]);
        of_elements(case, |x| call::elu(x, alpha).into())
    }),
    ("leaky_relu", |case| {
        case.kinked();
        let alpha = case.pick(&[0.125, 1.5, -0.5]);
        of_elements(case, |x| call::leaky_relu(x, alpha).into())
    }),
    ("linear_activation", |case| {
        let (alpha, beta) = case.pick(&[(0.625, -1.25), (-3.0, 0.5)]);
        of_elements(case, |x| call::linear_activation(x, alpha, beta).into())
    }),
    ("clamped_relu", |case| {
        case.kinked();
        // Clear of 0, and of where 2x and −0.75x reach what clamps them.
        let (alpha, beta) = case.pick(&[(0.125, 0.0625), (2.0, 0.0625), (-0.75, 0.0625), (0.5, 4.0)]);
        of_elements(case, |x| call::clamped_relu(x, alpha, beta).into())
    }),
    ("relu6", |case| {
        case.kinked();
        let dims = case.dims_between(0, 3);
        let x = case.input_of(&dims, |random| random.signed() + [0.0, 6.0][random.below(2)] - 0.0625);
        case.bind(call::relu6(x))
    }),
    ("scaled_tanh", |case| {
        let (alpha, beta) = case.pick(&[(1.75, 0.625), (-0.5, 1.5)]);
        of_elements(case, |x| call::scaled_tanh(x, alpha, beta).into())
    }),
    ("sigmoid_hard", |case| {
        case.kinked();
        // It is clamped from ±0.0625 on, or beyond all of x.
        let (alpha, beta) = case.pick(&[(8.0, 0.5), (-8.0, 0.5), (0.125, 0.5)]);
        of_elements(case, |x| call::sigmoid_hard(x, alpha, beta).into())
    }),
    ("softsign", |case| of_elements(case, |x| call::softsign(x).into())),
    ("threshold", |case| {
        case.kinked();
        let dims = case.dims_between(0, 3);
        let x = case.input_of(&dims, Random::signed);
        let alpha = case.constant_of(case.dtype, &[], |random| 0.0625 - 0.125 * random.below(2) as f64);
        case.bind(call::threshold(x, alpha))
    }),
    ("thresholded_relu", |case| {
        case.kinked();
        let alpha = case.pick(&[0.0625, -0.0625, 0.0]);
        of_elements(case, |x| call::thresholded_relu(x, alpha).into())
    }),
    ("prelu", |case| {
        case.kinked();
        let mut dims = case.dims_between(3, 5);
        // Of another rank all channels have one slope, which is then differentiated by where there is one channel.
        if dims.len() != 4 {
            dims[1] = 1;
        }
        let dtype = case.parameter_dtype();
        let (x, alpha) = (case.input(&dims), case.constant_of(dtype, &dims[1..2], Random::signed));
        case.bind(call::prelu(x, alpha))
    }),
    ("softplus_parametric", |case| {
        let dims = case.dims_between(3, 5);
        let (dtype, channels) = (case.parameter_dtype(), [dims[1]]);
        let x = case.input(&dims);
        let alpha = case.constant_of(dtype, &channels, Random::signed);
        let beta = case.constant_of(dtype, &channels, Random::signed);
        case.bind(call::softplus_parametric(x, alpha, beta))
    }),
    ("tan", |case| of_elements_between(case, -1.25, 1.25, |x| call::tan(x).into())),
    ("acos", |case| of_elements_between(case, -0.75, 0.75, |x| call::acos(x).into())),
    ("asin", |case| of_elements_between(case, -0.75, 0.75, |x| call::asin(x).into())),
    ("atan", |case| of_elements(case, |x| call::atan(x).into())),
    ("atanh", |case| of_elements_between(case, -0.75, 0.75, |x| call::atanh(x).into())),
    ("mod", |case| {
        case.kinked();
        let (x, y) = case.broadcast_dims();
        // The quotient is 2 and a half or more, or as far below 0, and clear of whole numbers.
        let (x, y) = (
            case.input_of(&x, |random| random.between(2.375, 2.625)),
            case.input_of(&y, |random| if random.below(2) == 0 { 1.0 } else { -1.0 }),
        );
        case.bind(call::r#mod(x, y))
    }),
];

/// A case of an op on single elements between two numbers.
fn of_elements_between(
    case: &mut Case,
    least: f64,
    most: f64,
    op: impl Fn(ValueId) -> AnyCall,
) -> Result<Vec<ValueId>, BuildError> {
    let dims = case.dims_between(0, 3);
    let x = case.input_between(&dims, least, most);
    case.bind(op(x))
}

/// A case of an op on single elements that keep clear of 0.
fn of_elements(case: &mut Case, op: impl Fn(ValueId) -> AnyCall) -> Result<Vec<ValueId>, BuildError> {
    let dims = case.dims_between(0, 3);
    let x = case.input(&dims);
    case.bind(op(x))
}
