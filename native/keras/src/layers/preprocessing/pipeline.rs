//! `Pipeline`: layers one after the other, each called with what the one before gave.

use serde_json::Value as Json;

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

#[derive(Debug)]
struct Pipeline {
    layers: Vec<Built>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let layers = options.value("layers").and_then(Json::as_array);
    let layers = layers.filter(|layers| !layers.is_empty());
    let layers = layers.ok_or_else(|| options.invalid("layers must be a list of layers"))?;
    let classes = layers
        .iter()
        .map(|layer| layer["class_name"].as_str().unwrap_or_default());
    let classes: Vec<&str> = classes.collect();
    // As which the list stands in Keras's weights files.
    let groups = flambeau_formats::list_group_names("layers", &classes);
    let mut args = scope.args.clone();
    let mut built: Vec<Built> = Vec::new();
    for (layer, group) in layers.iter().zip(&groups) {
        let child = scope.child(group, layer, &args)?;
        let outputs = child.infer(&args);
        args = then(outputs.map_err(|reason| scope.mismatch(reason))?);
        built.push(child);
    }
    Ok(Built::layer(Pipeline { layers: built }).without_autocast())
}

/// The arguments of the next layer.
fn then<T>(outputs: Tree<T>) -> Args<T> {
    Args {
        list: vec![outputs],
        named: Vec::new(),
    }
}

impl Layer for Pipeline {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let mut layers = self.layers.iter();
        let first = layers.next().ok_or("has no layers")?;
        layers.try_fold(first.infer(args)?, |outputs, layer| {
            layer.infer(&then(outputs))
        })
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let mut layers = self.layers.iter();
        let first = layers.next();
        let first = first.ok_or_else(|| Error::values("has no layers"))?;
        let outputs = first.call(args, context)?;
        layers.try_fold(outputs, |outputs, layer| {
            layer.call(&then(outputs), context)
        })
    }
}
