//! Passes by name, for a program that people rewrite.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use anemone_ane::chips::Chips;
use anemone_ane::legalize::{self, Legalized, PASSES, Pass};
use anemone_mil::error::Spans;
use anemone_mil::passes::{self, PassError, Rewritten, Unbaked};
use anemone_mil::program::Version;
use anemone_mil::tensor::Tensor;
use anemone_mil::text::Comments;
use anemone_mil::types::{DType, Shape, TensorType};
use anemone_mil::verify::{Verified, verify_known};
use anemone_mil::weights::WeightSource;
use thiserror::Error;

use crate::mistakes::Mistakes;
use crate::source::Source;

/// A pass.
#[derive(Debug, Clone, Copy)]
pub enum PassName {
    /// Settles all types for given ones of inputs.
    Specialize,
    /// Leaves out what nothing needs.
    DeadCode,
    /// Computes once what is computed twice.
    CommonSubexpressions,
    /// Computes what is constant.
    FoldConstants,
    /// Makes inputs constants.
    Bake,
    /// Makes constants inputs.
    Unbake,
    /// Writes it in another dialect.
    Dialect(Version),
    /// All passes for the engine, until nothing changes.
    Legalize,
    /// One of them.
    Engine(&'static Pass),
}

/// What passes are given.
#[derive(Clone, Copy, Default)]
pub struct PassInputs<'a> {
    /// The function that those passes change that change only one.
    pub function: &'a str,
    /// For [`PassName::Specialize`], and for [`PassName::Bake`] with its value, an input.
    pub inputs: &'a [PassInput],
    /// For [`PassName::Unbake`] the constants; all in weight files where none is named.
    pub constants: &'a [String],
    /// For the passes of the engine the chips; all where none are named.
    pub chips: Option<Chips>,
    /// The weights that constants are read from; without any they are not read.
    pub weights: Option<&'a dyn WeightSource>,
}

/// An input's type, and its value where one is given.
#[derive(Debug, Clone)]
pub struct PassInput {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// Its value.
    pub value: Option<Arc<Tensor>>,
}

/// What comes of a pass alone.
struct Applied {
    rewritten: Rewritten,
    unbaked: Vec<Unbaked>,
    legalized: Option<Legalized>,
}

impl PassName {
    const ALL: [PassName; 9] = [
        PassName::Specialize,
        PassName::DeadCode,
        PassName::CommonSubexpressions,
        PassName::FoldConstants,
        PassName::Bake,
        PassName::Unbake,
        PassName::Dialect(Version::V1_0),
        PassName::Dialect(Version::V1_3),
        PassName::Legalize,
    ];

    /// Every pass.
    pub fn all() -> impl Iterator<Item = PassName> {
        PassName::ALL.into_iter().chain(PASSES.iter().map(PassName::Engine))
    }

    /// Whether it is for the engine, and so for chips.
    pub fn is_for_chips(self) -> bool {
        matches!(self, PassName::Legalize | PassName::Engine(_))
    }

    /// Whether it changes the function that is asked for, and no other.
    pub fn changes_one_function(self) -> bool {
        matches!(self, PassName::Specialize | PassName::Bake | PassName::Unbake)
    }

    fn apply(self, program: &Verified, given: &PassInputs<'_>) -> Result<Applied, PassError> {
        let plain = |rewritten| Applied { rewritten, unbaked: Vec::new(), legalized: None };
        let chips = given.chips.unwrap_or(Chips::ALL);
        match self {
            PassName::Specialize => {
                let present = |name: &str| {
                    let function = program.program().function(given.function);
                    function.is_none_or(|(_, f)| f.body.inputs.iter().any(|&id| f.value(id).name == name))
                };
                // What was baked before is no input any more.
                let inputs =
                    given.inputs.iter().filter(|input| input.value.is_none() || present(&input.name));
                let types: Vec<(&str, TensorType)> =
                    inputs.map(|input| (input.name.as_str(), input.ty.clone())).collect();
                passes::specialize(program, given.function, &types).map(plain)
            }
            PassName::DeadCode => passes::dead_code(program).map(plain),
            PassName::CommonSubexpressions => passes::common_subexpressions(program).map(plain),
            PassName::FoldConstants => {
                let budget =
                    if given.weights.is_some() { passes::FOLD_WEIGHTS_BUDGET } else { passes::FOLD_BUDGET };
                passes::fold_constants(program, given.weights, budget).map(plain)
            }
            PassName::Bake => {
                let values =
                    given.inputs.iter().filter_map(|input| Some((&*input.name, input.value.clone()?)));
                passes::bake(program, given.function, &values.collect::<Vec<_>>()).map(plain)
            }
            PassName::Unbake => {
                let names: Vec<&str> = given.constants.iter().map(String::as_str).collect();
                let (rewritten, unbaked) = passes::unbake(program, given.function, &names)?;
                Ok(Applied { rewritten, unbaked, legalized: None })
            }
            PassName::Dialect(version) => passes::dialect(program, version).map(plain),
            PassName::Engine(pass) => pass.apply(program, chips).map(plain),
            PassName::Legalize => {
                let legalized = legalize::legalize(program, chips, given.weights)?;
                let rewritten = legalized.rewritten.clone();
                Ok(Applied { rewritten, unbaked: Vec::new(), legalized: Some(legalized) })
            }
        }
    }
}

impl fmt::Display for PassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PassName::Specialize => f.write_str("specialize"),
            PassName::DeadCode => f.write_str("dead-code"),
            PassName::CommonSubexpressions => f.write_str("common-subexpressions"),
            PassName::FoldConstants => f.write_str("fold-constants"),
            PassName::Bake => f.write_str("bake"),
            PassName::Unbake => f.write_str("unbake"),
            PassName::Dialect(version) => write!(f, "dialect={version}"),
            PassName::Legalize => f.write_str("legalize"),
            PassName::Engine(pass) => f.write_str(pass.name),
        }
    }
}

impl FromStr for PassName {
    type Err = String;

    fn from_str(text: &str) -> Result<PassName, String> {
        if let Some(pass) = legalize::pass(text) {
            return Ok(PassName::Engine(pass));
        }
        PassName::ALL.into_iter().find(|pass| pass.to_string() == text).ok_or_else(|| {
            let names: Vec<String> = PassName::all().map(|pass| pass.to_string()).collect();
            format!("there is no such pass; there are {}", names.join(", "))
        })
    }
}

/// A program on its way through passes, and its comments and the places of its parts in the text that it was read from.
#[derive(Debug)]
pub struct Draft {
    /// The program.
    pub program: Verified,
    /// Its comments.
    pub comments: Comments,
    /// Where its parts come from.
    pub spans: Spans,
}

/// What a pass did to a program.
#[derive(Debug)]
pub struct Passed {
    /// What was changed, in words.
    pub changes: Vec<String>,
    /// The constants that became inputs.
    pub unbaked: Vec<Unbaked>,
    /// What is left to say of a program that was to become legal.
    pub legalized: Option<Legalized>,
}

/// Why a pass fails.
#[derive(Debug, Error)]
pub enum DraftError {
    /// What it made is not sound; the places are those that the mistakes come from.
    #[error(transparent)]
    Mistakes(Box<Mistakes>),
    /// It is not given what it needs.
    #[error(transparent)]
    Pass(PassError),
}

impl Draft {
    /// A program before any pass. Ops that are not known are let pass.
    ///
    /// # Errors
    ///
    /// The program's mistakes.
    pub fn of(source: &Source) -> Result<Draft, Box<Mistakes>> {
        let program = verify_known(source.program.clone());
        let program = program.map_err(|errors| Box::new(source.mistakes(errors)))?;
        Ok(Draft { program, comments: source.comments.clone(), spans: source.spans.clone() })
    }

    /// Applies a pass to the program, which was read from `source`.
    ///
    /// # Errors
    ///
    /// When the pass is not given what it needs, or what it makes is not sound; the program is then what it was.
    pub fn apply(
        &mut self,
        source: &Source,
        pass: PassName,
        given: &PassInputs<'_>,
    ) -> Result<Passed, DraftError> {
        let applied = pass.apply(&self.program, given).map_err(|error| match error {
            PassError::Unsound(unsound) => {
                let spans = self.spans.follow(self.program.program(), &unsound.program, &unsound.ids);
                let mistakes = source.mistakes(unsound.errors);
                DraftError::Mistakes(Box::new(Mistakes { spans, ..mistakes }))
            }
            other => DraftError::Pass(other),
        })?;
        let Rewritten { program, ids, changes } = applied.rewritten;
        self.comments = self.comments.follow(self.program.program(), &ids);
        self.spans = self.spans.follow(self.program.program(), program.program(), &ids);
        self.program = program;
        Ok(Passed { changes, unbaked: applied.unbaked, legalized: applied.legalized })
    }
}

/// The type that a text such as `fp16[1,64]` is meant as, if it begins as one does.
///
/// # Errors
///
/// In words, when it goes on otherwise.
pub fn parse_type(text: &str) -> Option<Result<TensorType, String>> {
    let (dtype, dims) = text.split_once('[').unwrap_or((text, "]"));
    let dtype = DType::from_name(dtype)?;
    let dims = dims.strip_suffix(']').map(str::trim);
    let lengths = match dims {
        Some("") => Some(Vec::new()),
        Some(dims) => dims.split(',').map(|length| length.trim().parse::<u64>().ok()).collect(),
        None => None,
    };
    let ty = lengths
        .map(|lengths| TensorType { dtype, shape: Shape(lengths.into_iter().map(Into::into).collect()) });
    Some(ty.filter(|ty| ty.shape.elements().is_some()).ok_or_else(|| {
        format!(
            "`{text}` is no type such as {dtype}[2,3]: dimensions are whole numbers that a tensor can have"
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_have_names() {
        for pass in PassName::all() {
            let again = pass.to_string().parse::<PassName>().unwrap();
            assert_eq!(again.to_string(), pass.to_string());
        }
        assert!("dialect=2.0".parse::<PassName>().unwrap_err().contains("dialect=1.3"));
    }
}
