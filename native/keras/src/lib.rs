//! Keras models on libtorch: config, layers, initializers, losses, metrics, optimizers.
//!
//! A model is a Keras config. `Model` builds its graph, holds its variables in flat stores and
//! runs it; losses, metrics and optimizers follow Keras's rules on Keras's layouts.
//!
//! How a model is made:
//!
//! ```text
//! JSON -> normalize -> Blueprint (graph, declared variables) -> compared with the file -> Model
//! ```
//!
//! 1. `normalize` brings what Keras 2 wrote to Keras 3's form; every key of a config is read by somebody,
//!    an unread one is an error that names it.
//! 2. `graph/network` reads the calls, `graph/order` sorts them and the layers as Keras does. Each layer
//!    is found in the `registry` by (family, class) and built at its first call: `build` checks the
//!    `Spec`s of the arguments (axes may be unknown, a dtype each) and declares variables by name in a
//!    `Scope`. A new layer is one file in `layers/FAMILY` and one line in the family's list; an operation
//!    of `keras.ops` is a layer without variables. Each has cases in `tests/layers`, from which
//!    `make parity` writes docs/layers.md.
//! 3. The `Blueprint` holds no memory. The weights of a file are compared with what it declares first, so
//!    a config of a kilobyte cannot ask for a gigabyte. `weights/` finds variables in each format: by
//!    group (Keras 3), by position (legacy `.h5`), by the graph of objects (TensorFlow's checkpoints).
//! 4. A `Model` runs its graph over `Value`s: a tensor or strings, a mask that travels along, and a last
//!    activation that is kept pending so that losses may take logits. A `Context` hands out variables
//!    and the seeded generator, takes assigned states and added losses, and gives sums over all ranks
//!    (`replicas`, where the graph of a pass is cut), or rows of a matrix that others keep (`rows`). Rewrites for speed are passes over the graph
//!    (`graph/pool_before_relu`), never tricks of a layer.
//!    A model may hold a part of the weights of some layers (`graph/splitting`): then its passes exchange
//!    with the other ranks of a tensor group (`tensor_group`).
//! 5. What layers keep besides variables, such as vocabularies, is in the archive's `assets`: read with
//!    the model, never changed, written again with it. A model is written array after array (`export`).
//! 6. To predict, a `Model` becomes an `Inference`: a pass over its graph joins convolutions with what
//!    follows them, which oneDNN computes in one go (`native/libtorch`).
//! 7. Trainable variables lie in one flat buffer with shaped views: collective and optimizers see a
//!    slice, libtorch sees tensors.
//! 8. The graph ends at rows that an `Embedding` looked up; their gradients are `indexed_slices`, of
//!    which optimizers see what Keras's see of TensorFlow's, one look-up at a time.

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
mod export;
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
pub mod memory;
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
mod rows;
mod saturation;
mod scope;
mod spec;
mod stft;
mod strings;
mod tensor_group;
mod value;
pub mod variables;
pub mod weights;

pub use archive::{InitialWeights, ReadOptions};
pub use constraints::Constraint;
pub use context::{Pass, Rng, Update};
pub use dtype::DType;
pub use error::Error;
pub use export::{Export, Stored};
pub use graph::{Holds, Stages};
pub use indexed_slices::{Gradient, IndexedSlices, RowSums};
pub use inference::Inference;
pub use losses::{CompileLoss, Loss};
pub use memory::OutOfMemory;
pub use metrics::{CompileMetrics, Metric};
pub use model::{Input, Model, Output};
pub use optimizers::Optimizer;
pub use regularizers::Regularizer;
pub use replicas::{Failure, Replicas, WithoutRows};
pub use rows::Rows;
pub use spec::Spec;
pub use strings::Strings;
pub use tensor_group::{Held, TensorGroup, TensorPart};
pub use value::Value;
pub use variables::{Handle, Variable, VariableStore};
pub use weights::Weights;
