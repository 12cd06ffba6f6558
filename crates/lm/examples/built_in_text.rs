//! Prints the built-in training text, for what is computed from it elsewhere:
//!
//! ```text
//! cargo run -q -p anemone-lm --example built_in_text > text
//! ```

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().write_all(anemone_lm::stories::built_in().as_bytes())
}
