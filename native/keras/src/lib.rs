//! Keras models on libtorch: config, layers, initializers, losses, metrics, optimizers.
//!
//! A model is a Keras config. `Model` builds its graph, holds its variables in flat stores and
//! runs it; losses, metrics and optimizers follow Keras's rules on Keras's layouts.

pub mod activations;
pub mod archive;
mod arguments;
mod assets;
mod blueprint;
pub mod config;
pub mod constraints;
mod context;
mod dtype;
pub mod error;
mod flat;
mod freeze;
mod graph;
pub mod indexed_slices;
pub mod inference;
pub mod initializers;
mod layer;
mod layers;
mod literals;
pub mod losses;
pub mod metrics;
pub mod model;
mod normalize;
mod ops;
pub mod optimizers;
mod python_json;
pub mod registry;
pub mod regularizers;
mod replicas;
mod resize;
mod saturation;
mod scope;
mod spec;
mod stft;
mod strings;
mod value;
pub mod variables;
pub mod weights;

pub use archive::{InitialWeights, ReadOptions};
pub use constraints::Constraint;
pub use context::{Pass, Rng, Update};
pub use dtype::DType;
pub use error::Error;
pub use indexed_slices::{Gradient, IndexedSlices};
pub use inference::Inference;
pub use losses::{CompileLoss, Loss};
pub use metrics::{CompileMetrics, Metric};
pub use model::{Input, Model, Output};
pub use optimizers::Optimizer;
pub use regularizers::Regularizer;
pub use replicas::{Failure, Replicas, WithoutRows};
pub use spec::Spec;
pub use strings::Strings;
pub use value::Value;
pub use variables::{Handle, Variable, VariableStore};
pub use weights::Weights;
