use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::optimizer::LossScale;
use crate::random::Random;

fn sample() -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    let special = vec![0.0, -0.0, f32::MIN_POSITIVE / 8.0, f32::MAX, f32::NEG_INFINITY, 1.0 / 3.0];
    checkpoint.insert("embedding", &[2, 3], special).unwrap();
    checkpoint.insert("gain", &[5], vec![1.5; 5]).unwrap();
    checkpoint.insert("scalar", &[], vec![7.0]).unwrap();
    checkpoint.insert("nothing", &[0, 4], vec![]).unwrap();
    checkpoint.set("step", &123u64).unwrap();
    checkpoint.set("loss_scale", &LossScale::dynamic()).unwrap();
    checkpoint.metadata.insert("note".into(), "quotes \" and \u{e9}".into());
    checkpoint
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    (directory, path)
}

#[test]
fn what_was_written_is_read() {
    let (_directory, path) = place();
    sample().write(&path).unwrap();
    let read = Checkpoint::read(&path).unwrap();
    assert_eq!(read, sample());
    assert!(read.tensor("embedding", &[2, 3]).unwrap()[1].is_sign_negative());
    assert_eq!(read.get::<LossScale>("loss_scale").unwrap(), LossScale::dynamic());
    let bytes = fs::read(&path).unwrap();
    sample().write(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

/// The safetensors library's own writer as the independent source.
#[test]
fn the_library_reads_ours_and_we_read_the_librarys() {
    let (_directory, path) = place();
    sample().write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), 4);
    assert_eq!(theirs.tensor("gain").unwrap().data(), [1.5f32.to_le_bytes(); 5].concat());

    let data = [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat();
    let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![1, 2], &data).unwrap();
    let metadata = HashMap::from([("step".to_owned(), "9".to_owned())]);
    fs::write(&path, safetensors::serialize([("w", view)], Some(metadata)).unwrap()).unwrap();
    let read = Checkpoint::read(&path).unwrap();
    assert_eq!(read.tensor("w", &[1, 2]).unwrap(), [1.0, 2.0]);
    assert_eq!(read.get::<u32>("step").unwrap(), 9);
}

#[test]
fn what_is_asked_for_wrongly_is_a_typed_error() {
    let checkpoint = sample();
    assert!(matches!(checkpoint.tensor("bias", &[1]), Err(CheckpointError::MissingTensor(_))));
    let error = checkpoint.tensor("embedding", &[3, 2]).unwrap_err().to_string();
    assert_eq!(error, "the checkpoint's tensor `embedding` has the shape [2, 3], [3, 2] is expected");
    assert!(matches!(checkpoint.get::<u64>("lr"), Err(CheckpointError::MissingMetadata(_))));
    assert!(matches!(checkpoint.get::<String>("step"), Err(CheckpointError::Metadata { .. })));
    let mut checkpoint = checkpoint;
    for (name, shape, len) in
        [("gain", &[5][..], 5), ("new", &[2, 2], 5), ("new", &[usize::MAX, 2], 0), ("__metadata__", &[1], 1)]
    {
        let refused = checkpoint.insert(name, shape, vec![0.0; len]);
        assert!(matches!(refused, Err(CheckpointError::Insert { .. })), "{name} {shape:?}");
    }
}

#[test]
fn a_killed_or_failing_write_leaves_the_last_checkpoint() {
    let (directory, path) = place();
    sample().write(&path).unwrap();
    // What a process killed in the middle of its next write leaves behind.
    let half = &fs::read(&path).unwrap()[..40];
    fs::write(directory.path().join(".model.safetensors.Ab12Cd.tmp"), half).unwrap();
    assert_eq!(Checkpoint::read(&path).unwrap(), sample());
    let mut next = sample();
    next.set("step", &124u64).unwrap();
    next.write(&path).unwrap();
    assert_eq!(Checkpoint::read(&path).unwrap(), next);
    // A write that cannot succeed: its directory is gone, a directory is in its place.
    assert!(matches!(next.write(&path.join("below")), Err(CheckpointError::File(_))));
    assert!(matches!(next.write(directory.path()), Err(CheckpointError::File(_))));
    assert_eq!(Checkpoint::read(&path).unwrap(), next);
}

fn read_bytes(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::parse(Path::new("damaged"), bytes)
}

fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn absurd_and_truncated_files_are_errors() {
    let (_directory, path) = place();
    assert!(matches!(Checkpoint::read(&path), Err(CheckpointError::File(_))));
    sample().write(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        assert!(read_bytes(&whole[..len]).is_err(), "{len} of {} bytes", whole.len());
    }
    assert!(read_bytes(&[&whole[..], &[0]].concat()).is_err());
    for length in [u64::MAX, u64::MAX - 7, 1 << 40, 100_000_001, 0] {
        assert!(read_bytes(&[&length.to_le_bytes(), &whole[8..]].concat()).is_err(), "{length}");
    }
}

#[test]
fn lying_headers_are_errors() {
    let tensor = |dtype: &str, shape: &str, begin: u64, end: u64| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}}}"#)
    };
    assert!(read_bytes(&with_header(&tensor("F32", "[2]", 0, 8), &[0; 8])).is_ok());
    for (dtype, shape, begin, end) in [
        ("F32", "[3]", 0, 8),
        ("F32", "[2]", 8, 0),
        ("F32", "[2]", 4, 12),
        ("F32", "[18446744073709551615,2]", 0, 8),
        ("F32", "[-2]", 0, 8),
        ("F32", "[4611686018427387904]", 0, u64::MAX),
        ("F64", "[1]", 0, 8),
        ("F16", "[4]", 0, 8),
        ("X9", "[2]", 0, 8),
        ("F32", "[1,1,1,1,1,1,1,1,2]", 0, 8),
    ] {
        assert!(
            read_bytes(&with_header(&tensor(dtype, shape, begin, end), &[0; 8])).is_err(),
            "{dtype} {shape}"
        );
    }
    let kind = read_bytes(&with_header(&tensor("F16", "[4]", 0, 8), &[0; 8])).unwrap_err();
    assert!(kind.to_string().contains("tensor `w` is F16 of shape [4]"), "{kind}");
    for header in ["", "[]", "{", r#"{"w":5}"#, r#"{"__metadata__":{"a":1}}"#, "\u{0}\u{0}"] {
        assert!(read_bytes(&with_header(header, &[])).is_err(), "{header}");
    }
    assert!(read_bytes(&[&[2, 0, 0, 0, 0, 0, 0, 0][..], &[0xff, 0xfe]].concat()).is_err());
    assert_eq!(read_bytes(&with_header("{}", &[])).unwrap(), Checkpoint::default());
}

/// Tensors that each fit in the address space and together end where the sum of offsets overflows.
#[test]
fn offsets_whose_sum_overflows_are_an_error() {
    let mut entries = Vec::new();
    let piece = 1u64 << 61;
    for i in 0..7 {
        entries.push((format!("w{i}"), piece / 4, i * piece, (i + 1) * piece));
    }
    entries.push(("last".to_owned(), (piece - 4) / 4, 7 * piece, u64::MAX - 3));
    let entries: Vec<String> = entries
        .iter()
        .map(|(name, elements, begin, end)| {
            format!(r#""{name}":{{"dtype":"F32","shape":[{elements}],"data_offsets":[{begin},{end}]}}"#)
        })
        .collect();
    let error = read_bytes(&with_header(&format!("{{{}}}", entries.join(",")), &[0; 8])).unwrap_err();
    assert!(matches!(error, CheckpointError::Truncated { found_bytes: 8, .. }), "{error}");
}

/// Any damage gives an error or a checkpoint, never a panic.
#[test]
fn damaged_files_do_not_panic() {
    let (_directory, path) = place();
    sample().write(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let mut random = Random::new(5);
    let mut errors = 0;
    for _ in 0..3000 {
        let mut damaged = whole.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(damaged.len());
            match random.below(3) {
                0 => damaged[at] = random.next_u64() as u8,
                1 => damaged[at] ^= 1 << random.below(8),
                _ => drop(damaged.splice(at..at, std::iter::repeat_n(b'9', random.below(20)))),
            }
        }
        errors += usize::from(read_bytes(&damaged).is_err());
    }
    assert!(errors > 1000, "{errors}");
}
