//! The weight files that a program refers to.

use std::path::{Path, PathBuf};

use anemone_mil::program::Program;
use anemone_mil::weights::MODEL_PATH;

use super::Output;

/// Says where the weights are that a program refers to, if it was written elsewhere.
pub(crate) fn tell_of_weights_elsewhere(program: &Program, out: &Path, directory: &Path, output: &Output) {
    let beside = out.parent().unwrap_or(Path::new(""));
    let missing = blob_paths(program)
        .filter_map(below_model_path)
        .any(|path| directory.join(path).exists() && !beside.join(path).exists());
    if missing {
        let (here, there) = (out.display(), directory.display());
        output.message(format_args!(
            "{here} refers to weights that are in {there}: `--weights {there}` finds them"
        ));
    }
}

/// The weight files that a program refers to, where `@model_path` is `directory`.
pub(crate) fn referred_to(program: &Program, directory: &Path) -> Vec<PathBuf> {
    blob_paths(program).filter_map(|path| Some(directory.join(below_model_path(path)?))).collect()
}

/// The paths of the weight files that a program refers to.
pub(crate) fn blob_paths(program: &Program) -> impl Iterator<Item = &str> {
    program.blobs().map(|reference| reference.path.as_str())
}

/// What follows `@model_path/` in a path.
pub(crate) fn below_model_path(path: &str) -> Option<&str> {
    path.strip_prefix(MODEL_PATH)?.strip_prefix('/')
}
