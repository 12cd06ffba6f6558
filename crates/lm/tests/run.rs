//! A run's directory: what it keeps, what it refuses, and what it leaves alone.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anemone_lm::config::{Config, DeviceDtype, ModelConfig, TrainConfig};
use anemone_lm::head::Runtimes;
use anemone_lm::log::{self, LogError, Record};
use anemone_lm::run::{DataSource, Observer, Run, RunError, checkpoint_path};
use anemone_mil::eval::Interpreter;

static EVAL: LazyLock<Interpreter> = LazyLock::new(Interpreter::default);
fn runtimes() -> Runtimes<'static> {
    Runtimes::all(&*EVAL)
}

/// A directory for one test, with a text to train on.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::write(place.path("text.txt"), &anemone_lm::stories::built_in().as_bytes()[..3000]).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn create(&self, out: &str, seed: u64, log: Option<&Path>) -> Result<Run, RunError> {
        let train = TrainConfig {
            batch: 1,
            seq: 8,
            steps: 6,
            seed,
            dtype: DeviceDtype::Fp32,
            checkpoint_interval: 2,
            ..TrainConfig::default()
        };
        let config = Config { model: ModelConfig { vocab: 256, dim: 4, ..ModelConfig::default() }, train };
        let source = DataSource::Files(vec![self.path("text.txt")]);
        Run::create(config, source, &self.path(out), log, runtimes())
    }

    fn resume(&self, out: &str, log: Option<&Path>) -> Result<Run, RunError> {
        Run::resume(&self.path(out), log, runtimes())
    }

    /// A run to its end, and then its checkpoint after step 2 put back: what a kill just before step 4 leaves.
    fn interrupted(&self, out: &str, seed: u64, log: Option<&Path>) {
        let mut kept = Kept(Vec::new());
        self.create(out, seed, log).unwrap().finish(runtimes(), &mut kept).unwrap();
        fs::write(checkpoint_path(&self.path(out)), kept.0).unwrap();
    }

    fn refused(&self, out: &str, log: Option<&Path>) -> String {
        self.resume(out, log).err().unwrap().to_string()
    }
}

/// Keeps the checkpoint after step 2.
struct Kept(Vec<u8>);

impl Observer for Kept {
    fn step(&mut self, _: &Record, _: u64) {}
    fn checkpoint(&mut self, step: u64, path: &Path) {
        if step == 2 {
            self.0 = fs::read(path).unwrap();
        }
    }
}

fn losses(log: &Path) -> Vec<(u64, u64)> {
    log::read(log).unwrap().iter().map(|record| (record.step, record.loss.to_bits())).collect()
}

#[test]
fn a_resumed_run_remembers_its_log() {
    let place = Place::new();
    let elsewhere = place.path("elsewhere.jsonl");
    place.interrupted("out", 1, Some(&elsewhere));
    let whole = losses(&elsewhere);
    assert_eq!(whole.len(), 6);
    let mut run = place.resume("out", None).unwrap();
    assert_eq!(losses(&elsewhere), whole[..2]);
    let summary = run.finish(runtimes(), &mut ()).unwrap();
    assert_eq!(summary.log, elsewhere);
    assert_eq!(losses(&elsewhere), whole);
    assert!(!place.path("out/log.jsonl").exists());

    // A log that was moved is named once. A log in the directory moves with it.
    drop(run);
    place.interrupted("home", 1, None);
    fs::rename(place.path("home"), place.path("moved")).unwrap();
    place.resume("moved", None).unwrap().finish(runtimes(), &mut ()).unwrap();
    assert_eq!(losses(&place.path("moved/log.jsonl")), whole);
    fs::rename(place.path("moved/log.jsonl"), place.path("renamed.jsonl")).unwrap();
    place.resume("moved", Some(&place.path("renamed.jsonl"))).unwrap();
}

#[test]
fn only_the_runs_own_log_is_touched() {
    let place = Place::new();
    place.interrupted("out", 1, None);
    place.create("other", 2, None).unwrap().finish(runtimes(), &mut ()).unwrap();
    let own = fs::read(place.path("out/log.jsonl")).unwrap();
    let other = fs::read(place.path("other/log.jsonl")).unwrap();
    let lines: Vec<&[u8]> = own.split_inclusive(|&byte| byte == b'\n').collect();
    for (name, content, reason) in [
        ("notes", b"one line of notes, not ended".to_vec(), "its records end at step 0"),
        ("ended", b"one line of notes\n".to_vec(), "not a line of a training log"),
        ("empty", Vec::new(), "its records end at step 0"),
        ("another", other, "the loss of step 2 is"),
        ("short", lines[0].to_vec(), "its records end at step 1"),
        ("cut", [lines[0], &lines[1][..20]].concat(), "its records end at step 1"),
        ("gap", [lines[0], lines[2]].concat(), "record 2 is of step 3"),
        ("twice", [&own[..], lines[1]].concat(), "record 7 is of step 2"),
    ] {
        let log = place.path(name);
        fs::write(&log, &content).unwrap();
        let message = place.refused("out", Some(&log));
        assert!(message.contains(reason) && message.contains(name), "{name}: {message}");
        assert_eq!(fs::read(&log).unwrap(), content, "{name}");
    }
    let missing = place.refused("out", Some(&place.path("none.jsonl")));
    assert!(missing.contains("none.jsonl") && missing.contains("does not exist"), "{missing}");
    assert!(!place.path("none.jsonl").exists());
    assert_eq!(fs::read(place.path("out/log.jsonl")).unwrap(), own);
    fs::remove_file(place.path("out/log.jsonl")).unwrap();
    assert!(place.refused("out", None).contains("log.jsonl does not exist"));

    // Steps after the checkpoint, and a line that was cut off, go.
    fs::write(place.path("out/log.jsonl"), [&own[..], b"{\"step\":7,\"lo"].concat()).unwrap();
    place.resume("out", None).unwrap();
    assert_eq!(fs::read(place.path("out/log.jsonl")).unwrap(), lines[..2].concat());
}

#[test]
fn a_directory_has_one_run_at_a_time() {
    let place = Place::new();
    let mut run = place.create("out", 1, None).unwrap();
    let log = place.path("second.jsonl");
    let refused = place.create("out", 2, Some(&log)).err().unwrap();
    assert!(matches!(refused, RunError::Busy(_)), "{refused}");
    assert!(refused.to_string().contains("another run is training in"), "{refused}");
    assert!(!log.exists());
    run.finish(runtimes(), &mut ()).unwrap();
    assert!(matches!(place.resume("out", None), Err(RunError::Busy(_))));
    drop(run);
    place.resume("out", None).unwrap();
}

#[test]
fn a_log_is_none_of_the_runs_other_files() {
    let place = Place::new();
    for name in ["checkpoint.safetensors", "curve.svg", "lock", "../out/Curve.SVG"] {
        let refused = place.create("out", 1, Some(&place.path("out").join(name)));
        assert!(matches!(refused, Err(RunError::OwnFile(_))), "{name}");
    }
    place.create("out", 1, None).unwrap().finish(runtimes(), &mut ()).unwrap();
    let checkpoint = checkpoint_path(&place.path("out"));
    assert!(matches!(place.resume("out", Some(&checkpoint)), Err(RunError::OwnFile(_))));
    let log = place.path("out/log.jsonl");
    let taken = place.create("new", 1, Some(&log));
    assert!(matches!(taken, Err(RunError::Log(LogError::Exists(path))) if path == log));
}

#[test]
fn leftovers_of_a_killed_run_are_removed() {
    let place = Place::new();
    place.create("out", 1, None).unwrap().finish(runtimes(), &mut ()).unwrap();
    let out = place.path("out");
    let leftovers = [".checkpoint.safetensors.Ab12Cd.tmp", ".curve.svg.000000.tmp", ".log.jsonl.zzzzzz.tmp"];
    let others = [
        ".checkpoint.safetensors.Ab12C.tmp",
        ".checkpoint.safetensors.Ab-2Cd.tmp",
        ".weights.bin.Ab12Cd.tmp",
        "checkpoint.safetensors.Ab12Cd.tmp",
    ];
    leftovers.iter().chain(&others).for_each(|name| fs::write(out.join(name), b"half").unwrap());
    place.resume("out", None).unwrap();
    leftovers.iter().for_each(|name| assert!(!out.join(name).exists(), "{name}"));
    others.iter().for_each(|name| assert!(out.join(name).exists(), "{name}"));
}

/// Checkpoints are JSON, which has no place for such a path.
#[cfg(target_os = "linux")]
#[test]
fn a_path_that_no_checkpoint_can_hold_is_refused_before_training() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let place = Place::new();
    let odd = place.0.path().join(OsStr::from_bytes(b"odd\xff.txt"));
    fs::copy(place.path("text.txt"), &odd).unwrap();
    let source = DataSource::Files(vec![odd.clone()]);
    let refused = Run::create(Config::default(), source, &place.path("out"), None, runtimes());
    assert!(matches!(refused, Err(RunError::NotUtf8(path)) if path == odd));
    assert!(!place.path("out").exists());
    let log = place.create("out", 1, Some(&odd));
    assert!(matches!(log, Err(RunError::NotUtf8(_))));

    // In a directory of such a name, the log's own name is enough.
    let out = place.0.path().join(OsStr::from_bytes(b"out\xff"));
    let text = DataSource::Files(vec![place.path("text.txt")]);
    let mut config = Config {
        model: ModelConfig { vocab: 256, dim: 4, ..ModelConfig::default() },
        train: TrainConfig::default(),
    };
    (config.train.steps, config.train.batch, config.train.seq) = (1, 1, 8);
    Run::create(config, text, &out, None, runtimes()).unwrap().finish(runtimes(), &mut ()).unwrap();
    Run::resume(&out, None, runtimes()).unwrap();
    assert_eq!(
        anemone_lm::Checkpoint::read(&checkpoint_path(&out)).unwrap().get::<String>("log").unwrap(),
        "log.jsonl"
    );
}
