//! `TextVectorization`: strings as the indices of their words, or as vectors of their words.

use tch::Tensor;

use super::encoding::Mode;
use super::lookup::Lookup;
use super::splitting::Splitting;
use super::vocabulary::Settings;
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct TextVectorization {
    splitting: Splitting,
    lookup: Lookup<Box<[u8]>>,
    mode: Mode,
    /// In mode `Int`, the number of words to which every row is cut or filled up; that of the
    /// longest row without.
    length: Option<i64>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    options.ignore(&["encoding"]);
    options.require("ragged", &serde_json::Value::Bool(false))?;
    let modes = ["int", "one_hot", "multi_hot", "count", "tf_idf"];
    let mode = Mode::read(options, "int", &modes)?;
    let splitting = Splitting::read(options)?;
    if mode == Mode::OneHot && splitting.split.is_some() {
        let given = serde_json::Value::from("one_hot");
        let supported = "int, multi_hot, count, tf_idf; one_hot with split = null";
        return Err(options.unsupported("output_mode", &given, supported));
    }
    let settings = Settings {
        mode,
        mask_token: Some(Box::default()),
        oov_token: Some("[UNK]".as_bytes().into()),
        num_oov_indices: 1,
        max_tokens: options.integer_or_null("max_tokens", None)?,
        pad_to_max_tokens: options.bool("pad_to_max_tokens", false)?,
        invert: false,
    };
    let layer = TextVectorization {
        splitting,
        lookup: Lookup::read(scope, settings)?,
        mode,
        length: options.integer_or_null("output_sequence_length", None)?,
    };
    if layer.length.is_some_and(|length| length < 0) {
        return Err(options.invalid("output_sequence_length must not be negative"));
    }
    Ok(Built::layer(layer).without_autocast())
}

impl Layer for TextVectorization {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let input = args.only()?;
        if input.dtype != DType::String {
            let dtype = input.dtype;
            return Err(format!("splits strings, got {dtype}"));
        }
        let count = match (input.dims.as_slice(), self.splitting.split) {
            ([_], Some(_)) => Some(1),
            ([_, count], None) => *count,
            ([_, Some(1)], Some(_)) => Some(1),
            (_, Some(_)) => {
                return Err(format!("needs one string in each row, got shape {input}"));
            }
            (_, None) => return Err(format!("needs rows of strings, got shape {input}")),
        };
        let words = match self.mode {
            Mode::Int => self.length.or_else(|| self.splitting.words(count)),
            _ => self.splitting.words(count),
        };
        self.lookup.infer(&input.with_dims([input.dims[0], words]))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let strings = args.only().map_err(Error::values)?.strings()?;
        let items = strings.items();
        let rows = strings.shape().first().copied().unwrap_or(0);
        let count = usize::try_from(rows).unwrap_or(0);
        let width = items.len().checked_div(count).unwrap_or(1).max(1);
        let mut words = Vec::new();
        let mut ends = Vec::with_capacity(count);
        for row in items.chunks(width) {
            self.splitting.row(row, &mut |word| {
                words.push(self.lookup.index(word)?);
                Ok(())
            })?;
            ends.push(words.len());
        }
        let (length, filler) = match self.mode {
            Mode::Int => (self.length.and_then(|n| usize::try_from(n).ok()), 0),
            // Beyond all words: left out of vectors.
            _ => (None, i64::MAX),
        };
        let starts = std::iter::once(&0).chain(&ends);
        let spans = starts.zip(&ends).map(|(&start, &end)| start..end);
        let longest = spans.clone().map(|span| span.len()).max().unwrap_or(0);
        let length = length.unwrap_or(longest);
        let mut filled = Vec::with_capacity(count.saturating_mul(length));
        for span in spans {
            let row = &words[span];
            let kept = &row[..row.len().min(length)];
            filled.extend_from_slice(kept);
            filled.extend(std::iter::repeat_n(filler, length - kept.len()));
        }
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let indices = Tensor::f_from_slice(&filled)?.f_view([rows, length])?;
        self.lookup.encode(&indices)
    }
}
