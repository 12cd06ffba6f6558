//! The engine's runtime by the library as it is loaded, against the simulator that computes in it.

#![allow(clippy::unwrap_used)]

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};

use anemone_ane::chips::Chip;
use anemone_ane::device::e5rt::E5rt;
use anemone_ane::device::{Budget, Engine, Options, Weights};
use anemone_ane::simulator::Simulator;
use anemone_cpu::Cpu;
use anemone_lm::config::{Config, DeviceDtype};
use anemone_lm::data::Dataset;
use anemone_lm::head::Runtimes;
use anemone_lm::tokenizer::Tokenizer;
use anemone_lm::train::Trainer;
use anemone_mil::runtime::Runtime;

/// The default model, in fp16, on a shorter batch.
fn config() -> Config {
    let mut config = Config::default();
    (config.train.dtype, config.train.batch, config.train.seq) = (DeviceDtype::Fp16, 2, 32);
    config
}

/// The losses of the first steps, to the bit.
fn losses(head: &dyn Runtime, steps: usize) -> Vec<u64> {
    let config = config();
    let data = Dataset::built_in(&Tokenizer::Bytes, config.train.seq).unwrap();
    let products = Cpu::new().unwrap();
    let mut trainer = Trainer::new(config, data, Runtimes { head, ..Runtimes::all(&products) }).unwrap();
    (0..steps).map(|_| trainer.step().unwrap().loss.to_bits()).collect()
}

fn engine(weights: Weights, budget: &Budget) -> Engine {
    let directory = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let library = directory.join(format!("{DLL_PREFIX}anemone_ane_stand_in{DLL_SUFFIX}"));
    let options = Options { weights, budget: budget.clone(), ..Options::default() };
    Engine::new(Box::new(E5rt::load(Some(&library)).unwrap()), options)
}

/// Two hundred steps, or as many as `ANEMONE_ENGINE_STEPS` says; each program is compiled once.
#[test]
fn training_is_the_simulator_s_to_the_bit() {
    let steps = std::env::var("ANEMONE_ENGINE_STEPS").map_or(200, |steps| steps.parse().unwrap());
    let expected = losses(&Simulator::new(Chip::M4), steps);
    let budget = Budget::of(119);
    assert_eq!(losses(&engine(Weights::Inputs, &budget), steps), expected);
    assert_eq!(budget.used(), 5);
    let budget = Budget::of(119);
    assert_eq!(losses(&engine(Weights::Baked, &budget), 3), expected[..3]);
    // Softmax once, the others at each step.
    assert_eq!(budget.used(), 13);
}
