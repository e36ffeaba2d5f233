//! `TimeDistributed`: a layer or model on every step of `[batch, steps, ...]`. Steps become rows of
//! one call where the layer treats rows alone; else it is called step by step, as in Keras, where
//! BatchNormalization takes the statistics of each step.

use serde_json::{Map, Value as Json};
use tch::Tensor;

use super::rnn::step_of;
use crate::activations::Activation;
use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;

/// Layers whose output rows depend on the same rows of the input only (given that no option names
/// axis 0).
const ROW_WISE: &[&str] = &[
    "Activation",
    "Add",
    "AlphaDropout",
    "Average",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "Bidirectional",
    "Concatenate",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Dropout",
    "ELU",
    "EinsumDense",
    "Embedding",
    "Flatten",
    "GRU",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "GroupNormalization",
    "InputLayer",
    "LSTM",
    "LayerNormalization",
    "LeakyReLU",
    "Masking",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "Maximum",
    "Minimum",
    "Multiply",
    "PReLU",
    "Permute",
    "RNN",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "SeparableConv1D",
    "SeparableConv2D",
    "SimpleRNN",
    "Softmax",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "Subtract",
    "TimeDistributed",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
];

/// Those that treat rows alone in inference only.
const ROW_WISE_IN_INFERENCE: &[&str] = &["BatchNormalization"];

#[derive(Debug)]
struct TimeDistributed {
    layer: Built,
    /// Whether rows are treated alone in inference, and in training.
    row_wise: [bool; 2],
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let layer = options.value("layer");
    let layer = layer.ok_or_else(|| options.invalid("layer is missing"))?;
    let step = step_of(scope.input()?).map_err(|reason| scope.mismatch(reason))?;
    Ok(Built::layer(TimeDistributed {
        layer: scope.child("layer", layer, &Args::one(step))?,
        row_wise: [false, true].map(|training| row_wise(layer, training)),
    }))
}

/// Whether a layer's output rows depend on the same rows of its input only.
fn row_wise(layer: &Json, training: bool) -> bool {
    let class = layer["class_name"].as_str().unwrap_or_default();
    let empty = Map::new();
    let config = layer["config"].as_object().unwrap_or(&empty);
    if let Some(layers) = config.get("layers").and_then(Json::as_array) {
        return layers.iter().all(|layer| row_wise(layer, training));
    }
    let inner = config
        .get("layer")
        .is_none_or(|layer| row_wise(layer, training));
    let known = ROW_WISE.contains(&class) || (!training && ROW_WISE_IN_INFERENCE.contains(&class));
    // Counted from the end, an axis other than the last may be that of the rows.
    let apart = |axis: &Json| axis.as_i64().is_some_and(|axis| axis == -1 || axis > 0);
    let axis = match config.get("axis") {
        None | Some(Json::Null) => true,
        Some(Json::Array(axes)) => axes.iter().all(apart),
        Some(axis) => apart(axis),
    };
    let noise = config
        .get("noise_shape")
        .is_none_or(|shape| shape[0].is_null());
    known && inner && axis && noise
}

impl Layer for TimeDistributed {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let input = args.only()?;
        let inner = self.layer.layer.infer(&Args::one(step_of(input)?))?;
        let Tree::Leaf(step) = inner else {
            return Err("needs a layer with one output".to_owned());
        };
        let mut dims = step.dims.clone();
        dims.insert(1, input.dims[1]);
        dims[0] = input.dims[0];
        Ok(Tree::Leaf(step.with_dims(dims)))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        let value = args.only().map_err(Error::values)?;
        let explicit = args.value(2, "mask").map(Value::y).transpose()?;
        let mask = explicit.or(value.mask());
        let x = value.y()?;
        let size = x.size();
        if mask.is_some_and(|mask| mask.dim() < 2 || mask.size()[..2] != size[..2]) {
            return Err(Error::values(format!(
                "got a mask of shape {:?} for inputs of shape {size:?}; the first two axes must be \
                 the same",
                mask.map(Tensor::size).unwrap_or_default()
            )));
        }
        let y = if self.row_wise[usize::from(context.training)] {
            let mask = mask.map(|mask| mask.f_flatten(0, 1)).transpose()?;
            let y = self.step(&x.f_flatten(0, 1)?, mask, context)?;
            y.f_unflatten(0, [size[0], size[1]])?
        } else {
            let masks = mask.map(|mask| mask.f_unbind(1)).transpose()?;
            let steps = x.f_unbind(1)?;
            let steps = steps.iter().enumerate().map(|(at, x)| {
                let mask = masks.as_ref().and_then(|masks| masks.get(at));
                self.step(x, mask.map(Tensor::shallow_clone), context)
            });
            Tensor::f_stack(&steps.collect::<Result<Vec<_>>>()?, 1)?
        };
        Ok(Tree::Leaf(
            Value::new(y).with_mask(mask.map(Tensor::shallow_clone)),
        ))
    }
}

impl TimeDistributed {
    /// The layer on one step. As in Keras its `call` runs in this layer's dtype.
    fn step(&self, x: &Tensor, mask: Option<Tensor>, context: &mut Context<'_>) -> Result<Tensor> {
        let args = Args::one(Value::new(x.shallow_clone()).with_mask(mask));
        let outputs = self.layer.layer.call(&args, context)?;
        let Some(output) = outputs.leaf() else {
            return Err(Error::values("needs a layer with one output"));
        };
        if self.layer.activation == Activation::Linear {
            return Ok(output.y()?.shallow_clone());
        }
        self.layer.activation.apply(output.y()?)
    }
}
