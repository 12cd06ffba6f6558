//! The built-in training text: simple English stories from a seeded grammar.
//!
//! A story is an opening, one of several plots with a place in it for dialogue, and an ending. Each of these
//! chooses among sentences in which `{word}` stands for something fixed for the story (its hero, the friend,
//! the place) or for a word drawn each time (a feeling, a food). The tables are in `words` and `plots`. The text
//! is plain ASCII, one story per paragraph, a blank line between stories; the same seed gives the same text
//! everywhere.

mod plots;
mod words;

use crate::random::Random;
use plots::{ENDINGS, OPENINGS, PLOTS};
use words::{Being, CHILDREN, FRESH, HABITATS};

/// The seed of [`built_in`].
pub const BUILT_IN_SEED: u64 = 0xa4e3_04e5_ea11_7ab1;
/// The least length of [`built_in`] in bytes.
pub const BUILT_IN_BYTES: usize = 600_000;

/// The built-in text: about 600 KB, always the same.
pub fn built_in() -> String {
    stories(BUILT_IN_SEED, BUILT_IN_BYTES)
}

/// Whole stories until the text has at least `min_bytes` bytes; empty for 0.
///
/// ```
/// let text = anemone_lm::stories::stories(3, 1);
/// assert!(text.ends_with(".\n\n"));
/// assert_eq!(text, anemone_lm::stories::stories(3, 1));
/// ```
pub fn stories(seed: u64, min_bytes: usize) -> String {
    let mut random = Random::new(seed);
    let mut text = String::new();
    while text.len() < min_bytes {
        story(&mut random, &mut text);
    }
    text
}

/// Appends one story and the blank line after it.
fn story(random: &mut Random, text: &mut String) {
    let scene = Scene::new(random);
    let plot = pick(random, PLOTS);
    let beats = std::iter::once(OPENINGS).chain(plot.iter().copied()).chain(std::iter::once(ENDINGS));
    for (i, sentences) in beats.enumerate() {
        if i > 0 {
            text.push(' ');
        }
        let template = pick(random, sentences);
        scene.expand(template, random, text);
    }
    text.push_str("\n\n");
}

/// What stays the same throughout one story.
struct Scene {
    hero: &'static str,
    hero_is: Being,
    friend: &'static str,
    friend_is: Being,
    helper: &'static str,
    home: &'static str,
    place: &'static str,
    thing: &'static str,
    color: &'static str,
    good: &'static str,
}

impl Scene {
    fn new(random: &mut Random) -> Self {
        let habitat = pick(random, HABITATS);
        let being = |random: &mut Random| {
            if random.below(4) == 0 { pick(random, CHILDREN) } else { pick(random, habitat.animals) }
        };
        let hero_is = being(random);
        let friend_is = being(random);
        let hero = pick(random, hero_is.names());
        let mut friend = pick(random, friend_is.names());
        while friend == hero {
            friend = pick(random, friend_is.names());
        }
        Self {
            hero,
            hero_is,
            friend,
            friend_is,
            helper: pick(random, habitat.helpers),
            home: pick(random, habitat.homes),
            place: pick(random, habitat.places),
            thing: pick(random, words::THINGS),
            color: pick(random, words::COLORS),
            good: pick(random, words::GOOD),
        }
    }

    /// Writes a template with its `{…}` filled in. `{a x}` puts the right article before x, `{X}` begins with
    /// a capital letter.
    fn expand(&self, template: &str, random: &mut Random, text: &mut String) {
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            let (slot, after) = after.split_once('}').unwrap_or((after, ""));
            rest = after;
            let (article, key) = match slot.split_once(' ') {
                Some((article, key)) => (Some(article), key),
                None => (None, slot),
            };
            let capital = slot.starts_with(|c: char| c.is_ascii_uppercase());
            let word = self.word(&key.to_ascii_lowercase(), random);
            debug_assert!(word.is_some(), "no word for `{{{slot}}}` in: {template}");
            let word = word.unwrap_or(key);
            let start = text.len();
            if article.is_some() {
                text.push_str(if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an " } else { "a " });
            }
            text.push_str(word);
            if capital {
                text[start..start + 1].make_ascii_uppercase();
            }
        }
        text.push_str(rest);
    }

    /// What stands for a slot.
    fn word(&self, key: &str, random: &mut Random) -> Option<&'static str> {
        Some(match key {
            "hero" => self.hero,
            "kind" => self.hero_is.kind,
            "they" => self.hero_is.subject(),
            "them" => self.hero_is.object(),
            "their" => self.hero_is.possessive(),
            "friend" => self.friend,
            "friend_kind" => self.friend_is.kind,
            "friend_they" => self.friend_is.subject(),
            "friend_their" => self.friend_is.possessive(),
            "helper" => self.helper,
            "home" => self.home,
            "place" => self.place,
            "thing" => self.thing,
            "color" => self.color,
            "good" => self.good,
            _ => pick(random, FRESH.iter().find(|(name, _)| *name == key)?.1),
        })
    }
}

/// One of a table's entries; the tables are constants and none is empty.
fn pick<T: Copy>(random: &mut Random, table: &[T]) -> T {
    table[random.below(table.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_text_is_long_plain_and_the_same_every_time() {
        let text = built_in();
        assert!((BUILT_IN_BYTES..BUILT_IN_BYTES + 5000).contains(&text.len()));
        assert!(text.is_ascii());
        assert_eq!(text, built_in());
        assert_ne!(text[..1000], stories(1, 1000)[..1000]);
        assert!(text.starts_with(&stories(BUILT_IN_SEED, 10_000)));
        assert_eq!(stories(5, 0), "");
    }

    #[test]
    fn stories_are_whole_and_all_different() {
        let text = built_in();
        let stories: Vec<&str> = text.trim_end().split("\n\n").collect();
        assert!(stories.len() > 500, "{} stories", stories.len());
        let distinct: HashSet<&str> = stories.iter().copied().collect();
        assert_eq!(distinct.len(), stories.len());
        for story in &stories {
            assert!(story.starts_with(|c: char| c.is_ascii_uppercase()), "{story}");
            assert!(story.ends_with(['.', '!', '"']), "{story}");
            assert!(story.bytes().filter(|&b| b == b'"').count() % 2 == 0, "{story}");
        }
        let words: HashSet<&str> = text.split(|c: char| !c.is_ascii_alphabetic()).collect();
        assert!(words.len() > 700, "{} different words", words.len());
    }

    /// Every template with every slot, not only those which a seed happens to draw.
    #[test]
    fn every_template_expands_to_clean_english() {
        let mut random = Random::new(0);
        let beats = PLOTS.iter().copied().flatten().copied().chain([OPENINGS, ENDINGS]);
        for template in beats.flatten() {
            for _ in 0..20 {
                let scene = Scene::new(&mut random);
                let mut sentence = String::new();
                scene.expand(template, &mut random, &mut sentence);
                assert!(!sentence.contains(['{', '}', '_']), "{template} gave {sentence}");
                assert!(!sentence.contains("  "), "{template} gave {sentence}");
                let wrong_article =
                    sentence.split_whitespace().collect::<Vec<_>>().windows(2).any(|w| {
                        w[0].eq_ignore_ascii_case("a") && w[1].starts_with(['a', 'e', 'i', 'o', 'u'])
                    });
                assert!(!wrong_article, "{template} gave {sentence}");
            }
        }
    }

    #[test]
    fn every_table_has_entries_and_hero_and_friend_differ() {
        assert!(FRESH.iter().all(|(_, words)| !words.is_empty()));
        let mut random = Random::new(9);
        for _ in 0..2000 {
            let scene = Scene::new(&mut random);
            assert_ne!(scene.hero, scene.friend);
        }
    }
}
