//! Random programs: what they give lies within its bounds.

use std::sync::Arc;

use anemone_mil::eval::Interpreter;
use anemone_mil::verify::verify;
use anemone_mil::weights::WeightMap;

use crate::bounds;
use crate::common::number;
use crate::execute::run;
use crate::fragments::Fragments;
use crate::generator;
use crate::programs::DEFAULT_PROGRAMS;

#[test]
fn results_of_random_programs_lie_within_their_bounds() {
    let fragments = Fragments::read();
    let first = number("ANEMONE_PROGRAM_FIRST", 0);
    let (mut ran, mut bounded) = (0, 0);
    for number in first..first + number("ANEMONE_PROGRAMS", DEFAULT_PROGRAMS) {
        let sample = generator::program(&fragments, number);
        let Ok(verified) = verify(sample.program.clone()).map(Arc::new) else { continue };
        for (function, inputs) in sample.program.functions.iter().zip(&sample.inputs) {
            let outcome =
                run(&Interpreter::default(), &verified, &function.name, inputs, &WeightMap::default());
            let Ok(outcome) = outcome else { continue };
            let inputs = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor));
            let checked = bounds::check(&verified, &function.name, inputs, outcome.results());
            bounded += checked.unwrap_or_else(|error| panic!("program {number}: {error}"));
            ran += 1;
        }
    }
    assert!(bounded > ran, "only {bounded} results of {ran} runs are bounded");
}
