//! Cases of ops that move data.

use super::case::Maker;

/// The cases, several for some ops.
pub const CASES: &[(&str, Maker)] = &[];

/// Ops whose gradients are still to be written.
pub const PENDING: &[&str] = &[
    "constexpr_affine_dequantize",
    "gather",
    "gather_along_axis",
    "concat",
    "split",
    "stack",
    "tile",
    "pad",
    "scatter",
    "one_hot",
    "cumsum",
    "range_1d",
    "fill",
    "reshape",
    "transpose",
    "expand_dims",
    "squeeze",
    "shape",
    "slice_by_index",
    "slice_by_size",
    "read_state",
    "write_state",
];
