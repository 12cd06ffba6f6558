//! Any bytes are opened as a weight file, and everything in it is read.
#![no_main]

use anemone_mil::weights::BlobFile;
use libfuzzer_sys::fuzz_target;

// One file for all who run hostile inputs; each uses a part of it.
#[allow(dead_code)]
#[path = "../../crates/cli/tests/mutation/pipeline.rs"]
mod pipeline;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = BlobFile::from_bytes(bytes.to_vec()) {
        pipeline::exercise_file(&file);
    }
});
