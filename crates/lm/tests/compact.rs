//! Training over the tokens that the data have: the smaller model to the bit, in a checkpoint of the whole one.

#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use anemone_lm::config::{Config, DeviceDtype, ModelConfig, TrainConfig};
use anemone_lm::data::Dataset;
use anemone_lm::generate::Sampler;
use anemone_lm::head::{HeadKind, Runtimes};
use anemone_lm::model::{CLASSIFIER, EMBEDDING, Model};
use anemone_lm::random::Random;
use anemone_lm::train::Trainer;
use anemone_mil::eval::Interpreter;

static EVAL: LazyLock<Interpreter> = LazyLock::new(Interpreter::default);
fn runtimes() -> Runtimes<'static> {
    Runtimes::all(&*EVAL)
}

const VOCAB: usize = 40;
const DIM: usize = 8;
/// What the data have of it, with a token that only validation has.
const TOKENS: [u32; 7] = [2, 3, 11, 17, 30, 38, 39];

fn configs() -> [Config; 2] {
    [(0, false, DeviceDtype::Fp32), (1, true, DeviceDtype::Fp16)].map(|(layers, tied, dtype)| Config {
        model: ModelConfig {
            vocab: VOCAB,
            dim: DIM,
            layers,
            tied,
            heads: 2 * layers,
            kv_heads: layers,
            hidden: 12 * layers,
            ..ModelConfig::default()
        },
        train: TrainConfig {
            batch: 2,
            seq: 6,
            steps: 8,
            warmup: 2,
            lr: 3e-2,
            weight_decay: 0.1,
            compact_vocab: true,
            head: HeadKind::Programs,
            dtype,
            ..TrainConfig::default()
        },
    })
}

/// Tokens `f(i)` of those that the data have.
fn data(f: impl Fn(u32) -> u32) -> Dataset {
    let train: Vec<u32> = (0..200).map(|i| f(i * i % 13 % 6)).collect();
    let validation: Vec<u32> = (0..29).map(|i| f(i % 7)).collect();
    Dataset::from_tokens(train, validation, 6).unwrap()
}

fn whole_data() -> Dataset {
    data(|i| TOKENS[i as usize])
}

fn compact(config: &Config) -> Trainer {
    Trainer::new(config.clone(), whole_data(), runtimes()).unwrap()
}

/// The model of the smaller vocabulary whose rows are those of the data's tokens.
fn small(config: &Config) -> Trainer {
    let whole = Model::new(&config.model, config.train.seed).unwrap();
    let model = ModelConfig { vocab: TOKENS.len(), ..config.model.clone() };
    let rows = |name: &str, values: &[f32]| match [EMBEDDING, CLASSIFIER].contains(&name) {
        true => TOKENS.iter().flat_map(|&token| values[token as usize * DIM..][..DIM].to_vec()).collect(),
        false => values.to_vec(),
    };
    let small = Model::with_values(&model, |name| Ok(rows(name, &whole.parameter(name)?.values))).unwrap();
    let train = TrainConfig { compact_vocab: false, ..config.train.clone() };
    Trainer::with_model(Config { model, train }, data(|i| i), runtimes(), small).unwrap()
}

/// A step's loss and the norm of its gradients, to the bit.
fn step(trainer: &mut Trainer) -> [u64; 2] {
    let record = trainer.step().unwrap();
    [record.loss, record.grad_norm].map(f64::to_bits)
}

#[test]
fn losses_are_those_of_a_model_of_the_datas_vocabulary_to_the_bit() {
    for config in configs() {
        let (mut compact, mut small) = (compact(&config), small(&config));
        assert_eq!(compact.model().config.vocab, TOKENS.len());
        for _ in 0..config.train.steps {
            assert_eq!(step(&mut compact), step(&mut small));
        }
        let [of_compact, of_small] =
            [&mut compact, &mut small].map(|trainer| trainer.validation_loss().unwrap());
        assert_eq!(of_compact.to_bits(), of_small.to_bits());
        assert_eq!(compact.model().parameters, small.model().parameters);

        // The same draws, in the numbers of either model.
        let draw = |trainer: &Trainer, prompt: &[u32]| {
            let sampler = Sampler::new(1.0, 1.0).unwrap();
            trainer.generate(prompt, 30, sampler, &mut Random::new(1), runtimes()).unwrap()
        };
        let numbers = draw(&small, &[2, 1]);
        let tokens: Vec<u32> = numbers.iter().map(|&i| TOKENS[i as usize]).collect();
        // Token 4 is none of the data's.
        assert_eq!(draw(&compact, &[11, 4, 3]), tokens);
    }
}

#[test]
fn checkpoints_are_whole_and_go_on_to_the_bit() {
    for config in configs() {
        let mut trainer = compact(&config);
        for _ in 0..3 {
            step(&mut trainer);
        }
        let checkpoint = trainer.checkpoint().unwrap();
        assert_eq!(checkpoint.get::<Config>("config").unwrap(), config);
        let initial = Model::new(&config.model, config.train.seed).unwrap();
        let whole = Model::load(&config.model, &checkpoint).unwrap();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
        for (parameter, trained) in whole.parameters.iter().zip(&trainer.model().parameters) {
            if ![EMBEDDING, CLASSIFIER].contains(&parameter.name.as_str()) {
                assert_eq!(bits(&parameter.values), bits(&trained.values));
                assert_eq!(parameter.moments, trained.moments);
                continue;
            }
            let first = initial.parameter(&parameter.name).unwrap();
            for token in 0..VOCAB {
                let row = |values: &[f32], row: usize| bits(&values[row * DIM..][..DIM]);
                let moments = [&parameter.moments.first, &parameter.moments.second].map(|m| row(m, token));
                if let Some(i) = TOKENS.iter().position(|&of_data| of_data as usize == token) {
                    assert_eq!(row(&parameter.values, token), row(&trained.values, i));
                    assert_ne!(row(&parameter.values, token), row(&first.values, token));
                    let expected = [&trained.moments.first, &trained.moments.second].map(|m| row(m, i));
                    assert_eq!(moments, expected);
                } else {
                    assert_eq!(row(&parameter.values, token), row(&first.values, token));
                    assert!(moments.iter().flatten().all(|&bits| bits == 0));
                }
            }
        }

        let mut resumed = Trainer::resume(config.clone(), whole_data(), runtimes(), &checkpoint).unwrap();
        for _ in 3..config.train.steps {
            assert_eq!(step(&mut resumed), step(&mut trainer));
        }
        assert_eq!(resumed.checkpoint().unwrap(), trainer.checkpoint().unwrap());
    }
}

/// Two tokens are the fewest that a model has.
#[test]
fn one_token_trains() {
    let config = configs()[0].clone();
    let data = Dataset::from_tokens(vec![5; 20], vec![5; 4], 6).unwrap();
    let mut trainer = Trainer::new(config, data, runtimes()).unwrap();
    assert_eq!(trainer.model().config.vocab, 2);
    assert!(trainer.step().unwrap().loss.is_finite());
}
