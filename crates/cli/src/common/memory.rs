//! How much memory this process has used.

/// Begins a new peak, where the system can: on Linux. Elsewhere the peak is that of the process so far.
pub(crate) fn reset_peak() {
    // Clears the peak resident set (proc_pid_clear_refs(5)); a system that refuses keeps the old peak.
    #[cfg(target_os = "linux")]
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The peak resident set, in MiB; `None` where it is not known.
pub(crate) fn peak_mb() -> Option<f64> {
    peak_kib().map(|kib| kib as f64 / 1024.0)
}

#[cfg(target_os = "linux")]
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(target_os = "macos")]
fn peak_kib() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    // macOS counts bytes.
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    u64::try_from(usage.max_rss()).ok().map(|bytes| bytes / 1024)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn peak_kib() -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_grows_with_what_is_touched() {
        reset_peak();
        let before = peak_mb().unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = peak_mb().unwrap();
        assert!(after >= before + 60.0, "{before} {after} {}", block.len());
    }
}
