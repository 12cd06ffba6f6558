//! What went wrong with the numbers of a run: overflows, dropped products, flushed values, op by op.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// How many results of each kind there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Events {
    /// Results that became infinite, though no operand was.
    pub overflows: u64,
    /// Products other than zero that a sum left out.
    pub dropped: u64,
    /// Results that became zero, though the exact ones are not.
    pub flushed: u64,
    /// Sums that another order of their terms would take to another result.
    pub order_sensitive: u64,
}

impl Events {
    /// The counts with their names, in a fixed order.
    pub fn named(&self) -> [(&'static str, u64); 4] {
        [
            ("overflows to infinity", self.overflows),
            ("products dropped", self.dropped),
            ("values flushed to zero", self.flushed),
            ("sums that depend on their order", self.order_sensitive),
        ]
    }

    fn add(&mut self, more: Events) {
        self.overflows = self.overflows.saturating_add(more.overflows);
        self.dropped = self.dropped.saturating_add(more.dropped);
        self.flushed = self.flushed.saturating_add(more.flushed);
        self.order_sensitive = self.order_sensitive.saturating_add(more.order_sensitive);
    }
}

/// Counts of the op at work, which several threads add to.
#[derive(Debug, Default)]
pub struct Counts {
    overflows: AtomicU64,
    dropped: AtomicU64,
    flushed: AtomicU64,
    order_sensitive: AtomicU64,
}

impl Counts {
    pub(crate) fn overflows(&self, count: u64) {
        add(&self.overflows, count);
    }

    pub(crate) fn dropped(&self, count: u64) {
        add(&self.dropped, count);
    }

    pub(crate) fn flushed(&self, count: u64) {
        add(&self.flushed, count);
    }

    pub(crate) fn order_sensitive(&self, count: u64) {
        add(&self.order_sensitive, count);
    }

    /// What was counted; the counts begin again at zero.
    pub(crate) fn take(&self) -> Events {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Events {
            overflows: take(&self.overflows),
            dropped: take(&self.dropped),
            flushed: take(&self.flushed),
            order_sensitive: take(&self.order_sensitive),
        }
    }
}

fn add(to: &AtomicU64, count: u64) {
    if count > 0 {
        to.fetch_add(count, Ordering::Relaxed);
    }
}

/// The events of one op, over all runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpEvents {
    /// The name of its first result.
    pub value: String,
    /// The op's name.
    pub op: String,
    /// What happened in it.
    #[serde(flatten)]
    pub events: Events,
}

/// What a rule warns of in a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The rule: `R11`.
    pub rule: String,
    /// Where, what, and what happens, in a sentence without its full stop.
    pub message: String,
}

/// The events of one program, over all runs.
#[derive(Debug, Default)]
pub struct ProgramReport {
    name: String,
    warnings: Vec<Warning>,
    /// In the order in which something first happened in them.
    ops: Mutex<Vec<OpEvents>>,
    /// Those of the report that it is part of.
    firsts: Arc<Mutex<Firsts>>,
}

/// For each kind of event, where it first happened.
type Firsts = [Option<String>; 4];

impl ProgramReport {
    /// A report without events, for an arithmetic that is used alone.
    pub fn new(name: impl Into<String>) -> ProgramReport {
        ProgramReport { name: name.into(), ..ProgramReport::default() }
    }

    /// The program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its rules warn of.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The ops in which something happened, the first one first.
    pub fn ops(&self) -> Vec<OpEvents> {
        lock(&self.ops).clone()
    }

    pub(crate) fn record(&self, value: &str, op: &str, events: Events) {
        if events == Events::default() {
            return;
        }
        let mut firsts = lock(&self.firsts);
        for (first, (_, count)) in firsts.iter_mut().zip(events.named()) {
            if count > 0 {
                first.get_or_insert_with(|| format!("`{value}`, {op}, of {}", self.name));
            }
        }
        let mut ops = lock(&self.ops);
        match ops.iter_mut().find(|known| known.value == value) {
            Some(known) => known.events.add(events),
            None => ops.push(OpEvents { value: value.to_string(), op: op.to_string(), events }),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The events of all programs that a simulator prepared.
#[derive(Debug, Default)]
pub struct Report {
    programs: Mutex<Vec<Arc<ProgramReport>>>,
    firsts: Arc<Mutex<Firsts>>,
}

/// A program's events, as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramEvents {
    /// The program's name.
    pub program: String,
    /// What its rules warn of.
    pub warnings: Vec<Warning>,
    /// The ops in which something happened, the first one first.
    pub ops: Vec<OpEvents>,
}

impl Report {
    /// The programs, in the order in which they were prepared.
    pub fn programs(&self) -> Vec<ProgramEvents> {
        let events = |program: &Arc<ProgramReport>| ProgramEvents {
            program: program.name.clone(),
            warnings: program.warnings.clone(),
            ops: program.ops(),
        };
        lock(&self.programs).iter().map(events).collect()
    }

    /// The events of all programs together.
    pub fn total(&self) -> Events {
        let mut total = Events::default();
        self.programs().iter().flat_map(|program| &program.ops).for_each(|op| total.add(op.events));
        total
    }

    /// Adds a program, by its name and what its rules warn of.
    pub(crate) fn add(&self, name: String, warnings: Vec<Warning>) -> Arc<ProgramReport> {
        let firsts = self.firsts.clone();
        let program = Arc::new(ProgramReport { name, warnings, firsts, ..ProgramReport::default() });
        lock(&self.programs).push(program.clone());
        program
    }
}

impl fmt::Display for Report {
    /// A line for each kind of event, with the first op in which it happened; then the programs op by op, and each rule
    /// that warns, with the first place where it does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let firsts = lock(&self.firsts).clone();
        for ((name, total), first) in self.total().named().into_iter().zip(firsts) {
            write!(f, "{name:<32}{total}")?;
            if let Some(first) = first {
                write!(f, ", first in {first}")?;
            }
            writeln!(f)?;
        }
        let programs = self.programs();
        for program in &programs {
            for op in &program.ops {
                let counts = op.events.named().into_iter().filter(|(_, count)| *count > 0);
                let counts: Vec<String> = counts.map(|(name, count)| format!("{count} {name}")).collect();
                writeln!(f, "{}: `{}`, {}: {}", program.program, op.value, op.op, counts.join(", "))?;
            }
        }
        let mut warnings: Vec<(&ProgramEvents, &Warning, usize)> = Vec::new();
        for (program, warning) in
            programs.iter().flat_map(|p| p.warnings.iter().map(move |warning| (p, warning)))
        {
            match warnings.iter_mut().find(|(_, known, _)| known.rule == warning.rule) {
                Some((_, _, count)) => *count += 1,
                None => warnings.push((program, warning, 0)),
            }
        }
        for (program, Warning { rule, message }, more) in warnings {
            let more = if more == 0 { String::new() } else { format!("; likewise {more} more times") };
            writeln!(f, "warning: {rule}: {}: {message}{more}", program.program)?;
        }
        Ok(())
    }
}
