//! Bad usage, help and version.

use super::support::anemone;

#[test]
fn bad_usage_ends_with_status_2_and_says_what_is_possible() {
    anemone(["chekc"]).failed(2, &["unrecognized subcommand 'chekc'", "similar", "'check'"]);
    anemone(["fmt"]).failed(2, &["FILE"]);
    anemone(["fmt", "--chekc", "a.mil"]).failed(2, &["--chekc", "--check"]);
    anemone(["fmt", "--check", "--write", "a.mil"]).failed(2, &["cannot be used with"]);
    anemone(["check", "-q", "-v", "a.mil"]).failed(2, &["cannot be used with"]);
    anemone([] as [&str; 0]).ended(2);
}

#[test]
fn help_gives_every_flag_one_line() {
    for subcommand in [
        "fmt",
        "check",
        "rules",
        "show",
        "run",
        "opt",
        "emit head",
        "plan head",
        "bench head",
        "bench gemm",
        "bench train",
        "bench generate",
        "train",
        "generate",
        "eval",
        "export",
        "convert",
    ] {
        let help = anemone(subcommand.split(' ').chain(["--help"])).ended(0).stdout;
        let after = help.split_once("Options:\n").unwrap().1;
        for line in after.lines().filter(|line| !line.is_empty()) {
            assert!(line.trim_start().starts_with('-'), "{subcommand}: {line:?} continues a line");
        }
        for flag in ["--json", "--quiet", "--verbose"] {
            assert!(after.contains(flag), "{subcommand} has no {flag}");
        }
    }
    anemone(["--version"]).ended(0);
}
