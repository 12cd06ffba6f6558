//! Passes: programs in, programs out.
//!
//! A pass takes a verified program and gives another, verified again, which does the same: its outputs have the same
//! bits, but for [`fold_constants`], which computes as the reference interpreter does, for [`write_out`], whose ops
//! round on the way, and for the bits of a NaN. Ops that are not known ([`verify_known`](crate::verify::verify_known)) stay as they are. A pass names no op but `const`;
//! what it must know of one, the op's row says.
//!
//! ```
//! use anemone_mil::{passes, text, verify};
//!
//! let source = r#"program(1.3)
//! {
//!     func main<ios18>(tensor<fp32, [2]> x) {
//!             tensor<fp32, [2]> a = exp(x = x)[name = string("a")];
//!             tensor<fp32, [2]> b = exp(x = x)[name = string("b")];
//!             tensor<fp32, [2]> y = add(x = a, y = b)[name = string("y")];
//!         } -> (y);
//! }
//! "#;
//! let program = verify::verify(text::parse(source)?.program)?;
//! let rewritten = passes::common_subexpressions(&program)?;
//! assert_eq!(rewritten.changes, ["`main`: 1 op computed before"]);
//! assert!(text::write(rewritten.program.program()).contains("add(x = a, y = a)"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::builder::BuildError;
use crate::error::ErrorKind;
use crate::error::Errors;
use crate::program::{Function, IdMap, Program};
use crate::runtime::RuntimeError;
use crate::verify::{self, Verified};
use crate::weights::BlobError;

mod bake;
mod bind_literals;
mod common_subexpressions;
mod dead_code;
mod dialect;
mod flexible;
mod fold_constants;
mod reduce;
mod replace;
mod specialize;
mod unbake;
mod write_out;

pub use bake::{bake, store_constants};
pub use bind_literals::{bind_literals, bind_literals_if};
pub use common_subexpressions::common_subexpressions;
pub(crate) use common_subexpressions::merge_common;
pub use dead_code::{dead_code, remove_dead_code};
pub use dialect::dialect;
pub use flexible::forget_inputs;
pub use fold_constants::{FOLD_BUDGET, FOLD_WEIGHTS_BUDGET, fold_constants};
pub use reduce::reduce;
pub use replace::{Site, Sites, replace_ops};
pub use specialize::specialize;
pub use unbake::{Unbaked, unbake};
pub use write_out::write_out;

/// What a pass made of a program.
#[derive(Debug, Clone)]
pub struct Rewritten {
    /// The program, verified.
    pub program: Verified,
    /// For each function, which ids became which.
    pub ids: Vec<IdMap>,
    /// What was changed, in a few words each.
    pub changes: Vec<String>,
}

/// Why a pass cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// What is asked for is not in the program, or does not fit it.
    #[error("{0}")]
    Request(String),
    /// Types that cannot be settled.
    #[error(transparent)]
    Types(#[from] RuntimeError),
    /// A weight that cannot be read or written.
    #[error("the weight `{value}`: {error}")]
    Weight {
        /// The value that the weight stands for.
        value: String,
        /// Why.
        error: BlobError,
    },
    /// An op that a pass would add and that refuses what it is given.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// What would come out does not verify.
    #[error("{}", .0.errors)]
    Unsound(Box<Unsound>),
}

/// A program that a pass would make and that does not verify.
#[derive(Debug, Clone)]
pub struct Unsound {
    /// What is wrong; the places are those of `program`.
    pub errors: Errors,
    /// The program.
    pub program: Program,
    /// For each function, which ids became which.
    pub ids: Vec<IdMap>,
}

/// Edits the functions of a program one by one, compacts and verifies them; `edit` is given the position of a function,
/// and says what it changes there, without the function's name.
///
/// # Errors
///
/// Those of `edit`, and [`PassError::Unsound`] where the result does not verify.
pub fn rewrite(
    program: &Verified,
    mut edit: impl FnMut(usize, &mut Function) -> Result<Vec<String>, PassError>,
) -> Result<Rewritten, PassError> {
    let mut changed = program.program().clone();
    let mut changes = Vec::new();
    for (index, function) in changed.functions.iter_mut().enumerate() {
        let said = edit(index, function)?;
        changes.extend(said.into_iter().map(|change| format!("`{}`: {change}", function.name)));
    }
    finish(changed, changes)
}

/// Compacts and verifies what a pass made.
fn finish(mut program: Program, changes: Vec<String>) -> Result<Rewritten, PassError> {
    let ids: Vec<IdMap> = program.functions.iter_mut().map(Function::compact).collect();
    match verify::check(program) {
        (program, errors) if errors.all_are(ErrorKind::UnknownOp) => Ok(Rewritten { program, ids, changes }),
        (program, errors) => {
            let program = program.into_program();
            Err(PassError::Unsound(Box::new(Unsound { errors, program, ids })))
        }
    }
}

/// The position of the function with this name.
fn find(program: &Program, name: &str) -> Result<usize, PassError> {
    program.function(name).map(|(index, _)| index).ok_or_else(|| {
        let present: Vec<&str> = program.functions.iter().map(|function| function.name.as_str()).collect();
        PassError::Request(format!("no function is named `{name}`; the program has {}", present.join(", ")))
    })
}

/// The error for a name that no input, or no constant, has.
fn unknown_name<'a>(what: &str, name: &str, present: impl Iterator<Item = &'a str> + Clone) -> PassError {
    match crate::suggest::nearest(name, present.clone()) {
        Some(near) => {
            PassError::Request(format!("no {what} is named `{name}`; the nearest name is `{near}`"))
        }
        None => {
            let present: Vec<&str> = present.collect();
            let present = if present.is_empty() { "none".to_string() } else { present.join(", ") };
            PassError::Request(format!("no {what} is named `{name}`; there are: {present}"))
        }
    }
}
