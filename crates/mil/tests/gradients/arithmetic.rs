//! Cases of ops on single elements, pairs of elements, and along axes.

use anemone_mil::ops::call;

use super::case::Maker;

/// The cases, several for some ops.
pub const CASES: &[(&str, Maker)] = &[
    ("add", |case| {
        let (x, y) = case.broadcast_dims();
        let (x, y) = (case.input(&x), case.input(&y));
        case.bind(call::add(x, y))
    }),
    ("sub", |case| {
        let (x, y) = case.broadcast_dims();
        let (x, y) = (case.input(&x), case.input(&y));
        case.bind(call::sub(x, y))
    }),
    ("mul", |case| {
        let (x, y) = case.broadcast_dims();
        let (x, y) = (case.input(&x), case.constant(&y));
        case.bind(call::mul(x, y))
    }),
    ("identity", |case| {
        let dims = case.dims_between(0, 3);
        let x = case.input(&dims);
        case.bind(call::identity(x))
    }),
    ("reduce_sum", |case| {
        let dims = case.dims_between(1, 4);
        let (x, axes, keep) = (case.input(&dims), case.axes(dims.len()), case.coin());
        case.bind(call::reduce_sum(x).axes(axes).keep_dims(keep))
    }),
    ("reduce_sum", |case| {
        let dims = case.dims_between(1, 3);
        let (x, keep) = (case.input(&dims), case.coin());
        case.bind(call::reduce_sum(x).keep_dims(keep))
    }),
];

/// Ops whose gradients are still to be written.
pub const PENDING: &[&str] = &[
    "relu",
    "tanh",
    "sigmoid",
    "silu",
    "gelu",
    "softplus",
    "cast",
    "real_div",
    "floor_div",
    "maximum",
    "minimum",
    "pow",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "select",
    "softmax",
    "layer_norm",
    "batch_norm",
    "reduce_mean",
    "reduce_max",
    "reduce_min",
    "reduce_prod",
    "reduce_log_sum_exp",
    "reduce_sum_square",
    "reduce_argmax",
    "abs",
    "sign",
    "square",
    "sqrt",
    "rsqrt",
    "inverse",
    "log",
    "exp",
    "exp2",
    "sin",
    "cos",
    "erf",
    "floor",
    "ceil",
    "round",
    "clip",
];
