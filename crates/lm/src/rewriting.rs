//! Layers' programs in the form that a backend takes, which whoever chooses the backend knows.

use std::error::Error;
use std::fmt;

use anemone_mil::error::Errors;
use anemone_mil::program::{Program, ValueId};
use anemone_mil::types::TensorType;
use anemone_mil::verify::{Verified, verify};
use thiserror::Error;

/// Why a program cannot be rewritten.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RewritingError {
    /// A program that was written does not verify: a fault of this crate.
    #[error(transparent)]
    Verify(#[from] Errors),
    /// The rewriting fails.
    #[error("a layer cannot be rewritten {name}: {error}")]
    Failed {
        /// The rewriting's name.
        name: String,
        /// How it fails.
        error: Box<dyn Error + Send + Sync>,
    },
    /// Inputs or outputs that are not those of the layer any more.
    #[error("a layer that is rewritten {name} has other {which} than before: {after}, not {before}")]
    Ports {
        /// The rewriting's name.
        name: String,
        /// `inputs` or `outputs`.
        which: &'static str,
        /// Those of the layer.
        before: String,
        /// Those that came out.
        after: String,
    },
}

/// What makes a program into one that a backend takes, and that computes the same. Inputs and outputs stay as many, in
/// their order, each of its element type and as many elements in the same order; their dimensions may be others.
#[derive(Clone, Copy)]
pub struct Rewriting<'a> {
    /// What it does, as `for m4`.
    pub name: &'a str,
    /// Rewrites a program.
    pub rewrite: &'a dyn Fn(&Verified) -> Result<Verified, Box<dyn Error + Send + Sync>>,
}

impl fmt::Debug for Rewriting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewriting").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Rewriting<'_> {
    /// Rewrites a program of one function.
    ///
    /// # Errors
    ///
    /// A rewriting that fails, or changes inputs or outputs more than it may.
    pub fn apply(&self, program: Program) -> Result<Program, RewritingError> {
        let before = verify(program)?;
        let failed = |error| RewritingError::Failed { name: self.name.to_string(), error };
        let after = (self.rewrite)(&before).map_err(failed)?.into_program();
        let before = before.program();
        let ports = |program: &Program, of: fn(&Program) -> &[ValueId]| -> Vec<Option<TensorType>> {
            let types = of(program).iter().map(|&id| program.functions[0].value(id).ty.as_tensor());
            types.collect()
        };
        let sides: [(&str, fn(&Program) -> &[ValueId]); 2] = [
            ("inputs", |program| &program.functions[0].body.inputs),
            ("outputs", |program| &program.functions[0].body.outputs),
        ];
        for (which, of) in sides {
            let (before, after) = (ports(before, of), ports(&after, of));
            if before.len() != after.len() || !before.iter().zip(&after).all(|(a, b)| holds_the_same(a, b)) {
                let (name, [before, after]) = (self.name.to_string(), [before, after].map(listed));
                return Err(RewritingError::Ports { name, which, before, after });
            }
        }
        Ok(after)
    }
}

fn holds_the_same(before: &Option<TensorType>, after: &Option<TensorType>) -> bool {
    match (before, after) {
        (Some(a), Some(b)) => a.dtype == b.dtype && a.shape.elements() == b.shape.elements(),
        _ => false,
    }
}

fn listed(types: Vec<Option<TensorType>>) -> String {
    let text = |ty: Option<TensorType>| ty.map_or_else(|| "no tensor".to_string(), |ty| ty.to_string());
    types.into_iter().map(text).collect::<Vec<_>>().join(", ")
}
