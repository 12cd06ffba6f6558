//! Where numbers may go wrong on the engine, by the bounds of values.

use anemone_mil::bind;
use anemone_mil::error::{FunctionPart, OpPart, Place};
use anemone_mil::ops::{Given, Log, OpDef, Operand, Operands, ReduceSum, ReduceSumSquare, Row, Rsqrt};
use anemone_mil::program::{Function, Op, OpId, ValueId};
use anemone_mil::types::DType;
use anemone_mil::verify::Verified;
use anemone_mil::weights::WeightSource;

use super::elementwise::squared;
use super::reduce::terms;
use super::{Assumptions, Bounds, Interval, bounds};
use crate::chips::Chips;
use crate::rules::{self, Finding};

/// The accumulators of products hold less: from about here on a sum is infinite.
const ACCUMULATOR: f64 = 32752.0;
/// From here on fp16, in which `reduce_sum` adds up, has no odd numbers.
const ODD_IN_FP16: f64 = 2048.0;
/// `log` and `rsqrt` are infinite below.
const LEAST_LOGARITHM: f64 = 1.05 / 131_072.0;
/// A product is dropped where the exponents of its factors add up to this or less.
const DROPPED_EXPONENT: i32 = -17;
/// The exponent of fp16's subnormal numbers, for the engine.
const LEAST_EXPONENT: i32 = -14;

/// What the rules found in a program's text ([`rules::check`]), and what bounds on its values tell beside: where a rule
/// is broken for some values only, the finding says which input makes them, or goes away where the ranges that are
/// stated leave no such value; and where sums of products, reductions and others may pass what the engine holds, there
/// are findings more. A bound is no certainty: all of these are warnings.
pub fn refine(
    found: Vec<Finding>,
    verified: &Verified,
    chips: Chips,
    assumptions: &Assumptions,
    weights: Option<&dyn WeightSource>,
) -> Vec<Finding> {
    let mut refined = Vec::with_capacity(found.len());
    let mut found = found;
    for index in 0..verified.program().functions.len() {
        let bounds = bounds(verified, index, assumptions, weights);
        let judge = Judge { verified, index, chips, assumptions, bounds };
        for finding in std::mem::take(&mut found) {
            match finding.place {
                Place::Function(function, FunctionPart::Op(op, part))
                    if function == index && finding.by_values =>
                {
                    refined.extend(judge.settle(finding, op, part));
                }
                _ => found.push(finding),
            }
        }
        judge.function(&mut refined);
    }
    found.extend(refined);
    found
}

/// What is known of one function.
struct Judge<'a> {
    verified: &'a Verified,
    index: usize,
    chips: Chips,
    assumptions: &'a Assumptions,
    bounds: Bounds,
}

/// An op with its operands.
struct Judged<'a> {
    id: OpId,
    op: &'a Op,
    row: &'static OpDef,
    operands: Operands<'a>,
}

impl Judged<'_> {
    fn operand(&self, parameter: &str) -> Option<&Operand> {
        match self.operands.get(parameter)? {
            Given::One(operand) => Some(operand),
            Given::Tuple(_) => None,
        }
    }

    fn bound<R: Row>(&self) -> Option<R> {
        R::bind(&self.operands, self.row.since).ok()
    }

    fn ids(&self) -> Vec<ValueId> {
        self.operands.iter().filter_map(|operand| operand.id).collect()
    }
}

impl Judge<'_> {
    fn of(&self) -> &Function {
        &self.verified.program().functions[self.index]
    }

    fn judged<'a>(&'a self, id: OpId, op: &'a Op) -> Option<Judged<'a>> {
        let row = self.verified.row(self.index, id)?;
        let operands = bind::operands(op, row, self.verified.facts(self.index)).ok()?;
        Some(Judged { id, op, row, operands })
    }

    /// Everything that may go wrong in the function, each at the first op that it befalls.
    fn function(&self, findings: &mut Vec<Finding>) {
        let mut spoilt = vec![false; self.of().values.len()];
        for (id, op) in self.of().walk() {
            let plain = |judged: &Judged<'_>| judged.row.blocks.is_none() && !judged.row.constexpr;
            let Some(judged) = self.judged(id, op).filter(plain) else { continue };
            let ids = judged.ids();
            let bad_operand = ids.iter().any(|id| spoilt[id.index()])
                || judged.operands.iter().any(|operand| self.is_unread(operand));
            let fp16 = op.results.first().is_some_and(|&result| self.is_fp16(result));
            let faults = if bad_operand || !fp16 { Vec::new() } else { self.faults(&judged) };
            // What follows from a fault is not reported, unless the op bounds it again; nor what a factor makes that
            // is there to keep it small.
            let bad = op.results.first().is_some_and(|&result| {
                let open = !self.bounds.because_of(result).is_empty();
                !faults.is_empty() || (open && (bad_operand || self.normalises(&judged)))
            });
            op.results.iter().for_each(|result| spoilt[result.index()] = bad);
            for (number, message) in faults {
                self.push(findings, number, &judged, &message, &ids);
            }
        }
    }

    /// Whether nothing is known of a value, and no input is why: it is a weight that was not read, or cut from one.
    fn is_unread(&self, operand: &Operand) -> bool {
        operand.id.is_some_and(|id| {
            self.bounds.because_of(id).is_empty() && self.bounds.of(id) == Interval::of_type(operand.dtype())
        })
    }

    /// Whether the op divides by what is computed, or gives a power that others are scaled by. Such a divisor follows the
    /// values that it divides, as in a normalisation; bounds, which do not see that, say little of the quotient.
    fn normalises(&self, judged: &Judged<'_>) -> bool {
        let computed = |parameter| judged.operand(parameter).is_some_and(|operand| !operand.constant);
        match judged.op.name.as_str() {
            "rsqrt" | "inverse" | "exp2" => computed("x"),
            "real_div" | "floor_div" => computed("y"),
            "pow" => {
                computed("x")
                    && judged.operand("y").and_then(|y| self.known(y)).is_none_or(|range| range.low < 0.0)
            }
            _ => false,
        }
    }

    fn is_fp16(&self, value: ValueId) -> bool {
        let ty = self.verified.facts(self.index).ty(value).held_tensor();
        ty.is_some_and(|ty| ty.dtype == DType::Fp16)
    }

    fn push(
        &self,
        findings: &mut Vec<Finding>,
        number: u8,
        judged: &Judged<'_>,
        message: &str,
        ids: &[ValueId],
    ) {
        let Some(rule) = rules::find(number) else { return };
        let chips = rule.chips.and(self.chips);
        if chips.is_empty() {
            return;
        }
        let place = Place::Function(self.index, FunctionPart::Op(judged.id, OpPart::Name));
        let message = format!("{message}{}", self.reason(ids));
        findings.push(Finding { rule, chips, place, message, help: None, by_values: true });
    }

    /// What an operand lies in, unless nothing is known of it.
    fn known(&self, operand: &Operand) -> Option<Interval> {
        let range = match operand.id {
            Some(_) if operand.is_state || operand.is_list => return None,
            Some(id) => self.bounds.of(id),
            None => Interval::of_tensor(operand.value.as_ref()?),
        };
        let wide = operand.dtype().bits() >= 32 && range == Interval::of_type(operand.dtype());
        (range.is_finite() && !wide).then_some(range)
    }

    /// The numbers of the rules that an op may break, with what is to be said.
    fn faults(&self, judged: &Judged<'_>) -> Vec<(u8, String)> {
        let name = judged.op.name.as_str();
        if let Some(product) = self.bounds.product(judged.id) {
            return self.of_product(name, product).into_iter().collect();
        }
        let logarithm = match name {
            "log" => judged.bound::<Log>().map(|row| row.shift()),
            "rsqrt" => judged.bound::<Rsqrt>().map(|row| row.shift()),
            _ => None,
        };
        let fault = match name {
            "reduce_sum" => {
                judged.bound::<ReduceSum>().and_then(|row| self.of_sum(&row.x, terms(&row), false))
            }
            "reduce_sum_square" => {
                judged.bound::<ReduceSumSquare>().and_then(|row| self.of_sum(&row.x, terms(&row), true))
            }
            _ if logarithm.is_some() => self.of_logarithm(judged, logarithm.unwrap_or(0.0)),
            _ => self.of_overflow(judged),
        };
        fault.into_iter().collect()
    }

    fn of_product(&self, name: &str, product: &super::Product) -> Option<(u8, String)> {
        if !product.peak.is_finite() {
            return None;
        }
        if product.peak >= ACCUMULATOR {
            let peak = shown(product.peak);
            return Some((52, format!("the products of this `{name}` may add up to {peak}, past 32752")));
        }
        let (x, w) = product.factors;
        let dropped = x > 0.0 && w > 0.0 && exponent(x) + exponent(w) <= DROPPED_EXPONENT;
        dropped.then(|| {
            let message =
                format!("every product of this `{name}` is dropped: the factors are at most {x:e} and {w:e}");
            (53, message)
        })
    }

    fn of_sum(&self, x: &Operand, count: Option<u64>, square: bool) -> Option<(u8, String)> {
        let range = self.known(x)?;
        let each = if square { squared(range) } else { range };
        let most = each.largest() * count? as f64;
        (most > ODD_IN_FP16).then(|| (54, format!("this sum may reach {}, past 2048", shown(most))))
    }

    fn of_logarithm(&self, judged: &Judged<'_>, shift: f64) -> Option<(u8, String)> {
        let least = self.known(judged.operand("x")?)?.low + shift;
        let name = &judged.op.name;
        (least < LEAST_LOGARITHM)
            .then(|| (41, format!("this `{name}` may be of {}, below 2^-17·1.05 = 8.01e-6", shown(least))))
    }

    /// A result that passes what fp16 holds, where no operand does; not by a divisor near zero.
    fn of_overflow(&self, judged: &Judged<'_>) -> Option<(u8, String)> {
        let name = judged.op.name.as_str();
        let divides = match name {
            "real_div" | "floor_div" | "inverse" => true,
            "pow" => self.known(judged.operand("y")?)?.low < 0.0,
            _ => false,
        };
        let result = self.bounds.of(*judged.op.results.first()?);
        let all_known =
            judged.operands.iter().all(|operand| self.known(operand).is_some() || operand.constant);
        let overflows = !result.is_finite() && !divides && all_known;
        overflows.then(|| (55, format!("this `{name}` may pass 65504, the largest number of fp16")))
    }

    /// A finding that depends on values, by what is known of them; none where the stated ranges exclude it.
    fn settle(&self, mut finding: Finding, id: OpId, part: OpPart) -> Option<Finding> {
        let Some(judged) = self.judged(id, self.of().op(id)) else { return Some(finding) };
        let (parameter, limit) = match (finding.rule.number, part) {
            (29, _) => ("x", 4094.0),
            (37, _) => ("x", 10.4),
            (46, OpPart::Argument(position)) => {
                let weights = judged.op.arguments.at(position).map(|(name, _)| name);
                (if weights == Some("x") { "y" } else { "x" }, 4094.0)
            }
            _ => return Some(finding),
        };
        let operand = judged.operand(parameter);
        let Some((id, range)) = operand.and_then(|operand| Some((operand.id?, self.known(operand)?))) else {
            return Some(finding);
        };
        let most = if finding.rule.number == 37 { range.high } else { range.largest() };
        if most > limit {
            finding.message += &format!("; `{parameter}` may reach {}{}", shown(most), self.reason(&[id]));
            return Some(finding);
        }
        let stated = self.bounds.because_of(id).iter().all(|&input| self.input(input).1);
        (!stated).then_some(finding)
    }

    /// An input's range, and whether it is stated.
    fn input(&self, id: ValueId) -> (Interval, bool) {
        let value = self.of().value(id);
        let dtype = value.ty.held_tensor().map_or(DType::Fp16, |ty| ty.dtype);
        self.assumptions.of(&value.name, dtype)
    }

    /// Which inputs are the reason, as the end of a message.
    fn reason(&self, ids: &[ValueId]) -> String {
        /// So many are named.
        const MOST: usize = 3;
        let mut inputs: Vec<ValueId> = Vec::new();
        for id in ids.iter().flat_map(|&id| self.bounds.because_of(id)) {
            if !inputs.contains(id) {
                inputs.push(*id);
            }
        }
        if inputs.is_empty() {
            return ", whatever the inputs hold".to_string();
        }
        let named = |&id: &ValueId| {
            let (range, stated) = self.input(id);
            let assumed = if stated { "" } else { "assumed " };
            format!("`{}` ({assumed}within {range})", self.of().value(id).name)
        };
        let mut names: Vec<String> = inputs.iter().take(MOST).map(named).collect();
        if inputs.len() > MOST {
            names.push("others".to_string());
        }
        let last = names.pop().unwrap_or_default();
        let names = if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) };
        let hint = match inputs.iter().find(|&&id| !self.input(id).1) {
            Some(&id) => format!("; `--range {}=LO..HI` says otherwise", self.of().value(id).name),
            None => String::new(),
        };
        format!(", because of {names}{hint}")
    }
}

/// The exponent of a number, as the engine reads it from fp16.
fn exponent(value: f64) -> i32 {
    (value.log2().floor() as i32).max(LEAST_EXPONENT)
}

/// A number for people: an integer that is not too large, or three digits and the exponent.
fn shown(value: f64) -> String {
    if value.abs() < 1e6 && (value.fract() == 0.0 || value.abs() >= 1000.0) {
        format!("{value:.0}")
    } else {
        format!("{value:.2e}")
    }
}
