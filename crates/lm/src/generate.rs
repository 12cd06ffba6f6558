//! Continuing a text: choosing the next token from logits, and a model that gives them.

mod decoder;
mod generator;

use crate::element::DeviceElement;
use crate::random::Random;
use thiserror::Error;

pub use generator::Generator;

/// Why no token can be chosen.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SampleError {
    /// The temperature is negative or not finite.
    #[error("the temperature is {0}, must be 0 or more")]
    Temperature(f64),
    /// The probability to keep is not in (0, 1].
    #[error("top-p is {0}, must be above 0 and at most 1")]
    TopP(f64),
    /// A logit is NaN or +∞, or none is above −∞.
    #[error("the logits give no probabilities: {0}")]
    Logits(&'static str),
}

/// Draws a token from the distribution that a model's logits give, made sharper by a temperature and cut to
/// its most likely part.
///
/// ```
/// use anemone_lm::{generate::Sampler, random::Random};
/// let mut random = Random::new(1);
/// let greedy = Sampler::new(0.0, 1.0)?;
/// assert_eq!(greedy.sample(&[0.5, 2.0, -1.0], &mut random)?, 1);
/// // 0.9 of the probability needs only the first two of these.
/// let nucleus = Sampler::new(1.0, 0.9)?;
/// assert!(nucleus.sample(&[2.0, 2.0, -9.0], &mut random)? < 2);
/// # Ok::<(), anemone_lm::generate::SampleError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    temperature: f64,
    top_p: f64,
}

impl Sampler {
    /// A sampler from softmax(logits / `temperature`), of which only the most likely tokens are kept that
    /// together reach `top_p` (nucleus sampling, Holtzman et al., arXiv 1904.09751). A temperature of 0 always
    /// takes the most likely token; a `top_p` of 1 keeps all.
    ///
    /// # Errors
    /// A temperature that is negative or not finite, a `top_p` outside (0, 1].
    pub fn new(temperature: f64, top_p: f64) -> Result<Self, SampleError> {
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return Err(SampleError::Temperature(temperature));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(SampleError::TopP(top_p));
        }
        Ok(Self { temperature, top_p })
    }

    /// The next token for the logits of one position, `[V]`; a logit of −∞ is a token that cannot come.
    ///
    /// Of equally likely tokens the one with the smaller number comes first. One random number is drawn, none
    /// at temperature 0.
    ///
    /// # Errors
    /// [`SampleError::Logits`] for a logit that is NaN or +∞, or when none is above −∞.
    pub fn sample(&self, logits: &[f32], random: &mut Random) -> Result<u32, SampleError> {
        let best = greatest(logits)?;
        if self.temperature == 0.0 {
            return Ok(best as u32);
        }
        let max = f64::from(logits[best]);
        let weight = |z: &f32| ((f64::from(*z) - max) / self.temperature).exp();
        let mut likely: Vec<(usize, f64)> = logits.iter().map(weight).enumerate().collect();
        likely.sort_by(|a, b| b.1.total_cmp(&a.1));
        let total: f64 = likely.iter().map(|(_, weight)| weight).sum();

        let mut kept = 0.0;
        let mut count = 0;
        for (_, weight) in likely.iter().take_while(|(_, weight)| *weight > 0.0) {
            kept += weight;
            count += 1;
            if kept >= self.top_p * total {
                break;
            }
        }
        let mut rest = random.uniform() * kept;
        for &(token, weight) in &likely[..count] {
            rest -= weight;
            if rest < 0.0 {
                return Ok(token as u32);
            }
        }
        // Rounding may leave a rest after the last of the kept.
        Ok(likely[count - 1].0 as u32)
    }
}

/// The index of the greatest logit, the first of equals.
fn greatest(logits: &[f32]) -> Result<usize, SampleError> {
    let mut best: Option<usize> = None;
    for (i, &z) in logits.iter().enumerate() {
        if z.is_nan() {
            return Err(SampleError::Logits("one is NaN"));
        }
        if z == f32::INFINITY {
            return Err(SampleError::Logits("one is infinite"));
        }
        if z > best.map_or(f32::NEG_INFINITY, |best| logits[best]) {
            best = Some(i);
        }
    }
    best.ok_or(SampleError::Logits("none is above minus infinity"))
}

/// The logits of one position, `[V]`, out of the channel-first `[V, S]`; `None` where there is no such position
/// or the tensor does not consist of rows of S.
pub fn position_logits<E: DeviceElement>(
    logits: &[E],
    positions: usize,
    position: usize,
) -> Option<Vec<f32>> {
    if position >= positions || !logits.len().is_multiple_of(positions) {
        return None;
    }
    Some(logits.iter().skip(position).step_by(positions).map(|z| z.to_f32()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(sampler: Sampler, logits: &[f32], draws: usize) -> Vec<f64> {
        let mut random = Random::new(77);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..draws {
            counts[sampler.sample(logits, &mut random).unwrap() as usize] += 1.0 / draws as f64;
        }
        counts
    }

    /// Four standard deviations of a frequency in 40 000 draws are at most 0.01.
    fn assert_near(found: &[f64], expected: &[f64]) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.01), "{found:?} {expected:?}");
    }

    #[test]
    fn draws_follow_the_distribution() {
        // Probabilities 0.5, 0.3, 0.15, 0.05 in another order.
        let p = [0.15f64, 0.5, 0.05, 0.3];
        let logits = p.map(|p| p.ln() as f32 + 3.0);
        assert_near(&frequencies(Sampler::new(1.0, 1.0).unwrap(), &logits, 40_000), &p);
        // Temperature 1/2 squares them, temperature 2 takes the root.
        for (temperature, power) in [(0.5, 2.0), (2.0, 0.5)] {
            let powers = p.map(|p| p.powf(power));
            let expected = powers.map(|p| p / powers.iter().sum::<f64>());
            assert_near(&frequencies(Sampler::new(temperature, 1.0).unwrap(), &logits, 40_000), &expected);
        }
    }

    #[test]
    fn top_p_keeps_the_fewest_tokens_that_reach_it() {
        let logits = [0.15f64, 0.5, 0.05, 0.3].map(|p| p.ln() as f32);
        for (top_p, expected) in [
            (0.4, [0.0, 1.0, 0.0, 0.0]),
            (0.6, [0.0, 0.625, 0.0, 0.375]),
            (0.85, [0.15 / 0.95, 0.5 / 0.95, 0.0, 0.3 / 0.95]),
        ] {
            let found = frequencies(Sampler::new(1.0, top_p).unwrap(), &logits, 40_000);
            assert_near(&found, &expected);
            assert!(found.iter().zip(expected).all(|(f, e)| (*f == 0.0) == (e == 0.0)), "{found:?}");
        }
        // Of equals, the first.
        assert!(frequencies(Sampler::new(1.0, 0.2).unwrap(), &[1.0; 3], 50)[0] > 0.99);
    }

    #[test]
    fn temperature_zero_is_greedy_and_draws_nothing() {
        let mut random = Random::new(0);
        let greedy = Sampler::new(0.0, 0.5).unwrap();
        assert_eq!(greedy.sample(&[-3.0, 2.0, 2.0, f32::NEG_INFINITY], &mut random), Ok(1));
        assert_eq!(random, Random::new(0));
    }

    #[test]
    fn extreme_logits_are_fine_and_impossible_ones_errors() {
        let mut random = Random::new(0);
        let sampler = Sampler::new(1.0, 1.0).unwrap();
        let huge = [f32::MAX, f32::MIN, f32::NEG_INFINITY];
        assert!((0..100).all(|_| sampler.sample(&huge, &mut random) == Ok(0)));
        let tiny = Sampler::new(1e-300, 1e-300).unwrap();
        assert_eq!(tiny.sample(&[1.0, 2.0, 2.0], &mut random), Ok(1));
        for impossible in [&[0.0, f32::NAN][..], &[f32::INFINITY, 0.0], &[f32::NEG_INFINITY; 3], &[]] {
            assert!(matches!(sampler.sample(impossible, &mut random), Err(SampleError::Logits(_))));
        }
        for (temperature, top_p) in [(-0.1, 1.0), (f64::NAN, 1.0), (1.0, 0.0), (1.0, 1.1), (1.0, f64::NAN)] {
            assert!(Sampler::new(temperature, top_p).is_err());
        }
    }

    #[test]
    fn a_position_is_a_column() {
        let logits = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(position_logits(&logits, 3, 1), Some(vec![2.0, 5.0]));
        assert_eq!(position_logits(&logits, 3, 3), None);
        assert_eq!(position_logits(&logits, 4, 0), None);
        assert_eq!(position_logits(&logits, 0, 0), None);
    }
}
