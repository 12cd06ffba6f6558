//! Programs by other people's generators, read, printed and read again: `.ci/corpus` runs this.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::{env, fs};

use anemone_mil::text;
use anemone_mil::verify::verify;

#[test]
#[ignore = "needs programs that are not in this repository, in the directory ANEMONE_CORPUS"]
fn programs_by_hand_are_unchanged_by_printing() {
    let corpus = PathBuf::from(env::var_os("ANEMONE_CORPUS").expect("ANEMONE_CORPUS names a directory"));
    let mut checked = 0;
    for entry in fs::read_dir(corpus.join("hand")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display();
        let source = fs::read_to_string(&path).unwrap();
        let parsed = text::parse(&source).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        let printed = text::write_with_comments(&parsed.program, &parsed.comments);
        let again = text::parse(&printed).unwrap_or_else(|errors| panic!("{name}, printed: {errors}"));
        assert_eq!(parsed.program, again.program, "{name}");
        assert_eq!(parsed.comments, again.comments, "{name}");
        verify(again.program).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        checked += 1;
    }
    assert!(checked > 0, "no programs in {}", corpus.display());
}
