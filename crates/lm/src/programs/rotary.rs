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

/// The rows of a query or key matrix `[heads·Dh, D]` of llama2.c's form, in the order that turns halves instead of
/// neighbours: the same model.
pub fn halves_from_neighbours(matrix: &[f32], size: usize, dim: usize) -> Vec<f32> {
    rows_of_heads(matrix, size, dim, |row| 2 * (row % (size / 2)) + row / (size / 2))
}

/// The way back of [`halves_from_neighbours`].
pub fn neighbours_from_halves(matrix: &[f32], size: usize, dim: usize) -> Vec<f32> {
    rows_of_heads(matrix, size, dim, |row| row / 2 + (row % 2) * (size / 2))
}

/// Each head's rows `0..size` from those that `from` says.
fn rows_of_heads(matrix: &[f32], size: usize, dim: usize, from: impl Fn(usize) -> usize) -> Vec<f32> {
    let heads = matrix.chunks_exact(size * dim);
    heads.flat_map(|head| (0..size).flat_map(|row| &head[from(row) * dim..][..dim]).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_and_halves_are_the_same_rows() {
        // Two heads of six rows of one element.
        let neighbours = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
        let halves = halves_from_neighbours(&neighbours, 6, 1);
        assert_eq!(halves, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0, 10.0, 12.0, 14.0, 11.0, 13.0, 15.0]);
        assert_eq!(neighbours_from_halves(&halves, 6, 1), neighbours);
    }
}
