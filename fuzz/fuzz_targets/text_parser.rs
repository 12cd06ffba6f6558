//! Any text is read, printed, read again and verified; whatever verifies runs. See `pipeline.rs`.
#![no_main]

use anemone_mil::weights::WeightMap;
use libfuzzer_sys::fuzz_target;

// One file for all who run hostile inputs; each uses a part of it.
#[allow(dead_code)]
#[path = "../../crates/cli/tests/mutation/pipeline.rs"]
mod pipeline;

fuzz_target!(|text: &str| {
    pipeline::exercise(text, &WeightMap::default());
});
