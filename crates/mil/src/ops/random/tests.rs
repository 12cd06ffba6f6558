//! That what is drawn has the distribution that is asked for. Seeds are fixed, so that what holds once always holds; the
//! bounds are those that a true distribution breaks once in a thousand times or less.

use half::f16;

use crate::ops::Given;
use crate::ops::testing::*;
use crate::tensor::Tensor;
use crate::types::Opset;

const COUNT: usize = 20_000;
const SEEDS: [i32; 6] = [-1, 0, 1, 2, i32::MAX, i32::MIN];
/// Of Kolmogorov's distribution: √n times the largest difference of distribution functions is more once in a thousand.
const KOLMOGOROV: f64 = 1.95;

fn scalar(value: f32) -> Given {
    constant(Tensor::scalar(value))
}

fn shape(count: usize) -> (&'static str, Given) {
    ("shape", ints(&[count as i32]))
}

/// What an op draws.
fn draw(op: &str, given: &[(&str, Given)], seed: i32) -> Vec<f64> {
    let mut given = given.to_vec();
    given.push(("seed", int(seed)));
    eval(op, Opset::IOS15, &given).unwrap().to_f64().unwrap()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The correlation of numbers that have the mean 0 and the variance 1, times the root of their number.
fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let products: Vec<f64> = x.iter().zip(y).map(|(x, y)| x * y).collect();
    mean(&products) * (products.len() as f64).sqrt()
}

/// Compares drawn numbers with a distribution function.
fn compare(mut values: Vec<f64>, distribution: impl Fn(f64) -> f64) {
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let largest = values.iter().enumerate().fold(0.0, |largest: f64, (i, &value)| {
        let below = distribution(value);
        largest.max(below - i as f64 / count).max((i + 1) as f64 / count - below)
    });
    assert!(largest * count.sqrt() < KOLMOGOROV, "{}", largest * count.sqrt());
}

#[test]
fn uniform_numbers_are_uniform() {
    for seed in SEEDS {
        compare(draw("random_uniform", &[shape(COUNT)], seed), |x| x);
        let given = [shape(COUNT), ("low", scalar(-3.0)), ("high", scalar(5.0))];
        let values = draw("random_uniform", &given, seed);
        assert!(values.iter().all(|value| (-3.0..5.0).contains(value)));
        compare(values, |x| (x + 3.0) / 8.0);
    }
}

#[test]
fn normal_numbers_are_normal() {
    let distribution = |x: f64| 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
    for seed in SEEDS {
        let values = draw("random_normal", &[shape(COUNT)], seed);
        let root = (COUNT as f64).sqrt();
        assert!(mean(&values).abs() * root < 3.3);
        // The square of a normal number has the variance 2, its fourth power 96.
        let squares: Vec<f64> = values.iter().map(|x| x * x).collect();
        assert!((mean(&squares) - 1.0).abs() * root < 3.3 * 2f64.sqrt());
        let fourths: Vec<f64> = squares.iter().map(|x| x * x).collect();
        assert!((mean(&fourths) - 3.0).abs() * root < 3.3 * 96f64.sqrt());
        compare(values, distribution);
        let given = [shape(COUNT), ("mean", scalar(2.0)), ("stddev", scalar(0.5))];
        compare(draw("random_normal", &given, seed), |x| distribution((x - 2.0) / 0.5));
    }
}

#[test]
fn draws_and_seeds_have_nothing_to_do_with_each_other() {
    let normal = |seed| draw("random_normal", &[shape(COUNT)], seed);
    for seed in SEEDS {
        let values = normal(seed);
        for distance in 1..5 {
            assert!(correlation(&values, &values[distance..]).abs() < 3.9, "{seed} {distance}");
        }
        for other in [seed ^ 1, seed.wrapping_add(2), !seed] {
            assert!(correlation(&values, &normal(other)).abs() < 3.9, "{seed} {other}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_numbers() {
    for op in ["random_normal", "random_uniform", "random_bernoulli"] {
        assert_eq!(draw(op, &[shape(64)], 5), draw(op, &[shape(64)], 5));
        assert_ne!(draw(op, &[shape(64)], 5), draw(op, &[shape(64)], 6));
        // Those of a longer tensor begin so, whatever its dimensions.
        let longer = draw(op, &[("shape", ints(&[4, 5, 6]))], 5);
        assert_eq!(longer[..64], draw(op, &[shape(64)], 5));
        let without = eval(op, Opset::IOS15, &[shape(64)]).unwrap().to_f64().unwrap();
        assert_eq!(without, draw(op, &[shape(64)], -1));
    }
}

#[test]
fn bernoulli_draws_have_their_probability() {
    for (seed, probability) in SEEDS.into_iter().zip([0.5, 0.1, 0.9, 0.0, 1.0, 0.25]) {
        let values = draw("random_bernoulli", &[shape(COUNT), ("prob", scalar(probability))], seed);
        assert!(values.iter().all(|&value| value == 0.0 || value == 1.0));
        let probability = f64::from(probability);
        let deviation = (probability * (1.0 - probability) / COUNT as f64).sqrt();
        assert!((mean(&values) - probability).abs() <= 3.3 * deviation, "{probability}");
    }
}

#[test]
fn categories_have_their_probabilities() {
    let probabilities = [0.1f32, 0.0, 0.4, 0.2, 0.3];
    let logits = probabilities.map(f32::ln);
    for seed in SEEDS {
        for (mode, entries) in
            [("probs", probabilities), ("logits", logits), ("probs", probabilities.map(|p| 7.0 * p))]
        {
            // The second distribution is the same; its draws are others.
            let x = Tensor::from_values(&[2, 5], [entries, entries].concat()).unwrap();
            let given = [("x", constant(x)), ("mode", text(mode)), ("size", int(COUNT as i32))];
            let drawn = draw("random_categorical", &given, seed);
            assert_ne!(drawn[..COUNT], drawn[COUNT..]);
            for drawn in drawn.chunks_exact(COUNT) {
                let mut square = 0.0;
                for (category, &probability) in probabilities.iter().enumerate() {
                    let found = drawn.iter().filter(|&&value| value == category as f64).count() as f64;
                    let expected = f64::from(probability) * COUNT as f64;
                    square +=
                        if expected == 0.0 { 1e9 * found } else { (found - expected).powi(2) / expected };
                }
                // χ² with three degrees of freedom.
                assert!(square < 16.3, "{mode} {seed}: {square}");
            }
        }
    }
}

#[test]
fn what_is_no_distribution_gives_nan() {
    let categories = |mode: &str, x: [f32; 3]| {
        let given = [("x", constant(Tensor::vector(x.to_vec()))), ("mode", text(mode))];
        draw("random_categorical", &given, 3)[0]
    };
    let infinity = f32::INFINITY;
    for x in [[0.0; 3], [0.5, -0.5, 1.0], [f32::NAN, 1.0, 1.0], [infinity, 1.0, 1.0]] {
        assert!(categories("probs", x).is_nan(), "{x:?}");
    }
    for x in [[-infinity; 3], [f32::NAN, 0.0, 0.0], [infinity, 0.0, 0.0]] {
        assert!(categories("logits", x).is_nan(), "{x:?}");
    }
    assert_eq!(categories("probs", [0.0, 1e-30, 0.0]), 1.0);
    assert_eq!(categories("logits", [-infinity, -1000.0, -infinity]), 1.0);
}

#[test]
fn halves_stay_below_the_upper_end() {
    let half = |value: f32| constant(Tensor::scalar(f16::from_f32(value)));
    for (low, high) in [(0.0, 1.0), (-1.0, 0.0), (1000.0, 1001.0), (-2.0, -1.0), (0.0, 6e-8)] {
        let given = [shape(COUNT), ("low", half(low)), ("high", half(high))];
        let values = draw("random_uniform", &given, 1);
        let high = f16::from_f32(high).to_f64();
        assert!(values.iter().all(|&value| value >= f64::from(low) && value < high), "{low} to {high}");
    }
    let same = [shape(8), ("low", half(2.0)), ("high", half(2.0))];
    assert_eq!(draw("random_uniform", &same, 1), [2.0; 8]);
    // Above it, the formula alone.
    let turned = [shape(COUNT), ("low", half(1.0)), ("high", half(-1.0))];
    compare(draw("random_uniform", &turned, 1), |x| (x + 1.0) / 2.0);
}

#[test]
fn what_is_drawn_for_is_checked() {
    let refuse = |op: &str, given: &[(&str, Given)]| refusal(op, Opset::IOS15, given);
    let half = || constant(Tensor::scalar(f16::ONE));
    assert!(refuse("random_normal", &[shape(1), ("mean", half())]).contains("without `stddev`"));
    assert!(refuse("random_uniform", &[shape(1), ("high", half())]).contains("without `low`"));
    assert!(refuse("random_uniform", &[("shape", ints(&[2, -1]))]).contains("must not be negative"));
    let vector = || constant(Tensor::vector(vec![1f32]));
    assert!(refuse("random_bernoulli", &[shape(1), ("prob", vector())]).contains("must be a scalar"));
    assert!(refuse("random_categorical", &[("x", scalar(1.0))]).contains("at least rank 1"));
    assert!(refuse("random_categorical", &[("x", vector()), ("size", int(0))]).contains("at least 1"));
    assert!(
        refuse("random_categorical", &[("x", vector()), ("mode", text("odds"))]).contains("logits or probs")
    );
}
