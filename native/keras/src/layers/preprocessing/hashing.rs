//! `Hashing`: strings or integers in buckets, by TensorFlow's hash of the text.

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::encoding::{Encoding, Mode};
use super::fingerprint::Buckets;
use super::tokens::integers;
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct Hashing {
    buckets: Buckets,
    /// What is in bucket 0, and nothing else; the others begin at 1.
    masked: Option<Masked>,
    encoding: Encoding,
}

#[derive(Debug)]
enum Masked {
    Text(Box<[u8]>),
    Number(f64),
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let depth = options.count("num_bins")?;
    let masked = match options.value("mask_value").filter(|_| depth > 1) {
        None => None,
        Some(Json::String(text)) => Some(Masked::Text(text.as_bytes().into())),
        Some(value) => {
            let number = value.as_f64();
            let wrong = || options.invalid("mask_value must be a string or a number");
            Some(Masked::Number(number.ok_or_else(wrong)?))
        }
    };
    options.ignore(&["mask_value"]);
    let modes = ["int", "one_hot", "multi_hot", "count"];
    let mode = Mode::read(options, "int", &modes)?;
    let dtype = match (mode, options.value("dtype")) {
        (Mode::Int, None) => DType::INT64,
        _ => scope.policy.variable,
    };
    let buckets = Buckets::read(options, depth - i64::from(masked.is_some()))?;
    Ok(Built::layer(Hashing {
        buckets,
        masked,
        encoding: Encoding { mode, depth, dtype },
    })
    .without_autocast())
}

impl Hashing {
    fn bucket(&self, text: &[u8], masked: bool) -> i64 {
        match self.masked {
            Some(_) if masked => 0,
            Some(_) => self.buckets.of(text) + 1,
            None => self.buckets.of(text),
        }
    }

    fn indices(&self, value: &Value) -> Result<Tensor> {
        let buckets: Vec<i64> = if value.dtype() == DType::String {
            let items = value.strings()?.items().iter();
            let is_masked = |item: &[u8]| match &self.masked {
                Some(Masked::Text(text)) => **text == *item,
                _ => false,
            };
            items
                .map(|item| self.bucket(item, is_masked(item)))
                .collect()
        } else {
            let x = value.y()?;
            let masked = match self.masked {
                Some(Masked::Number(number)) => x.f_eq(number)?,
                _ => x.f_zeros_like()?.f_to_kind(Kind::Bool)?,
            };
            let masked = Vec::<bool>::try_from(masked.f_flatten(0, -1)?)?;
            let truth = x.kind() == Kind::Bool;
            let numbers = integers(x)?.into_iter().zip(masked);
            numbers
                .map(|(number, masked)| {
                    let text = match (truth, number) {
                        (true, 0) => "false".to_owned(),
                        (true, _) => "true".to_owned(),
                        (false, number) => number.to_string(),
                    };
                    self.bucket(text.as_bytes(), masked)
                })
                .collect()
        };
        Ok(Tensor::f_from_slice(&buckets)?.f_view(value.size().as_slice())?)
    }

    /// The axes that the encoding sees: Keras drops a last axis of size 1 first.
    fn squeezes(&self) -> bool {
        self.encoding.mode == Mode::OneHot
    }
}

impl Layer for Hashing {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let input = args.only()?;
        let seen = match input.dims.as_slice() {
            [kept @ .., Some(1)] if self.squeezes() && !kept.is_empty() => kept.to_vec(),
            all => all.to_vec(),
        };
        Ok(Tree::Leaf(self.encoding.infer(&input.with_dims(seen))?))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let mut indices = self.indices(args.only().map_err(Error::values)?)?;
        if self.squeezes() && matches!(indices.size().as_slice(), [_, .., 1]) {
            indices = indices.f_squeeze_dim(-1)?;
        }
        Ok(Tree::Leaf(self.encoding.encode(&indices, None)?.into()))
    }
}
