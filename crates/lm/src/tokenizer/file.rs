//! Tokenizers that a `tokenizer.json` describes.

use std::cell::Cell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Once};

use tokenizers::ModelWrapper;

use super::TokenizerError;

/// What a `tokenizer.json` of Hugging Face's says, whatever its model; copies share it.
///
/// Nothing is left to chance and nothing is cut: dropout, truncation and padding are off, whatever the file says.
#[derive(Clone)]
pub struct TokenizerFile(Arc<Parsed>);

struct Parsed {
    /// The file, to the byte.
    json: String,
    tokenizer: tokenizers::Tokenizer,
    vocab: usize,
}

impl TokenizerFile {
    /// The tokenizer of this content of a file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, where that is known with the place.
    pub fn parse(json: String) -> Result<TokenizerFile, String> {
        // The library's own errors of models do not say where in the file they are.
        serde_json::from_str::<serde::de::IgnoredAny>(&json).map_err(|error| error.to_string())?;
        let mut tokenizer = guarded(|| tokenizers::Tokenizer::from_bytes(&json))?;
        if let ModelWrapper::BPE(model) = tokenizer.get_model() {
            let mut model = model.clone();
            model.dropout = None;
            tokenizer.with_model(model);
        }
        tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
        tokenizer.with_padding(None);
        let vocab = tokenizer.get_vocab(true).values().max().map_or(0, |&last| last as usize + 1);
        if vocab == 0 {
            return Err("it has no tokens".to_string());
        }
        Ok(TokenizerFile(Arc::new(Parsed { json, tokenizer, vocab })))
    }

    /// The file's content.
    pub fn json(&self) -> &str {
        &self.0.json
    }

    /// The vocabulary size V: every token is below it.
    pub fn vocab(&self) -> usize {
        self.0.vocab
    }

    /// The tokens of a text, without what a model's template puts around it.
    ///
    /// # Errors
    ///
    /// A text with parts that the tokenizer has no tokens for, nor one that stands for them.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoded = guarded(|| self.0.tokenizer.encode_fast(text, false));
        Ok(encoded.map_err(TokenizerError::Refused)?.get_ids().to_vec())
    }

    /// The text of tokens; a number that no token has stands for nothing.
    ///
    /// # Errors
    ///
    /// Tokens that the file's decoder refuses.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        guarded(|| self.0.tokenizer.decode(tokens, false)).map_err(TokenizerError::Refused)
    }
}

impl fmt::Debug for TokenizerFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenizerFile").field("vocab", &self.0.vocab).finish_non_exhaustive()
    }
}

thread_local! {
    /// Whether a panic of this thread becomes an error, of which nothing need be printed.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// What the library does, which panics on some files that only look like a tokenizer: where it joins tokens to one that the
/// vocabulary has not, or follows a table of characters beyond its end.
pub(super) fn guarded<R>(work: impl FnOnce() -> tokenizers::Result<R>) -> Result<R, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                print(info);
            }
        }));
    });
    GUARDED.set(true);
    // What it keeps between calls is a cache, which it gives up where a panic has spoiled it.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    match result {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("its parts do not fit together".to_string()),
    }
}
