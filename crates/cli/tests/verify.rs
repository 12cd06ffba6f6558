//! Runs `tests/verify`: faulty programs are refused as expected, doubtful ones are warned of, tricky ones in
//! `tests/verify/ok` are neither.
//!
//! The first line names the kinds of the errors, or of the warnings, in the order of the text; beside `<case>.mil`
//! stands `<case>.err`, the errors or warnings as rendered. `@model_path` is a directory with the files of [`weights`].

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anemone_mil::error::{Errors, Spans};
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::text;
use anemone_mil::types::DType;
use anemone_mil::verify::{Verified, verify, verify_blobs};
use anemone_mil::weights::{SENTINEL, VERSION, WeightDirectory, write_blob_file};
use half::f16;

/// The kinds that text can be at fault with; each must have a case.
const KINDS: &[&str] = &[
    "Syntax",
    "Literal",
    "UndefinedName",
    "UseBeforeDefinition",
    "Redefinition",
    "ReservedName",
    "NestedBlock",
    "UnknownOp",
    "Version",
    "MissingParameter",
    "UnknownParameter",
    "OperandKind",
    "NotConstant",
    "ElementType",
    "Rule",
    "DeclaredType",
    "Constant",
    "Blob",
    "AmbiguousNumber",
    "Overflow",
    "OmittedParameter",
];

#[test]
fn faulty_programs_are_refused_and_doubtful_ones_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    weights(directory.path());
    let mut seen = BTreeSet::new();
    common::run_cases(&common::data_dir("verify"), "mil", 100, |path| {
        let (name, source) = read(path)?;
        let first = source.lines().next().unwrap_or_default();
        let (promised, (errors, spans)) = match (
            first.strip_prefix("// error: "),
            first.strip_prefix("// warning: "),
            check(&source, directory.path()),
        ) {
            (Some(promised), _, Err(errors)) => (promised, errors),
            (_, Some(promised), Ok(warnings)) => (promised, warnings),
            (_, Some(_), Err((errors, spans))) => return Err(errors.render(&name, &source, &spans)),
            (Some(promised), _, Ok(_)) => return Err(format!("{name} is accepted, expected {promised}")),
            (None, None, _) => {
                return Err(format!("{name} begins neither with `// error: ` nor `// warning: `"));
            }
        };
        let rendered = errors.render(&name, &source, &spans);
        let mut found = Vec::new();
        for (span, error) in errors.in_order(&spans) {
            if span.is_none_or(|span| span.end <= span.start) {
                return Err(format!("{name}: an error without a place\n{rendered}"));
            }
            found.push(format!("{:?}", error.kind));
        }
        if found.join(" ") != promised {
            return Err(format!(
                "{name} has the errors {}, expected {promised}\n{rendered}",
                found.join(" ")
            ));
        }
        seen.extend(found);
        let temporary = directory.path().display().to_string();
        common::expect_file(
            &path.with_extension("err"),
            &format!("{}\n", rendered.replace(&temporary, "DIRECTORY")),
        )
    });
    let unseen: Vec<&&str> = KINDS.iter().filter(|kind| !seen.contains(**kind)).collect();
    assert!(unseen.is_empty(), "no case for {unseen:?}");
    let unknown: Vec<&String> = seen.iter().filter(|kind| !KINDS.contains(&kind.as_str())).collect();
    assert!(unknown.is_empty(), "no text should be {unknown:?}");
}

#[test]
fn tricky_programs_are_accepted() {
    let directory = tempfile::tempdir().unwrap();
    weights(directory.path());
    common::run_cases(&common::data_dir("verify/ok"), "mil", 12, |path| {
        let (name, source) = read(path)?;
        let (Ok(findings) | Err(findings)) = check(&source, directory.path());
        let (found, spans) = findings;
        if found.is_empty() { Ok(()) } else { Err(found.render(&name, &source, &spans)) }
    });
}

#[test]
fn every_expectation_has_its_case() {
    for entry in fs::read_dir(common::data_dir("verify")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "err") {
            assert!(path.with_extension("mil").exists(), "{} belongs to no case", path.display());
        }
    }
}

fn read(path: &Path) -> Result<(String, String), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let source = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    Ok((name, source))
}

/// All checks of a program with `directory` as its own: the warnings, or the errors of the first that finds any.
fn check(source: &str, directory: &Path) -> Result<(Errors, Spans), (Errors, Spans)> {
    let mut parsed = text::parse(source).map_err(|errors| (errors, Spans::default()))?;
    let blobs = |verified: Verified| {
        verify_blobs(verified.program(), &WeightDirectory::new(directory)).map(|()| verified)
    };
    match verify(parsed.program).and_then(blobs) {
        Ok(verified) => {
            parsed.warnings.extend(verified.warnings());
            Ok((parsed.warnings, parsed.spans))
        }
        Err(errors) => Err((errors, parsed.spans)),
    }
}

/// Makes the weight files: `good.bin` with an fp16 [4] at 64, an fp32 [2, 3] at 192, an int8 [3, 4] at 320 and a
/// uint4 [5] at 448; the others each with one fault.
fn weights(directory: &Path) {
    fs::create_dir_all(directory.join("weights/directory")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.join("weights").join(name), bytes).unwrap();
    let offsets = write_blob_file(directory.join("weights/good.bin"), |writer| {
        let nibbles = Tensor::new(DType::UInt4, &[5], Data::U8(vec![1, 2, 3, 4, 5])).unwrap();
        Ok([
            writer.append(&Tensor::vector([1.0, 2.0, 3.0, 4.0].map(f16::from_f32).to_vec()))?,
            writer.append(&Tensor::new(DType::Fp32, &[2, 3], Data::F32(vec![0.5; 6])).unwrap())?,
            writer.append(&Tensor::new(DType::Int8, &[3, 4], Data::I8(vec![-1; 12])).unwrap())?,
            writer.append(&nibbles)?,
        ])
    });
    assert_eq!(offsets.unwrap(), [64, 192, 320, 448]);
    let fp16 = DType::Fp16.blob_code().unwrap();
    write("bad_sentinel.bin", &blob_file(VERSION, 0x1234_5678, fp16, 8, 128));
    write("unknown_dtype.bin", &blob_file(VERSION, SENTINEL, 99, 8, 128));
    write("size_beyond_file.bin", &blob_file(VERSION, SENTINEL, fp16, 1 << 40, 128));
    write("data_beyond_file.bin", &blob_file(VERSION, SENTINEL, fp16, 8, 1 << 20));
    write("misaligned_data.bin", &blob_file(VERSION, SENTINEL, fp16, 8, 130));
    write("old_version.bin", &blob_file(1, SENTINEL, fp16, 8, 128));
    write("short.bin", b"weights");
    write(
        "lfs_pointer.bin",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258\
          daaa5e2ca24d17e2393\nsize 12345\n",
    );
    write("text.bin", "These are no weights, but a text. ".repeat(4).as_bytes());
}

/// A file with one record, at 64, and zeros for values.
fn blob_file(version: u32, sentinel: u32, dtype: u32, size: u64, data_offset: u64) -> Vec<u8> {
    let mut bytes = vec![0; 192];
    bytes[0..4].copy_from_slice(&1u32.to_le_bytes());
    bytes[4..8].copy_from_slice(&version.to_le_bytes());
    bytes[64..68].copy_from_slice(&sentinel.to_le_bytes());
    bytes[68..72].copy_from_slice(&dtype.to_le_bytes());
    bytes[72..80].copy_from_slice(&size.to_le_bytes());
    bytes[80..88].copy_from_slice(&data_offset.to_le_bytes());
    bytes
}
