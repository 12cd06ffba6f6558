//! Apple's Neural Engine: what it accepts, what it computes, and the engine itself.
//!
//! Everything here comes from measurements that others published; each rule names its sources and how far to trust them.

#![warn(unreachable_pub)]

pub mod arithmetic;
pub mod chips;
pub mod device;
pub mod legalize;
mod limits;
pub mod plan;
pub mod probes;
pub mod ranges;
pub mod report;
pub mod rules;
pub mod simulator;
