//! The engine's arithmetic.

pub mod fixed;
pub mod products;
pub mod rounding;
pub mod tables;
