//! `Masking`: steps whose features all equal `mask_value` are masked, and set to 0.

use tch::Kind;

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct Masking {
    mask_value: f64,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let mask_value = match options.value("mask_value") {
        None => 0.0,
        Some(value) => value
            .as_f64()
            .ok_or_else(|| options.unsupported("mask_value", value, "a number"))?,
    };
    Ok(Built::layer(Masking { mask_value }))
}

impl Layer for Masking {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let input = args.only()?;
        input.axis(-1)?;
        Ok(Tree::Leaf(input.clone()))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let x = args.only().map_err(Error::values)?.y()?;
        // Keras compares with a float32: half precision never holds 0.1.
        let compared = match x.f_kind()? {
            Kind::Half | Kind::BFloat16 => x.f_to_kind(Kind::Float)?,
            _ => x.shallow_clone(),
        };
        let given = compared.f_ne(self.mask_value)?.f_any_dim(-1, true)?;
        let y = x.f_masked_fill(&given.f_logical_not()?, 0)?;
        let mask = given.f_squeeze_dim(-1)?;
        Ok(Tree::Leaf(Value::new(y).with_mask(Some(mask))))
    }
}
