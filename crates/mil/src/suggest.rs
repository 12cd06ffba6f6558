//! The known name that a mistyped one most likely means.

/// The candidate nearest to `name` by edit distance, if it is near enough to be meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = name.chars().count() / 3 + 1;
    let scored = candidates.into_iter().filter(|candidate| *candidate != name).filter_map(|candidate| {
        let distance = edit_distance(name, candidate);
        (distance <= most && distance < candidate.chars().count()).then_some((distance, candidate))
    });
    scored.min().map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: insertions, deletions and replacements of one character each.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
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
    }
}
