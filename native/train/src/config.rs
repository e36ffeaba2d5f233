//! What a fit or a prediction is told, as it arrives in one JSON document.

mod mapping;
mod mesh;

use crate::dataset::SHUFFLE_BUFFER;
pub use crate::device::{Device, DeviceKind};
use crate::error::Error;
use crate::resume::State;
use flambeau_collective::Wire;
pub use mapping::{Choice, ImageResize, LabelEncoding, RaggedPolicy};
pub use mesh::{Mesh, Schedule};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Which columns of a record batch feed the model.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Feature columns: of a model with one input, concatenated in this order, row by row; of one
    /// with several, one for each input in its order.
    #[serde(default)]
    pub features: Vec<String>,
    /// Columns of each input by its name; wins over `features`.
    #[serde(default)]
    pub inputs: BTreeMap<String, Vec<String>>,
    /// Label columns: likewise for the outputs that have a loss; none when predicting.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Label columns of each output by its name; wins over `labels`.
    #[serde(default)]
    pub outputs: BTreeMap<String, Vec<String>>,
    /// The row weight column.
    pub weight: Option<String>,
    /// What to do with a null.
    #[serde(default)]
    pub null_policy: NullPolicy,
    /// Binary columns that hold encoded images, each the only column of its input.
    #[serde(default)]
    pub images: Vec<String>,
    /// What becomes of images of another size.
    #[serde(default)]
    pub image_resize: ImageResize,
    /// By the name of an output.
    #[serde(default)]
    pub label_encoding: Choice<LabelEncoding>,
    /// Where rows that are too short are filled up, by the name of an input or output.
    #[serde(default)]
    pub sequence_padding: Choice<RaggedPolicy>,
    /// Where rows that are too long are cut, likewise.
    #[serde(default)]
    pub sequence_truncating: Choice<RaggedPolicy>,
}

/// What happens to a row that holds a null in a used column, or in an element of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NullPolicy {
    /// The job ends with an error naming column and row.
    #[default]
    Error,
    /// A null scalar or element is zero.
    Zero,
    /// The row is left out.
    Drop,
}

/// How to train. `optimizer`, `loss` and `metrics` are Keras specifications (a name or a
/// serialized object); absent ones come from the compile settings of the `.keras` archive.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// Optimizer, for example `"adam"`.
    #[serde(default)]
    pub optimizer: Option<Value>,
    /// Loss, for example `"mse"`.
    #[serde(default)]
    pub loss: Option<Value>,
    /// Metrics, for example `["accuracy"]`; in the structure that Keras's `compile` takes.
    #[serde(default)]
    pub metrics: Option<Value>,
    /// Metrics that weigh rows, likewise.
    #[serde(default)]
    pub weighted_metrics: Option<Value>,
    /// Weight of each output's loss, as Keras's `compile` takes them.
    #[serde(default)]
    pub loss_weights: Option<Value>,
    /// Weight of each class, by its id, for a model with one output.
    #[serde(default)]
    pub class_weight: BTreeMap<String, f64>,
    /// Layers whose weights stay as they are, by name.
    #[serde(default)]
    pub frozen_layers: Vec<String>,
    /// Weights of other files that the model starts from.
    #[serde(default)]
    pub initial_weights: Option<InitialWeights>,
    /// What the export is written as besides the `.keras` archive.
    #[serde(default)]
    pub export_formats: Vec<ExportFormat>,
    /// Rows of a step: of each rank, or of all of them.
    pub batch_size: usize,
    /// Whether `batch_size` is of all ranks together, who share it as evenly as it goes.
    #[serde(default)]
    pub global_batch: bool,
    /// Whether a rank leaves out the last batch of a pass if it is smaller than the others.
    #[serde(default)]
    pub drop_remainder: bool,
    /// Epochs: passes over the data, unless `steps_per_epoch` says otherwise. None for as many as
    /// `max_steps` takes.
    pub epochs: Option<usize>,
    /// Steps after which an epoch ends; the next one goes on where it stood in the data.
    #[serde(default)]
    pub steps_per_epoch: Option<u64>,
    /// Whether an epoch that runs out of rows before `steps_per_epoch` starts over with them, rather
    /// than end there.
    #[serde(default)]
    pub repeat: bool,
    /// Steps after which training ends, in the middle of an epoch if need be.
    #[serde(default)]
    pub max_steps: Option<u64>,
    /// Whether the caller feeds the rows anew in each pass over the data, instead of once. They are
    /// not kept then.
    #[serde(default)]
    pub reread: bool,
    /// Whether rows are shuffled in each pass.
    #[serde(default = "yes")]
    pub shuffle: bool,
    /// Rows that wait so that one can be drawn at random, in passes that rows are received in.
    #[serde(default = "shuffle_buffer")]
    pub shuffle_buffer: usize,
    /// How gradients travel between ranks: in 16 bits they are rounded, and are half as many bytes.
    #[serde(default)]
    pub allreduce_dtype: AllreduceDtype,
    /// Steps that each rank makes by itself before the ranks average their weights; with 1 they
    /// exchange gradients in each.
    #[serde(default = "one_step")]
    pub local_steps: u64,
    /// Whether each rank keeps and updates the optimizer's state of a part of the weights only.
    #[serde(default)]
    pub shard_optimizer_state: bool,
    /// How ranks train together.
    #[serde(default)]
    pub strategy: Strategy,
    /// How many ranks, from 0 on, hold weights instead of training, where workers train by themselves. With
    /// 0 all ranks do both.
    #[serde(default = "one")]
    pub num_ps: usize,
    /// How many batches such a worker may be ahead of the slowest; none for any number.
    #[serde(default)]
    pub max_staleness: Option<u64>,
    /// How ranks share a model that none of them holds as a whole, if they do.
    #[serde(default)]
    pub mesh: Option<Mesh>,
    /// Seed of initializers, shuffling and dropout.
    pub seed: u64,
    /// Rows of the whole data set where the caller knows them, for the time left in epoch 1.
    #[serde(default)]
    pub expected_rows: Option<u64>,
    /// A checkpoint after every so many epochs; 0 for none.
    #[serde(default = "one")]
    pub checkpoint_every_epochs: usize,
    /// A checkpoint after every so many steps, too; 0 for none.
    #[serde(default)]
    pub checkpoint_every_steps: u64,
    /// How many checkpoints are kept.
    #[serde(default = "five")]
    pub keep_checkpoints: usize,
}

impl Fit {
    /// Refuses numbers that make no fit.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::Config(reason.to_owned()));
        if self.batch_size == 0 || self.epochs == Some(0) {
            return refuse("batchSize and epochs must be at least 1");
        }
        if self.steps_per_epoch == Some(0) || self.max_steps == Some(0) {
            return refuse("stepsPerEpoch and maxSteps must be at least 1");
        }
        if self.epochs.is_none() && self.max_steps.is_none() {
            return refuse("nothing says when training ends: set epochs or maxSteps");
        }
        if self.local_steps == 0 {
            return refuse("localSteps must be at least 1");
        }
        if self.local_steps > 1 && self.shard_optimizer_state {
            return refuse(
                "shardOptimizerState and localSteps above 1 exclude each other: a worker that makes \
                 steps by itself needs the state of all weights. Set localSteps to 1, or \
                 shardOptimizerState to false",
            );
        }
        if self.repeat && self.steps_per_epoch.is_none() {
            return refuse("repeat without stepsPerEpoch would be an epoch without end: set both");
        }
        self.mesh.as_ref().map_or(Ok(()), |mesh| mesh.check(self))
    }

    /// Whether ranks that train apart meet behind step number `done` of an epoch, which is `step` of
    /// the fit: in time, and wherever all of them must have the same weights.
    pub(crate) fn meets(&self, done: u64, step: u64) -> bool {
        let every = self.checkpoint_every_steps;
        done.is_multiple_of(self.local_steps)
            || self.ends_epoch(done, step, true)
            || (every > 0 && step.is_multiple_of(every))
    }

    /// Rows that `rank` of `ranks` puts into a step.
    pub fn batch_size_of(&self, rank: usize, ranks: usize) -> usize {
        if self.global_batch {
            self.batch_size / ranks + usize::from(rank < self.batch_size % ranks)
        } else {
            self.batch_size
        }
    }

    /// Whether a fit that has come to `state` is done.
    pub(crate) fn is_over(&self, state: &State) -> bool {
        let epochs = self.epochs.is_some_and(|epochs| state.epochs >= epochs);
        let steps = self.max_steps.is_some_and(|steps| state.step >= steps);
        state.unfinished.is_none() && (epochs || steps)
    }

    /// Whether an epoch ends with its step number `done`, which is `step` of the fit; `more` says
    /// whether the pass over the data goes on.
    pub(crate) fn ends_epoch(&self, done: u64, step: u64, more: bool) -> bool {
        let repeats = self.repeat && self.steps_per_epoch.is_some();
        let enough = self.steps_per_epoch.is_some_and(|steps| done >= steps);
        (!more && !repeats) || enough || self.max_steps == Some(step)
    }

    /// Whether each rank of an asynchronous fit holds a part of the weights and trains, too.
    pub(crate) fn workers_serve(&self) -> bool {
        self.strategy == Strategy::Async && self.num_ps == 0
    }

    /// Whether rows are drawn again after a pass.
    pub(crate) fn keeps_rows(&self) -> bool {
        let one_pass = self.epochs == Some(1) && !(self.repeat && self.steps_per_epoch.is_some());
        !self.reread && !one_pass
    }
}

/// How ranks train together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// All take each step together.
    #[default]
    Sync,
    /// Workers push their gradients to servers, and never wait for each other.
    Async,
}

/// The type in which numbers of an allreduce travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AllreduceDtype {
    /// As they are.
    #[default]
    Float32,
    /// The range of float32 with 8 significant bits.
    Bfloat16,
    /// 11 significant bits up to 65,504.
    Float16,
}

impl From<AllreduceDtype> for Wire {
    fn from(dtype: AllreduceDtype) -> Self {
        match dtype {
            AllreduceDtype::Float32 => Wire::Float32,
            AllreduceDtype::Bfloat16 => Wire::Bfloat16,
            AllreduceDtype::Float16 => Wire::Float16,
        }
    }
}

/// Weights that come beside the model, as `model.load_weights` takes them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitialWeights {
    /// Bytes of each file: one `.keras`, `.weights.h5` or `.h5`, or a checkpoint of TensorFlow, its
    /// index first.
    pub lengths: Vec<usize>,
    /// Whether layers whose variables the file does not hold as they are keep their own.
    #[serde(default)]
    pub skip_mismatch: bool,
}

/// A file format for the trained model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ExportFormat {
    /// The `.keras` archive, which is always written.
    #[serde(rename = "keras")]
    Keras,
    /// Keras 3's weights file.
    #[serde(rename = "weights.h5")]
    WeightsH5,
    /// Keras's legacy file.
    #[serde(rename = "h5")]
    H5,
    /// TensorFlow's checkpoint.
    #[serde(rename = "tf")]
    Checkpoint,
}

/// A model as its files hold it.
#[derive(Debug, Clone, Copy)]
pub struct ModelFiles<'a> {
    /// Keras JSON text, or the bytes of a `.keras` or legacy `.h5` file.
    pub model: &'a [u8],
    /// The files of [`Fit::initial_weights`], one after the other.
    pub weights: &'a [u8],
}

/// Everything one rank's fit session is opened with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitSession {
    /// This rank; equals `collective.rank`.
    pub rank: usize,
    /// Threads for libtorch: the CPUs that Spark gave the task.
    pub threads: i32,
    /// Where it computes; on the CPU unless it is said.
    #[serde(default)]
    pub device: Device,
    /// Where the rows beyond `cache_bytes` go, and where rank 0 writes its files before they are
    /// moved to the model directory.
    pub local_dir: PathBuf,
    /// Memory for this rank's rows.
    pub cache_bytes: u64,
    /// The ranks and how to meet them.
    pub collective: flambeau_collective::Config,
    /// The columns.
    pub columns: Columns,
    /// The training settings.
    pub fit: Fit,
    /// Whether there is a model directory: without one nobody would see checkpoints and events.
    #[serde(default = "yes")]
    pub model_dir: bool,
    /// Hosts on which server 0 of an asynchronous fit may be.
    #[serde(default)]
    pub server_hosts: Vec<String>,
    /// Which attempt of its task an asynchronous fit's rank is: a later one has a larger number.
    #[serde(default)]
    pub incarnation: u64,
    /// A local checkpoint to go on from; only rank 0 is given one.
    #[serde(default)]
    pub resume: Option<PathBuf>,
    /// Whether it trains nothing, and measures the checkpoints of another fit with its rows to validate
    /// with.
    #[serde(default)]
    pub evaluator: bool,
    /// What the rows are, if they are part of a stream.
    #[serde(default)]
    pub micro_batch: Option<MicroBatch>,
}

impl FitSession {
    /// Which of several replicas of the model this rank is or belongs to, and how many there are: each has
    /// rows of its own.
    pub(crate) fn replica(&self) -> (usize, usize) {
        let (rank, ranks) = (self.rank, self.collective.world_size);
        let size = self.fit.mesh.as_ref();
        let size = size.map_or(1, |mesh| mesh.pipeline * mesh.tensor).max(1);
        (rank / size, ranks.div_ceil(size))
    }

    /// Rows of a step of all replicas, but for the last of a pass.
    pub(crate) fn rows_of_a_step(&self) -> usize {
        let (_, replicas) = self.replica();
        let rows = (0..replicas).map(|replica| self.fit.batch_size_of(replica, replicas));
        rows.sum()
    }
}

/// A part of a stream of rows, on which training goes on where the one before it ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MicroBatch {
    /// Which stream.
    pub stream: String,
    /// Counted from 0.
    pub number: u64,
}

/// Everything a prediction session is opened with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictSession {
    /// Threads for libtorch.
    pub threads: i32,
    /// Where it computes; on the CPU unless it is said.
    #[serde(default)]
    pub device: Device,
    /// The columns; `label` and `weight` stay unset.
    pub columns: Columns,
}

fn yes() -> bool {
    true
}

fn shuffle_buffer() -> usize {
    SHUFFLE_BUFFER
}

fn one() -> usize {
    1
}

fn one_step() -> u64 {
    1
}

fn five() -> usize {
    5
}
