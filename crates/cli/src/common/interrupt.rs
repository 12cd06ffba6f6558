//! The user's wish that the work end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;

/// What the first interrupt of the process sets, for the work to end in order; the second ends the process at once.
///
/// # Errors
///
/// When the system does not let signals be handled.
pub(crate) fn flag() -> io::Result<Arc<AtomicBool>> {
    let interrupted: Arc<AtomicBool> = Arc::default();
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, interrupted.clone())?;
    signal_hook::flag::register(SIGINT, interrupted.clone())?;
    Ok(interrupted)
}
