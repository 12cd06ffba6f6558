//! `anemone plan`: how programs are cut for a chip, and why.

use anemone_ane::chips::Chip;
use anemone_ane::plan::{self, Form, HeadPlan, HeadSizes, PlannedProgram};

use crate::common::engine::WeightsName;
use crate::common::flags::HeadDimensions;
use crate::common::{Failure, Output};

/// Flags of `plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Plan the classifier head: with logits between programs, and fused
    Head(HeadArgs),
}

#[derive(Debug, clap::Args)]
struct HeadArgs {
    #[command(flatten)]
    dimensions: HeadDimensions,
    /// Chip: m1, m2, m3, m4, m5 or m6
    #[arg(long, value_name = "CHIP")]
    chip: Chip,
    /// How programs get their weights
    #[arg(long, value_enum, value_name = "HOW", default_value = "inputs")]
    weights: WeightsName,
}

/// Prints the plans of both forms.
///
/// # Errors
///
/// When a dimension is out of range, or no tiling keeps the chip's limits.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let What::Head(args) = &args.what;
    args.dimensions.validate()?;
    let sizes = sizes(args.dimensions);
    for form in [Form::Logits, Form::Fused] {
        let plan = plan::head(sizes, args.chip, args.weights.into(), form)?;
        output.result(describe(&plan), &plan);
    }
    Ok(())
}

/// The dimensions as plans have them.
pub(crate) fn sizes(dimensions: HeadDimensions) -> HeadSizes {
    HeadSizes { vocab: dimensions.vocab, dim: dimensions.dim, positions: dimensions.seq }
}

fn describe(plan: &HeadPlan) -> String {
    let HeadSizes { vocab, dim, positions } = plan.head;
    let form = match plan.form {
        Form::Logits => "with logits",
        Form::Fused => "fused",
    };
    let chip = plan.chip;
    let mut lines = vec![format!("head on {chip}, {form}: V = {vocab}, D = {dim}, S = {positions}")];
    lines.push(format!(
        "  {:<26} {:>6} {:>11} {:>9} {:>9} {:>9}",
        "program", "rows", "dispatches", "GFLOP", "MB", "ms"
    ));
    lines.extend(plan.programs.iter().map(row));
    lines.push(format!(
        "  a step: {} programs of at most {}, {} dispatches, {:.1} MB moved, about {:.2} ms",
        plan.programs.len(),
        plan.most_programs,
        plan.dispatches,
        megabytes(plan.bytes),
        plan.ms
    ));
    lines.extend(plan.reasons.iter().map(|reason| format!("  {reason}")));
    lines.push(String::new());
    lines.join("\n")
}

/// One program, with what one of its dispatches costs.
fn row(program: &PlannedProgram) -> String {
    format!(
        "  {:<26} {:>6} {:>11} {:>9.3} {:>9.2} {:>9.3}",
        program.name,
        program.rows(),
        program.tiles.len(),
        program.flops as f64 / 1e9,
        megabytes(program.bytes),
        program.ms
    )
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
