//! The known name that a mistyped one most likely means.

/// The candidate nearest to `name` by edit distance, if it is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer names are no slips of the hand, and would take long to compare.
    const LONGEST: usize = 64;
    if name.len() > LONGEST {
        return None;
    }
    let most = name.len() / 3 + 1;
    let scored = candidates
        .into_iter()
        .filter(|candidate| *candidate != name && candidate.len().abs_diff(name.len()) <= most)
        .filter_map(|candidate| {
            let distance = edit_distance(name.as_bytes(), candidate.as_bytes());
            // Among equals, people rarely mistype the first letter.
            let first_differs = candidate.bytes().next() != name.bytes().next();
            (distance <= most && distance < candidate.len()).then_some((distance, first_differs, candidate))
        });
    scored.min().map(|(.., candidate)| candidate)
}

/// The least number of bytes to insert, remove, replace, or swap with their neighbours (optimal string
/// alignment); the case of ASCII letters does not count.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(!from.eq_ignore_ascii_case(to));
            row[j + 1] = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("sofmax", ["softmax", "softplus", "conv"]), Some("softmax"));
        assert_eq!(nearest("transpose_z", ["transpose_x", "x"]), Some("transpose_x"));
        assert_eq!(nearest("zebra", ["softmax", "conv"]), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest("", ["a"]), None);
    }

    #[test]
    fn swapped_letters_and_wrong_case_are_near() {
        let names = ["fp16", "fp32", "bf16", "int32", "string", "logits"];
        assert_eq!(nearest("fp61", names), Some("fp16"));
        assert_eq!(nearest("f16", names), Some("fp16"));
        assert_eq!(nearest("logtis", names), Some("logits"));
        assert_eq!(nearest("STRING", names), Some("string"));
        assert_eq!(nearest("float32", names), None);
    }
}
