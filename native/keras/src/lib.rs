//! Keras models on libtorch: config, layers, initializers, losses, metrics, optimizers.
//!
//! A model is a Keras config. `Model` builds its graph, holds its variables in two flat stores and
//! runs it; losses, metrics and optimizers follow Keras's rules on Keras's layouts.

pub mod activations;
pub mod archive;
pub mod config;
pub mod error;
mod flat;
mod fuse;
mod graph;
pub mod initializers;
pub mod layers;
pub mod losses;
pub mod metrics;
pub mod model;
mod normalize;
pub mod optimizers;
pub mod output;
pub mod pass;
mod topology;
pub mod variables;

pub use error::Error;
pub use losses::{CompileLoss, Loss};
pub use metrics::{CompileMetrics, Metric};
pub use model::{InputSpec, Model};
pub use optimizers::Optimizer;
pub use output::Output;
pub use pass::{Pass, Rng, StateUpdate};
pub use variables::{Variable, VariableStore};
