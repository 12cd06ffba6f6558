//! What a process has of compilations, and time that tests can turn.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use super::DeviceError;

/// The compilations that are left to a process (R8, R48). Clones count together.
#[derive(Debug, Clone)]
pub struct Budget {
    used: Arc<AtomicU32>,
    limit: u32,
}

impl Budget {
    /// How many compilations a process has, as reported: beyond these the compiler fails without saying why.
    pub const COMPILATIONS: u32 = 119;

    /// A budget of its own, of so many compilations.
    pub fn of(limit: u32) -> Budget {
        Budget { used: Arc::default(), limit }
    }

    /// What this process has, by this limit: all that is compiled in it counts, whichever runtime asks.
    pub fn of_process(limit: u32) -> Budget {
        static USED: LazyLock<Arc<AtomicU32>> = LazyLock::new(Arc::default);
        Budget { used: USED.clone(), limit }
    }

    /// The compilations done so far.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes one compilation.
    ///
    /// # Errors
    ///
    /// When there is none left.
    pub(super) fn take(&self) -> Result<(), DeviceError> {
        let next = |used| (used < self.limit).then_some(used + 1);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Ok(()),
            Err(_) => Err(DeviceError::Exhausted { limit: self.limit }),
        }
    }
}

/// Time, as waiting needs it.
pub trait Clock: Send + Sync {
    /// Time since some moment that stays the same.
    fn now(&self) -> Duration;

    /// Returns after this time.
    fn sleep(&self, time: Duration);
}

/// The system's time.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
