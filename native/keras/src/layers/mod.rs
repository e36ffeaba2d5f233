//! The layers: what a layer is, and the registry of Keras classes. A new layer is one file and one
//! line in `REGISTRY`.

mod activation;
mod batch_normalization;
mod conv2d;
mod dense;
mod dropout;
mod flatten;
mod global_pooling;
mod input;
mod merge;
mod pooling;
mod rescaling;
mod reshape;
mod window;

use std::fmt::Debug;

use serde_json::{Map, Value};
use tch::Tensor;

use crate::activations::Activation;
use crate::config::Options;
use crate::error::{Error, Result};
use crate::initializers::Initializer;
use crate::pass::Pass;
use crate::variables::VariableStore;

/// Sizes of a tensor's axes without the batch.
pub type Shape = Vec<i64>;

/// A shape, or what is wrong with the inputs' shapes; the model adds the layer's name.
pub type ShapeResult = std::result::Result<Shape, String>;

/// A variable that a layer asks for.
#[derive(Debug, Clone)]
pub struct VariableSpec {
    /// Keras's name, such as `kernel`.
    pub name: &'static str,
    /// Keras's shape.
    pub shape: Shape,
    /// How it starts.
    pub initializer: Initializer,
    /// Whether gradients change it (unless the layer is frozen).
    pub trainable: bool,
}

/// A layer: shapes when the model is built, tensors when it runs.
pub trait Layer: Debug + Send {
    /// The shape of the output for inputs of these shapes.
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult;

    /// The variables, in the order of Keras's `layer.weights`. The shapes were accepted by
    /// [`Self::output_shape`].
    fn variables(&self, _inputs: &[Shape]) -> Vec<VariableSpec> {
        Vec::new()
    }

    /// The output before [`Self::activation`], batch first.
    fn forward(
        &self,
        inputs: &[&Tensor],
        variables: &LayerVariables<'_>,
        pass: &mut Pass,
    ) -> Result<Tensor>;

    /// The activation that ends the layer; the graph runs it as a step of its own.
    fn activation(&self) -> Activation {
        Activation::Linear
    }

    /// Whether the output is the input itself, so that Keras's `_keras_logits` stay on it.
    fn is_identity(&self, _training: bool) -> bool {
        false
    }

    /// Whether `relu(f(x)) = f(relu(x))` exactly, in values and gradients.
    fn commutes_with_relu(&self) -> bool {
        false
    }
}

/// Where a layer's variable is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// In the trainable store, else in the other.
    pub trainable: bool,
    /// Index in that store.
    pub index: usize,
}

/// A layer's variables during a run, in the order of [`Layer::variables`].
#[derive(Debug)]
pub struct LayerVariables<'a> {
    /// Their places.
    pub slots: &'a [Slot],
    /// The model's trainable variables.
    pub trainable: &'a VariableStore,
    /// The model's other variables.
    pub non_trainable: &'a VariableStore,
}

impl<'a> LayerVariables<'a> {
    /// The layer's variable number `position`.
    pub fn get(&self, position: usize) -> &'a Tensor {
        let slot = self.slots[position];
        let store = if slot.trainable {
            self.trainable
        } else {
            self.non_trainable
        };
        store.tensor(slot.index)
    }
}

type Builder = fn(&Options<'_>) -> Result<Box<dyn Layer>>;

const REGISTRY: &[(&str, Builder)] = &[
    ("InputLayer", input::build),
    ("Rescaling", rescaling::build),
    ("Dense", dense::build),
    ("Conv2D", conv2d::build),
    ("MaxPooling2D", pooling::build_max),
    ("AveragePooling2D", pooling::build_average),
    ("GlobalAveragePooling2D", global_pooling::build),
    ("Flatten", flatten::build),
    ("Reshape", reshape::build),
    ("Dropout", dropout::build),
    ("BatchNormalization", batch_normalization::build),
    ("Activation", activation::build_named),
    ("ReLU", activation::build_relu),
    ("LeakyReLU", activation::build_leaky_relu),
    ("ELU", activation::build_elu),
    ("Softmax", activation::build_softmax),
    ("Add", merge::build_add),
    ("Concatenate", merge::build_concatenate),
];

/// A layer as built from its config.
#[derive(Debug)]
pub struct BuiltLayer {
    /// Its Keras class.
    pub class: &'static str,
    /// False if frozen: none of its variables is then trainable.
    pub trainable: bool,
    /// Its computation.
    pub layer: Box<dyn Layer>,
}

/// Builds the layer `name` of Keras class `class`. Errors name the layer, its class and the option,
/// and what is supported instead.
pub fn build(name: &str, class: &str, config: &Map<String, Value>) -> Result<BuiltLayer> {
    let place = format!("layer \"{name}\" ({class})");
    let Some((class, builder)) = REGISTRY.iter().find(|(known, _)| *known == class) else {
        return Err(Error::Unsupported {
            place,
            what: "this class".to_owned(),
            supported: REGISTRY
                .iter()
                .map(|(class, _)| *class)
                .collect::<Vec<_>>()
                .join(", "),
        });
    };
    let options = Options::new(place, config);
    options.ignore(&["name"]);
    if *class != "InputLayer" {
        require_float32(&options)?;
    }
    let trainable = options.bool("trainable", true)?;
    let layer = builder(&options)?;
    options.finish()?;
    Ok(BuiltLayer {
        class,
        trainable,
        layer,
    })
}

/// Variables and results are f32: the dtype is absent, `"float32"` or the policy of that name.
fn require_float32(options: &Options<'_>) -> Result<()> {
    let Some(dtype) = options.value("dtype") else {
        return Ok(());
    };
    let name = dtype
        .as_str()
        .or_else(|| dtype.pointer("/config/name").and_then(Value::as_str));
    match name {
        Some("float32") => Ok(()),
        _ => Err(options.unsupported("dtype", dtype, "float32")),
    }
}

/// The one input of a layer that takes one.
fn single<T>(inputs: &[T]) -> std::result::Result<&T, String> {
    match inputs {
        [input] => Ok(input),
        _ => Err(format!("takes one input, got {}", inputs.len())),
    }
}

/// Height, width and channels of the one input of an image layer.
fn image(inputs: &[Shape]) -> std::result::Result<[i64; 3], String> {
    let input = single(inputs)?;
    <[i64; 3]>::try_from(input.as_slice())
        .map_err(|_| format!("needs images of shape [height, width, channels], got {input:?}"))
}

/// `data_format` of an image layer: only Keras's default.
fn require_channels_last(options: &Options<'_>) -> Result<()> {
    options
        .choice("data_format", "channels_last", &["channels_last"])
        .map(drop)
}

/// An NHWC tensor seen as NCHW (libtorch's channels_last format), without a copy.
fn channels_second(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_permute([0, 3, 1, 2])?)
}

/// The inverse of [`channels_second`].
fn channels_last(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_permute([0, 2, 3, 1])?)
}
