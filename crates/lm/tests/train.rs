//! The head's gradients against f64, and training: it learns, and resumes to the bit.

#![allow(clippy::unwrap_used, clippy::needless_range_loop, clippy::panic)]

use std::sync::LazyLock;

use anemone_lm::config::{Config, DeviceDtype, ModelConfig, TrainConfig};
use anemone_lm::data::Dataset;
use anemone_lm::head::{HeadKind, HeadRunner, Runtimes};
use anemone_lm::programs::Target;
use anemone_lm::programs::head::{EPS, Head};
use anemone_lm::random::Random;
use anemone_lm::tokenizer::Tokenizer;
use anemone_lm::train::Trainer;
use anemone_mil::eval::Interpreter;
use anemone_mil::linear_cross_entropy::LossOptions;
use anemone_mil::tensor::Tensor;

static EVAL: LazyLock<Interpreter> = LazyLock::new(Interpreter::default);
fn runtimes() -> Runtimes<'static> {
    Runtimes::all(&*EVAL)
}

/// Everything that a step computes, in f64, from weights and inputs that the dtype represents exactly.
struct Reference {
    loss: f64,
    dx: Vec<f64>,
    dgain: Vec<f64>,
    dembed: Vec<f64>,
}

/// Straight from the formulas: xn = x·r·g, z = E·xn, loss = mean(lse − z_t), and their derivatives.
fn reference(head: &Head, x: &[f64], gain: &[f64], embed: &[f64], targets: &[i32]) -> Reference {
    let (vocab, dim, positions) = (head.vocab, head.dim, head.positions);
    let counted = targets.iter().filter(|&&t| t >= 0).count() as f64;
    let mut result = Reference {
        loss: 0.0,
        dx: vec![0.0; dim * positions],
        dgain: vec![0.0; dim],
        dembed: vec![0.0; vocab * dim],
    };
    for s in 0..positions {
        let Ok(target) = usize::try_from(targets[s]) else { continue };
        let column: Vec<f64> = (0..dim).map(|c| x[c * positions + s]).collect();
        let mean = column.iter().map(|v| v * v).sum::<f64>() / dim as f64;
        let r = 1.0 / (mean + head.eps).sqrt();
        let xn: Vec<f64> = column.iter().zip(gain).map(|(v, g)| v * r * g).collect();
        let row = |v: usize| &embed[v * dim..(v + 1) * dim];
        let z: Vec<f64> = (0..vocab).map(|v| row(v).iter().zip(&xn).map(|(a, b)| a * b).sum()).collect();
        let most = z.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = z.iter().map(|z| (z - most).exp()).sum();
        result.loss += (most + sum.ln() - z[target]) / counted;
        let mut dxn = vec![0.0; dim];
        for v in 0..vocab {
            let dz = ((z[v] - most).exp() / sum - f64::from(u8::from(v == target))) / counted;
            for c in 0..dim {
                dxn[c] += dz * row(v)[c];
                result.dembed[v * dim + c] += dz * xn[c];
            }
        }
        let along: f64 = (0..dim).map(|c| dxn[c] * gain[c] * column[c]).sum();
        for c in 0..dim {
            result.dgain[c] += dxn[c] * column[c] * r;
            result.dx[c * positions + s] = r * (dxn[c] * gain[c] - column[c] * r * r * along / dim as f64);
        }
    }
    result
}

fn relative_error(found: &Tensor, exact: &[f64], scale: f64) -> f64 {
    let found = found.to_f64().unwrap();
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(exact).map(|(a, b)| a / scale - b));
    difference / norm(&mut exact.iter().copied())
}

#[test]
fn a_step_gives_the_loss_and_every_gradient() {
    for (dtype, limit) in [(DeviceDtype::Fp32, 2e-6), (DeviceDtype::Fp16, 4e-3)] {
        for target in [Target::new(dtype), Target::first_dialect(dtype)] {
            let head = Head { vocab: 37, dim: 12, positions: 9, eps: EPS, target };
            let mut random = Random::new(5);
            let mut normal = |count: usize, scale: f64| -> Vec<f32> {
                (0..count).map(|_| half::f16::from_f64(random.normal() * scale).to_f32()).collect()
            };
            let (x, gain, embed) = (normal(12 * 9, 2.0), normal(12, 1.0), normal(37 * 12, 0.3));
            let mut targets: Vec<i32> = (0..9).map(|s| s * 5 % 37).collect();
            targets[3] = -100;
            let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| f64::from(v)).collect() };
            let exact = reference(&head, &wide(&x), &wide(&gain), &wide(&embed), &targets);

            let mut runner =
                HeadRunner::new(head, HeadKind::Programs, LossOptions::default(), runtimes()).unwrap();
            runner.set_weights(&gain, &embed).unwrap();
            let input = Tensor::from_f64(target.mil_dtype(), &[1, 12, 1, 9], &wide(&x)).unwrap();
            let scale = 64.0;
            let (loss, gradients) = runner.step(&input, &targets, scale).unwrap();
            assert_eq!(loss.counted, 8);
            assert!((loss.loss - exact.loss).abs() < limit * exact.loss, "{} {}", loss.loss, exact.loss);
            let pairs = [
                (gradients.dx, &exact.dx),
                (gradients.dgain, &exact.dgain),
                (gradients.dembed, &exact.dembed),
            ];
            for (found, exact) in pairs {
                let error = relative_error(found, exact, f64::from(scale));
                assert!(error < limit, "{dtype:?} {:?}: {error}", found.shape());
            }
        }
    }
}

#[test]
fn tiles_of_the_vocabulary_add_up_to_the_whole() {
    use anemone_lm::programs::{head::weight_path, vocabulary_tiles};
    use anemone_mil::runtime::{Runtime, allocate_outputs};
    use anemone_mil::weights::{BlobFile, BlobWriter, WeightMap};
    use std::sync::Arc;

    let head = Head { vocab: 10, dim: 6, positions: 4, eps: EPS, target: Target::new(DeviceDtype::Fp32) };
    let mut random = Random::new(3);
    let mut normal = |count: usize| -> Vec<f32> { (0..count).map(|_| random.normal() as f32).collect() };
    let (embed, xn, dlogits) = (normal(60), normal(24), normal(40));
    let run = |program, file: &str, weight: Tensor, input: Tensor| -> Vec<f32> {
        let mut writer = BlobWriter::new(std::io::Cursor::new(Vec::new())).unwrap();
        writer.append(&weight).unwrap();
        let mut weights = WeightMap::default();
        weights
            .insert(weight_path(file), BlobFile::from_bytes(writer.finish().unwrap().into_inner()).unwrap());
        let verified = Arc::new(anemone_mil::verify::verify(program).unwrap());
        let mut executable = EVAL.prepare(&verified, "main", &[input.ty()], &weights).unwrap();
        let mut outputs = allocate_outputs(executable.as_ref()).unwrap();
        executable.run(&[&input], &mut outputs).unwrap();
        outputs[0].as_slice::<f32>().unwrap().to_vec()
    };
    let mut partial = [0.0; 24];
    for (index, tile) in vocabulary_tiles(10, 4).enumerate() {
        let rows = &embed[tile.start * 6..tile.end * 6];
        let weight = Tensor::from_values(&[tile.len(), 6, 1, 1], rows.to_vec()).unwrap();
        let input = Tensor::from_values(&[1, 6, 1, 4], xn.clone()).unwrap();
        let program = head.classifier_forward_tile(index, &tile).unwrap();
        let logits = run(program, &format!("embed_{index}.bin"), weight, input);
        for (i, logit) in logits.iter().enumerate() {
            let (row, s) = (i / 4, i % 4);
            let exact: f64 = (0..6).map(|c| f64::from(rows[row * 6 + c]) * f64::from(xn[c * 4 + s])).sum();
            assert!((f64::from(*logit) - exact).abs() < 1e-5);
        }
        let columns: Vec<f32> =
            (0..6).flat_map(|c| tile.clone().map(move |v| (c, v))).map(|(c, v)| embed[v * 6 + c]).collect();
        let weight = Tensor::from_values(&[1, 6, tile.len()], columns).unwrap();
        let part = dlogits[tile.start * 4..tile.end * 4].to_vec();
        let input = Tensor::from_values(&[1, tile.len(), 1, 4], part).unwrap();
        let program = head.classifier_backward_tile(index, &tile).unwrap();
        let dxn = run(program, &format!("embed_t_{index}.bin"), weight, input);
        partial.iter_mut().zip(dxn).for_each(|(sum, part)| *sum += f64::from(part));
    }
    for c in 0..6 {
        for s in 0..4 {
            let exact: f64 =
                (0..10).map(|v| f64::from(embed[v * 6 + c]) * f64::from(dlogits[v * 4 + s])).sum();
            assert!((partial[c * 4 + s] - exact).abs() < 1e-5);
        }
    }
}

fn small(dtype: DeviceDtype) -> Config {
    Config {
        model: ModelConfig { vocab: 256, dim: 16, ..ModelConfig::default() },
        train: TrainConfig {
            batch: 2,
            seq: 24,
            steps: 12,
            warmup: 2,
            lr: 3e-2,
            dtype,
            ..TrainConfig::default()
        },
    }
}

/// The beginning of the built-in text: validation runs over a tenth of it.
fn data(config: &Config) -> Dataset {
    let text = anemone_lm::stories::built_in();
    Dataset::from_text(&text.as_bytes()[..4000], &Tokenizer::Bytes, config.train.seq).unwrap()
}

fn trainer(config: Config) -> Trainer {
    let data = data(&config);
    Trainer::new(config, data, runtimes()).unwrap()
}

#[test]
fn training_lowers_the_loss() {
    for dtype in [DeviceDtype::Fp16, DeviceDtype::Fp32] {
        let mut trainer = trainer(small(dtype));
        let losses: Vec<f64> = (0..12).map(|_| trainer.step().unwrap().loss).collect();
        assert!((losses[0] - 256f64.ln()).abs() < 0.2, "{losses:?}");
        assert!(losses[11] < losses[0] - 1.0, "{losses:?}");
    }
}

#[test]
fn a_resumed_run_repeats_every_loss_to_the_bit() {
    let config = small(DeviceDtype::Fp16);
    let mut whole = trainer(config.clone());
    let mut expected = Vec::new();
    let mut saved = None;
    for step in 0..8 {
        if step == 3 {
            saved = Some(whole.checkpoint().unwrap());
        }
        expected.push(whole.step().unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.safetensors");
    saved.unwrap().write(&path).unwrap();
    let checkpoint = anemone_lm::Checkpoint::read(&path).unwrap();
    let data = data(&config);
    let mut resumed = Trainer::resume(config, data, runtimes(), &checkpoint).unwrap();
    for expected in &expected[3..] {
        let found = resumed.step().unwrap();
        assert_eq!(found.step, expected.step);
        assert_eq!(found.loss.to_bits(), expected.loss.to_bits());
        assert_eq!(found.grad_norm.to_bits(), expected.grad_norm.to_bits());
    }
    assert_eq!(resumed.validation_loss().unwrap().to_bits(), whole.validation_loss().unwrap().to_bits());
}

/// From the largest loss scale, with which this model's gradients overflow: steps change nothing until the scale has been
/// halved often enough, and from there on training goes on as from a scale that fits.
#[test]
fn the_loss_scale_recovers_from_an_overflow() {
    use anemone_lm::optimizer::LossScale;
    let config = small(DeviceDtype::Fp16);
    let mut checkpoint = trainer(config.clone()).checkpoint().unwrap();
    let largest = format!(r#"{{"scale":{:.1},"good_steps":0,"growth_interval":500}}"#, LossScale::MAX);
    checkpoint.metadata.insert("loss_scale".to_string(), largest);
    let mut overflowing = Trainer::resume(config.clone(), data(&config), runtimes(), &checkpoint).unwrap();
    let before = overflowing.model().parameters.iter().map(|p| p.values.clone()).collect::<Vec<_>>();
    let mut scale = LossScale::MAX;
    let mut skipped = 0;
    let mut losses = Vec::new();
    for _ in 0..12 {
        let record = overflowing.step().unwrap();
        assert_eq!(record.loss_scale, scale);
        if record.grad_norm.is_finite() {
            losses.push(record.loss);
            continue;
        }
        assert!(losses.is_empty(), "it overflows after step {} with {scale}", record.step);
        let unchanged =
            overflowing.model().parameters.iter().zip(&before).all(|(p, before)| p.values == *before);
        assert!(unchanged, "a step is made with gradients that are not finite");
        (skipped, scale) = (skipped + 1, scale / 2.0);
    }
    assert!(skipped > 0 && losses.len() > 3, "{skipped} steps are skipped, {losses:?}");
    assert!(losses.last() < losses.first(), "{losses:?}");
}

#[test]
fn a_checkpoint_with_numbers_that_no_run_writes_is_refused() {
    use anemone_lm::checkpoint::CheckpointError;
    use anemone_lm::model::ModelError;
    use anemone_lm::train::TrainError;

    let config = small(DeviceDtype::Fp16);
    let checkpoint = trainer(config.clone()).checkpoint().unwrap();
    let resume = |config: &Config, checkpoint| {
        Trainer::resume(config.clone(), data(config), runtimes(), checkpoint).err().unwrap()
    };
    let mut later = checkpoint.clone();
    later.set("step", &13u64).unwrap();
    let error = resume(&config, &later);
    assert!(matches!(error, TrainError::State(reason) if reason.contains("more steps")), "{error}");
    let mut updated = checkpoint.clone();
    updated.set("updates", &1u64).unwrap();
    assert!(matches!(resume(&config, &updated), TrainError::State(_)));
    // Dimensions in the configuration alone: more than a terabyte, were it allocated.
    let mut wide = config;
    wide.model = ModelConfig { vocab: 1 << 24, dim: 256, ..ModelConfig::default() };
    let error = resume(&wide, &checkpoint);
    let shape = matches!(&error, TrainError::Model(ModelError::Checkpoint(CheckpointError::Shape { .. })));
    assert!(shape, "{error}");
}

/// What training adds to the loss is not part of what validation measures, and the soft cap is the model's.
#[test]
fn the_options_of_the_loss_are_in_training_and_the_cap_in_the_model() {
    let mut plain = trainer(small(DeviceDtype::Fp32));
    let mut config = small(DeviceDtype::Fp32);
    (config.train.label_smoothing, config.train.z_loss) = (0.2, 0.1);
    let mut regularized = trainer(config.clone());
    let validation = plain.validation_loss().unwrap();
    assert_eq!(regularized.validation_loss().unwrap().to_bits(), validation.to_bits());
    let loss = plain.step().unwrap().loss;
    // λ·lse² is about 0.1·(ln 256)² at first.
    let added = regularized.step().unwrap().loss - loss;
    assert!((added - 0.1 * 256f64.ln().powi(2)).abs() < 0.2, "{added}");

    // A cap far below the logits that the plain model learns.
    config.model.soft_cap = Some(0.01);
    (config.train.label_smoothing, config.train.z_loss) = (0.0, 0.0);
    let mut capped = trainer(config.clone());
    for _ in 0..12 {
        capped.step().unwrap();
    }
    let least = 256f64.ln() - 0.02;
    assert!(capped.validation_loss().unwrap() >= least);
    // It is in the checkpoint.
    let checkpoint = capped.checkpoint().unwrap();
    let kept: Config = checkpoint.get("config").unwrap();
    assert_eq!(kept, config);
    let mut resumed = Trainer::resume(kept, data(&config), runtimes(), &checkpoint).unwrap();
    let validation = capped.validation_loss().unwrap();
    assert_eq!(resumed.validation_loss().unwrap().to_bits(), validation.to_bits());
}

/// Of 200 draws from 256 equally likely words, 138 are expected to differ.
#[test]
fn what_is_generated_follows_the_soft_cap() {
    use anemone_lm::model::CLASSIFIER;

    let mut config = small(DeviceDtype::Fp16);
    let trainer = trainer(config.clone());
    // Logits so far apart that one word follows each.
    let mut model = trainer.model().clone();
    let classifier = model.parameter_mut(CLASSIFIER).unwrap();
    classifier.values.iter_mut().for_each(|value| *value *= 1000.0);
    let mut checkpoint = anemone_lm::Checkpoint::default();
    checkpoint.metadata = trainer.checkpoint().unwrap().metadata;
    model.save(&mut checkpoint).unwrap();
    let mut distinct = |soft_cap| {
        config.model.soft_cap = soft_cap;
        let resumed = Trainer::resume(config.clone(), data(&config), runtimes(), &checkpoint).unwrap();
        let sampler = anemone_lm::Sampler::new(1.0, 1.0).unwrap();
        let tokens = resumed.generate(&[10], 200, sampler, &mut Random::new(1), runtimes()).unwrap();
        tokens.into_iter().collect::<std::collections::BTreeSet<u32>>().len()
    };
    let (plain, capped) = (distinct(None), distinct(Some(1e-3)));
    assert!(plain < 60 && capped > 120, "{plain} {capped}");
}

/// Remembers every loss.
#[derive(Default)]
struct Losses(Vec<(u64, u64)>);

impl anemone_lm::run::Observer for Losses {
    fn step(&mut self, record: &anemone_lm::log::Record, _: u64) {
        self.0.push((record.step, record.loss.to_bits()));
    }
    fn checkpoint(&mut self, _: u64, _: &std::path::Path) {}
}

#[test]
fn a_run_leaves_its_files_and_refuses_to_write_over_another() {
    use anemone_lm::log::LogError;
    use anemone_lm::run::{DataSource, Run, RunError, checkpoint_path};

    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text.txt");
    std::fs::write(&text, &anemone_lm::stories::built_in().as_bytes()[..4000]).unwrap();
    let out = directory.path().join("out");
    let mut config = small(DeviceDtype::Fp16);
    (config.train.steps, config.train.checkpoint_interval, config.train.validation_interval) = (6, 2, 3);
    let source = DataSource::Files(vec![text.clone()]);
    let mut losses = Losses::default();
    let mut run = Run::create(config.clone(), source.clone(), &out, None, runtimes()).unwrap();
    let summary = run.finish(runtimes(), &mut losses).unwrap();
    assert_eq!(losses.0.len(), 6);
    assert!(summary.validation_loss.is_finite());
    let (bigram, five_gram) =
        (summary.bigram_cross_entropy.unwrap(), summary.five_gram_cross_entropy.unwrap());
    assert!(0.0 < five_gram && five_gram < bigram, "{five_gram} {bigram}");
    for file in [&summary.checkpoint, &summary.log, &summary.curve] {
        assert!(std::fs::metadata(file).unwrap().len() > 0);
    }
    let log = anemone_lm::log::read(&summary.log).unwrap();
    assert_eq!(log.iter().filter(|record| record.val_loss.is_some()).count(), 2);

    let again = Run::create(config.clone(), source.clone(), &out, None, runtimes());
    assert!(matches!(again, Err(RunError::Occupied(_))));
    let elsewhere = directory.path().join("elsewhere");
    let taken = Run::create(config, source, &elsewhere, Some(&summary.log), runtimes());
    assert!(matches!(taken, Err(RunError::Log(LogError::Exists(_)))));
    assert!(matches!(Run::resume(&elsewhere, None, runtimes()), Err(RunError::Nothing(_))));

    drop(run);
    let mut finished = Run::resume(&out, None, runtimes()).unwrap();
    let summary_again = finished.finish(runtimes(), &mut ()).unwrap();
    assert_eq!(summary_again, summary);
    drop(finished);
    std::fs::write(&text, "another text altogether, which is long enough to be split in two parts").unwrap();
    assert!(Run::resume(&out, None, runtimes()).is_err());
    assert!(checkpoint_path(&out).exists());
}
