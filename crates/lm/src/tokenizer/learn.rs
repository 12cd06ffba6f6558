//! Tokenizers that are learned from a text.

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::file::guarded;
use super::{BYTE_VOCAB, TokenizerError, TokenizerFile, pieces, utf8};

/// The smallest vocabulary that is learned: the bytes, and one pair.
pub const MIN_LEARNED_VOCAB: usize = BYTE_VOCAB + 1;
/// The largest vocabulary that is learned.
pub const MAX_LEARNED_VOCAB: usize = 1 << 18;

impl TokenizerFile {
    /// Learns byte-level BPE (Sennrich et al., arXiv 1508.07909; the words of GPT-2) from a text: the bytes, and the pairs that
    /// are most frequent when all before them are joined, until there are `vocab` tokens, or no pair is left. The same text
    /// gives the same tokenizer. `vocab` is brought into [`MIN_LEARNED_VOCAB`] to [`MAX_LEARNED_VOCAB`].
    ///
    /// # Errors
    /// A text that is not UTF-8.
    ///
    /// ```
    /// use anemone_lm::tokenizer::TokenizerFile;
    /// let tokenizer = TokenizerFile::learn(b"the cat and the hat and the bat", 260)?;
    /// assert_eq!(tokenizer.vocab(), 260);
    /// assert!(tokenizer.encode("the hat")?.len() < 7);
    /// # Ok::<(), anemone_lm::tokenizer::TokenizerError>(())
    /// ```
    pub fn learn(text: &[u8], vocab: usize) -> Result<TokenizerFile, TokenizerError> {
        let text = utf8(text)?;
        let json = guarded(|| {
            let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
            tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
            tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
            let trainer = BpeTrainer::builder()
                .show_progress(false)
                .vocab_size(vocab.clamp(MIN_LEARNED_VOCAB, MAX_LEARNED_VOCAB))
                .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
                .build();
            tokenizer.train(&mut TrainerWrapper::BpeTrainer(trainer), pieces(text).into_iter())?;
            tokenizer.to_string(true)
        });
        json.and_then(TokenizerFile::parse).map_err(TokenizerError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_reads_back_any_text_and_does_not_depend_on_chance() {
        let text = crate::data::built_in_text();
        let learned = TokenizerFile::learn(&text, 400).unwrap();
        assert_eq!(learned.vocab(), 400);
        assert_eq!(TokenizerFile::learn(&text, 400).unwrap().json(), learned.json());
        let start = std::str::from_utf8(&text[..2000]).unwrap();
        for text in [start, "Wörter, 😀 and\n\n  spaces\u{0}\t", ""] {
            let tokens = learned.encode(text).unwrap();
            assert!(tokens.iter().all(|&token| token < 400));
            assert_eq!(learned.decode(&tokens).unwrap(), text);
        }
        assert!(learned.encode(start).unwrap().len() < 1400);
    }

    #[test]
    fn of_a_short_text_all_pairs_are_learned_and_of_none_the_bytes() {
        assert_eq!(TokenizerFile::learn(b"", 1000).unwrap().vocab(), BYTE_VOCAB);
        assert_eq!(TokenizerFile::learn(b"ab", 0).unwrap().vocab(), MIN_LEARNED_VOCAB);
        assert_eq!(TokenizerFile::learn(b"abc", 1000).unwrap().vocab(), BYTE_VOCAB + 2);
        assert!(matches!(TokenizerFile::learn(b"ab\xff", 300), Err(TokenizerError::NotUtf8 { at: 2 })));
    }
}
