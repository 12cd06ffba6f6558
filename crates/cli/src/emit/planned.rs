//! The head as it is planned for a chip: programs for vocabulary tiles, and their weights.

use anemone_ane::chips::Chip;
use anemone_ane::device::Weights;
use anemone_ane::plan::{self, Form, HeadPlan, PlannedProgram, Role};
use anemone_lm::config::DeviceDtype;
use anemone_lm::programs::head::tiled::{Rows, Tile};
use anemone_lm::programs::head::{EPS, Head};
use anemone_lm::programs::{ProgramError, Target};
use anemone_mil::program::Program;
use anemone_mil::tensor::{Tensor, TensorError};

use super::{HeadArgs, embed, gain, write_program, write_weight};
use crate::common::files::{self, refuse_overwriting};
use crate::common::{Failure, Output};

/// The gain's file under `weights/`.
const GAIN_FILE: &str = "rms_w.bin";

/// Writes the programs of the plan, and the weights: E whole where programs take rows of it as an input, and a file
/// for each tile where they hold them.
///
/// # Errors
///
/// When no tiling keeps the chip's limits, an array cannot be read, or a file cannot be written.
pub(super) fn emit(args: &HeadArgs, chip: Chip, output: &Output) -> Result<(), Failure> {
    let form = if args.fused { Form::Fused } else { Form::Logits };
    let plan = plan::head(crate::plan::sizes(args.dimensions), chip, args.weights.into(), form)?;
    let programs: Vec<_> =
        plan.programs.iter().map(|program| (program.name.as_str(), build(&plan, program))).collect();
    let paths: Vec<_> = programs.iter().map(|(name, _)| args.out.join(format!("{name}.mil"))).collect();
    let directory = args.out.join("weights");
    let names = weight_files(&plan);
    let weights: Vec<_> = names.iter().map(|(name, _)| directory.join(name)).collect();
    refuse_overwriting(weights.iter().chain(&paths), args.embed.iter().chain(&args.gain))?;

    let head = head(&plan, plan.head.vocab);
    let (gain, embed) = (gain(args, &head)?, embed(args, &head)?);
    files::make_directory(&directory)?;
    for (path, (name, rows)) in weights.iter().zip(names) {
        let tensor = match name.as_str() {
            GAIN_FILE => gain.clone().reshaped(&[1, plan.head.dim, 1, 1])?,
            _ => rows_of(&embed, rows, plan.head.dim)?,
        };
        write_weight(path, &tensor, output)?;
    }
    for (path, (_, program)) in paths.iter().zip(programs) {
        write_program(path, &program?, output)?;
    }
    Ok(())
}

/// The dimensions of a program on so many rows. M1 and M2 read the first dialect (R30).
fn head(plan: &HeadPlan, rows: usize) -> Head {
    let target = match plan.chip {
        Chip::M1 | Chip::M2 => Target::first_dialect(DeviceDtype::Fp16),
        _ => Target::new(DeviceDtype::Fp16),
    };
    Head { vocab: rows, dim: plan.head.dim, positions: plan.positions, eps: EPS, target }
}

/// The file with a tile's rows of E, where they are baked.
fn embed_file(plan: &HeadPlan, first_row: usize) -> String {
    let index = plan.tiles.iter().position(|tile| tile.start == first_row).unwrap_or(0);
    format!("embed_{index}.bin")
}

/// The files under `weights/`, with the rows of E in each.
fn weight_files(plan: &HeadPlan) -> Vec<(String, std::ops::Range<usize>)> {
    let gain = (GAIN_FILE.to_string(), 0..0);
    let embed = match plan.weights {
        Weights::Inputs => vec![("embed.bin".to_string(), 0..plan.head.vocab)],
        Weights::Baked => {
            plan.tiles.iter().map(|tile| (embed_file(plan, tile.start), tile.clone())).collect()
        }
    };
    std::iter::once(gain).chain(embed).collect()
}

/// Rows of E `[V, D]`, as `[1, 1, V_i, D]`.
fn rows_of(embed: &Tensor, rows: std::ops::Range<usize>, dim: usize) -> Result<Tensor, TensorError> {
    let values: &[half::f16] = embed.as_slice().ok_or(TensorError::Storage(embed.dtype()))?;
    let values = values.get(rows.start * dim..rows.end * dim).unwrap_or_default().to_vec();
    Tensor::from_values(&[1, 1, rows.len(), dim], values)
}

/// The program that a plan names.
fn build(plan: &HeadPlan, program: &PlannedProgram) -> Result<Program, ProgramError> {
    let first_row = program.tiles.first().map_or(0, |tile| tile.start);
    let file = match program.role {
        Role::FinalRmsnorm | Role::RmsnormBackward => GAIN_FILE.to_string(),
        _ => embed_file(plan, first_row),
    };
    let rows = match plan.weights {
        Weights::Inputs => Rows::Input,
        Weights::Baked => Rows::Blob(&file),
    };
    let head = head(plan, program.rows());
    let tile = Tile { head, rows };
    match program.role {
        Role::FinalRmsnorm => tile.final_rmsnorm(),
        Role::ClassifierForward => tile.forward(),
        Role::Softmax => head.softmax(),
        Role::SoftmaxTile => tile.softmax(),
        Role::ClassifierBackward => tile.backward(),
        Role::WeightGradient => tile.weight_gradient(),
        Role::FusedForward => tile.fused_forward(),
        Role::FusedWeightGradient => tile.fused_weight_gradient(),
        Role::RmsnormBackward => tile.rmsnorm_backward(),
    }
}

#[cfg(test)]
mod numbers;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use anemone_ane::plan::HeadSizes;
    use anemone_ane::rules;
    use anemone_mil::error::Severity;
    use anemone_mil::verify::verify;

    use super::*;

    /// The sizes of the models that people train, on every chip, in both forms, with weights as inputs and baked.
    #[test]
    fn plans_keep_the_rules_of_every_chip() {
        let mut seen = HashSet::new();
        for vocab in [256, 4096, 32000, 50257, 128_256, 151_936, 262_144] {
            for (dim, positions) in [288, 768, 2048].into_iter().flat_map(|d| [16, 256, 1024].map(|s| (d, s)))
            {
                for (chip, form) in Chip::ALL.into_iter().flat_map(|c| [(c, Form::Logits), (c, Form::Fused)])
                {
                    let sizes = HeadSizes { vocab, dim, positions };
                    for weights in [Weights::Inputs, Weights::Baked] {
                        let plan = match plan::head(sizes, chip, weights, form) {
                            Ok(plan) => plan,
                            Err(error) => {
                                let few = weights == Weights::Baked && error.to_string().contains("baked");
                                assert!(few, "{sizes:?} {chip}: {error}");
                                continue;
                            }
                        };
                        assert!(plan.programs.len() <= plan.most_programs);
                        for program in &plan.programs {
                            let key = (program.role, program.rows(), dim, positions, chip, weights as u8);
                            if seen.insert(key) {
                                keeps_the_rules(&plan, program);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Checks that the program is what the plan says, and no rule that is measured is broken.
    fn keeps_the_rules(plan: &HeadPlan, program: &PlannedProgram) {
        let verified = verify(build(plan, program).unwrap()).unwrap();
        let function = &verified.program().functions[0];
        let found = |ids: &[anemone_mil::program::ValueId]| -> Vec<(String, Vec<usize>)> {
            let values = ids.iter().map(|&id| function.value(id));
            let shape = |ty: &anemone_mil::types::Type| ty.as_tensor().unwrap().shape.to_known().unwrap();
            values.map(|value| (value.name.clone(), shape(&value.ty))).collect()
        };
        let planned = |buffers: &[plan::Buffer]| -> Vec<(String, Vec<usize>)> {
            buffers.iter().map(|buffer| (buffer.name.to_string(), buffer.shape.clone())).collect()
        };
        assert_eq!(found(&function.body.inputs), planned(&program.inputs), "{}", program.name);
        assert_eq!(found(&function.body.outputs), planned(&program.outputs), "{}", program.name);
        let findings = rules::check(&verified, plan.chip.into());
        let errors: Vec<_> = findings.iter().filter(|f| f.severity() == Severity::Error).collect();
        assert!(errors.is_empty(), "{} on {}: {errors:?}", program.name, plan.chip);
    }
}
