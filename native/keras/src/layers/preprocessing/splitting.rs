//! How text becomes words: cleaned, split and joined again to groups
//! (`keras/src/layers/preprocessing/text_vectorization.py`, `_preprocess`).

use std::borrow::Cow;

use serde_json::Value as Json;

use crate::config::{Given, Options};
use crate::error::Result;

/// The rules.
#[derive(Debug)]
pub(super) struct Splitting {
    lower: bool,
    strip_punctuation: bool,
    /// `None` if each string is one word.
    pub(super) split: Option<Split>,
    /// Sizes of groups of neighbours, in their order; `None` for the words alone.
    groups: Option<Vec<usize>>,
}

/// Where words end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Split {
    /// At ASCII whitespace, of which several count as one.
    Whitespace,
    /// After each character; what is not UTF-8 becomes U+FFFD.
    Character,
}

impl Splitting {
    /// Reads options `standardize`, `split` and `ngrams`.
    ///
    /// # Errors
    /// One is a function of the user's, or wrong.
    pub(super) fn read(options: &Options<'_>) -> Result<Self> {
        const CLEANING: [&str; 3] = ["lower_and_strip_punctuation", "lower", "strip_punctuation"];
        let standardize = match options.given("standardize") {
            Given::Null => "",
            _ => options.choice("standardize", CLEANING[0], &CLEANING)?,
        };
        let split = match options.given("split") {
            Given::Null => None,
            _ => match options.choice("split", "whitespace", &["whitespace", "character"])? {
                "whitespace" => Some(Split::Whitespace),
                _ => Some(Split::Character),
            },
        };
        Ok(Self {
            lower: matches!(standardize, "lower" | "lower_and_strip_punctuation"),
            strip_punctuation: standardize.ends_with("strip_punctuation"),
            split,
            groups: options
                .value("ngrams")
                .map(|n| groups(options, n))
                .transpose()?,
        })
    }

    /// How many words `count` strings in a row give; `None` where that depends on the text.
    pub(super) fn words(&self, count: Option<i64>) -> Option<i64> {
        let count = count.filter(|_| self.split.is_none())?;
        let Some(groups) = &self.groups else {
            return Some(count);
        };
        let sizes = groups
            .iter()
            .map(|&size| i64::try_from(size).unwrap_or(i64::MAX));
        Some(sizes.map(|size| (count - size + 1).max(0)).sum())
    }

    /// Gives the words of one row of strings to `take`, in order.
    pub(super) fn row(
        &self,
        row: &[Box<[u8]>],
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let cleaned: Vec<Cow<'_, [u8]>> = row.iter().map(|text| self.clean(text)).collect();
        let mut words: Vec<Cow<'_, [u8]>> = Vec::new();
        for text in &cleaned {
            match self.split {
                None => words.push(Cow::Borrowed(text)),
                Some(Split::Whitespace) => {
                    let parts = text.split(|&byte| matches!(byte, b' ' | 9..=13));
                    words.extend(parts.filter(|part| !part.is_empty()).map(Cow::Borrowed));
                }
                Some(Split::Character) => characters(text, &mut words),
            }
        }
        let Some(groups) = &self.groups else {
            return words.iter().try_for_each(|word| take(word));
        };
        for &size in groups {
            for group in words.windows(size) {
                take(&group.join(&b' '))?;
            }
        }
        Ok(())
    }

    fn clean<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let upper = self.lower && text.iter().any(u8::is_ascii_uppercase);
        let marks = self.strip_punctuation && text.iter().any(u8::is_ascii_punctuation);
        if !upper && !marks {
            return Cow::Borrowed(text);
        }
        let kept = text
            .iter()
            .filter(|byte| !(marks && byte.is_ascii_punctuation()));
        Cow::Owned(
            kept.map(|byte| {
                if upper {
                    byte.to_ascii_lowercase()
                } else {
                    *byte
                }
            })
            .collect(),
        )
    }
}

fn characters<'t>(text: &'t [u8], words: &mut Vec<Cow<'t, [u8]>>) {
    const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid();
        let ends = valid
            .char_indices()
            .map(|(at, character)| at..at + character.len_utf8());
        words.extend(ends.map(|span| Cow::Borrowed(&valid.as_bytes()[span])));
        if !chunk.invalid().is_empty() {
            words.push(Cow::Borrowed(REPLACEMENT));
        }
    }
}

/// The most words in a group, which no text has: a number in a config must not ask for memory.
const MAX_GROUP: usize = 1 << 20;

/// Option `ngrams`: a size and all below it, or a list of sizes.
fn groups(options: &Options<'_>, value: &Json) -> Result<Vec<usize>> {
    let wrong = || {
        let reason = format!(
            "ngrams = {value} must be a positive integer, of at most {MAX_GROUP}, or several"
        );
        options.invalid(reason)
    };
    let size = |value: &Json| {
        let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
        size.filter(|size| (1..=MAX_GROUP).contains(size))
    };
    // Keras writes a tuple as an object of its items.
    match value.get("items").unwrap_or(value) {
        Json::Array(sizes) => {
            let sizes = sizes.iter().map(size);
            sizes.collect::<Option<_>>().ok_or_else(wrong)
        }
        most => Ok((1..=size(most).ok_or_else(wrong)?).collect()),
    }
}
