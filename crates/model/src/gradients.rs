//! A program's gradient, with the rules for what is better differentiated as a whole.

use anemone_lm::programs::normalization;
use anemone_mil::grad::{Pair, Request, differentiate};
use anemone_mil::program::{Function, Program};
use anemone_mil::verify::Verified;

/// Differentiates a function: groups of ops that have a rule of their own, as RMSNorm in fp16, go by it.
///
/// # Errors
///
/// As [`differentiate`]: a name stands for nothing that can be differentiated, or an op on the way has no gradient.
pub fn gradient(
    verified: &Verified,
    function: &Function,
    request: &Request<'_>,
) -> Result<Pair, anemone_mil::grad::GradError> {
    let recognized = normalization::recognize(function, verified.program().version);
    let rules: Vec<_> = recognized.iter().map(|norm| (norm, norm.input(), norm.rule())).collect();
    let mut groups = request.groups.clone();
    groups.extend(rules.iter().map(|(norm, input, rule)| norm.group(input, rule)));
    differentiate(verified, &function.name, &Request { groups, ..request.clone() })
}

/// A program that has this function alone, and all else of another.
pub fn program_of(function: Function, like: &Program) -> Program {
    Program { version: like.version, attributes: like.attributes.clone(), functions: vec![function] }
}
