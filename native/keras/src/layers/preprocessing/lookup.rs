//! `StringLookup` and `IntegerLookup`: words as indices of a vocabulary, or back.

use std::collections::HashMap;

use tch::Tensor;

use super::encoding::{Encoding, Mode};
use super::fingerprint::Buckets;
use super::tokens::{Token, integers};
use super::vocabulary::{Settings, Vocabulary};
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::strings::Strings;
use crate::value::Value;

/// A vocabulary to look words up in.
#[derive(Debug)]
pub(super) struct Lookup<T> {
    indices: HashMap<T, i64>,
    /// A word that is none, and its index: beyond all in vectors.
    mask: Option<(T, i64)>,
    oov_start: i64,
    unknown: Unknown,
    encoding: Encoding,
    weights: Option<Tensor>,
}

/// Which index a word has that is not in the vocabulary.
#[derive(Debug)]
enum Unknown {
    Refused,
    One,
    /// An integer's remainder by this number, unless hashing is asked for; else by hash.
    Several(Option<i64>, Buckets),
}

impl<T: Token> Lookup<T> {
    /// Reads the vocabulary and the options about words that are not in it.
    ///
    /// # Errors
    /// As [`Vocabulary::read`].
    pub(super) fn read(scope: &Scope<'_>, settings: Settings<T>) -> Result<Self> {
        let vocabulary = Vocabulary::read(scope, &settings)?;
        let options = scope.options;
        let method = options.choice("oov_method", "floormod", &["floormod", "farmhash"])?;
        let unknown = match settings.num_oov_indices {
            0 => Unknown::Refused,
            1 => Unknown::One,
            count => {
                let divisor = (method == "floormod").then_some(count);
                Unknown::Several(divisor, Buckets::read(options, count)?)
            }
        };
        options.ignore(&["salt"]);
        let tokens = vocabulary.tokens.into_iter();
        let (mask_index, dtype) = match settings.mode {
            Mode::Int => (0, DType::INT64),
            _ => (i64::MAX, DType::FLOAT32),
        };
        let (oov_start, token_start) = (settings.oov_start(), settings.token_start());
        Ok(Self {
            indices: tokens.zip(token_start..).collect(),
            mask: settings.mask_token.map(|token| (token, mask_index)),
            oov_start,
            unknown,
            encoding: Encoding {
                mode: settings.mode,
                depth: vocabulary.depth,
                dtype,
            },
            weights: vocabulary.weights,
        })
    }

    /// The index of a word.
    ///
    /// # Errors
    /// It is not in the vocabulary, and there is no index for such.
    pub(super) fn index(&self, token: &T::Key) -> Result<i64> {
        if let Some((mask, index)) = &self.mask
            && mask.borrow() == token
        {
            return Ok(*index);
        }
        if let Some(index) = self.indices.get(token) {
            return Ok(*index);
        }
        let bucket = match &self.unknown {
            Unknown::Refused => {
                let text = T::text(token);
                let text = String::from_utf8_lossy(&text);
                return Err(Error::values(format!(
                    "\"{text}\" is not in the vocabulary, and num_oov_indices = 0 leaves no \
                     index for such words"
                )));
            }
            Unknown::One => 0,
            Unknown::Several(divisor, buckets) => divisor
                .and_then(|divisor| T::remainder(token, divisor))
                .unwrap_or_else(|| buckets.of(&T::text(token))),
        };
        Ok(self.oov_start + bucket)
    }

    /// The output for indices of this spec.
    pub(super) fn infer(&self, indices: &Spec) -> Inferred {
        Ok(Tree::Leaf(self.encoding.infer(indices)?))
    }

    /// The output for `indices` of words.
    pub(super) fn encode(&self, indices: &Tensor) -> Result<Tree<Value>> {
        let encoded = self.encoding.encode(indices, None)?;
        let encoded = match &self.weights {
            Some(weights) => encoded.f_mul(weights)?,
            None => encoded,
        };
        Ok(Tree::Leaf(encoded.into()))
    }
}

pub(super) fn build_strings(scope: &mut Scope<'_>) -> Result<Built> {
    scope.options.ignore(&["encoding"]);
    build::<Box<[u8]>>(scope, "[UNK]".as_bytes().into())
}

pub(super) fn build_integers(scope: &mut Scope<'_>) -> Result<Built> {
    let known = serde_json::Value::from("int64");
    scope.options.require("vocabulary_dtype", &known)?;
    build::<i64>(scope, -1)
}

fn build<T: Word>(scope: &mut Scope<'_>, oov_token: T) -> Result<Built> {
    let options = scope.options;
    let token = |key: &str, default: Option<T>| match options.given(key) {
        crate::config::Given::Absent => Ok(default),
        crate::config::Given::Null => Ok(None),
        crate::config::Given::Value(value) => {
            let kind = T::KIND;
            let wrong = || options.invalid(format!("{key} = {value} must be one of {kind}"));
            T::from_json(value).map(Some).ok_or_else(wrong)
        }
    };
    let num_oov_indices = options.integer("num_oov_indices", 1)?;
    if !(0..=i64::from(i32::MAX)).contains(&num_oov_indices) {
        return Err(options.invalid("num_oov_indices must be from 0 to 2147483647"));
    }
    let modes = ["int", "one_hot", "multi_hot", "count", "tf_idf"];
    let settings = Settings {
        mode: Mode::read(options, "int", &modes)?,
        mask_token: token("mask_token", None)?,
        oov_token: token("oov_token", Some(oov_token))?,
        num_oov_indices,
        max_tokens: options.integer_or_null("max_tokens", None)?,
        pad_to_max_tokens: options.bool("pad_to_max_tokens", false)?,
        invert: options.bool("invert", false)?,
    };
    let built = if settings.invert {
        Built::layer(Inverse::read(scope, settings)?)
    } else {
        Built::layer(Lookup::read(scope, settings)?)
    };
    Ok(built.without_autocast())
}

/// Words that are the elements of values.
trait Word: Token {
    /// What a value of them is.
    fn is(dtype: DType) -> bool;

    /// What their values have.
    const DTYPE: DType;

    /// Gives the words of `value` to `look`.
    fn each(value: &Value, look: &mut dyn FnMut(&Self::Key) -> Result<i64>) -> Result<Vec<i64>>;

    /// A value of these words.
    fn value(words: Vec<Self>, shape: Vec<i64>) -> Result<Value>;
}

impl Word for Box<[u8]> {
    const DTYPE: DType = DType::String;

    fn is(dtype: DType) -> bool {
        dtype == DType::String
    }

    fn each(value: &Value, look: &mut dyn FnMut(&[u8]) -> Result<i64>) -> Result<Vec<i64>> {
        let items = value.strings()?.items().iter();
        items.map(|item| look(item)).collect()
    }

    fn value(words: Vec<Self>, shape: Vec<i64>) -> Result<Value> {
        Ok(Value::from_strings(Strings::new(shape, words)?))
    }
}

impl Word for i64 {
    const DTYPE: DType = DType::INT64;

    fn is(dtype: DType) -> bool {
        dtype != DType::String
    }

    fn each(value: &Value, look: &mut dyn FnMut(&Self) -> Result<Self>) -> Result<Vec<Self>> {
        integers(value.y()?)?.iter().map(look).collect()
    }

    fn value(words: Vec<Self>, shape: Vec<i64>) -> Result<Value> {
        Ok(Tensor::f_from_slice(&words)?
            .f_view(shape.as_slice())?
            .into())
    }
}

impl<T: Word> Layer for Lookup<T> {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let input = args.only()?;
        if !T::is(input.dtype) {
            let (kind, dtype) = (T::KIND, input.dtype);
            return Err(format!("looks {kind} up, got {dtype}"));
        }
        Self::infer(self, input)
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let value = args.only().map_err(Error::values)?;
        let indices = T::each(value, &mut |token| self.index(token))?;
        let indices = Tensor::f_from_slice(&indices)?;
        self.encode(&indices.f_view(value.size().as_slice())?)
    }
}

/// `invert=True`: the words of indices.
#[derive(Debug)]
struct Inverse<T> {
    tokens: Vec<T>,
    token_start: i64,
    /// Of index 0.
    mask: Option<T>,
    unknown: T,
}

impl<T: Word> Inverse<T> {
    fn read(scope: &Scope<'_>, settings: Settings<T>) -> Result<Self> {
        let options = scope.options;
        options.ignore(&["oov_method", "salt"]);
        if settings.mode != Mode::Int {
            return Err(options.invalid("output_mode must be \"int\" with invert"));
        }
        let tokens = Vocabulary::read(scope, &settings)?.tokens;
        let token_start = settings.token_start();
        let missing = || options.invalid("oov_token must be given with invert");
        Ok(Self {
            tokens,
            token_start,
            mask: settings.mask_token,
            unknown: settings.oov_token.ok_or_else(missing)?,
        })
    }

    fn word(&self, index: i64) -> &T {
        let mask = self.mask.as_ref().filter(|_| index == 0);
        let at = usize::try_from(index - self.token_start).ok();
        let known = at.and_then(|at| self.tokens.get(at));
        mask.or(known).unwrap_or(&self.unknown)
    }
}

impl<T: Word> Layer for Inverse<T> {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let input = args.only()?;
        if input.dtype == DType::String {
            return Err("takes indices with invert, got strings".to_owned());
        }
        Ok(Tree::Leaf(input.with_dtype(T::DTYPE)))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let indices = args.only().map_err(Error::values)?.y()?;
        let words = integers(indices)?;
        let words = words.into_iter().map(|index| self.word(index).clone());
        Ok(Tree::Leaf(T::value(words.collect(), indices.size())?))
    }
}
