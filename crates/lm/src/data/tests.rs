//! Splits, batches and files of data.

use super::*;

/// 1 000 bytes, none of them white space.
fn solid() -> Vec<u8> {
    (0..1000).map(|i| b'!' + (i % 90) as u8).collect()
}

#[test]
fn splits_at_the_best_boundary_after_nine_tenths() {
    let mut text = solid();
    assert_eq!(split_point(&text), 900);
    text[940] = b' ';
    assert_eq!(split_point(&text), 941);
    text[942] = b'\n';
    assert_eq!(split_point(&text), 943);
    text[945..947].copy_from_slice(b"\n\n");
    assert_eq!(split_point(&text), 947);
    // Too late, and too early.
    let mut text = solid();
    text[955..957].copy_from_slice(b"\n\n");
    text[890..892].copy_from_slice(b"\n\n");
    assert_eq!(split_point(&text), 900);
    for len in 0..40 {
        assert!(split_point(&text[..len]) <= len);
    }
}

#[test]
fn the_built_in_text_splits_between_stories() {
    let data = Dataset::built_in(&Tokenizer::Bytes, 128).unwrap();
    let [train, validation] =
        [data.train(), data.validation()].map(|tokens| Tokenizer::Bytes.decode(&tokens.to_vec()).unwrap());
    assert_eq!(data.texts(), Some([&train[..], &validation[..]]));
    assert!(train.ends_with(b"\n\n") && validation[0].is_ascii_uppercase());
    assert!((0.05..=0.1).contains(&(validation.len() as f64 / (train.len() + validation.len()) as f64)));
    assert_eq!([train, validation].concat(), stories::built_in().into_bytes());
}

#[test]
fn a_batch_is_a_function_of_seed_and_step() {
    let data = Dataset::built_in(&Tokenizer::Bytes, 32).unwrap();
    let batch = data.batch(5, 17, 4);
    assert_eq!((batch.inputs.len(), batch.targets.len(), batch.counted()), (128, 128, 128));
    assert_eq!(batch, data.batch(5, 17, 4));
    assert_ne!(batch, data.batch(5, 18, 4));
    assert_ne!(batch, data.batch(6, 17, 4));
    let train = data.train().to_vec();
    for (inputs, targets) in batch.inputs.chunks(32).zip(batch.targets.chunks(32)) {
        let followed = |window: &[u32]| {
            window[..32] == *inputs && window[1..].iter().zip(targets).all(|(&a, &b)| a as i32 == b)
        };
        assert!(train.windows(33).any(followed));
    }
}

#[test]
fn batches_reach_the_first_and_the_last_token() {
    let data = Dataset::from_tokens((0..10).collect::<Vec<u32>>(), vec![1, 2], 3).unwrap();
    let seen: Vec<i32> = (0..200).flat_map(|step| data.batch(0, step, 1).targets).collect();
    let inputs: Vec<u32> = (0..200).flat_map(|step| data.batch(0, step, 1).inputs).collect();
    assert!(seen.contains(&9) && inputs.contains(&0));
    // T + 1 tokens are exactly one possible sequence.
    let data = Dataset::from_tokens(vec![7, 8, 9], vec![1, 2], 2).unwrap();
    assert_eq!(data.batch(0, 0, 1), Batch { inputs: vec![7, 8], targets: vec![8, 9] });
}

/// Pearson's χ² of how often each of n places was drawn, less its mean n − 1, in standard deviations √(2(n − 1)).
fn excess(counts: &[u64]) -> f64 {
    let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    let squares = counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected);
    let degrees = (counts.len() - 1) as f64;
    (squares.sum::<f64>() - degrees) / (2.0 * degrees).sqrt()
}

/// The first and the last place are as likely as any other, also among the sequences of one batch.
#[test]
fn every_place_is_as_likely_as_any_other() {
    let (tokens, seq) = (1000, 37);
    let data = Dataset::from_tokens((0..tokens).collect::<Vec<u32>>(), vec![1, 2], seq).unwrap();
    let places = tokens as usize - seq;
    let (mut counts, mut within) = (vec![0u64; places], vec![0u64; places]);
    for step in 0..12_500 {
        let batch = data.batch(3, step, 16);
        for (i, sequence) in batch.inputs.chunks(seq).enumerate() {
            counts[sequence[0] as usize] += 1;
            within[sequence[0] as usize] += u64::from(i == 15);
        }
    }
    for counts in [counts, within] {
        assert!(excess(&counts).abs() < 5.0, "{}", excess(&counts));
    }
}

#[test]
fn files_of_tokens_are_split_at_nine_tenths() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, tokens: std::ops::Range<u16>| {
        let path = directory.path().join(name);
        std::fs::write(&path, tokens.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
        path
    };
    let files = [write("a.bin", 0..123), write("b.bin", 123..200)];
    let data = Dataset::from_token_files(&files, TokenDtype::U16, 200, 8).unwrap();
    assert_eq!(data.train().to_vec(), (0..180).collect::<Vec<u32>>());
    assert_eq!(data.validation().to_vec(), (180..200).collect::<Vec<u32>>());
    assert_eq!(data.texts(), None);
    // Across the files' border, and the same as from memory.
    let whole = Dataset::from_tokens((0..180).collect::<Vec<u32>>(), vec![1, 2], 8).unwrap();
    assert!((0..50).all(|step| data.batch(1, step, 4) == whole.batch(1, step, 4)));
    let outside = Dataset::from_token_files(&files, TokenDtype::U16, 150, 8).unwrap_err().to_string();
    assert!(outside.contains("b.bin: token 150 at position 27"), "{outside}");
    let none: [&Path; 0] = [];
    assert!(matches!(Dataset::from_token_files(&none, TokenDtype::U16, 9, 1), Err(DataError::NoFiles)));
    let long = Dataset::from_token_files(&files, TokenDtype::U16, 200, 180).unwrap_err().to_string();
    assert!(long.contains("180 tokens, fewer than one sequence needs (181)"), "{long}");
}

#[test]
fn validation_covers_every_pair_once() {
    for len in [2, 7, 12, 13, 14, 25] {
        let validation: Vec<u32> = (100..100 + len).collect();
        let data = Dataset::from_tokens(vec![0; 9], validation, 4).unwrap();
        let batches: Vec<Batch> = data.validation_batches(3).collect();
        assert!(batches.iter().all(|b| b.inputs.len() == 12 && b.targets.len() == 12));
        let pairs: Vec<(u32, i32)> = batches
            .iter()
            .flat_map(|b| b.inputs.iter().copied().zip(b.targets.iter().copied()))
            .filter(|&(_, target)| target != IGNORE_INDEX)
            .collect();
        let expected: Vec<(u32, i32)> = (100..99 + len).map(|t| (t, t as i32 + 1)).collect();
        assert_eq!(pairs, expected);
        assert_eq!(batches.iter().map(Batch::counted).sum::<usize>(), len as usize - 1);
    }
}

/// By hand: training pairs ab, ba, ab; p(b|a) = 3/258, p(a|b) = 2/257, p(c|b) = 1/257.
#[test]
fn bigram_cross_entropy_by_hand() {
    let nats = bigram_cross_entropy(b"abab", b"abc");
    let expected = ((258.0_f64 / 3.0).ln() + 257.0_f64.ln()) / 2.0;
    assert!((nats - expected).abs() < 1e-14);
    assert!(
        (bigram_cross_entropy(b"", b"xyz") - 256.0_f64.ln()).abs() < 1e-14,
        "an uncounted model is uniform"
    );
    assert_eq!(bigram_cross_entropy(b"ab", b"x"), 0.0);
}

#[test]
fn files_are_joined_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (one, two, empty) = (file("one", b"one "), file("two", b"two\xff"), file("empty", b""));
    assert_eq!(read_text(&[&one, &two]).unwrap(), b"one two\xff");
    assert_eq!(read_text_bounded(&[&one, &two], 8).unwrap().len(), 8);
    let too_large = read_text_bounded(&[&one, &two], 7).unwrap_err().to_string();
    assert!(too_large.ends_with("two have more than 7 bytes together"), "{too_large}");
    assert!(matches!(read_text(&[&one, &empty]), Err(DataError::Empty(path)) if path == empty));
    assert!(matches!(read_text(&[] as &[PathBuf]), Err(DataError::NoFiles)));
    let missing = directory.path().join("missing");
    assert!(read_text(&[&missing]).unwrap_err().to_string().contains("missing: "));

    let load = |path: &PathBuf, seq| Dataset::from_files(&[path], &Tokenizer::Bytes, seq);
    let text = file("text", &solid());
    assert_eq!(load(&text, 899).unwrap().train().len(), 900);
    assert!(matches!(load(&text, 900), Err(DataError::TrainingTooShort { tokens: 900, needed: 901 })));
    assert!(matches!(load(&text, usize::MAX), Err(DataError::TrainingTooShort { .. })));
    assert!(matches!(load(&one, 2), Err(DataError::ValidationTooShort { tokens: 0 })));
}
