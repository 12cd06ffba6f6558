//! Reverse-mode differentiation.

use std::marker::PhantomData;

/// What an op's gradient rule builds with.
pub struct Pullback<'a> {
    marker: PhantomData<&'a ()>,
}
