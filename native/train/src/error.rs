//! What can go wrong in a session, by what the caller can do next.

use flambeau_keras::OutOfMemory;
use flambeau_keras::memory::Place;
use std::io::ErrorKind;
use std::path::PathBuf;

/// A session's failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The job's settings are wrong: the user changes them.
    #[error("{0}")]
    Config(String),
    /// The data does not fit the model or is damaged: the user mends it or names other columns.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The loss is no longer a number: the user lowers the learning rate or cleans the data.
    #[error(
        "the loss is {loss} in epoch {epoch} at step {step}: lower the learning rate, set \
         clipnorm, or look for NaN and huge values in the data"
    )]
    Numeric {
        /// NaN or an infinity.
        loss: f64,
        /// Counted from 1.
        epoch: usize,
        /// Counted from 1 over the whole fit.
        step: u64,
    },
    /// A weight is no longer a number, while the loss still was: as for `Numeric`.
    #[error(
        "variable {variable} holds {value} after step {step}: lower the learning rate, set clipnorm, \
         or look for NaN and huge values in the data"
    )]
    NotFinite {
        /// Its path.
        variable: String,
        /// NaN or an infinity.
        value: f32,
        /// Counted from 1 over the whole fit.
        step: u64,
    },
    /// Ranks that should have the same weights do not: a new attempt goes on from a checkpoint.
    #[error(
        "rank {rank} has other weights than rank 0 after step {step}, which no sound machine can \
         bring about. Try: its host's log for memory errors, and another host in its place"
    )]
    Diverged {
        /// The first that differs from rank 0.
        rank: usize,
        /// Counted from 1 over the whole fit.
        step: u64,
    },
    /// The model, its loss, its metrics or its optimizer.
    #[error(transparent)]
    Keras(flambeau_keras::Error),
    /// There is no GPU, or not the one that is named: the user sets `device`, or mends the node.
    #[error("device is 'cuda', but {0}. Or set device to 'auto', which takes the CPU then")]
    NoGpu(#[from] flambeau_libtorch::NoGpu),
    /// Another rank, or the way to it.
    #[error(transparent)]
    Collective(flambeau_collective::Error),
    /// A local file could not be read or written: retrying elsewhere can help.
    #[error("{what} {path}: {source}. Check space and permissions of spark.local.dir")]
    Storage {
        /// What was being done, for example "cannot write".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no memory left for the model, what trains it or its batches.
    #[error("{out}. {}", advice(.out))]
    Memory {
        /// Whose memory, and what for.
        out: OutOfMemory,
    },
    /// libtorch refused an operation that the checks before it should have refused.
    #[error("libtorch: {0}")]
    Torch(tch::TchError),
    /// The caller cancelled the session.
    #[error("the session was cancelled")]
    Cancelled,
    /// A native thread panicked: a bug.
    #[error("a bug in Flambeau, please report it: native panic: {0}")]
    Panic(String),
}

/// Ranks exchange within a pass too: what they fail with there is an error of theirs, not of the
/// layer that asked.
impl From<flambeau_keras::Error> for Error {
    fn from(error: flambeau_keras::Error) -> Self {
        if let Some(out) = error.out_of_memory() {
            return Self::Memory { out: out.clone() };
        }
        let failure = match error.into_failure() {
            Ok(failure) => failure,
            Err(flambeau_keras::Error::Torch(error)) => return Self::Torch(error),
            Err(error) => return Self::Keras(error),
        };
        match failure.downcast::<flambeau_collective::Error>() {
            Ok(error) => Self::from(*error),
            Err(failure) => Self::Keras(flambeau_keras::Error::Replicas(failure)),
        }
    }
}

impl From<flambeau_collective::Error> for Error {
    fn from(error: flambeau_collective::Error) -> Self {
        match &error {
            flambeau_collective::Error::Local { what, source, .. }
                if source.kind() == ErrorKind::OutOfMemory =>
            {
                let reason = format!("cannot {what}");
                let place = Place::Process;
                Self::Memory {
                    out: OutOfMemory { place, reason },
                }
            }
            _ => Self::Collective(error),
        }
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        flambeau_keras::Error::from(error).into()
    }
}

/// What to do about memory that ran out.
fn advice(out: &OutOfMemory) -> &'static str {
    match out.place {
        Place::Process => {
            "Raise spark.executor.memoryOverhead or lower batchSize. If the model itself is too large \
             for an executor, have several hold it together with pipelineStages or tensorParallel, or \
             the optimizer's state alone with shardOptimizerState"
        }
        Place::Gpu => {
            "Lower batchSize, compute in 16 bits (a Keras dtype policy such as mixed_bfloat16), or have \
             more workers hold the model together with pipelineStages or tensorParallel"
        }
    }
}

impl Error {
    /// Whether every retry would end the same way, so that the job should end at once.
    pub fn is_deterministic(&self) -> bool {
        match self {
            Self::Config(_) | Self::Data(_) | Self::NoGpu(_) => true,
            Self::Numeric { .. } | Self::NotFinite { .. } => true,
            Self::Keras(_) | Self::Memory { .. } | Self::Torch(_) | Self::Panic(_) => true,
            Self::Collective(error) => !error.is_retryable(),
            Self::Diverged { .. } | Self::Storage { .. } | Self::Cancelled => false,
        }
    }

    /// Whether every rank comes to this error by itself, since it follows from what an allreduce
    /// gave to all. It is told to nobody: a rank that hears of it may still be inside that
    /// allreduce, and would blame the teller.
    pub fn is_agreed(&self) -> bool {
        match self {
            Self::Numeric { .. } | Self::NotFinite { .. } | Self::Diverged { .. } => true,
            Self::Data(DataError::Empty { .. } | DataError::NoWholeBatch { .. }) => true,
            Self::Config(_) | Self::Data(_) | Self::Keras(_) | Self::Collective(_) => false,
            Self::Storage { .. } | Self::Memory { .. } | Self::Torch(_) => false,
            Self::NoGpu(_) | Self::Cancelled | Self::Panic(_) => false,
        }
    }
}

/// A fault in the rows or their schema. Rows count from 0 within their partition.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A named column is not there.
    #[error("no column '{column}' among the columns [{available}]")]
    NoColumn {
        /// As configured.
        column: String,
        /// Comma separated.
        available: String,
    },
    /// A column's type cannot become a tensor.
    #[error("column '{column}' is {dtype}; accepted is {accepted}")]
    Type {
        /// Column name.
        column: String,
        /// Its Arrow type.
        dtype: String,
        /// What would do.
        accepted: &'static str,
    },
    /// A row has another number of values than the others.
    #[error(
        "column '{column}' has {found} values in row {row} of the partition, {expected} expected: \
         pad or filter the rows, of arrays also by sequencePadding and sequenceTruncating"
    )]
    Width {
        /// Column name.
        column: String,
        /// Row.
        row: u64,
        /// Values in that row.
        found: usize,
        /// Values wanted.
        expected: usize,
    },
    /// A row of a sequence is no number of whole steps.
    #[error(
        "column '{column}' has {found} values in row {row} of the partition, which are no whole \
         steps of {step} values each"
    )]
    Steps {
        /// Column name.
        column: String,
        /// Row.
        row: u64,
        /// Values in that row.
        found: usize,
        /// Values of a step.
        step: usize,
    },
    /// A row holds no image, or one that cannot be decoded.
    #[error("column '{column}' holds no image in row {row} of the partition: {reason}")]
    Image {
        /// Column name.
        column: String,
        /// Row.
        row: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// An image is not of the input's size.
    #[error(
        "the image of column '{column}' in row {row} of the partition is {} pixels high and {} \
         wide, the model's input takes {} and {}: scale it, or set imageResize to 'bilinear'",
        .found.0, .found.1, .expected.0, .expected.1
    )]
    ImageSize {
        /// Column name.
        column: String,
        /// Row.
        row: u64,
        /// Height and width.
        found: (usize, usize),
        /// Those of the input.
        expected: (usize, usize),
    },
    /// Labels that should be one-hot are not.
    #[error(
        "the values {values} of column '{column}' in row {row} of the partition are not one-hot: \
         labelEncoding 'argmax' takes vectors with a single 1 among zeros"
    )]
    OneHot {
        /// Column name.
        column: String,
        /// Row.
        row: u64,
        /// The vector, or its beginning.
        values: String,
    },
    /// Columns and the model's inputs or outputs do not match up.
    #[error("{reason}")]
    Binding {
        /// What was given and what the model has.
        reason: String,
    },
    /// The columns of an input together do not fill it.
    #[error(
        "the feature columns [{columns}] hold {found} values a row, the model's input '{input}' \
         takes rows of shape {shape}"
    )]
    FeatureWidth {
        /// Comma separated.
        columns: String,
        /// Values a row.
        found: usize,
        /// The input's name.
        input: String,
        /// Its shape without the batch axis.
        shape: String,
    },
    /// A fraction where whole numbers are wanted.
    #[error(
        "{value} of column '{column}' in row {row} of the partition is no whole number of 64 bits: \
         class ids and integer inputs take whole numbers"
    )]
    Fraction {
        /// Column name.
        column: String,
        /// Row.
        row: u64,
        /// The value.
        value: String,
    },
    /// A null where none may be.
    #[error(
        "column '{column}' is null in row {row} of the partition: clean the data or set nullPolicy \
         to 'zero' or 'drop'"
    )]
    Null {
        /// Column name.
        column: String,
        /// Row.
        row: u64,
    },
    /// A column that is null as far as its rows are known, where nothing else tells how many values
    /// it holds.
    #[error(
        "column '{column}' is null in row {row} of the partition and in the rows around it, and \
         the model leaves open how many values it takes, so nullPolicy 'zero' cannot tell how many \
         zeros to read: put them there yourself, or set nullPolicy to 'drop'"
    )]
    UnknownWidth {
        /// Column name.
        column: String,
        /// First row of those that were looked at.
        row: u64,
    },
    /// Rows that memory has no room for.
    #[error(
        "{what}: {rows} rows need {bytes} bytes at once, which are not to be had. Are the rows as \
         wide as meant? If so, raise spark.executor.memoryOverhead"
    )]
    TooLarge {
        /// What the rows are of.
        what: String,
        /// How many.
        rows: usize,
        /// What they need.
        bytes: usize,
    },
    /// A class id outside the model's output.
    #[error(
        "label {value} of column '{column}' in row {row} of the partition is out of range \
         [0, {classes}): the model's output has {classes} classes"
    )]
    LabelRange {
        /// Column name.
        column: String,
        /// Row.
        row: u64,
        /// The label.
        value: i64,
        /// Width of the output.
        classes: i64,
    },
    /// The label column has another width than the loss compares.
    #[error(
        "label column '{column}' holds {found} values a row, the loss compares {expected} with the \
         model's output {shape:?}"
    )]
    LabelWidth {
        /// Column name.
        column: String,
        /// Values a row.
        found: usize,
        /// Values wanted.
        expected: usize,
        /// The model's output shape without the batch axis.
        shape: Vec<i64>,
    },
    /// No rows at all.
    #[error("the training data has no rows in any of the {partitions} partitions")]
    Empty {
        /// Ranks asked.
        partitions: usize,
    },
    /// Rows, but nowhere enough for a batch.
    #[error(
        "none of the {partitions} workers has the {batch_size} rows of a whole batch, and \
         dropRemainder leaves smaller ones out: lower the batch size, or clear dropRemainder"
    )]
    NoWholeBatch {
        /// Ranks asked.
        partitions: usize,
        /// Rows of a batch on this rank.
        batch_size: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer that failed for `source`.
    fn in_a_layer(source: flambeau_keras::Error) -> flambeau_keras::Error {
        flambeau_keras::Error::Layer {
            layer: "norm".to_owned(),
            class: "BatchNormalization".to_owned(),
            source: Box::new(source),
        }
    }

    #[test]
    fn memory_that_runs_out_says_what_to_do_whoever_asked_for_it() {
        let refused =
            || tch::TchError::Torch("not enough memory for a tensor of 8 bytes".to_owned());
        let error = Error::from(in_a_layer(refused().into()));
        assert_eq!(error.to_string(), Error::from(refused()).to_string());
        assert!(matches!(error, Error::Memory { .. }), "{error}");
        assert!(error.to_string().contains("pipelineStages"), "{error}");
        let refused = tch::TchError::Torch("CUDA out of memory. Tried to allocate".to_owned());
        let error = Error::from(refused);
        assert!(error.to_string().contains("mixed_bfloat16"), "{error}");
        assert!(error.is_deterministic() && !error.is_agreed());
    }

    #[test]
    fn a_rank_that_is_lost_within_a_layer_is_an_error_of_the_ranks() {
        let lost = flambeau_collective::Error::Config {
            what: "a stand-in".to_owned(),
        };
        let error = in_a_layer(flambeau_keras::Error::Replicas(Box::new(lost)));
        assert!(matches!(Error::from(error), Error::Collective(_)));
    }
}
