//! How long each step of a run takes.

use std::time::Instant;

use anemone_mil::runtime::{Executable, Port, RuntimeError, check_inputs};
use anemone_mil::tensor::Tensor;

use crate::execution::Execution;

/// A step of a prepared function, and how long it took.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTime {
    /// The names of the ops that it computes, the one with a kernel or a meaning first.
    pub ops: Vec<String>,
    /// The name of what its last op makes.
    pub result: String,
    /// Whether it is run by its op's meaning, because no kernel takes it.
    pub by_meaning: bool,
    /// Seconds of all runs together.
    pub seconds: f64,
}

/// A function whose steps are timed one by one; [`Cpu::profile`](crate::Cpu::profile) makes it.
pub struct Profile {
    execution: Execution,
    steps: Vec<StepTime>,
}

impl Profile {
    pub(crate) fn new(execution: Execution) -> Profile {
        let steps = execution.steps().map(|(ops, result, by_meaning)| StepTime {
            ops,
            result,
            by_meaning,
            seconds: 0.0,
        });
        Profile { steps: steps.collect(), execution }
    }

    /// The function's outputs.
    pub fn outputs(&self) -> &[Port] {
        self.execution.outputs()
    }

    /// Bytes of the memory that its values share.
    pub fn planned_bytes(&self) -> usize {
        self.execution.planned_bytes()
    }

    /// Runs the function as [`Executable::run`] does, and adds to the times of its steps.
    ///
    /// # Errors
    ///
    /// As [`Executable::run`].
    pub fn run(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<(), RuntimeError> {
        check_inputs(self.execution.inputs(), inputs)?;
        let (steps, mut last) = (&mut self.steps, Instant::now());
        self.execution.run_timed(inputs, outputs, |step| {
            let now = Instant::now();
            steps[step].seconds += now.duration_since(last).as_secs_f64();
            last = now;
        })
    }

    /// Forgets the times of the runs so far.
    pub fn reset(&mut self) {
        self.steps.iter_mut().for_each(|step| step.seconds = 0.0);
    }

    /// The steps in the order in which they run, with the seconds of all runs so far.
    pub fn steps(&self) -> &[StepTime] {
        &self.steps
    }
}
