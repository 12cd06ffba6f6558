//! What the host computes between the tiles of the head, in fp32: the merge of their sums, the loss, and gradients.
//!
//! With m, s and y of every tile i (see [`crate::programs::head::tiled`]), at each position:
//! lse = m + log Σ s_i·exp(m_i − m) for m = max m_i, Eᵀp = Σ y_i·exp(m_i − m) / Σ s_i·exp(m_i − m),
//! loss = lse − ⟨E\[t\], xn⟩, dxn = Eᵀp − E\[t\], and dE = p·xnᵀ less xn in the row of each target.

/// The softmax of logits that come in tiles, at S positions.
///
/// Arrays of a position for each of C channels are channel-first, `[C, S]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    largest: Vec<f32>,
    sum: Vec<f32>,
    /// Σ u·E, `[D, S]`.
    mixture: Vec<f32>,
}

impl Merged {
    /// Of no tile yet. `dim` is 0 where no tile has a mixture.
    pub fn new(dim: usize, positions: usize) -> Merged {
        Merged {
            largest: vec![f32::NEG_INFINITY; positions],
            sum: vec![0.0; positions],
            mixture: vec![0.0; dim * positions],
        }
    }

    /// Adds a tile: its largest logits `[S]`, the sums of exp(z − largest) `[S]`, and E_iᵀ·exp(z − largest) `[D, S]`.
    ///
    /// # Panics
    ///
    /// When a slice is shorter than the head has positions.
    pub fn add(&mut self, largest: &[f32], sum: &[f32], mixture: &[f32]) {
        let positions = self.largest.len();
        for s in 0..positions {
            let most = self.largest[s].max(largest[s]);
            let (before, now) = (factor(self.largest[s], most), factor(largest[s], most));
            self.largest[s] = most;
            self.sum[s] = self.sum[s] * before + sum[s] * now;
            let rows = self.mixture.chunks_exact_mut(positions).zip(mixture.chunks_exact(positions));
            for (into, from) in rows {
                into[s] = into[s] * before + from[s] * now;
            }
        }
    }

    /// log Σ exp z at a position.
    pub fn log_sum_exp(&self, position: usize) -> f32 {
        self.largest[position] + self.sum[position].ln()
    }

    /// What turns a tile's exp(z − m_i) into probabilities, at each position: exp(m_i − m) / s.
    pub fn probability_factors(&self, largest: &[f32]) -> Vec<f32> {
        let all = self.largest.iter().zip(&self.sum).zip(largest);
        all.map(|((&most, &sum), &largest)| factor(largest, most) / sum).collect()
    }

    /// Eᵀp `[D, S]`: the mean row of E under the probabilities.
    pub fn mean_row(&self) -> Vec<f32> {
        let rows = self.mixture.chunks_exact(self.sum.len().max(1));
        rows.flat_map(|row| row.iter().zip(&self.sum).map(|(y, sum)| y / sum)).collect()
    }
}

/// exp(x − most), where `most` may be −∞ as well.
fn factor(x: f32, most: f32) -> f32 {
    if x == f32::NEG_INFINITY { 0.0 } else { (x - most).exp() }
}

/// xn·w·factor `[D, S]`, times a power of two that keeps the sum of S products with numbers of at most 1 below half
/// the 32768 at which the engine's sums overflow, and lifts small gradients above the products it drops; and that
/// power.
///
/// # Panics
///
/// When `xn` is no multiple of the positions.
pub fn scaled_for_weight_gradient(xn: &[f32], factors: &[f32], weight: f32) -> (Vec<f32>, f32) {
    let positions = factors.len().max(1);
    let product = xn.iter().enumerate().map(|(at, x)| x * weight * factors[at % positions]);
    let mut scaled: Vec<f32> = product.collect();
    let rows = scaled.chunks_exact(positions);
    let largest_sum = rows.map(|row| row.iter().map(|c| c.abs()).sum::<f32>()).fold(0.0, f32::max);
    let scale = power_of_two(HALF_OF_SUMS, largest_sum);
    scaled.iter_mut().for_each(|c| *c *= scale);
    (scaled, scale)
}

/// p·w `[V, S]` of a tile, from its exp(z − m_i), times a power of two; and that power.
///
/// With it neither a probability, nor a sum of them with rows of E, none of whose elements is over `largest_embed`, nor
/// one with xn passes half of the 32768 at which the engine's sums overflow; and what
/// [`Tile::backward`](crate::programs::head::tiled::Tile::backward) and
/// [`Tile::weight_gradient`](crate::programs::head::tiled::Tile::weight_gradient) add up is far above what they drop.
/// The targets' part of both gradients is left to the host.
///
/// # Panics
///
/// When `exponentials` is no multiple of the positions.
pub fn scaled_probabilities(
    exponentials: &[f32],
    factors: &[f32],
    weight: f32,
    [largest_embed, largest_xn]: [f32; 2],
) -> (Vec<f32>, f32) {
    let positions = factors.len().max(1);
    let product = exponentials.iter().enumerate().map(|(at, u)| u * weight * factors[at % positions]);
    let mut scaled: Vec<f32> = product.collect();
    let rows = scaled.chunks_exact(positions).map(|row| row.iter().map(|p| p.abs()).sum::<f32>());
    let with_xn = rows.fold(0.0, f32::max) * largest_xn.max(1.0);
    let scale = power_of_two(HALF_OF_SUMS, with_xn.max(weight.abs() * largest_embed));
    scaled.iter_mut().for_each(|p| *p *= scale);
    (scaled, scale)
}

/// dxn, times a power of two that brings its largest magnitude to 32 at most and over 16, as
/// [`Tile::rmsnorm_backward`](crate::programs::head::tiled::Tile::rmsnorm_backward) wants it; and that power. dx, which
/// is up to ε^-½ = 316 times as large where hidden vectors are small, still has room for gains up to 6.
pub fn scaled_for_rmsnorm_backward(dxn: &[f32]) -> (Vec<f32>, f32) {
    let scale = power_of_two(LARGEST_DXN, dxn.iter().fold(0.0, |largest, value| largest.max(value.abs())));
    (dxn.iter().map(|value| value * scale).collect(), scale)
}

/// What the largest gradient before the norm's backward is brought to.
const LARGEST_DXN: f32 = 32.0;
/// Half of what the engine's sums hold.
const HALF_OF_SUMS: f32 = 16384.0;

/// The largest power of two that keeps `largest` within `limit`, of those from 2^-60 to 2^60; 1 where `largest` is 0.
fn power_of_two(limit: f32, largest: f32) -> f32 {
    let exponent = if largest > 0.0 { (limit / largest).log2().floor() } else { 0.0 };
    exponent.clamp(-60.0, 60.0).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// exp, sums and quotients of three tiles against the softmax as its formula stands, in f64.
    #[test]
    fn tiles_merge_to_the_softmax_of_all_logits() {
        let logits: Vec<f64> = (0..30).map(|v| f64::from(v * 7 % 11) * 3.0 - 40.0).collect();
        let rows: Vec<f64> = (0..30).map(|v| f64::from(v).sin()).collect();
        let mut merged = Merged::new(1, 1);
        for (tile, rows) in logits.chunks(12).zip(rows.chunks(12)) {
            let largest = tile.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = tile.iter().map(|z| (z - largest).exp()).collect();
            let mixture: f64 = weights.iter().zip(rows).map(|(u, e)| u * e).sum();
            merged.add(&[largest as f32], &[weights.iter().sum::<f64>() as f32], &[mixture as f32]);
        }
        let sum: f64 = logits.iter().map(|z| z.exp()).sum();
        let mean: f64 = logits.iter().zip(&rows).map(|(z, e)| z.exp() * e).sum::<f64>() / sum;
        assert!((f64::from(merged.log_sum_exp(0)) - sum.ln()).abs() < 1e-5);
        assert!((f64::from(merged.mean_row()[0]) - mean).abs() < 1e-6);
        let factor = f64::from(merged.probability_factors(&[-40.0])[0]);
        assert!((factor / ((-40f64).exp() / sum) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn the_scale_is_a_power_of_two_and_leaves_room_for_the_sum() {
        let xn: Vec<f32> = (0..48).map(|i| (i as f32).sin()).collect();
        let (scaled, scale) = scaled_for_weight_gradient(&xn, &[1e-4; 16], 1.0 / 16.0);
        assert_eq!(scale.log2().fract(), 0.0);
        let sums: Vec<f32> = scaled.chunks(16).map(|row| row.iter().map(|c| c.abs()).sum()).collect();
        let most = sums.iter().copied().fold(0.0, f32::max);
        assert!((8192.0..=16384.0).contains(&most), "{most}");
        assert_eq!(scaled_for_weight_gradient(&[0.0; 4], &[1.0; 4], 1.0), (vec![0.0; 4], 1.0));
    }

    #[test]
    fn scaled_probabilities_leave_room_for_both_sums_that_they_go_into() {
        // One token that is certain, and one at 2^-17 everywhere, at 16 positions.
        for (exponentials, factor) in [([1.0f32, 0.0], 1.0f32), ([1.0, 1.0], 2f32.powi(-17))] {
            let rows: Vec<f32> = exponentials.iter().flat_map(|&u| [u; 16]).collect();
            let (scaled, scale) = scaled_probabilities(&rows, &[factor; 16], 1.0 / 16.0, [0.1, 27.0]);
            assert_eq!(scale.log2().fract(), 0.0);
            let bounds = [scale * 0.1 / 16.0, scaled[..16].iter().sum::<f32>() * 27.0];
            let most = bounds[0].max(bounds[1]);
            assert!((8192.0..=16384.0).contains(&most), "{most}");
        }
    }

    #[test]
    fn the_largest_gradient_before_the_norm_comes_to_32_at_most() {
        let (scaled, scale) = scaled_for_rmsnorm_backward(&[1e-6, -3e-5, 0.0]);
        assert_eq!(scale.log2().fract(), 0.0);
        assert!((16.0..=32.0).contains(&-scaled[1]), "{scaled:?}");
        assert_eq!(scaled_for_rmsnorm_backward(&[0.0; 3]), (vec![0.0; 3], 1.0));
    }
}
