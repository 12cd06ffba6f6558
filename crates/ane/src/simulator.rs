//! The engine without the engine: a runtime with its arithmetic and its limits.

use std::sync::Arc;

use anemone_mil::error::{FunctionPart, Place, Severity};
use anemone_mil::eval::Interpreter;
use anemone_mil::program::Function;
use anemone_mil::runtime::{Executable, Runtime, RuntimeError};
use anemone_mil::types::TensorType;
use anemone_mil::verify::Verified;
use anemone_mil::weights::WeightSource;

use crate::arithmetic::EngineArithmetic;
use crate::chips::Chip;
use crate::report::{Report, Warning};
use crate::rules::{self, Effect, Finding};

/// The simulator of a chip's engine.
///
/// What a measured rule refuses on the chip, or leaves to the CPU, is an error that cites the rule. What it computes
/// wrongly is computed so, where that is known. All else that rules say of a program is a warning in the [`Report`],
/// beside what happened to the numbers.
#[derive(Debug)]
pub struct Simulator {
    chip: Chip,
    has_rules: bool,
    report: Arc<Report>,
}

impl Simulator {
    /// The name that `--runtime` knows it by.
    pub const NAME: &str = "ane-sim";

    /// The simulator of a chip.
    pub fn new(chip: Chip) -> Simulator {
        Simulator { chip, has_rules: true, report: Arc::default() }
    }

    /// The chip's arithmetic alone: every program runs, whatever the rules say.
    pub fn without_rules(chip: Chip) -> Simulator {
        Simulator { has_rules: false, ..Simulator::new(chip) }
    }

    /// The chip.
    pub fn chip(&self) -> Chip {
        self.chip
    }

    /// What happened in the programs it prepared; it goes on being written while they run.
    pub fn report(&self) -> &Arc<Report> {
        &self.report
    }

    /// The warnings for a function with its types settled.
    ///
    /// # Errors
    ///
    /// When it does not keep a rule that the chip insists on.
    fn check(&self, program: &Verified, function: usize) -> Result<Vec<Warning>, RuntimeError> {
        let findings = rules::check(program, self.chip.into());
        let here = findings.iter().filter(|finding| match finding.place {
            Place::Function(index, _) => index == function,
            _ => true,
        });
        let (refused, warnings): (Vec<&Finding>, Vec<&Finding>) =
            here.partition(|finding| is_refused(finding));
        let say = |finding: &&Finding| describe(finding, &program.program().functions[function]);
        match refused.first() {
            None => {
                let warning =
                    |finding: &&Finding| Warning { rule: finding.rule.to_string(), message: say(finding) };
                Ok(warnings.iter().map(warning).collect())
            }
            Some(first) => {
                let more = match refused.len() {
                    1 => String::new(),
                    2 => "; 1 more rule or place is refused".to_string(),
                    count => format!("; {} more rules or places are refused", count - 1),
                };
                let reason = format!("{}: {}; instead: {}{more}", first.rule, say(first), first.help());
                Err(RuntimeError::Unsupported { runtime: Simulator::NAME, reason })
            }
        }
    }
}

/// Whether a finding keeps a program from running on the engine alone.
fn is_refused(finding: &Finding) -> bool {
    let direct = finding.rule.interfaces.e5rt || finding.rule.interfaces.in_memory;
    let lost = matches!(finding.rule.effect, Effect::Refused | Effect::OnCpu);
    direct && lost && finding.severity() == Severity::Error
}

/// A finding in one sentence: the place, what is found, and what happens.
fn describe(finding: &Finding, function: &Function) -> String {
    let place = match finding.place {
        Place::Function(_, FunctionPart::Op(id, _)) => {
            let op = function.op(id);
            let name = op.results.first().map_or("", |&result| &function.value(result).name);
            format!("`{name}`, {}: ", op.name)
        }
        _ => String::new(),
    };
    format!("{place}{}; {}", finding.message, finding.consequence())
}

/// What reports call a function: its name and its first outputs, for most are named `main`.
fn name_of(function: &Function) -> String {
    const LISTED: usize = 3;
    let outputs = &function.body.outputs;
    let listed = outputs.iter().take(LISTED).map(|&id| function.value(id).name.as_str());
    let more = outputs.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} → {}{more}", function.name, listed.collect::<Vec<_>>().join(", "))
}

impl Runtime for Simulator {
    fn name(&self) -> &'static str {
        Simulator::NAME
    }

    fn identity(&self) -> String {
        format!("{} ({})", Simulator::NAME, self.chip)
    }

    fn prepare(
        &self,
        program: &Arc<Verified>,
        function: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Box<dyn Executable>, RuntimeError> {
        let interpreter = Interpreter::default();
        let settled = interpreter.specialize(program, function, inputs, weights)?;
        let warnings =
            if self.has_rules { self.check(&settled.program, settled.function)? } else { Vec::new() };
        let report = self.report.add(name_of(settled.function()), warnings);
        let arithmetic = Arc::new(EngineArithmetic::new(self.chip, report));
        Interpreter { arithmetic, ..interpreter }.prepare_specialized(settled)
    }
}
