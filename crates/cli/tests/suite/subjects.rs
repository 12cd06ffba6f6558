//! The runtimes that the suite is run on, and what each promises.

use anemone_mil::eval::Interpreter;
use anemone_mil::runtime::Runtime;

use crate::paths::{cpu_on, paths};

/// A runtime under test.
pub struct Subject {
    /// Its name, with what distinguishes it from others of its kind.
    pub name: String,
    /// The runtime.
    pub runtime: Box<dyn Runtime>,
    /// What it promises.
    pub promises: Promises,
}

/// What a runtime promises beyond the accuracy of each op's row, and what it does not. The least is the default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Promises {
    /// Computes in f64, so that its results are off by one rounding at most.
    pub computes_in_f64: bool,
    /// Gives results that are fp64 instead of rounded to their element types.
    pub exact: bool,
    /// Offers the classifier and its loss in one.
    pub linear_cross_entropy: bool,
    /// Takes samples in long tests: it is slow, or another subject that is like it does not.
    pub samples: bool,
    /// Differs from another subject in sums of products alone, so that only those are tested.
    pub only_sums: bool,
}

/// The reference interpreter.
pub fn eval() -> Vec<Subject> {
    let promises = Promises { computes_in_f64: true, samples: true, ..Promises::default() };
    vec![Subject { name: "eval".to_string(), runtime: Box::new(Interpreter::default()), promises }]
}

/// The reference interpreter without rounding.
pub fn exact_eval() -> Vec<Subject> {
    let runtime = Interpreter::exact();
    let promises = Promises { computes_in_f64: true, exact: true, samples: true, ..Promises::default() };
    vec![Subject { name: "exact eval".to_string(), runtime: Box::new(runtime), promises }]
}

/// The CPU runtime on every path that this processor has, on one thread and on several.
#[track_caller]
pub fn cpu() -> Vec<Subject> {
    let paths = paths();
    let fastest = paths.iter().copied().find(|path| !path.multiplies_by_unit());
    let mut subjects = Vec::new();
    for path in paths {
        for threads in [1, 3] {
            subjects.push(Subject {
                name: format!("cpu, {path}, {threads} threads"),
                runtime: Box::new(cpu_on(path, threads)),
                promises: Promises {
                    linear_cross_entropy: true,
                    samples: Some(path) != fastest || threads == 1,
                    only_sums: path.multiplies_by_unit(),
                    ..Promises::default()
                },
            });
        }
    }
    subjects
}
