//! Any bytes are read as a Core ML model, a package's manifest and a compiled model's description; what is read is
//! written again, and compared.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/coreml/tests/mutation/pipeline.rs"]
mod pipeline;

fuzz_target!(|bytes: &[u8]| {
    let _ = pipeline::exercise(bytes);
});
