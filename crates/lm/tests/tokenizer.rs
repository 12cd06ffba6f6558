//! Tokenizers from files against Hugging Face's own library, on what `tests/lm/tokenizer.py` wrote.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anemone_lm::data::Dataset;
use anemone_lm::random::Random;
use anemone_lm::tokenizer::{TextStream, Tokenizer, TokenizerError};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    vocab: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/lm/tokenizer")
}

fn fixtures() -> Vec<(Tokenizer, Fixture)> {
    let cases = std::fs::read_to_string(folder().join("cases.json")).unwrap();
    let fixtures: BTreeMap<String, Fixture> = serde_json::from_str(&cases).unwrap();
    let read = |name: &str| Tokenizer::read(&folder().join(format!("{name}.json"))).unwrap();
    let fixtures: Vec<_> = fixtures.into_iter().map(|(name, fixture)| (read(&name), fixture)).collect();
    assert_eq!(fixtures.len(), 2);
    fixtures
}

#[test]
fn texts_have_the_librarys_tokens() {
    for (tokenizer, fixture) in fixtures() {
        assert_eq!(tokenizer.vocab(), fixture.vocab);
        assert!(fixture.cases.len() > 12);
        for Case { text, ids, decoded } in fixture.cases {
            assert_eq!(tokenizer.encode(text.as_bytes()).unwrap(), ids, "{text:?}");
            assert_eq!(String::from_utf8(tokenizer.decode(&ids).unwrap()).unwrap(), decoded, "{text:?}");
        }
    }
}

/// Token by token comes the same text, whose parts are of whole characters.
#[test]
fn tokens_stream_as_the_text_they_are() {
    for (tokenizer, fixture) in fixtures() {
        for Case { text, ids, decoded } in fixture.cases {
            for context in [0, 1, ids.len() / 2].map(|count| count.min(ids.len())) {
                let before =
                    String::from_utf8_lossy(&tokenizer.decode(&ids[..context]).unwrap()).into_owned();
                // A context that ends within a character shows U+FFFD for it.
                if before.ends_with('\u{fffd}') {
                    continue;
                }
                let mut stream = TextStream::new(&tokenizer, &ids[..context]);
                let mut streamed = before;
                for &token in &ids[context..] {
                    let added = stream.add(token).unwrap();
                    assert!(!added.contains('\u{fffd}'), "{text:?}: {added:?}");
                    streamed += &added;
                }
                streamed += &stream.finish().unwrap();
                assert_eq!(streamed, decoded, "{text:?} from {context}");
            }
        }
        // Bytes of no character are given up on, and what comes after them is shown.
        let letters = tokenizer.encode(b"plain").unwrap();
        let broken = tokenizer.encode("\u{1f642}".as_bytes()).unwrap();
        let mut stream = TextStream::new(&tokenizer, &letters);
        let mut streamed = String::new();
        for &token in broken[..broken.len() - 1].iter().chain(&letters).chain(&[u32::MAX]).chain(&letters) {
            streamed += &stream.add(token).unwrap();
        }
        assert_eq!(streamed.matches("plain").count(), 2, "{streamed:?}");
        assert!(streamed.trim_start().starts_with('\u{fffd}'), "{streamed:?}");
    }
}

/// A long text is encoded piece by piece, all at once; with a word's end at each line's, that changes no token.
#[test]
fn a_long_text_has_the_tokens_of_its_pieces() {
    let text = anemone_lm::stories::built_in().replace(". ", ".\n");
    for ((tokenizer, _), prefixed) in fixtures().into_iter().zip([true, false]) {
        let pieces = tokenizer.encode_pieces(text.as_bytes()).unwrap();
        assert!(pieces.len() > 5, "{}", pieces.len());
        if !prefixed {
            assert_eq!(pieces.concat(), tokenizer.encode(text.as_bytes()).unwrap());
        }
        let data = Dataset::from_text(text.clone().into_bytes(), &tokenizer, 8).unwrap();
        let [train, validation] = data.texts().unwrap();
        assert_eq!(data.train().to_vec(), tokenizer.encode_pieces(train).unwrap().concat());
        let first = tokenizer.decode(&data.validation().window(0..1)).unwrap();
        assert_eq!(data.validation_bytes(), Some(validation.len() - first.len()));
    }
}

#[test]
fn what_is_no_tokenizer_is_refused() {
    let whole = std::fs::read(folder().join("byte_level.json")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokenizer.json");
    let refused = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        let message = Tokenizer::read(&path).unwrap_err().to_string();
        assert!(message.contains("tokenizer.json is not a tokenizer.json: "), "{message}");
        message
    };
    for length in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
        let message = refused(&whole[..length]);
        assert!(message.contains("EOF while parsing"), "{message}");
    }
    refused(b"{}");
    refused(b"[1, 2]");
    refused(b"\xff\xfe");
    let text = String::from_utf8(whole).unwrap();
    refused(text.replace("\"BPE\"", "\"CPE\"").as_bytes());
    refused(text.replace("\"ByteLevel\"", "\"BitLevel\"").as_bytes());
    refused(text.replace("\"merges\":[[", "\"merges\":[[\"no\",\"token\"],[").as_bytes());
    assert!(matches!(Tokenizer::read(&directory.path().join("none")), Err(TokenizerError::File(_))));
    assert!(matches!(fixtures()[0].0.encode(b"a\xff"), Err(TokenizerError::NotUtf8 { at: 1 })));
}

/// What the library panics on.
#[test]
fn files_whose_parts_do_not_fit_together_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokenizer.json");
    let read = |normalizer: &str, model: &str| {
        let json = format!(r#"{{"version":"1.0","normalizer":{normalizer},"model":{model}}}"#);
        std::fs::write(&path, json).unwrap();
        Tokenizer::read(&path)
    };
    let model = r###"{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}"###;
    assert_eq!(read("null", model).unwrap().encode(b"ab").unwrap(), [2]);
    let unjoined = model.replace(r#","ab":2"#, "");
    let prefixed = model.replace(r#""merges""#, r###""continuing_subword_prefix":"##","merges""###);
    for model in [unjoined, prefixed] {
        let message = read("null", &model).unwrap_err().to_string();
        assert!(message.ends_with("its parts do not fit together"), "{message}");
    }
    // A table of no entries.
    let tokenizer = read(r#"{"type":"Precompiled","precompiled_charsmap":"AAAAAA=="}"#, model).unwrap();
    assert!(matches!(tokenizer.encode(b"ab"), Err(TokenizerError::Refused(_))));
}

/// Whatever is changed in a file, it is refused or encodes something.
#[test]
fn damaged_files_do_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokenizer.json");
    let mut random = Random::new(11);
    for name in ["byte_level.json", "byte_fallback.json"] {
        let whole = std::fs::read(folder().join(name)).unwrap();
        // Most of a file is its vocabulary and merges; settings are what comes before.
        let settings = whole.windows(7).position(|window| window == b"\"vocab\"").unwrap();
        let mut read = 0;
        for round in 0..160 {
            let mut bytes = whole.clone();
            let at = random.below(if round % 2 == 0 { settings } else { whole.len() });
            let end = (at + 1 + random.below(12)).min(whole.len());
            match round % 4 {
                0 => bytes[at] = whole[random.below(settings)],
                1 => bytes[at] = b"0123456789\"-"[random.below(12)],
                2 => drop(bytes.drain(at..end)),
                _ => bytes.copy_within(at..end, random.below(whole.len() - (end - at))),
            }
            std::fs::write(&path, bytes).unwrap();
            if let Ok(tokenizer) = Tokenizer::read(&path) {
                read += 1;
                if let Ok(tokens) = tokenizer.encode("  The caf\u{e9}s 12 \u{1f642}\n".as_bytes()) {
                    assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocab()));
                    let _ = tokenizer.decode(&tokens);
                }
            }
        }
        assert!(read > 8, "{read}");
    }
}
