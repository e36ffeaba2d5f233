//! What can go wrong with a model, one variant per thing the caller can do about it.

use tch::TchError;

use crate::memory::OutOfMemory;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not JSON: give the text of `model.to_json()` or a `.keras` file.
    #[error(
        "the model config is not valid JSON; pass the text of model.to_json() or a .keras file"
    )]
    NotJson(#[source] serde_json::Error),

    /// The config lacks a key or holds a value that Keras would not write: fix the config.
    #[error("{place}: {reason}")]
    InvalidConfig {
        /// What was read, such as `layer "conv2d" (Conv2D)` or `optimizer Adam`.
        place: String,
        /// Which key is wrong and what it should be.
        reason: String,
    },

    /// A class, rule or option of Keras that is not implemented: change the model or its settings.
    #[error("{place}: {what} is not supported; supported: {supported}")]
    Unsupported {
        /// Where it was asked for, such as `layer "conv2d" (Conv2D)` or `loss`.
        place: String,
        /// The class, or the option with its value.
        what: String,
        /// What can be used instead.
        supported: String,
    },

    /// Shapes do not fit: of a layer's inputs in the model, or of labels and outputs in a batch.
    #[error("{place}: {reason}")]
    ShapeMismatch {
        /// The layer, loss or metric that saw the shapes.
        place: String,
        /// The shapes met and those expected.
        reason: String,
    },

    /// A value is not of the kind that a layer works on: strings for numbers, a missing argument.
    #[error("{reason}")]
    Values {
        /// What was met and what was expected.
        reason: String,
    },

    /// A slice of parameters, gradients or optimizer state has the wrong length.
    #[error("{what} has {actual} elements, expected {expected}")]
    LengthMismatch {
        /// The slice.
        what: String,
        /// The length it must have.
        expected: usize,
        /// The length it has.
        actual: usize,
    },

    /// The archive is damaged or of another format: save the model again with Keras 3.
    #[error("the model archive cannot be {action}")]
    Archive {
        /// `read` or `written`.
        action: &'static str,
        /// The format's own error.
        #[source]
        source: flambeau_formats::Error,
    },

    /// The weights in a file are not those of the model: take both from one model.
    #[error("{place}: the file holds {reason}")]
    WeightsMismatch {
        /// The layer or the variable.
        place: String,
        /// What is in the file, and what is expected.
        reason: String,
    },

    /// A layer failed while it ran.
    #[error("layer \"{layer}\" ({class}) failed")]
    Layer {
        /// Name of the layer.
        layer: String,
        /// Its Keras class.
        class: String,
        /// Why it failed.
        #[source]
        source: Box<Error>,
    },

    /// Replicas could not add something up within a pass: another one is lost.
    #[error("a sum over all replicas failed")]
    Replicas(#[source] crate::replicas::Failure),

    /// The ranks of a tensor group could not exchange within a pass: another one is lost.
    #[error("an exchange of the tensor group failed")]
    Group(#[source] crate::replicas::Failure),

    /// There is no memory left: a smaller batch, or more ranks that hold the model together.
    #[error(transparent)]
    Memory(OutOfMemory),

    /// An operation of libtorch failed.
    #[error("libtorch: {0}")]
    Torch(TchError),
}

impl Error {
    /// What made replicas or a tensor group fail to exchange, if that is the reason, whatever layer asked for it.
    ///
    /// # Errors
    /// This error, if it has another reason.
    pub fn into_failure(self) -> Result<crate::replicas::Failure, Self> {
        match self {
            Self::Replicas(failure) | Self::Group(failure) => Ok(failure),
            Self::Layer {
                layer,
                class,
                source,
            } => source.into_failure().map_err(|source| Self::Layer {
                layer,
                class,
                source: Box::new(source),
            }),
            error => Err(error),
        }
    }

    /// What there was no memory for, if that is the reason, whatever layer asked for it.
    pub fn out_of_memory(&self) -> Option<&OutOfMemory> {
        match self {
            Self::Memory(out) => Some(out),
            Self::Layer { source, .. } => source.out_of_memory(),
            _ => None,
        }
    }

    /// The error of values that stand in a config, with whose they are.
    pub(crate) fn of_config(self, place: &str) -> Self {
        match self {
            Self::Values { reason } => Self::InvalidConfig {
                place: place.to_owned(),
                reason,
            },
            error => error,
        }
    }

    /// An error about a call's arguments while a model runs; the graph adds the layer.
    pub(crate) fn values(reason: impl Into<String>) -> Self {
        Self::Values {
            reason: reason.into(),
        }
    }
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
