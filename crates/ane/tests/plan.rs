//! Plans of the head: what is refused and in which words, and what the numbers of a plan add up to.

#![allow(clippy::unwrap_used)]

use anemone_ane::chips::Chip;
use anemone_ane::device::Weights;
use anemone_ane::plan::{self, Form, HeadPlan, HeadSizes, PlanError, Role};

const FORMS: [Form; 2] = [Form::Logits, Form::Fused];

fn sizes(vocab: usize, dim: usize, positions: usize) -> HeadSizes {
    HeadSizes { vocab, dim, positions }
}

fn plan(sizes: HeadSizes, chip: Chip, weights: Weights, form: Form) -> HeadPlan {
    plan::head(sizes, chip, weights, form).unwrap()
}

/// The one reason for which both forms are refused, whose words must contain these.
fn refused(sizes: HeadSizes, chip: Chip, weights: Weights, words: &[&str]) -> PlanError {
    let [error, fused] = FORMS.map(|form| plan::head(sizes, chip, weights, form).unwrap_err());
    let kind = std::mem::discriminant::<PlanError>;
    assert_eq!(kind(&error), kind(&fused), "{error}, {fused}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in {error}");
    }
    error
}

#[test]
fn a_dimension_of_0_is_named() {
    for (empty, what) in [
        (sizes(0, 8, 16), "vocabulary"),
        (sizes(8, 0, 16), "model dimension"),
        (sizes(8, 8, 0), "number of positions"),
    ] {
        for chip in Chip::ALL {
            let error = refused(empty, chip, Weights::Inputs, &["is 0; it must be at least 1"]);
            assert_eq!(error, PlanError::Empty(what));
        }
    }
}

/// The longest D and S of each chip, and the rule that refuses the next.
#[test]
fn what_is_not_cut_keeps_the_limits_of_the_chip() {
    use Chip::*;
    for (chips, dim, dim_rule, positions, positions_rule) in
        [(&[M1, M2, M3][..], 16384, "R1", 16384, "R1"), (&[M4, M5, M6][..], 31999, "R4", 32768, "R3")]
    {
        for &chip in chips {
            for form in FORMS {
                plan(sizes(64, dim, 16), chip, Weights::Inputs, form);
                plan(sizes(64, 32, positions), chip, Weights::Inputs, form);
            }
            let name = chip.to_string();
            let longer = sizes(64, dim + 1, 16);
            let words = [&name[..], "the model dimension is", dim_rule, "only the vocabulary is cut"];
            let error = refused(longer, chip, Weights::Inputs, &words);
            let (what, length) = ("model dimension", dim + 1);
            assert_eq!(error, PlanError::Length { chip, what, length, most: dim, rule: dim_rule });
            // Positions are filled up to a multiple of 16.
            let longer = sizes(64, 32, positions + 1);
            let words = [&name[..], "the number of positions is", positions_rule];
            let error = refused(longer, chip, Weights::Baked, &words);
            let (what, length) = ("number of positions", positions + 16);
            assert_eq!(
                error,
                PlanError::Length { chip, what, length, most: positions, rule: positions_rule }
            );
        }
    }
}

#[test]
fn too_many_programs_with_baked_weights_are_refused_and_inputs_are_the_remedy() {
    for (chip, most) in [(Chip::M3, 55), (Chip::M5, 110), (Chip::M4, 119)] {
        let vocab = 3_200_000;
        let words = [&chip.to_string()[..], "baked weights", "give the weights as inputs"];
        let error = refused(sizes(vocab, 768, 16), chip, Weights::Baked, &words);
        let PlanError::Programs { chip: of, rows, programs, most: allowed } = error else {
            panic!("{error:?}")
        };
        assert_eq!((of, allowed), (chip, most));
        // The first tile has 16352 rows: the fewest even ones within 16384, in multiples of 32. Forward and backward
        // are programs of each tile; softmax and weight gradient, of each length; the norm has two.
        let tiles = vocab.div_ceil(rows);
        assert_eq!((rows, programs), (16352, 2 * tiles + 2 * 2 + 2));
        for form in FORMS {
            assert!(plan(sizes(vocab, 768, 16), chip, Weights::Inputs, form).programs.len() <= 10);
        }
    }
}

/// No size overflows, allocates without bound or panics.
#[test]
fn the_largest_numbers_are_refused() {
    plan(sizes(1 << 24, 31999, 32768), Chip::M4, Weights::Inputs, Form::Logits);
    for weights in [Weights::Inputs, Weights::Baked] {
        for [dim, positions] in [[usize::MAX, 16], [16, usize::MAX], [usize::MAX, usize::MAX]] {
            refused(sizes(8, dim, positions), Chip::M4, weights, &["allows"]);
        }
        for vocab in [(1 << 24) + 1, usize::MAX] {
            let error = refused(sizes(vocab, 16, 16), Chip::M4, weights, &["at most 16777216"]);
            assert_eq!(error, PlanError::Vocabulary(vocab));
        }
    }
}

/// What a plan says of a step is the sum of what its dispatches take.
#[test]
fn a_step_is_the_sum_of_its_dispatches() {
    for (chip, form) in Chip::ALL.into_iter().flat_map(|chip| FORMS.map(|form| (chip, form))) {
        for weights in [Weights::Inputs, Weights::Baked] {
            let plan = plan(sizes(50257, 768, 250), chip, weights, form);
            assert_eq!((plan.head.positions, plan.positions), (250, 256));
            let each = || plan.programs.iter().map(|program| (program, program.tiles.len()));
            assert_eq!(plan.dispatches, each().map(|(_, times)| times).sum::<usize>());
            assert_eq!(plan.bytes, each().map(|(p, times)| p.bytes * times as u64).sum::<u64>());
            let ms: f64 = each().map(|(p, times)| p.ms * times as f64).sum();
            assert!((plan.ms - ms).abs() < 1e-9 * ms);
            for (program, _) in each() {
                let buffers = program.inputs.iter().chain(&program.outputs);
                let bytes: u64 = buffers.map(|buffer| buffer.bytes).sum();
                assert_eq!(program.bytes, bytes + program.weight_bytes, "{}", program.name);
            }
            // Every role that reads rows of E reads each row once.
            let reading = || each().filter(|(program, _)| program.role.reads_embedding());
            for role in reading().map(|(program, _)| program.role) {
                let of_role = reading().filter(|(program, _)| program.role == role);
                let rows: usize = of_role.flat_map(|(p, _)| p.tiles.iter().map(|tile| tile.len())).sum();
                assert_eq!(rows, 50257, "{role:?}");
            }
            let ends = [plan.programs.first(), plan.programs.last()].map(|program| program.unwrap().role);
            assert_eq!(ends, [Role::FinalRmsnorm, Role::RmsnormBackward]);
        }
    }
}
