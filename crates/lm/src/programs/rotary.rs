//! The rotary position embedding (Su et al., arXiv 2104.09864): the elements i and i + Dh/2 of a head are turned as one
//! pair, by position·f_i with f_i = θ^(−2i/Dh).
//!
//! This is the form of Hugging Face's Llama. llama2.c turns neighbours, 2i and 2i + 1: the same model with the rows of
//! the query and key matrices in another order, which is changed where such a file is read or written.

use std::f64::consts::PI;

use crate::config::{ModelConfig, RopeScaling};

/// f_i of the Dh/2 pairs of a head, in radians per position.
pub fn frequencies(config: &ModelConfig) -> Vec<f64> {
    let size = config.head_size();
    let plain = |i: usize| config.rope_theta.powf(-2.0 * i as f64 / size as f64);
    let scaled = |frequency| config.rope_scaling.map_or(frequency, |scaling| scale(frequency, scaling));
    (0..size / 2).map(plain).map(scaled).collect()
}

/// Llama 3's frequency for longer sequences: see [`RopeScaling`].
fn scale(frequency: f64, scaling: RopeScaling) -> f64 {
    let RopeScaling { factor, low_freq_factor: low, high_freq_factor: high, .. } = scaling;
    // How many times the wave fits into the original length.
    let waves = scaling.original_max_positions as f64 * frequency / (2.0 * PI);
    let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
    frequency * (kept + (1.0 - kept) / factor)
}

/// Cosines and sines of the angles of positions `first..first + count`, each `[Dh/2, count]` row-major.
pub fn tables(config: &ModelConfig, first: usize, count: usize) -> [Vec<f64>; 2] {
    let frequencies = frequencies(config);
    let of = |function: fn(f64) -> f64| {
        let angles = frequencies.iter().flat_map(|f| (first..first + count).map(move |t| f * t as f64));
        angles.map(function).collect()
    };
    [of(f64::cos), of(f64::sin)]
}
