//! Passes: programs in, programs out.
//!
//! A pass names no op; what it must know of one, the op's row says.

mod bind_literals;
mod dead_code;

pub use bind_literals::bind_literals;
pub use dead_code::remove_dead_code;
