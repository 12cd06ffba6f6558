//! Legalisation: programs that a chip refuses, or gets wrong, made into ones that compute the same and that it takes.
//!
//! Each [`Pass`] mends what one rule, or a few, are about; [`legalize`] applies those of a chip's rules until nothing
//! changes, and checks what came out. Where dimensions are too long for a chip, products are cut into tiles, and what
//! reads them computes tile by tile, up to inputs and outputs, which become several: `logits_0`, `logits_1`, …

use std::collections::HashSet;

use anemone_mil::eval::Budget;
use anemone_mil::passes::{self, PassError, Rewritten};
use anemone_mil::program::{IdMap, OpId, ValueId, Version};
use anemone_mil::verify::{CONST, Verified};
use anemone_mil::weights::WeightSource;

use crate::chips::{Chip, Chips};
use crate::rules::{self, Finding, Rule};

mod arithmetic;
mod attention;
mod build;
mod endings;
mod functions;
mod limits;
mod parameters;
mod ports;
mod products;
mod ranks;
mod rows;
mod slices;
mod states;
mod tiles;

pub(crate) use parameters::named_parameters;
pub(crate) use products::convolutions_to_products;

/// A pass for the engine.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Its name.
    pub name: &'static str,
    /// The numbers of the rules that it mends.
    pub rules: &'static [u8],
    /// What it does.
    pub what: &'static str,
    apply: fn(&Verified, Chips) -> Result<Rewritten, PassError>,
}

impl Pass {
    /// Applies it, whether a chip's rules ask for it or not; limits are those of all these chips together.
    ///
    /// # Errors
    ///
    /// When an op that is to be added is not in the function's opset, or the result does not verify.
    pub fn apply(&self, program: &Verified, chips: Chips) -> Result<Rewritten, PassError> {
        (self.apply)(program, chips)
    }
}

/// Every pass for the engine, in the order in which [`legalize`] applies them.
pub static PASSES: &[Pass] = &[
    Pass {
        name: "states",
        rules: &[42],
        what: "what states hold as inputs and outputs",
        apply: states::states,
    },
    Pass {
        name: "half-ports",
        rules: &[15, 43],
        what: "fp16 for inputs and outputs in fp32 that are cast to or from it",
        apply: ports::half_ports,
    },
    Pass {
        name: "slices",
        rules: &[29],
        what: "slices of the last axis as slices of another",
        apply: slices::slices,
    },
    Pass {
        name: "named-parameters",
        rules: &[16, 21, 50],
        what: "every parameter written, as a constant with a name",
        apply: parameters::named_parameters,
    },
    Pass {
        name: "attention",
        rules: &[17],
        what: "attention with a mask written out",
        apply: attention::attention,
    },
    Pass {
        name: "zero-factors",
        rules: &[38],
        what: "a reduction times 0 as a difference",
        apply: arithmetic::zero_factors,
    },
    Pass {
        name: "reduce-mean",
        rules: &[23],
        what: "`reduce_mean` as a sum times 1/n",
        apply: arithmetic::reduce_mean,
    },
    Pass {
        name: "roots",
        rules: &[18],
        what: "roots of what reductions give as powers",
        apply: arithmetic::roots,
    },
    Pass {
        name: "epsilons",
        rules: &[19],
        what: "`rsqrt`, `log` and `inverse` with their `epsilon`",
        apply: arithmetic::epsilons,
    },
    Pass { name: "square", rules: &[39], what: "`square` as a product", apply: arithmetic::square },
    Pass { name: "gelu", rules: &[22], what: "`gelu` written out", apply: functions::gelu },
    Pass { name: "silu", rules: &[56], what: "`silu` as a product with `sigmoid`", apply: functions::silu },
    Pass {
        name: "softplus",
        rules: &[37],
        what: "`softplus` kept from overflowing",
        apply: functions::softplus,
    },
    Pass { name: "round", rules: &[36], what: "`round` with `floor`", apply: functions::round },
    Pass {
        name: "scalar-factors",
        rules: &[35],
        what: "scalars that what was rounded is multiplied by, in full shape",
        apply: arithmetic::scalar_factors,
    },
    Pass {
        name: "cumsum",
        rules: &[28],
        what: "`cumsum` as a product with a triangle of ones",
        apply: functions::cumsum,
    },
    Pass {
        name: "layer-norm",
        rules: &[40],
        what: "gamma and beta of long rows applied apart",
        apply: arithmetic::layer_norm,
    },
    Pass {
        name: "several-inputs",
        rules: &[1, 2],
        what: "an input that is too long as several",
        apply: ports::several_inputs,
    },
    Pass {
        name: "tiles-onward",
        rules: &[1, 2],
        what: "what reads a value that is too long computed tile by tile",
        apply: tiles::tiles_onward,
    },
    Pass {
        name: "conv-to-matmul",
        rules: &[4, 25, 44],
        what: "1×1 convolutions of 32000 channels or more, or of computed weights, as matrix products",
        apply: products::conv_to_matmul,
    },
    Pass {
        name: "conv-bias",
        rules: &[20],
        what: "the bias of a convolution added apart",
        apply: arithmetic::conv_bias,
    },
    Pass {
        name: "linear-to-matmul",
        rules: &[1, 2, 3],
        what: "`linear` as `matmul` where it must be cut",
        apply: products::linear_to_matmul,
    },
    Pass {
        name: "output-tiles",
        rules: &[1, 2, 5],
        what: "rows, columns and channels of products in tiles",
        apply: products::output_tiles,
    },
    Pass {
        name: "inner-tiles",
        rules: &[1, 2, 3],
        what: "sums of products in tiles, with partial sums",
        apply: products::inner_tiles,
    },
    Pass {
        name: "folded-axes",
        rules: &[6, 45],
        what: "transposes and products of too many axes with some folded into one",
        apply: ranks::folded_axes,
    },
    Pass {
        name: "computed-outputs",
        rules: &[26, 47],
        what: "outputs that are inputs, or were only moved, multiplied by 1",
        apply: endings::computed_outputs,
    },
    Pass {
        name: "several-outputs",
        rules: &[1, 2, 16],
        what: "an output that is too long, and joined from tiles, as those",
        apply: ports::several_outputs,
    },
    Pass {
        name: "full-rows",
        rules: &[11],
        what: "the last axes of inputs and outputs folded into one that is a multiple of 16",
        apply: rows::full_rows,
    },
    Pass {
        name: "reshapes",
        rules: &[6, 11],
        what: "a reshape of a reshape made at once",
        apply: rows::reshapes,
    },
];

/// The pass of a name.
pub fn pass(name: &str) -> Option<&'static Pass> {
    PASSES.iter().find(|pass| pass.name == name)
}

/// The passes that mend what a rule is about; none does where an op must be computed elsewhere, or the program cut.
pub fn passes_for(rule: &Rule) -> impl Iterator<Item = &'static Pass> {
    PASSES.iter().filter(|pass| pass.rules.contains(&rule.number))
}

/// What [`legalize`] made of a program.
#[derive(Debug, Clone)]
pub struct Legalized {
    /// The program, and what was changed.
    pub rewritten: Rewritten,
    /// Where it still does not keep a rule.
    pub findings: Vec<Finding>,
    /// The constants in weight files that were not read, so that ops cut or reshape them in every run.
    pub unread: Vec<String>,
}

/// The most rounds of all passes; each ends something that the next may go on from.
const ROUNDS: usize = 16;
/// What may be computed of constants: the largest weights that a program may have (R48), read, reshaped and cut.
const FOLDING: Budget = Budget { elements: 1 << 31, work: 1 << 34 };

/// Applies the passes for the rules of these chips until nothing changes, and says what is left. What is cut off a
/// constant becomes a constant, too, if its value stands in the program or `weights` are given; else an op cuts it.
///
/// # Errors
///
/// Those of [`Pass::apply`], and when a weight cannot be read.
pub fn legalize(
    program: &Verified,
    chips: Chips,
    weights: Option<&dyn WeightSource>,
) -> Result<Legalized, PassError> {
    let ids = program.program().functions.iter().map(IdMap::identity).collect();
    let mut all = Rewritten { program: program.clone(), ids, changes: Vec::new() };
    let wanted = PASSES.iter().filter(|pass| is_wanted(pass, chips));
    for _ in 0..ROUNDS {
        let before = all.changes.len();
        // What nothing needs keeps no rule, and hides what is left.
        let next = passes::dead_code(&all.program)?;
        follow(&mut all, Some("dead-code"), next);
        for pass in wanted.clone() {
            let next = pass.apply(&all.program, chips)?;
            follow(&mut all, Some(pass.name), next);
        }
        if all.changes.len() == before {
            break;
        }
        let folded = passes::fold_constants(&all.program, weights, FOLDING)?;
        follow(&mut all, None, folded);
    }
    if !all.changes.is_empty() {
        // Tiles have constants alike, and each its own.
        let next = passes::common_subexpressions(&all.program)?;
        follow(&mut all, Some("common-subexpressions"), next);
    }
    let next = passes::dead_code(&all.program)?;
    follow(&mut all, Some("dead-code"), next);
    if !chips.and(Chips::until(Chip::M2)).is_empty() && all.program.program().version > Version::V1_0 {
        // Where the older dialect lacks an op, the rule stays unkept, and is among the findings.
        match passes::dialect(&all.program, Version::V1_0) {
            Err(PassError::Unsound(_)) => {}
            other => follow(&mut all, Some("dialect"), other?),
        }
    }
    let findings = rules::check(&all.program, chips);
    let unread = unread(&all.program);
    Ok(Legalized { rewritten: all, findings, unread })
}

/// The constants in weight files that ops compute with which take nothing else that is not constant.
fn unread(program: &Verified) -> Vec<String> {
    let mut names = Vec::new();
    for (index, function) in program.program().functions.iter().enumerate() {
        let facts = program.facts(index);
        let in_files = function.walk().filter(|(_, op)| op.name == CONST).flat_map(|(_, op)| &op.results);
        let in_files: HashSet<ValueId> =
            in_files.copied().filter(|&id| facts.constant(id).is_none()).collect();
        let folds = |id: OpId| program.row(index, id).is_some_and(|row| !row.constexpr);
        for (_, op) in function.walk().filter(|(id, _)| folds(*id)) {
            if op.reads().all(|read| facts.is_constant(read)) {
                let read = op.reads().filter(|read| in_files.contains(read));
                names.extend(read.map(|id| function.value(id).name.clone()));
            }
        }
    }
    names.dedup();
    names
}

/// Whether a pass mends a rule of one of these chips.
fn is_wanted(pass: &Pass, chips: Chips) -> bool {
    let rules = pass.rules.iter().filter_map(|&number| rules::find(number));
    rules.into_iter().any(|rule| !rule.chips.and(chips).is_empty())
}

/// Goes on with what a pass made.
fn follow(all: &mut Rewritten, pass: Option<&str>, next: Rewritten) {
    all.ids = all.ids.iter().zip(&next.ids).map(|(before, after)| before.then(after)).collect();
    all.program = next.program;
    if let Some(pass) = pass {
        all.changes.extend(next.changes.into_iter().map(|change| format!("{pass}: {change}")));
    }
}
