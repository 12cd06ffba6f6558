//! Is a program sound, are its weights there, and would the engine take it?

use anemone_ane::chips::Chips;
use anemone_ane::ranges::{self, Assumptions, RangeError};
use anemone_ane::rules;
use anemone_mil::error::{ErrorKind, Errors};
use anemone_mil::verify::verify_known;
use anemone_mil::weights::{WeightDirectory, WeightSource};

use crate::source::Source;

/// What a program is checked for beside being sound.
#[derive(Debug, Clone, Copy)]
pub struct Checks<'a> {
    /// The weights that it refers to; without any those of a model, which belong to it, and none of a program in text.
    pub weights: Option<&'a WeightDirectory>,
    /// The rules of the engines of these chips.
    pub chips: Option<Chips>,
    /// What its inputs' elements are among.
    pub assumptions: &'a Assumptions,
}

/// What was found in a program.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// What may be meant otherwise, or is only reported to be refused.
    pub warnings: Errors,
    /// What is wrong.
    pub errors: Errors,
}

/// Checks a program.
///
/// # Errors
///
/// When the assumptions are about inputs that it does not have.
pub fn check(source: &Source, checks: &Checks<'_>) -> Result<Checked, RangeError> {
    checks.assumptions.verify(&source.program)?;
    let (mut warnings, mut errors) = (source.warnings.clone(), Errors::default());
    // The rules name ops that are not known otherwise.
    let verified = match (source.verify(), checks.chips) {
        (Ok(verified), _) => Some(verified),
        (Err(found), Some(_)) => {
            errors = found;
            verify_known(source.program.clone()).ok()
        }
        (Err(found), None) => {
            errors = found;
            None
        }
    };
    let Some(verified) = verified else {
        return Ok(Checked { warnings: Errors::default(), errors });
    };
    warnings.extend(verified.warnings());
    if let Some(chips) = checks.chips {
        // R21 and R50 say it.
        warnings = warnings.without(ErrorKind::OmittedParameter);
        let found = rules::check(&verified, chips);
        let blobs = checks.weights.map(|weights| weights as &dyn WeightSource);
        let found = ranges::refine(found, &verified, chips, checks.assumptions, blobs);
        let (refused, doubtful) = rules::as_errors(&found);
        errors.extend(&refused);
        warnings.extend(&doubtful);
    }
    // A model's weights belong to it.
    let own = source.model.is_some().then(|| WeightDirectory::new(&source.model_path));
    if let Some(Err(found)) = checks.weights.or(own.as_ref()).map(|weights| source.verify_blobs(weights)) {
        errors.extend(&found);
    }
    Ok(Checked { warnings, errors })
}
