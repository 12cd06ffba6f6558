//! The user's wish that the work end.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use signal_hook::consts::SIGINT;

/// What the first interrupt of the process sets, for the work to end in order; the second ends the process at once. There is
/// one for all that ask.
///
/// # Errors
///
/// When the system does not let signals be handled.
pub(crate) fn flag() -> io::Result<Arc<AtomicBool>> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(flag.clone());
    }
    let interrupted: Arc<AtomicBool> = Arc::default();
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, interrupted.clone())?;
    signal_hook::flag::register(SIGINT, interrupted.clone())?;
    Ok(FLAG.get_or_init(|| interrupted).clone())
}
