//! Cases of products of matrices, and convolutions.

use super::case::Maker;

/// The cases, several for some ops.
pub const CASES: &[(&str, Maker)] = &[];

/// Ops whose gradients are still to be written.
pub const PENDING: &[&str] = &["conv", "matmul", "linear"];
