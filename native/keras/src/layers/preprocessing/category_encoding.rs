//! `CategoryEncoding`: integers as vectors, see [`Encoding`].

use tch::Kind;

use super::encoding::{Encoding, Mode};
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct CategoryEncoding(Encoding);

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let modes = ["multi_hot", "one_hot", "count"];
    let encoding = Encoding {
        mode: Mode::read(options, "multi_hot", &modes)?,
        depth: options.count("num_tokens")?,
        dtype: scope.policy.variable,
    };
    Ok(Built::layer(CategoryEncoding(encoding)).without_autocast())
}

impl Layer for CategoryEncoding {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        args.allow(&["count_weights"])?;
        let weighted = args.value(1, "count_weights").is_some();
        if weighted && self.0.mode != Mode::Count {
            return Err("takes count_weights only with output_mode \"count\"".to_owned());
        }
        Ok(Tree::Leaf(self.0.infer(args.only()?)?))
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        let categories = args.only().map_err(Error::values)?.y()?;
        let weights = args.value(1, "count_weights");
        let weights = weights.map(Value::y).transpose()?;
        let categories = categories.f_to_kind(Kind::Int64)?;
        Ok(Tree::Leaf(self.0.encode(&categories, weights)?.into()))
    }
}
