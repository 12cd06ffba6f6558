//! The token embedding: rows of E `[V, D]` as a device tensor, and its gradient.

use crate::element::DeviceElement;
use rayon::prelude::*;
use thiserror::Error;

/// Arguments that do not fit together.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmbeddingError {
    /// The matrix does not consist of rows of D elements, or the tensor not of D × S.
    #[error("{what} has {found} elements, not {expected}")]
    Size {
        /// Which tensor.
        what: &'static str,
        /// Its number of elements.
        found: usize,
        /// What would fit, in words.
        expected: &'static str,
    },
    /// A token has no row.
    #[error("token {token} at position {position} is not below the vocabulary of {vocab}")]
    Token {
        /// The token found.
        token: u32,
        /// Where.
        position: usize,
        /// V, the number of rows.
        vocab: usize,
    },
}

/// Looks up tokens: x `[1, D, 1, S]` of the device, x[d, s] = E[token_s, d], from E `[V, D]` row-major.
///
/// S is the number of tokens. Values are rounded to the device's dtype, to nearest even. For a device tensor
/// `[B, D, 1, T]` call it for each sequence.
///
/// ```
/// use anemone_lm::embedding::gather;
/// let e = [0.0, 0.5, /* token 1 */ 1.0, 1.5];
/// let mut x = [0.0_f32; 6];
/// gather(&e, 2, &[1, 0, 1], &mut x)?;
/// assert_eq!(x, [1.0, 0.0, 1.0, 1.5, 0.5, 1.5]);
/// # Ok::<(), anemone_lm::embedding::EmbeddingError>(())
/// ```
///
/// # Errors
/// Sizes that do not fit, a token that is not below V.
pub fn gather<E: DeviceElement>(
    embedding: &[f32],
    dim: usize,
    tokens: &[u32],
    x: &mut [E],
) -> Result<(), EmbeddingError> {
    check(embedding.len(), dim, tokens, x.len())?;
    if tokens.is_empty() {
        return Ok(());
    }
    x.par_chunks_mut(tokens.len()).enumerate().for_each(|(d, out)| {
        for (out, &token) in out.iter_mut().zip(tokens) {
            *out = E::from_f32(embedding[token as usize * dim + d]);
        }
    });
    Ok(())
}

/// Adds the gradient of a look-up: dE[token_s, d] += factor · dx[d, s], for dE `[V, D]` row-major and
/// dx `[1, D, 1, S]` of the device.
///
/// `factor` is 1 / loss scale, or 1. Positions are added in order, so the same arguments give the same bits.
///
/// # Errors
/// Sizes that do not fit, a token that is not below V; dE is then unchanged.
pub fn scatter_add<E: DeviceElement>(
    dx: &[E],
    dim: usize,
    tokens: &[u32],
    factor: f32,
    gradient: &mut [f32],
) -> Result<(), EmbeddingError> {
    check(gradient.len(), dim, tokens, dx.len())?;
    /// Positions turned from columns to rows at a time: one cache line of each row of dx.
    const TILE: usize = 32;
    let positions = tokens.len();
    let mut tile = vec![0.0f32; TILE * dim];
    for (first, tokens) in (0..).step_by(TILE).zip(tokens.chunks(TILE)) {
        for d in 0..dim {
            let row = &dx[d * positions + first..][..tokens.len()];
            for (i, value) in row.iter().enumerate() {
                tile[i * dim + d] = value.to_f32();
            }
        }
        for (row, &token) in tile.chunks(dim).zip(tokens) {
            let sum = &mut gradient[token as usize * dim..][..dim];
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
        }
    }
    Ok(())
}

fn check(matrix: usize, dim: usize, tokens: &[u32], tensor: usize) -> Result<(), EmbeddingError> {
    if dim == 0 || !matrix.is_multiple_of(dim) {
        let expected = "a multiple of D, which is not 0";
        return Err(EmbeddingError::Size { what: "the embedding matrix", found: matrix, expected });
    }
    if dim.checked_mul(tokens.len()) != Some(tensor) {
        let expected = "D × the number of tokens";
        return Err(EmbeddingError::Size { what: "the device tensor", found: tensor, expected });
    }
    let vocab = matrix / dim;
    match tokens.iter().position(|&token| token as usize >= vocab) {
        Some(position) => Err(EmbeddingError::Token { token: tokens[position], position, vocab }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use half::f16;

    fn random(len: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        (0..len).map(|_| random.normal() as f32).collect()
    }

    /// For random E and dx: ⟨gather(E), dx⟩ = ⟨E, scatter(dx)⟩, the one is the other's transpose.
    #[test]
    fn scatter_is_the_transpose_of_gather() {
        let (vocab, dim, positions) = (19, 5, 77);
        let e = random(vocab * dim, 1);
        let dx = random(dim * positions, 2);
        let mut draw = Random::new(3);
        let tokens: Vec<u32> = (0..positions).map(|_| draw.below(vocab) as u32).collect();
        let mut x = vec![0.0f32; dim * positions];
        gather(&e, dim, &tokens, &mut x).unwrap();
        let mut de = vec![0.0; vocab * dim];
        scatter_add(&dx, dim, &tokens, 0.5, &mut de).unwrap();
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        assert!((0.5 * dot(&x, &dx) - dot(&e, &de)).abs() < 1e-4);
        for (s, &token) in tokens.iter().enumerate() {
            for d in 0..dim {
                assert_eq!(x[d * positions + s], e[token as usize * dim + d]);
            }
        }
    }

    #[test]
    fn fp16_is_rounded_once_and_scattered_in_f32() {
        let mut x = [f16::ZERO; 2];
        gather(&[2049.0, 0.1], 2, &[0], &mut x).unwrap();
        assert_eq!(x.map(f16::to_f32), [2048.0, 0.099_975_586]);
        // 4096 + 1 + … + 1 would stay 4096 in fp16.
        let mut dx = vec![f16::ONE; 101];
        dx[0] = f16::from_f32(4096.0);
        let mut de = [10.0, 7.0];
        scatter_add(&dx, 1, &[0; 101], 1.0, &mut de).unwrap();
        assert_eq!(de, [4206.0, 7.0]);
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_changes_nothing() {
        let message = |matrix: usize, dim, tokens: &[u32], tensor: usize| {
            let mut gradient = vec![1.0; matrix];
            let error = scatter_add(&vec![1.0f32; tensor], dim, tokens, 1.0, &mut gradient).unwrap_err();
            assert_eq!(gradient, vec![1.0; matrix]);
            let mut x = vec![0.0f32; tensor];
            assert_eq!(gather(&gradient, dim, tokens, &mut x).unwrap_err(), error);
            error.to_string()
        };
        assert_eq!(message(6, 2, &[0, 3, 1], 6), "token 3 at position 1 is not below the vocabulary of 3");
        assert_eq!(message(6, 2, &[0], 3), "the device tensor has 3 elements, not D × the number of tokens");
        assert!(message(7, 2, &[0], 2).starts_with("the embedding matrix has 7 elements"));
        assert!(message(0, 0, &[], 0).starts_with("the embedding matrix"));
        assert!(message(4, usize::MAX, &[0, 0], 2).starts_with("the embedding matrix"));
        gather::<f32>(&[1.0], 1, &[], &mut []).unwrap();
        scatter_add::<f32>(&[], 1, &[], 1.0, &mut [1.0]).unwrap();
    }
}
