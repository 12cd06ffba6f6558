//! `anemone fmt`.

use std::fs;

use crate::not_run::not_run;

use super::support::{LINEAR, Place, anemone, repository};

const UNTIDY: &str = r#"// Doubles.
program(1.3)
{ func main<ios18>(tensor<fp16, [1,4]> x) {
    fp16 two = const()[name=string("two"), val=fp16(2.0)];
    tensor<fp16, [1,4]> y = mul(x=x, y=two)[name=string("y")]; // here
} -> (y); }
"#;

const TIDY: &str = r#"// Doubles.
program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 4]> x) {
            fp16 two = const()[name = string("two"), val = fp16(0x1p+1)];
            tensor<fp16, [1, 4]> y = mul(x = x, y = two)[name = string("y")]; // here
        } -> (y);
}
"#;

#[test]
fn prints_in_the_compilers_style_and_keeps_comments() {
    let place = Place::new();
    let file = place.file("untidy.mil", UNTIDY);
    assert_eq!(anemone(["fmt", &file]).ended(0).stdout, TIDY);
    assert_eq!(fs::read_to_string(&file).unwrap(), UNTIDY, "the file stays as it is");
    let second = place.file("second.mil", LINEAR);
    assert_eq!(anemone(["fmt", &file, &second]).ended(0).stdout, format!("{TIDY}{LINEAR}"));
    let json = anemone(["fmt", "--json", &file]).ended(0).json();
    assert_eq!(json[0]["text"], TIDY);
    assert_eq!(json[0]["changed"], true);
}

#[test]
fn check_names_the_files_that_would_change() {
    let place = Place::new();
    let (tidy, untidy) = (place.file("tidy.mil", TIDY), place.file("untidy.mil", UNTIDY));
    let run = anemone(["fmt", "--check", &tidy]).ended(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    let run = anemone(["fmt", "--check", &tidy, &untidy]).failed(1, &["1 of 2 files would change"]);
    assert_eq!(run.stdout, format!("{untidy}: would change\n"));
    let json = anemone(["fmt", "--check", "--json", &tidy, &untidy]).ended(1).json();
    assert_eq!([&json[0]["changed"], &json[1]["changed"]], [false, true]);
}

#[test]
fn write_changes_files_in_place_and_only_where_needed() {
    let place = Place::new();
    let (tidy, untidy) = (place.file("tidy.mil", TIDY), place.file("untidy.mil", UNTIDY));
    let before = fs::metadata(&tidy).unwrap().modified().unwrap();
    let run = anemone(["fmt", "--write", &tidy, &untidy]).ended(0);
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("untidy.mil: changed"), "{}", run.stderr);
    assert_eq!(fs::read_to_string(&untidy).unwrap(), TIDY);
    assert_eq!(fs::metadata(&tidy).unwrap().modified().unwrap(), before);
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 2, "nothing is left beside them");
    assert_eq!(anemone(["fmt", "--write", "-q", &untidy]).ended(0).stderr, "");
}

#[test]
fn the_end_of_the_file_stays_with_or_without_a_newline() {
    let place = Place::new();
    let without = TIDY.trim_end();
    let file = place.file("without.mil", without);
    assert_eq!(anemone(["fmt", &file]).ended(0).stdout, without);
    anemone(["fmt", "--check", &file]).ended(0);
}

#[test]
fn a_file_that_fails_does_not_keep_others_from_their_turn() {
    let place = Place::new();
    let bad = place.file("bad.mil", "program(1.3)\n{\n    func main<ios18>() {\n    } -> (y);\n}\n");
    let good = place.file("good.mil", TIDY);
    let run = anemone(["fmt", &bad, &good]).failed(1, &["bad.mil:4:11", "`y`"]);
    assert_eq!(run.stdout, TIDY);
    for flags in [&["--json", "fmt"][..], &["--json", "fmt", "--check"], &["--json", "fmt", "--write"]] {
        let missing = place.text("missing.mil");
        let json = anemone([flags, &[&bad, &good, &missing]].concat()).ended(1).json();
        assert_eq!(json.len(), 5);
        assert_eq!((&json[0]["file"], &json[0]["code"]), (&bad.clone().into(), &"undefined-name".into()));
        assert_eq!((json[0]["line"].as_u64(), json[0]["column"].as_u64()), (Some(4), Some(11)));
        assert_eq!((&json[1]["file"], &json[1]["ok"]), (&bad.clone().into(), &false.into()));
        assert_eq!((&json[2]["ok"], &json[2]["changed"]), (&true.into(), &false.into()));
        assert!(json[3]["message"].as_str().unwrap().contains("No such file"));
        assert_eq!((&json[4]["file"], &json[4]["ok"]), (&missing.into(), &false.into()));
    }
}

#[test]
fn what_is_no_text_file_is_refused_with_its_name() {
    let place = Place::new();
    anemone(["fmt", &place.text("missing.mil")]).failed(1, &["cannot read", "missing.mil", "No such file"]);
    anemone(["fmt", &place.text("")]).failed(1, &["is a directory"]);
    let file = place.file("latin1.mil", b"program(1.3) // caf\xe9\n");
    anemone(["fmt", &file]).failed(1, &["latin1.mil", "not UTF-8", "0xe9", "position 19"]);
    let large = place.path("large.mil");
    fs::File::create(&large).unwrap().set_len(5 << 30).unwrap();
    anemone(["fmt", large.to_str().unwrap()]).failed(1, &["too large", "1073741824 bytes"]);
}

/// The samples of what Apple's compiler wrote, where a checkout has them beside it.
#[test]
fn files_of_apples_compiler_are_printed_byte_for_byte() {
    let Ok(corpus) = fs::read_dir(repository().join("../shared/corpus/apple")) else {
        return not_run("there is no ../shared/corpus/apple beside this checkout");
    };
    let mut files = 0;
    for entry in corpus {
        let path = entry.unwrap().path();
        let run = anemone([OsStr::new("fmt"), path.as_os_str()]).ended(0);
        assert!(run.stdout == fs::read_to_string(&path).unwrap(), "{}", path.display());
        files += 1;
    }
    assert!(files > 0);
}

use std::ffi::OsStr;
