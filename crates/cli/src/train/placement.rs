//! What of a training step runs where, and why.

use std::error::Error;

use anemone_ane::chips::Chips;
use anemone_lm::config::Config;
use anemone_mil::verify::Verified;

use crate::common::Output;
use crate::common::engine::own_chip;
use crate::common::legal::{legal_layer, purpose};
use crate::common::runtime::RuntimeName;

use super::{Args, Offload};

/// The layers' way to the engine.
pub(super) struct Placement {
    /// The chips whose rules the layers' programs keep.
    chips: Chips,
    /// What the rewriting is called, in messages and in checkpoints.
    name: String,
}

impl Placement {
    /// That of a run on the engine or its simulator, with its layers.
    pub(super) fn of(args: &Args) -> Option<Placement> {
        let on_engine = matches!(args.runtime, RuntimeName::Ane | RuntimeName::AneSim);
        if !on_engine || args.offload != Offload::All {
            return None;
        }
        let given = args.simulator.chip.or_else(own_chip);
        let chips = given.map_or(Chips::ALL, Chips::from);
        Some(Placement { chips, name: purpose(chips) })
    }

    /// What the rewriting is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A layer's program as the chips take it; what changed is told where details are wanted.
    ///
    /// # Errors
    ///
    /// Those of [`legal_layer`].
    pub(super) fn rewrite(
        &self,
        program: &Verified,
        output: &Output,
    ) -> Result<Verified, Box<dyn Error + Send + Sync>> {
        legal_layer(program, self.chips, output)
    }
}

/// Where the parts of a step run, for a run on the engine or its simulator; `layers` says how the layers get there, if
/// they do.
pub(super) fn plan(config: &Config, runtime: &str, layers: Option<&Placement>) -> String {
    let mut lines = vec![format!("on {runtime}:")];
    let count = config.model.layers;
    if let Some(placement) = layers {
        lines.push(format!(
            "  layers     3 programs, {}, for all {count}: forward, forward that keeps what backward needs, backward; \
             weights are inputs, so that none is compiled again (R8)",
            placement.name
        ));
    }
    lines.push(
        "  head       5 programs: final RMSNorm, logits, softmax, and the backward of logits and RMSNorm"
            .into(),
    );
    lines.push("on the host:".into());
    let on_host = [
        (count > 0 && layers.is_none()).then_some(("layers", "`--offload all` gives them to the engine")),
        Some((
            "embedding",
            "rows are looked up by token, and their gradients added: the engine gathers by constant indices alone \
             (R27), and does not scatter (R28)",
        )),
        (count > 0).then_some((
            "between",
            "what layers give, [B, D, 1, T], is copied to the head's [1, D, 1, B·T], and gradients back: a \
             program that only moves is refused (R26)",
        )),
        Some(("loss", "targets are integers (R14), and its sums are taken in wider numbers than fp16 (R54)")),
        Some((
            "dE",
            "its sums over all positions, times the loss scale, may pass what the engine's products hold (R52)",
        )),
        Some((
            "optimizer",
            "weights, their moments, gradients, clipping and the loss scale are fp32; the engine computes in fp16 (R15)",
        )),
        Some(("sample", "programs of one position would be compiled for it alone (R8)")),
    ];
    lines.extend(on_host.into_iter().flatten().map(|(part, why)| format!("  {part:<10} {why}")));
    lines.join("\n")
}
