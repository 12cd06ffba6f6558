//! Another process, whose crash or hang is an answer like any other.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How a process ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With success: what it printed.
    Done(String),
    /// Otherwise: its status, with the end of what it said of that.
    Failed(String),
    /// It did not, within its time, and was ended.
    Hung,
}

/// So much is read of what it prints.
const MOST_BYTES: u64 = 1 << 20;

/// Runs a process to its end, or for this long.
///
/// # Errors
///
/// When the system does not run it.
pub(super) fn supervise(command: &mut Command, limit: Duration) -> io::Result<Ended> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Both are read all the time, so that neither fills up and keeps the process waiting.
    let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(Ended::Hung);
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    let (stdout, stderr) = (text(stdout), text(stderr));
    if status.success() {
        return Ok(Ended::Done(stdout));
    }
    let last = stderr.trim_end().lines().last().map(|line| format!(": {line}")).unwrap_or_default();
    Ok(Ended::Failed(format!("{status}{last}")))
}

/// Reads a stream in the background; what is beyond the limit is thrown away.
fn reader(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let Some(mut stream) = stream else { return String::new() };
        let mut bytes = Vec::new();
        let read = stream.by_ref().take(MOST_BYTES).read_to_end(&mut bytes);
        if read.is_ok() {
            // Its end, or an error, ends the reading either way.
            let _ = io::copy(&mut stream, &mut io::sink());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Ended {
        supervise(Command::new("sh").args(["-c", script]), limit).expect("a shell")
    }

    #[test]
    fn a_crash_and_a_hang_are_told_from_a_good_end() {
        let minute = Duration::from_secs(60);
        assert_eq!(shell("echo done", minute), Ended::Done("done\n".to_string()));
        assert_eq!(shell("exec sleep 600", Duration::from_millis(50)), Ended::Hung);
        let Ended::Failed(status) = shell("kill -SEGV $$", minute) else { unreachable!("it was killed") };
        assert!(status.contains("11"), "{status}");
        let Ended::Failed(status) = shell("echo no engine >&2; exit 3", minute) else {
            unreachable!("it failed")
        };
        assert!(status.contains('3') && status.ends_with(": no engine"), "{status}");
    }

    #[test]
    fn what_prints_without_end_does_not_wait_for_a_reader() {
        assert_eq!(shell("exec yes", Duration::from_millis(200)), Ended::Hung);
        let Ended::Done(text) = shell("yes | head -c 3000000", Duration::from_secs(60)) else {
            unreachable!("it ends")
        };
        assert_eq!(text.len() as u64, MOST_BYTES);
    }
}
