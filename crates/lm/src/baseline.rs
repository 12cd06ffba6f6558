//! What counting alone predicts: the byte n-gram model that a trained model is measured against.
//!
//! The interpolated Witten–Bell model (Witten and Bell, 1991; Chen and Goodman, 1998, section 2.4) gives byte b
//! after the n − 1 bytes c the probability
//!
//! ```text
//! p_n(b | c) = (count(c b) + distinct(c) · p_{n−1}(b | c′)) / (count(c) + distinct(c)),   p_0 = 1/256
//! ```
//!
//! where c′ is c without its first byte, count(c) how often a byte follows c in the training text, and
//! distinct(c) how many different bytes do. A context that the training text does not have leaves p_{n−1}.
//! There is nothing to choose or to fit, so two who count the same text get the same figure.

/// The n of the model of [`witten_bell`]: four bytes of context.
pub const ORDER: usize = 5;

/// n-grams that are sorted at a time: what bounds memory by the different n-grams, not by the text.
const CHUNK: usize = 1 << 22;

/// How often an n-gram occurs, by n-gram: in ascending order, each once.
type Counts = Vec<(u64, u64)>;

/// Cross entropy, in nats per byte, of the interpolated Witten–Bell byte 5-gram model, counted on `train`, on a
/// validation text.
///
/// Scored is every byte of `validation` but its first, the positions that
/// [`Dataset::validation_batches`](crate::Dataset::validation_batches) counts, each after as many of the four
/// bytes before it as `validation` has. 0 for a text without such a byte.
///
/// ```
/// // Before "b": p_0 = 1/256, p_1 = (2 + 2/256) / (4 + 2), p_2 = (2 + p_1) / (2 + 1).
/// let p_1 = (2.0 + 2.0 / 256.0) / 6.0;
/// let nats = anemone_lm::baseline::witten_bell(b"abab", b"ab");
/// assert!((nats + f64::ln((2.0 + p_1) / 3.0)).abs() < 1e-14);
/// ```
pub fn witten_bell(train: &[u8], validation: &[u8]) -> f64 {
    cross_entropy(train, validation, CHUNK)
}

fn cross_entropy(train: &[u8], validation: &[u8], chunk: usize) -> f64 {
    let scored = validation.len().saturating_sub(1);
    if scored == 0 {
        return 0.0;
    }
    // By position in `validation`; its first byte is predicted like the others, but not scored.
    let mut probabilities = vec![1.0 / 256.0; validation.len()];
    for order in 1..=ORDER {
        interpolate(&count(train, order, chunk), validation, order, chunk, &mut probabilities);
    }
    -probabilities[1..].iter().map(|probability: &f64| probability.ln()).sum::<f64>() / scored as f64
}

/// The n-grams of a text in the order of their first bytes, each as a number whose lowest byte is the last one.
fn grams(text: &[u8], order: usize) -> impl Iterator<Item = u64> + '_ {
    text.windows(order).map(|gram| gram.iter().fold(0, |gram, &byte| gram << 8 | u64::from(byte)))
}

fn count(text: &[u8], order: usize, chunk: usize) -> Counts {
    let mut counts = Counts::new();
    let mut grams = grams(text, order);
    loop {
        let mut some: Vec<u64> = grams.by_ref().take(chunk).collect();
        if some.is_empty() {
            return counts;
        }
        some.sort_unstable();
        counts.extend(some.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u64)));
        // Two ascending runs: a stable sort merges them in linear time.
        counts.sort_by_key(|&(gram, _)| gram);
        counts.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            earlier.1 += if same { later.1 } else { 0 };
            same
        });
    }
}

/// Makes p_n of p_{n−1}, n = `order`, at every position of `text` that ends an n-gram.
fn interpolate(counts: &Counts, text: &[u8], order: usize, chunk: usize, probabilities: &mut [f64]) {
    let mut ends = grams(text, order).zip(order - 1..);
    loop {
        let mut some: Vec<(u64, usize)> = ends.by_ref().take(chunk).collect();
        if some.is_empty() {
            return;
        }
        // Both in ascending order, so one walk over the counts finds all of them.
        some.sort_unstable();
        let mut rest = counts.as_slice();
        for same_context in some.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
            let context = same_context[0].0 >> 8;
            rest = &rest[rest.partition_point(|&(gram, _)| gram >> 8 < context)..];
            let followers = &rest[..rest.partition_point(|&(gram, _)| gram >> 8 == context)];
            if followers.is_empty() {
                continue;
            }
            let total: u64 = followers.iter().map(|&(_, count)| count).sum();
            let distinct = followers.len() as f64;
            for &(gram, end) in same_context {
                let found = followers.binary_search_by_key(&gram, |&(gram, _)| gram);
                let count = found.map_or(0, |at| followers[at].1);
                probabilities[end] =
                    (count as f64 + distinct * probabilities[end]) / (total as f64 + distinct);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Dataset;
    use crate::tokenizer::Tokenizer;

    /// What `tests/lm/witten_bell.py` computes from counts of byte strings.
    #[derive(Deserialize)]
    struct Reference {
        order: usize,
        cases: Vec<Case>,
        built_in_nats_per_byte: f64,
    }

    #[derive(Deserialize)]
    struct Case {
        train: String,
        validation: String,
        nats_per_byte: f64,
    }

    fn reference() -> Reference {
        serde_json::from_str(include_str!("../../../tests/lm/witten_bell.json")).unwrap()
    }

    #[test]
    fn cross_entropies_are_the_references() {
        let reference = reference();
        assert_eq!(reference.order, ORDER);
        assert!(reference.cases.len() >= 7);
        for case in reference.cases {
            // Chunks of a few n-grams count as one chunk does.
            for chunk in [1, 7, CHUNK] {
                let nats = cross_entropy(case.train.as_bytes(), case.validation.as_bytes(), chunk);
                let error = (nats - case.nats_per_byte).abs();
                assert!(error < 1e-12, "{nats} for {}, {:?}", case.nats_per_byte, case.validation);
            }
        }
    }

    #[test]
    fn the_built_in_text_has_the_references_cross_entropy() {
        let data = Dataset::built_in(&Tokenizer::Bytes, 1).unwrap();
        let [train, validation] = data.texts().unwrap();
        let nats = witten_bell(train, validation);
        assert!((nats - reference().built_in_nats_per_byte).abs() < 1e-10, "{nats}");
    }

    #[test]
    fn probabilities_sum_to_one() {
        let train = b"she sells sea shells by the sea shore, the shells she sells are sea shells";
        for context in [&b"sea "[..], b"a s", b"xsea", b"zzzz", b"s"] {
            let probability = |byte| {
                let with = [context, &[byte]].concat();
                let nats = |text: &[u8]| witten_bell(train, text) * (text.len() - 1) as f64;
                f64::exp(nats(context) - nats(&with))
            };
            let sum: f64 = (0..=u8::MAX).map(probability).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{sum} after {context:?}");
        }
    }

    #[test]
    fn texts_without_a_prediction_have_none() {
        for validation in [&b""[..], b"x"] {
            assert_eq!(witten_bell(b"abc", validation), 0.0);
        }
        assert!((witten_bell(b"", b"xyz") - f64::ln(256.0)).abs() < 1e-14);
    }
}
