//! The rules: what each chip refuses, gets wrong, or leaves to the CPU, numbered R1 to R50, with sources.

use anemone_mil::error::Place;
use anemone_mil::verify::Verified;

use crate::chips::Chips;

/// How far a rule is to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Confidence {
    /// A table or a script of a measurement is public.
    Measured,
    /// One project says so.
    Reported,
    /// Sources disagree.
    Contested,
}

/// What happens on the chip where a rule is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The program does not compile or load.
    Refused,
    /// It runs, and its results are wrong, without a word.
    SilentlyWrong,
    /// The op, or the program, runs on the CPU instead.
    OnCpu,
    /// It is slow.
    Slow,
}

/// The ways in to the engine that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interfaces {
    /// The C interface, e5rt.
    pub e5rt: bool,
    /// The private in-memory Objective-C interface.
    pub in_memory: bool,
    /// Core ML.
    pub core_ml: bool,
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// Its number: 17 for R17.
    pub number: u8,
    /// What must hold, in a sentence without its full stop.
    pub what: &'static str,
    /// The chips that it is about.
    pub chips: Chips,
    /// The ways in that it is about.
    pub interfaces: Interfaces,
    /// How far to trust it.
    pub confidence: Confidence,
    /// What happens otherwise.
    pub effect: Effect,
    /// Who published it.
    pub sources: &'static str,
    /// What to write instead.
    pub remedy: &'static str,
}

/// A place where a program does not keep a rule.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// The chips, of those asked for, on which it is not kept.
    pub chips: Chips,
    /// Where.
    pub place: Place,
    /// What is found there, in a sentence without its full stop.
    pub message: String,
    /// What to write instead, if that is more than the rule's remedy.
    pub help: Option<String>,
}

/// The places where a program does not keep a rule of one of these chips, in the program's order.
pub fn check(_program: &Verified, _chips: Chips) -> Vec<Finding> {
    Vec::new()
}
