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
    let exponent = if largest_sum > 0.0 { (16384.0 / largest_sum).log2().floor() } else { 0.0 };
    let scale = exponent.clamp(-60.0, 60.0).exp2();
    scaled.iter_mut().for_each(|c| *c *= scale);
    (scaled, scale)
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
}
