//! `Identity`: the input itself, whatever its structure.

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct Identity;

pub(super) fn build(_: &mut Scope<'_>) -> Result<Built> {
    Ok(Built::layer(Identity))
}

fn only<T>(args: &Args<T>) -> Result<&Tree<T>, String> {
    args.list
        .first()
        .ok_or_else(|| "is called without inputs".to_owned())
}

impl Layer for Identity {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        only(args).cloned()
    }

    fn call(&self, args: &Args<Value>, _: &mut Context<'_>) -> Result<Tree<Value>> {
        only(args).cloned().map_err(Error::values)
    }
}
