//! The words that a lookup knows, from its config or from the model's archive, by the rules of
//! `keras/src/layers/preprocessing/index_lookup.py` (`set_vocabulary`, `load_assets`).

use std::collections::HashSet;

use serde_json::Value as Json;
use tch::{Device, Kind, Tensor};

use super::encoding::Mode;
use super::tokens::Token;
use crate::error::{Error, Result};
use crate::literals;
use crate::scope::Scope;

/// The file of a vocabulary below the layer's group.
const FILE: &str = "vocabulary.txt";
/// The array of its weights.
const WEIGHTS: &str = "idf_weights";

/// What a lookup says of its words.
#[derive(Debug)]
pub(super) struct Settings<T> {
    pub(super) mode: Mode,
    /// Stands for no word. In mode `Int` its index is 0.
    pub(super) mask_token: Option<T>,
    /// Stands for all words that are not known.
    pub(super) oov_token: Option<T>,
    /// How many indices there are for those.
    pub(super) num_oov_indices: i64,
    pub(super) max_tokens: Option<i64>,
    pub(super) pad_to_max_tokens: bool,
    pub(super) invert: bool,
}

impl<T: Token> Settings<T> {
    /// The first index of words that are not known.
    pub(super) fn oov_start(&self) -> i64 {
        i64::from(self.mask_token.is_some() && self.mode == Mode::Int)
    }

    /// The index of the first word.
    pub(super) fn token_start(&self) -> i64 {
        self.oov_start() + self.num_oov_indices
    }

    /// Whether what stands for no word and for unknown ones is listed before the words.
    fn begins(&self, tokens: &[T]) -> bool {
        let Some(special) = tokens.get(..self.special()) else {
            return false;
        };
        let masks = usize::try_from(self.oov_start()).unwrap_or(0);
        let (mask, unknown) = special.split_at(masks);
        mask.iter()
            .all(|token| self.mask_token.as_ref() == Some(token))
            && unknown
                .iter()
                .all(|token| self.oov_token.as_ref() == Some(token))
    }

    /// The number of indices before those of the words.
    fn special(&self) -> usize {
        usize::try_from(self.token_start()).unwrap_or(usize::MAX)
    }
}

/// The words in the order of their indices, and what a vector of them has.
#[derive(Debug)]
pub(super) struct Vocabulary<T> {
    pub(super) tokens: Vec<T>,
    /// Number of indices.
    pub(super) depth: i64,
    /// In mode `TfIdf`, by index.
    pub(super) weights: Option<Tensor>,
}

impl<T: Token> Vocabulary<T> {
    /// Reads options `vocabulary` and `idf_weights`, else what the archive holds.
    ///
    /// # Errors
    /// There is no vocabulary, or one that Keras would not take.
    pub(super) fn read(scope: &Scope<'_>, settings: &Settings<T>) -> Result<Self> {
        let options = scope.options;
        // What follows from the vocabulary.
        options.ignore(&["vocabulary_size", "has_input_vocabulary"]);
        let mut tokens = match options.value("vocabulary") {
            Some(value) => listed(scope, value)?,
            None => saved(scope)?,
        };
        let given = tokens.len();
        let front = if settings.begins(&tokens) {
            tokens.drain(..settings.special());
            0
        } else {
            settings.token_start()
        };
        check(scope, settings, &tokens)?;
        let count = i64::try_from(tokens.len()).unwrap_or(i64::MAX);
        let size = settings.token_start() + count;
        let depth = match settings.max_tokens {
            Some(most) if size > most => {
                return Err(options.invalid(format!(
                    "the vocabulary has {size} words with those for masks and unknown words, \
                     max_tokens is {most}"
                )));
            }
            Some(most) if settings.pad_to_max_tokens => most,
            _ => size,
        };
        let weights = match (settings.mode, options.value(WEIGHTS)) {
            (Mode::TfIdf, listed) => Some(weights(scope, listed, given, front, depth)?),
            (_, None) => None,
            _ => return Err(options.invalid("idf_weights are for output_mode \"tf_idf\"")),
        };
        Ok(Self {
            tokens,
            depth,
            weights,
        })
    }
}

fn listed<T: Token>(scope: &Scope<'_>, value: &Json) -> Result<Vec<T>> {
    let kind = T::KIND;
    let wrong = || {
        let reason = format!("vocabulary must be a list of {kind}, in the config itself");
        scope.options.invalid(reason)
    };
    let items = value.as_array().ok_or_else(wrong)?.iter();
    let tokens = items.map(T::from_json).collect::<Option<Vec<_>>>();
    tokens.filter(|tokens| !tokens.is_empty()).ok_or_else(wrong)
}

fn saved<T: Token>(scope: &Scope<'_>) -> Result<Vec<T>> {
    let options = scope.options;
    let Some(file) = scope.asset(FILE) else {
        return Err(options.invalid(
            "it has no vocabulary: a config alone does not hold what adapt found. Save the model \
             as .keras, or give the layer a vocabulary",
        ));
    };
    let wrong = |what: &str| options.invalid(format!("{FILE} in the archive {what}"));
    let text = std::str::from_utf8(file).map_err(|_| wrong("is not UTF-8"))?;
    let mut lines = lines(text);
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    let kind = T::KIND;
    let tokens = lines.into_iter().map(T::from_line);
    let tokens = tokens.collect::<Option<Vec<_>>>();
    let tokens = tokens.ok_or_else(|| wrong(&format!("does not consist of {kind}")))?;
    if tokens.is_empty() {
        return Err(wrong("is empty"));
    }
    Ok(tokens)
}

/// As Python's `str.splitlines`, by which Keras reads the file: at more than line feeds.
fn lines(text: &str) -> Vec<&str> {
    const BREAKS: [char; 10] = [
        '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}',
        '\u{2029}',
    ];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(BREAKS) {
        lines.push(&rest[..at]);
        let mut after = rest[at..].chars();
        if after.next() == Some('\r') && after.as_str().starts_with('\n') {
            after.next();
        }
        rest = after.as_str();
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// Refuses words that stand twice, or stand for something else.
fn check<T: Token>(scope: &Scope<'_>, settings: &Settings<T>, tokens: &[T]) -> Result<()> {
    let options = scope.options;
    let shown = |token: &T| String::from_utf8_lossy(&T::text(token.borrow())).into_owned();
    let mut known = HashSet::new();
    if let Some(twice) = tokens.iter().find(|token| !known.insert(*token)) {
        let twice = shown(twice);
        return Err(options.invalid(format!("the vocabulary has \"{twice}\" twice")));
    }
    let oov = settings.oov_token.as_ref().filter(|_| settings.invert);
    let reserved = [
        ("mask_token", settings.mask_token.as_ref()),
        ("oov_token", oov),
    ];
    for (name, token) in reserved {
        if let Some(token) = token.filter(|token| known.contains(token)) {
            let token = shown(token);
            return Err(options.invalid(format!(
                "the vocabulary has the {name} \"{token}\" at an unexpected place: leave such \
                 words out, or begin with mask_token and then oov_token"
            )));
        }
    }
    Ok(())
}

/// The weights by index: saved as they are, or `listed` for the `given` words of the vocabulary,
/// before which are `front` indices that weigh the mean.
fn weights(
    scope: &Scope<'_>,
    listed: Option<&Json>,
    given: usize,
    front: i64,
    depth: i64,
) -> Result<Tensor> {
    let wrong = |reason: String| scope.options.invalid(format!("idf_weights {reason}"));
    if let Some(saved) = scope.stored(WEIGHTS) {
        let numbers = saved.to_f32().map_err(|source| Error::Archive {
            action: "read",
            source,
        })?;
        if i64::try_from(numbers.len()) != Ok(depth) {
            let found = numbers.len();
            return Err(wrong(format!("in the file are {found}, expected {depth}")));
        }
        return Ok(Tensor::f_from_slice(&numbers)?);
    }
    let numbers = listed.and_then(Json::as_array);
    let numbers = numbers.and_then(|items| items.iter().map(literals::number).collect());
    let numbers: Vec<f64> =
        numbers.ok_or_else(|| wrong("are missing for output_mode \"tf_idf\"".to_owned()))?;
    if numbers.len() != given {
        let found = numbers.len();
        return Err(wrong(format!(
            "are {found}, but the vocabulary has {given} words"
        )));
    }
    #[expect(clippy::cast_precision_loss, reason = "words are counted")]
    let mean = numbers.iter().sum::<f64>() / given as f64;
    // libtorch refuses what the memory has no room for; a vector would end the process.
    let options = (Kind::Double, Device::Cpu);
    let words = i64::try_from(given).unwrap_or(i64::MAX);
    let padding = depth.saturating_sub(front).saturating_sub(words).max(0);
    let parts = [
        Tensor::f_full([front], mean, options)?,
        Tensor::f_from_slice(&numbers)?,
        Tensor::f_zeros([padding], options)?,
    ];
    Ok(Tensor::f_cat(&parts, 0)?.f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn lines_end_where_python_ends_them() {
        assert_eq!(lines("a\nb\r\nc\rd"), ["a", "b", "c", "d"]);
        assert_eq!(lines("\n[UNK]\nx y\n"), ["", "[UNK]", "x y"]);
        assert_eq!(
            lines("a\u{85}b\u{2028}c\u{1c}\u{c}d"),
            ["a", "b", "c", "", "d"]
        );
        assert!(lines("").is_empty());
    }
}
