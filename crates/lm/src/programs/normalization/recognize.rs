//! Finding the fp16 RMSNorm of this module in a program, so that its gradient is its own and not that of its parts.
//!
//! The derivative of every part overflows fp16 where the whole does not: Σ dx̂·(x·q) is up to 2^15 times the largest
//! dx̂. The module's backward keeps every value in range.

use std::collections::HashMap;

use anemone_mil::builder::{BuildError, FunctionBuilder};
use anemone_mil::grad::{Group, GroupGradient};
use anemone_mil::ops::call;
use anemone_mil::program::{Argument, Function, LiteralValue, Op, OpId, ValueId, Version};
use anemone_mil::types::DType;

use super::{Normalized, normalize_backward, normalize_scaled};

/// An RMSNorm x̂ = x·r, found in a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognized {
    inputs: [String; 1],
    output: String,
    /// q and s, whose product is r.
    factors: [String; 2],
    /// Channels D.
    dim: usize,
}

impl Recognized {
    /// The ops with their rule, for a request to differentiate.
    ///
    /// `group` borrows `rule`, which [`Recognized::rule`] makes.
    pub fn group<'a>(
        &'a self,
        names: &'a [&'a str; 1],
        rule: &'a anemone_mil::grad::GroupRule<'a>,
    ) -> Group<'a> {
        Group { inputs: names, output: &self.output, rule }
    }

    /// The name of x.
    pub fn input(&self) -> [&str; 1] {
        [&self.inputs[0]]
    }

    /// Builds dx from dx̂.
    pub fn rule(
        &self,
    ) -> impl Fn(&GroupGradient, &mut FunctionBuilder) -> Result<Vec<ValueId>, BuildError> + '_ {
        move |gradient, f| {
            let [q, s] = self.factors.each_ref().map(|name| f.function().value_named(name));
            let reciprocal = match (q, s) {
                (Some(q), Some(s)) => Some(f.bind("reciprocal_rms", call::mul(q, s))?),
                _ => None,
            };
            let normalized = Normalized { x_hat: gradient.output, reciprocal };
            Ok(vec![normalize_backward(f, &normalized, gradient.d_output, self.dim, "d_x_normalized")?])
        }
    }
}

/// Every fp16 RMSNorm of this module in a function of a program of this version, whatever its epsilon.
pub fn recognize(function: &Function, version: Version) -> Vec<Recognized> {
    let ops: Vec<OpId> =
        function.body.ops.iter().copied().filter(|&id| !is_constant(function.op(id))).collect();
    (0..ops.len()).filter_map(|first| recognize_at(function, version, &ops[first..])).collect()
}

fn is_constant(op: &Op) -> bool {
    op.arguments.is_empty() && op.attributes.get("val").is_some()
}

fn recognize_at(function: &Function, version: Version, ops: &[OpId]) -> Option<Recognized> {
    let first = function.op(*ops.first()?);
    if first.name != "abs" {
        return None;
    }
    let x = first.reads().next()?;
    let ty = function.value(x).ty.as_tensor().filter(|ty| ty.dtype == DType::Fp16)?;
    let dims = ty.shape.to_known()?;
    let &[_, dim, 1, _] = dims.as_slice() else { return None };
    let mut template = FunctionBuilder::new("template", version, function.opset);
    let template_x = template.input("x", ty);
    let normalized = normalize_scaled(&mut template, template_x, dim, 1e-5, false).ok()?;
    let template = template.finish([normalized.x_hat]);
    let found = matches(&template, template_x, function, x, ops)?;
    let name = |template_name: &str| {
        let id = template.value_named(template_name)?;
        Some(function.value(*found.get(&id)?).name.clone())
    };
    Some(Recognized {
        inputs: [function.value(x).name.clone()],
        output: function.value(*found.get(&normalized.x_hat)?).name.clone(),
        factors: [name("scale_factor")?, name("reciprocal_rms_factor")?],
        dim,
    })
}

/// The values of a function that stand for those of the template, if its ops are the template's, in their order.
fn matches(
    template: &Function,
    template_x: ValueId,
    function: &Function,
    x: ValueId,
    ops: &[OpId],
) -> Option<HashMap<ValueId, ValueId>> {
    let mut found = HashMap::from([(template_x, x)]);
    let wanted = template.body.ops.iter().map(|&id| template.op(id)).filter(|op| !is_constant(op));
    let mut ops = ops.iter().map(|&id| function.op(id));
    for wanted in wanted {
        let op =
            ops.next().filter(|op| op.name == wanted.name && op.arguments.len() == wanted.arguments.len())?;
        for (name, argument) in wanted.arguments.iter() {
            let (Argument::Value(expected), Argument::Value(given)) = (argument, op.arguments.get(name)?)
            else {
                return None;
            };
            match found.get(expected) {
                Some(value) if value == given => {}
                Some(_) => return None,
                // √ε in the units of the scale is the one constant that may be another.
                None => {
                    let any = template.value(*expected).name == "scaled_root_eps_y_0";
                    let (expected, given) = (constant(template, *expected)?, constant(function, *given)?);
                    if !(any || expected == given) {
                        return None;
                    }
                }
            }
        }
        found.extend(wanted.results.iter().copied().zip(op.results.iter().copied()));
    }
    Some(found)
}

/// The value of a constant.
fn constant(function: &Function, id: ValueId) -> Option<&LiteralValue> {
    let op = function.body.ops.iter().map(|&op| function.op(op)).find(|op| op.results.contains(&id))?;
    op.attributes.get("val").map(|literal| &literal.value)
}
