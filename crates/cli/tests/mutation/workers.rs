//! Inputs in processes of their own, so that whatever one does is seen and reported.
//!
//! A worker notes which input it is at. When it ends early or stands still, that input is to blame, and another
//! worker goes on behind it. Workers and their parent talk through files in a directory.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::inputs::Input;
use crate::pipeline::Stage;
use crate::seeds;

/// The environment variable that makes a process a worker; it holds the [`Job`].
const JOB: &str = "ANEMONE_MUTATION_JOB";

/// A worker that is at one input for so long hangs, however busy the machine is.
const STANDSTILL: Duration = Duration::from_secs(30);

/// What a worker may hold at any time.
const PEAK_LIMIT_BYTES: u64 = 1 << 30;

/// After so many faults a lane of workers gives up.
const MOST_FAULTS: usize = 10;

/// What inputs did, all together.
#[derive(Debug, Default, Clone)]
pub struct Totals {
    pub inputs: u64,
    pub parsed: u64,
    pub verified: u64,
    pub ran: u64,
    pub slowest_us: u64,
    /// The input that took so long.
    pub slowest: u64,
    pub peak_bytes: u64,
    /// The input's number, and what it did that no input may do.
    pub faults: Vec<(u64, String)>,
}

impl Totals {
    fn count(&mut self, stage: Option<Stage>) {
        self.inputs += 1;
        self.parsed += u64::from(stage >= Some(Stage::Parsed));
        self.verified += u64::from(stage >= Some(Stage::Verified));
        self.ran += u64::from(stage >= Some(Stage::Ran));
    }

    fn add(&mut self, other: Totals) {
        self.inputs += other.inputs;
        self.parsed += other.parsed;
        self.verified += other.verified;
        self.ran += other.ran;
        (self.slowest_us, self.slowest) =
            (self.slowest_us, self.slowest).max((other.slowest_us, other.slowest));
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
        self.faults.extend(other.faults);
    }

    /// The numbers, and one line per fault.
    fn to_text(&self) -> String {
        let Totals { inputs, parsed, verified, ran, slowest_us, slowest, peak_bytes, faults } = self;
        let mut text = format!("{inputs} {parsed} {verified} {ran} {slowest_us} {slowest} {peak_bytes}\n");
        for (index, fault) in faults {
            text.push_str(&format!("{index} {}\n", fault.replace('\n', " ")));
        }
        text
    }

    fn from_text(text: &str) -> Option<Totals> {
        let mut lines = text.lines();
        let numbers = lines.next()?.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
        let &[inputs, parsed, verified, ran, slowest_us, slowest, peak_bytes] = numbers.as_slice() else {
            return None;
        };
        let fault =
            |line: &str| line.split_once(' ').and_then(|(i, what)| Some((i.parse().ok()?, what.to_owned())));
        let faults = lines.map(fault).collect::<Option<_>>()?;
        Some(Totals { inputs, parsed, verified, ran, slowest_us, slowest, peak_bytes, faults })
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { inputs, parsed, verified, ran, slowest_us, slowest, peak_bytes, faults } = self;
        let slowest_ms = *slowest_us as f64 / 1e3;
        write!(f, "mutation: {inputs} inputs, {parsed} parsed, {verified} verified, {ran} ran; ")?;
        write!(f, "slowest {slowest_ms:.1} ms (input {slowest}), peak ")?;
        match peak_bytes {
            0 => write!(f, "memory unknown (read on Linux only)")?,
            _ => write!(f, "{} MB", peak_bytes >> 20)?,
        }
        write!(f, "; {} faults", faults.len())?;
        faults.iter().try_for_each(|(index, fault)| write!(f, "\n  input {index}: {fault}"))
    }
}

/// A worker's share.
#[derive(Debug)]
pub struct Job {
    first: u64,
    end: u64,
    step: u64,
    /// Where it notes its progress and its result.
    directory: PathBuf,
}

impl Job {
    /// The job that this process was started for.
    pub fn from_environment() -> Option<Job> {
        let text = std::env::var(JOB).ok()?;
        let mut parts = text.splitn(4, ' ');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).expect("a number in the job");
        let (first, end, step) = (number(), number(), number());
        let directory = PathBuf::from(parts.next().expect("a directory in the job"));
        Some(Job { first, end, step, directory })
    }

    fn progress_path(&self) -> PathBuf {
        self.directory.join("progress")
    }

    fn totals_path(&self) -> PathBuf {
        self.directory.join("totals")
    }

    fn messages_path(&self) -> PathBuf {
        self.directory.join("messages")
    }

    /// Starts a process that runs the job in the test named `test`.
    fn start(&self, test: &str) -> io::Result<Child> {
        fs::write(self.progress_path(), self.first.to_le_bytes())?;
        fs::write(self.totals_path(), "")?;
        let Job { first, end, step, directory } = self;
        Command::new(std::env::current_exe()?)
            .args(["--exact", test, "--nocapture"])
            .env(JOB, format!("{first} {end} {step} {}", directory.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(self.messages_path())?)
            .spawn()
    }
}

/// Runs inputs one after the other, in this process.
pub fn examine_all(indices: impl Iterator<Item = u64>) -> Totals {
    examine_each(indices, |_| {})
}

fn examine_each(indices: impl Iterator<Item = u64>, mut begin: impl FnMut(u64)) -> Totals {
    let seeds = seeds::load();
    let mut totals = Totals::default();
    for index in indices {
        begin(index);
        let outcome = Input::new(&seeds, index).examine();
        totals.count(outcome.stage);
        let time_us = outcome.time.as_micros() as u64;
        (totals.slowest_us, totals.slowest) = (totals.slowest_us, totals.slowest).max((time_us, index));
        totals.faults.extend(outcome.fault.map(|fault| (index, fault)));
        let peak_bytes = peak_bytes().unwrap_or(0);
        if peak_bytes > PEAK_LIMIT_BYTES && totals.peak_bytes <= PEAK_LIMIT_BYTES {
            totals.faults.push((index, format!("the process comes to hold {} MB", peak_bytes >> 20)));
        }
        totals.peak_bytes = peak_bytes;
        // Past the limit no later input can be seen to pass it.
        if totals.faults.len() >= MOST_FAULTS || peak_bytes > PEAK_LIMIT_BYTES {
            break;
        }
    }
    totals
}

/// What a worker process does: its job, or as much of it as its parent lives to see.
pub fn work(job: &Job) -> Totals {
    thread::spawn(|| {
        // The parent never writes; this ends when the parent does.
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
    let mut progress = File::options().write(true).open(job.progress_path()).expect("the progress file");
    let totals = examine_each((job.first..job.end).step_by(job.step as usize), |index| {
        progress.rewind().and_then(|()| progress.write_all(&index.to_le_bytes())).expect("room for progress");
    });
    fs::write(job.totals_path(), totals.to_text()).expect("room for the totals");
    totals
}

/// Runs inputs in as many processes as there are cores; the test named `test` is what a process runs.
pub fn run(indices: Range<u64>, test: &str) -> Totals {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let lanes = thread::available_parallelism().map_or(1, usize::from) as u64;
    let mut totals = Totals::default();
    thread::scope(|scope| {
        let start = |lane| {
            let first = indices.start.saturating_add(lane);
            let directory = directory.path().join(lane.to_string());
            let job = Job { first, end: indices.end, step: lanes, directory };
            scope.spawn(move || run_lane(job, test))
        };
        let threads: Vec<_> = (0..lanes).map(start).collect();
        for thread in threads {
            totals.add(thread.join().expect("a lane that ends"));
        }
    });
    save(&mut totals);
    totals
}

/// Runs one job, in a new process after each fault that ends one.
fn run_lane(mut job: Job, test: &str) -> Totals {
    fs::create_dir_all(&job.directory).expect("a directory for the worker");
    let mut totals = Totals::default();
    while job.first < job.end && totals.faults.len() < MOST_FAULTS {
        let child = job.start(test).expect("a worker process");
        let (last, end) = watch(&job, child);
        match Totals::from_text(&fs::read_to_string(job.totals_path()).unwrap_or_default()) {
            Some(of_process) => totals.add(of_process),
            None => {
                // What it had counted is lost with it, but for the number.
                totals.inputs += (last - job.first) / job.step + 1;
                let messages = fs::read_to_string(job.messages_path()).unwrap_or_default();
                totals.faults.push((last, format!("{end} {}", messages.trim()).trim_end().to_owned()));
            }
        }
        job.first = last + job.step;
    }
    totals
}

/// Waits for a worker. Returns the last input that it began, and how it ended.
fn watch(job: &Job, mut child: Child) -> (u64, String) {
    let (mut last, mut since) = (job.first, Instant::now());
    loop {
        let ended = child.try_wait().expect("the state of a worker");
        let now = progress(&job.progress_path()).unwrap_or(last);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if let Some(status) = ended {
            return (last, format!("the process ends with {status}"));
        }
        if since.elapsed() > STANDSTILL {
            // It may have ended by itself meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            return (last, format!("runs for more than {} s", STANDSTILL.as_secs()));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn progress(path: &Path) -> Option<u64> {
    Some(u64::from_le_bytes(fs::read(path).ok()?.try_into().ok()?))
}

/// Saves the inputs that failed, and names the files.
fn save(totals: &mut Totals) {
    if totals.faults.is_empty() {
        return;
    }
    let seeds = seeds::load();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (index, fault) in &mut totals.faults {
        if let Ok(path) = Input::new(&seeds, *index).save(directory, &format!("mutation-{index}")) {
            fault.push_str(&format!("\n    saved as {}", path.display()));
        }
    }
}

/// The most memory that this process has held so far, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kb| kb << 10)
}
