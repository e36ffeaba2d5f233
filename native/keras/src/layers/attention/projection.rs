//! The `EinsumDense` layers inside the attention layers: between features and heads.

use serde_json::{Map, Value as Json, json};
use tch::Tensor;

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::graph::Split;
use crate::layer::Built;
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

/// What all projections of one layer have from its config.
#[derive(Debug)]
pub(super) struct Projections {
    shared: Map<String, Json>,
    use_bias: bool,
}

/// One projection, before it is built.
#[derive(Debug)]
pub(super) struct Projection<'a> {
    /// Keras's name, which is in the variables' paths.
    pub(super) name: &'a str,
    /// Where Keras's files have it.
    pub(super) attribute: &'a str,
    /// Axes of the input and output that stay as they are, with the batch.
    pub(super) free: usize,
    /// Axes summed over.
    pub(super) bound: usize,
    /// Sizes of the axes that the kernel adds.
    pub(super) sizes: &'a [i64],
    pub(super) activation: Option<&'a str>,
    /// What it does with a rank's part of the heads.
    pub(super) split: Split,
}

impl Projections {
    /// Reads the options that go to all projections.
    pub(super) fn read(scope: &Scope<'_>) -> Result<Self> {
        let options = scope.options;
        let mut shared = Map::new();
        for key in [
            "dtype",
            "kernel_initializer",
            "bias_initializer",
            "kernel_regularizer",
            "bias_regularizer",
            "activity_regularizer",
            "kernel_constraint",
            "bias_constraint",
        ] {
            if let Some(value) = options.value(key) {
                shared.insert(key.to_owned(), value.clone());
            }
        }
        let use_bias = options.bool("use_bias", true)?;
        Ok(Self { shared, use_bias })
    }

    /// Builds a projection for an input of this spec.
    pub(super) fn build(
        &self,
        scope: &mut Scope<'_>,
        projection: &Projection<'_>,
        input: &Spec,
    ) -> Result<Built> {
        let Projection {
            free, bound, sizes, ..
        } = *projection;
        let letters: String = ('a'..='z').take(free + bound + sizes.len()).collect();
        if letters.len() < free + bound + sizes.len() {
            return Err(scope.mismatch(format!("has too many axes: {input}")));
        }
        let (batch, rest) = letters.split_at(free);
        let (summed, added) = rest.split_at(bound);
        let shape: Vec<Option<i64>> = std::iter::repeat_n(None, free - 1)
            .chain(sizes.iter().copied().map(Some))
            .collect();
        let mut config = self.shared.clone();
        config.insert("name".to_owned(), json!(projection.name));
        config.insert(
            "equation".to_owned(),
            json!(format!("{batch}{summed},{summed}{added}->{batch}{added}")),
        );
        config.insert("output_shape".to_owned(), json!(shape));
        config.insert(
            "bias_axes".to_owned(),
            json!(self.use_bias.then_some(added)),
        );
        config.insert("activation".to_owned(), json!(projection.activation));
        let serialized = json!({
            "module": "keras.layers", "class_name": "EinsumDense", "config": config,
            "registered_name": null,
        });
        let args = Args::one(input.clone());
        scope.child_split(projection.attribute, &serialized, &args, projection.split)
    }
}

/// The spec of a projection's output.
pub(super) fn infer(projection: &Built, input: &Spec) -> std::result::Result<Spec, String> {
    match projection.infer(&Args::one(input.clone()))? {
        Tree::Leaf(spec) => Ok(spec),
        _ => Err("has a projection that gives no single tensor".to_owned()),
    }
}

/// A projection's output.
pub(super) fn project(
    projection: &Built,
    input: &Tensor,
    context: &mut Context<'_>,
) -> Result<Tensor> {
    let input = Args::one(Value::new(input.shallow_clone()));
    match projection.call(&input, context)? {
        Tree::Leaf(value) => Ok(value.y()?.shallow_clone()),
        _ => Err(Error::values("a projection gave no single tensor")),
    }
}
