//! Layers' programs in the form that a backend takes, which whoever chooses the backend knows.

use std::error::Error;
use std::fmt;

use anemone_mil::error::Errors;
use anemone_mil::program::{Function, Program, ValueId};
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
        error: Failure,
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

/// How a rewriting fails.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What makes a program into one that a backend takes, and that computes the same. Inputs and outputs stay as many, in
/// their order, each of its element type and as many elements in the same order; their dimensions may be others.
#[derive(Clone, Copy)]
pub struct Rewriting<'a> {
    /// What it does, as `for m4`.
    pub name: &'a str,
    /// Rewrites a program.
    pub rewrite: &'a dyn Fn(&Verified) -> Result<Verified, Failure>,
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
        let (old, new) = (&before.program().functions[0], &after.functions[0]);
        let sides = [
            ("inputs", &old.body.inputs, &new.body.inputs),
            ("outputs", &old.body.outputs, &new.body.outputs),
        ];
        for (which, before, after) in sides {
            let (before, after) = (types(old, before), types(new, after));
            if before.len() != after.len() || !before.iter().zip(&after).all(|(a, b)| holds_the_same(a, b)) {
                let (name, [before, after]) = (self.name.to_string(), [before, after].map(listed));
                return Err(RewritingError::Ports { name, which, before, after });
            }
        }
        Ok(after)
    }
}

/// The types of values; none for what is no tensor.
fn types(function: &Function, values: &[ValueId]) -> Vec<Option<TensorType>> {
    values.iter().map(|&id| function.value(id).ty.as_tensor()).collect()
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

#[cfg(test)]
mod tests {
    use anemone_mil::text;

    use super::*;

    const SOURCE: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [2, 8]> x) {
            tensor<fp16, [2, 8]> y = relu(x = x)[name = string("y")];
        } -> (y);
}
"#;

    /// What comes of a rewriting that replaces the text of the program so.
    fn rewritten(from: &str, to: &str) -> Result<Program, String> {
        let parsed = |source: &str| text::parse(source).unwrap().program;
        let rewrite =
            |_: &Verified| -> Result<Verified, Failure> { Ok(verify(parsed(&SOURCE.replace(from, to)))?) };
        let rewriting = Rewriting { name: "for a test", rewrite: &rewrite };
        rewriting.apply(parsed(SOURCE)).map_err(|error| error.to_string())
    }

    #[test]
    fn inputs_and_outputs_may_have_other_dimensions_and_nothing_else() {
        assert!(rewritten("[2, 8]", "[1, 16]").is_ok());
        for (from, to, words) in [
            ("[2, 8]", "[2, 9]", "other inputs than before: tensor<fp16, [2, 9]>, not tensor<fp16, [2, 8]>"),
            ("fp16", "fp32", "other inputs"),
            ("(y)", "(y, y)", "other outputs"),
            ("[2, 8]> x)", "[2, 8]> x, tensor<fp16, [2, 8]> z)", "other inputs"),
            ("relu", "no_op", "cannot be rewritten for a test"),
        ] {
            let refused = rewritten(from, to).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
