//! One input: a mutated program, its weight files, mutated too or not, and what became of them.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use anemone_lm::random::Random;
use anemone_mil::weights::{BlobFile, WeightMap};

use crate::mutator::{mutate_file, mutate_text};
use crate::pipeline::{Stage, exercise, exercise_file};
use crate::seeds::Seed;

/// What one input may take. One that takes longer is timed twice more, as the machine may have been busy.
pub const TIME_LIMIT: Duration = Duration::from_secs(1);

/// An input, made from a seed.
pub struct Input<'a> {
    seed: &'a Seed,
    text: Cow<'a, str>,
    /// The weight files, where they are not the seed's.
    files: Option<BTreeMap<String, Vec<u8>>>,
}

/// What became of an input.
pub struct Outcome {
    pub stage: Option<Stage>,
    pub time: Duration,
    /// What it did that no input may do.
    pub fault: Option<String>,
}

impl<'a> Input<'a> {
    /// Input number `index`.
    pub fn new(seeds: &'a [Seed], index: u64) -> Input<'a> {
        let mut random = Random::stream(0, index);
        let (mutates_text, mutates_files) = match random.below(20) {
            0..18 => (true, false),
            18 => (false, true),
            _ => (true, true),
        };
        let seed = pick(&mut random, seeds, |seed| !mutates_files || !seed.files.is_empty());
        let other = pick(&mut random, seeds, |_| true);
        let text = match mutates_text {
            true => Cow::Owned(mutate_text(&mut random, &seed.text, &other.text)),
            false => Cow::Borrowed(seed.text.as_str()),
        };
        let files = mutates_files.then(|| {
            let mut files = seed.files.clone();
            files.values_mut().for_each(|file| mutate_file(&mut random, file));
            files
        });
        Input { seed, text, files }
    }

    /// Runs the input, and times it.
    pub fn examine(&self) -> Outcome {
        let mut outcome = self.examine_once();
        for _ in 0..2 {
            if outcome.time > TIME_LIMIT {
                outcome.time = outcome.time.min(self.examine_once().time);
            }
        }
        if outcome.time > TIME_LIMIT {
            outcome.fault.get_or_insert(format!("takes {} ms", outcome.time.as_millis()));
        }
        outcome
    }

    fn examine_once(&self) -> Outcome {
        let start = Instant::now();
        let result = catch(|| match &self.files {
            None => exercise(&self.text, &self.seed.weights),
            Some(files) => {
                let mut weights = WeightMap::default();
                for (path, bytes) in files {
                    if let Ok(file) = BlobFile::from_bytes(bytes.clone()) {
                        exercise_file(&file);
                        weights.insert(path.clone(), file);
                    }
                }
                exercise(&self.text, &weights)
            }
        });
        let time = start.elapsed();
        match result {
            Ok(stage) => Outcome { stage: Some(stage), time, fault: None },
            Err(message) => Outcome { stage: None, time, fault: Some(message) },
        }
    }

    /// Writes the program to `STEM.mil` in a directory, and mutated weight files to `STEM-0.bin` on. Returns the
    /// program's path.
    pub fn save(&self, directory: &Path, stem: &str) -> io::Result<PathBuf> {
        for (i, file) in self.files.iter().flat_map(BTreeMap::values).enumerate() {
            fs::write(directory.join(format!("{stem}-{i}.bin")), file)?;
        }
        let path = directory.join(format!("{stem}.mil"));
        fs::write(&path, self.text.as_bytes())?;
        Ok(path)
    }
}

fn pick<'a>(random: &mut Random, seeds: &'a [Seed], accept: impl Fn(&Seed) -> bool) -> &'a Seed {
    loop {
        let seed = &seeds[random.below(seeds.len())];
        if accept(seed) {
            return seed;
        }
    }
}

thread_local! {
    /// Whether a panic on this thread is an input's, to be reported with it.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs `work`; where it panics, returns the message and the place.
fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| match CATCHING.get() {
            true => *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string(),
            false => usual(info),
        }));
    });
    CATCHING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(false);
    result.map_err(|_| LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone())
}
