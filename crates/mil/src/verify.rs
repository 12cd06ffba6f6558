//! Checks that a program is well formed and that every op accepts its operands.
//!
//! The checks are generic: what an op takes and gives comes from its row. One mistake is one error: where the
//! type rule leaves a dimension open the declared type counts, what follows from a mistake already reported is
//! left out, and the same mistake in many places is reported at the first.

use std::collections::HashSet;

use crate::bind::{self, Facts};
use crate::error::{ErrorKind, Errors, FunctionPart, OpPart, Repeated};
use crate::ops::{self, OpDef, OpError};
use crate::program::{Function, Op, OpId, Program, ValueId, Version};
use crate::types::{Opset, Type};

mod arguments;
mod blobs;
mod declarations;
mod dialect;
mod flow;
mod names;
mod omitted;
mod report;

pub use arguments::check as check_arguments;
pub use blobs::verify_blobs;
use names::Names;
pub use names::{is_identifier, is_reserved};
use omitted::Warnings;
pub use omitted::{Omission, omitted};

/// A program that every check accepts, with the row of each op and what is known of each value.
#[derive(Debug, Clone)]
pub struct Verified {
    program: Program,
    findings: Vec<Findings>,
    warnings: Errors,
}

/// What verification learned of a function.
#[derive(Debug, Clone)]
pub(crate) struct Findings {
    /// The row of each op.
    pub rows: Vec<Option<&'static OpDef>>,
    /// The types of its values, with the dimensions that rules add to declarations, and its constants.
    pub facts: Facts,
}

impl Verified {
    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The row of an op; `None` for `const`, which has none, and for an op that is not known.
    pub fn row(&self, function: usize, op: OpId) -> Option<&'static OpDef> {
        self.findings[function].rows[op.index()]
    }

    /// What is known of a function's values: their types, refined by the type rules, and its constants.
    pub fn facts(&self, function: usize) -> &Facts {
        &self.findings[function].facts
    }

    /// A program with what was learned of each function, which the caller knows to hold.
    pub(crate) fn with_findings(program: Program, findings: Vec<Findings>) -> Verified {
        Verified { program, findings, warnings: Errors::default() }
    }

    /// What was learned of each function.
    pub(crate) fn findings(&self) -> &[Findings] {
        &self.findings
    }

    /// What is right here, but not everywhere.
    pub fn warnings(&self) -> &Errors {
        &self.warnings
    }

    /// The program again, unverified.
    pub fn into_program(self) -> Program {
        self.program
    }
}

/// The name of the one op that the language itself defines.
pub const CONST: &str = "const";

/// Checks a program.
///
/// # Errors
///
/// Every mistake that does not follow from another; beyond [`MAX_ERRORS`](crate::error::MAX_ERRORS) they are only
/// counted. With the text that the program was read from they can be shown:
///
/// ```
/// use anemone_mil::{text, verify};
///
/// let source = r#"program(1.3)
/// {
///     func main<ios18>(tensor<fp16, [1, 4]> x) {
///             tensor<fp16, [1, 4]> y = sofmax(x = x)[name = string("y")];
///         } -> (y);
/// }
/// "#;
/// let parsed = text::parse(source)?;
/// let errors = verify::verify(parsed.program).unwrap_err();
/// assert_eq!(
///     errors.render("model.mil", source, &parsed.spans),
///     r#"error: unknown op `sofmax`
///  --> model.mil:4:38
///   |
/// 4 |             tensor<fp16, [1, 4]> y = sofmax(x = x)[name = string("y")];
///   |                                      ^^^^^^ no op of this name can be verified or run
///   |
///   = help: the nearest op is `softmax`"#
/// );
/// # Ok::<(), anemone_mil::error::Errors>(())
/// ```
pub fn verify(program: Program) -> Result<Verified, Errors> {
    match check(program) {
        (verified, errors) if errors.is_empty() => Ok(verified),
        (_, errors) => Err(errors),
    }
}

/// Checks a program as [`verify`] does, but for ops that are not known: their results have the types that are declared.
/// Passes take such a program; what prepares functions to be run refuses those in which such an op is needed.
///
/// # Errors
///
/// Every other mistake, as [`verify`]; with them those that ops are not known.
pub fn verify_known(program: Program) -> Result<Verified, Errors> {
    match check(program) {
        (verified, errors) if errors.all_are(ErrorKind::UnknownOp) => Ok(verified),
        (_, errors) => Err(errors),
    }
}

/// Checks a program, and says what is wrong with it.
pub(crate) fn check(program: Program) -> (Verified, Errors) {
    let (mut errors, mut warnings) = (Errors::default(), Warnings::default());
    let functions = || program.functions.iter().enumerate();
    functions().filter_map(|(index, f)| declarations::check_ids(index, f)).for_each(|e| errors.push(e));
    if !errors.is_empty() {
        return (Verified { program, findings: Vec::new(), warnings: Errors::default() }, errors);
    }
    declarations::check_program(&program, &mut errors);
    let mut findings = Vec::with_capacity(program.functions.len());
    for (index, function) in functions() {
        findings.push(check_function(program.version, index, function, &mut errors, &mut warnings));
    }
    (Verified { program, findings, warnings: warnings.finish() }, errors)
}

/// What verification knows of a function's values so far.
struct Known {
    facts: Facts,
    /// Values that are counted as constants only because the op that gives them is at fault.
    assumed_constant: HashSet<ValueId>,
    /// Values whose declared type is itself a reported mistake: what uses them may be right all the same.
    doubtful: HashSet<ValueId>,
}

struct FunctionCheck<'a, 'e> {
    version: Version,
    index: usize,
    function: &'a Function,
    known: Known,
    names: Names<'a>,
    /// The values that the op at hand sees.
    defined: HashSet<ValueId>,
    /// The same, in the order in which they were bound.
    order: Vec<ValueId>,
    /// The values of blocks that have ended.
    inner: HashSet<ValueId>,
    rows: Vec<Option<&'static OpDef>>,
    missing_ops: Repeated<(String, Opset)>,
    errors: &'e mut Errors,
    warnings: &'e mut Warnings,
}

fn check_function(
    version: Version,
    index: usize,
    function: &Function,
    errors: &mut Errors,
    warnings: &mut Warnings,
) -> Findings {
    let rows = vec![None; function.ops.len()];
    let facts = Facts::declared(function);
    declarations::check_function(index, function, errors);
    let mut check = FunctionCheck {
        version,
        index,
        function,
        known: Known { facts, assumed_constant: HashSet::new(), doubtful: HashSet::new() },
        names: Names::default(),
        defined: HashSet::new(),
        order: Vec::new(),
        inner: HashSet::new(),
        rows,
        missing_ops: Repeated::default(),
        errors,
        warnings,
    };
    check.body();
    check.missing_ops.finish(check.errors);
    let FunctionCheck { rows, known: Known { mut facts, assumed_constant, .. }, .. } = check;
    // Assumed only so that what follows from a mistake is not reported.
    assumed_constant.into_iter().for_each(|id| facts.set_computed(id));
    Findings { rows, facts }
}

impl FunctionCheck<'_, '_> {
    fn constant(&mut self, id: OpId, op: &Op) {
        match declarations::check_constant(self.function, op) {
            Ok((result, value)) => {
                self.known.facts.set_constant(result, value);
            }
            Err(fault) => {
                let part = FunctionPart::Op(id, fault.part);
                self.error(ErrorKind::Constant, part, fault.message, fault.label);
                self.doubt(op);
            }
        }
    }

    fn op(&mut self, id: OpId, op: &Op) {
        let opset = self.opset_of(op);
        let Some(row) = ops::lookup(&op.name, opset) else {
            self.unknown_op(id, op, opset);
            self.assume_constant(op);
            return;
        };
        self.rows[id.0 as usize] = Some(row);
        match self.infer(id, op, row, opset) {
            Ok(Some(types)) => {
                self.results(id, op, &types);
                self.warn_of_omissions(id, op, row);
            }
            Ok(None) => self.doubt(op),
            Err(refused) => {
                for error in refused {
                    if self.follows_from_another(op, &error) {
                        self.doubt(op);
                    } else {
                        self.op_error(id, op, error);
                    }
                }
                self.assume_constant(op);
            }
        }
        if row.constexpr {
            for &result in &op.results {
                if !self.known.facts.is_constant(result) {
                    self.known.facts.set_constant(result, None);
                }
            }
        }
    }

    /// The opset of an op; one that is too old for any op is reported where it is declared.
    fn opset_of(&self, op: &Op) -> Opset {
        op.opset.unwrap_or(self.function.opset).max(Opset::IOS15)
    }

    /// The types of an op's results; `None` where its blocks are at fault.
    fn infer(
        &mut self,
        id: OpId,
        op: &Op,
        row: &OpDef,
        opset: Opset,
    ) -> Result<Option<Vec<Type>>, Vec<OpError>> {
        let operands =
            bind::operands(op, row, &self.known.facts).map_err(|error| vec![self.naming_type(op, error)])?;
        let refused = arguments::check(op, row, opset, &operands);
        if !refused.is_empty() {
            return Err(refused);
        }
        if !self.right_blocks(id, op, row) {
            return Ok(None);
        }
        row.result_types(&operands, &self.known.facts.block_types(op)).map(Some).map_err(|error| vec![error])
    }

    fn has_doubtful_operand(&self, op: &Op) -> bool {
        let yielded = op.blocks.iter().flat_map(|block| block.outputs.iter().copied());
        op.reads().chain(yielded).any(|id| self.known.doubtful.contains(&id))
    }

    /// Counts the results of an op that is at fault as constants: what needs one is not at fault too.
    fn assume_constant(&mut self, op: &Op) {
        for &result in &op.results {
            if !self.known.facts.is_constant(result) {
                self.known.facts.set_constant(result, None);
                self.known.assumed_constant.insert(result);
            }
        }
    }

    /// As [`FunctionCheck::assume_constant`], and the declared types may be wrong as well.
    fn doubt(&mut self, op: &Op) {
        self.assume_constant(op);
        self.known.doubtful.extend(&op.results);
    }

    fn results(&mut self, id: OpId, op: &Op, inferred: &[Type]) {
        if inferred.len() != op.results.len() {
            let error = self.in_function(
                ErrorKind::DeclaredType,
                FunctionPart::Op(id, OpPart::Name),
                format!("`{}` gives {} here", op.name, count(inferred.len(), "result")),
                format!("bound to {}", count(op.results.len(), "name")),
            );
            self.errors.push(match (op.results.as_slice(), inferred) {
                ([], [ty, ..]) => {
                    error.with_help(format!("bind what it gives, as in `{ty} y = {}(…)`", op.name))
                }
                _ => error,
            });
            return;
        }
        for (position, (&result, inferred)) in op.results.iter().zip(inferred).enumerate() {
            let value = self.function.value(result);
            match ops::refine_type(&value.ty, inferred) {
                Some(refined) => self.known.facts.set_ty(result, refined),
                None => {
                    if !self.has_doubtful_operand(op) {
                        let message = format!("`{}` is declared as {}", value.name, value.ty);
                        let label = format!("`{}` gives {inferred}", op.name);
                        let part = FunctionPart::Op(id, OpPart::Result(position));
                        self.error(ErrorKind::DeclaredType, part, message, label);
                    }
                    self.known.doubtful.insert(result);
                }
            }
        }
    }
}

/// A number with its noun: "no results", "1 result", "2 results".
pub fn count(number: usize, noun: &str) -> String {
    match number {
        0 => format!("no {noun}s"),
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}
