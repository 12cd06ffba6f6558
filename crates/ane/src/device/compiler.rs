//! Compilation, as a process can afford it: what is compiled already is shared, the budget is counted, and after a
//! failure the next one waits.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anemone_mil::tensor::Tensor;
use tempfile::TempDir;

use super::budget::{Budget, Clock};
use super::program::DeviceProgram;
use super::{Compiled, DeviceError, Interface, Source};

/// A compiled program, and what it was compiled from.
pub(super) struct Loaded {
    // Before the directory, which the interface may read as long as the program is loaded.
    pub compiled: Box<dyn Compiled>,
    text: String,
    weights: Vec<Arc<Tensor>>,
    _directory: TempDir,
}

/// Compiles programs by an interface.
pub(super) struct Compiler {
    interface: Box<dyn Interface>,
    budget: Budget,
    clock: Arc<dyn Clock>,
    /// How long a failed compilation makes the next ones fail.
    recovery: Duration,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// What is loaded now.
    loaded: Vec<Weak<Loaded>>,
    /// Before this time nothing compiles.
    not_before: Duration,
}

impl Compiler {
    pub(super) fn new(
        interface: Box<dyn Interface>,
        budget: Budget,
        clock: Arc<dyn Clock>,
        recovery: Duration,
    ) -> Compiler {
        Compiler { interface, budget, clock, recovery, progress: Mutex::default() }
    }

    /// The program, compiled with these weights in its files: the one that is loaded already, if text and weights are
    /// the same.
    ///
    /// # Errors
    ///
    /// When the budget is used up, the program cannot be written, or the interface fails.
    pub(super) fn compile(
        &self,
        program: &DeviceProgram,
        weights: Vec<Arc<Tensor>>,
    ) -> Result<Arc<Loaded>, DeviceError> {
        // One compilation at a time: the system's compiler is not known to do several. What the lock guards is whole
        // after every step, so a panic elsewhere does not spoil it.
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.loaded.retain(|loaded| loaded.strong_count() > 0);
        let same = |loaded: &Arc<Loaded>| {
            loaded.text == program.text && loaded.weights.iter().zip(&weights).all(|(a, b)| same(a, b))
        };
        if let Some(loaded) = progress.loaded.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(loaded);
        }
        let directory = tempfile::Builder::new().prefix("anemone-ane-").tempdir();
        let directory = directory.map_err(|error| DeviceError::Files(error.to_string()))?;
        let model = program.write(directory.path(), &weights)?;
        let compiled = self.compile_now(&mut progress, directory.path(), &model, &program.function)?;
        let loaded = Loaded { compiled, text: program.text.clone(), weights, _directory: directory };
        let loaded = Arc::new(loaded);
        progress.loaded.push(Arc::downgrade(&loaded));
        Ok(loaded)
    }

    fn compile_now(
        &self,
        progress: &mut Progress,
        directory: &Path,
        model: &Path,
        function: &str,
    ) -> Result<Box<dyn Compiled>, DeviceError> {
        self.budget.take()?;
        if let Some(wait) = progress.not_before.checked_sub(self.clock.now()).filter(|wait| !wait.is_zero()) {
            self.clock.sleep(wait);
        }
        let compiled = self.interface.compile(Source { directory, model, function });
        if compiled.is_err() {
            progress.not_before = self.clock.now().saturating_add(self.recovery);
        }
        compiled
    }
}

fn same(a: &Arc<Tensor>, b: &Arc<Tensor>) -> bool {
    Arc::ptr_eq(a, b) || a.shape() == b.shape() && a.dtype() == b.dtype() && a.data() == b.data()
}
