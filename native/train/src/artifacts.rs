//! The files that rank 0 leaves: checkpoints, TensorBoard events, the model, the history.
//!
//! Everything is written to a local folder first; the caller is told when a file is whole and
//! moves it to the model directory, wherever that is. A pointer is told after what it points to.

mod folder;
mod stream;
mod writer;

use crate::config::{ExportFormat, FitSession};
use crate::error::Error;
use crate::event::{Event, FitResult, History, Logs};
use crate::objective::Objective;
use crate::resume::State;
use crate::session::Stop;
use crate::step::{Trainer, Written};
use crate::summaries::Summaries;
use crossbeam::channel::Sender;
use flambeau_formats::bundle::{data_file_name, index_file_name};
use flambeau_formats::checkpoint::stretches::Reader;
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{Export, Model};
use folder::Folder;
pub(crate) use folder::cannot_write;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use stream::Stream;
use writer::{Work, Writer};

/// Between two copies of TensorBoard's files, so that it follows a long epoch.
const SUMMARIES_INTERVAL: Duration = Duration::from_secs(30);

/// The exported model's place in the model directory, and those of its other formats.
const EXPORT: &str = "export/model.keras";
const EXPORT_WEIGHTS: &str = "export/model.weights.h5";
const EXPORT_LEGACY: &str = "export/model.h5";
const EXPORT_CHECKPOINT: &str = "export/model.ckpt";

/// What a fit has come to.
#[derive(Debug, Clone)]
pub(crate) struct Trained<'a> {
    /// Of whose weights some may be `elsewhere`.
    pub(crate) model: &'a Model,
    pub(crate) elsewhere: Option<&'a Reader>,
    /// None where its state is in several places, which checkpoints have.
    pub(crate) optimizer: Option<&'a Optimizer>,
    /// Keras's serialization of it.
    pub(crate) described: Value,
    pub(crate) objective: &'a Objective,
}

/// Rank 0's files of one fit.
#[derive(Debug)]
pub struct Artifacts {
    folder: Folder,
    /// None where there is no model directory, and for a micro-batch: a stream would leave files
    /// without end.
    summaries: Option<Summaries>,
    summaries_told: Instant,
    writer: Writer,
    formats: Vec<ExportFormat>,
}

impl Artifacts {
    /// Starts what `session` wants. The caller is told of no file before the first epoch is over: a
    /// fit that fails on its data leaves nothing behind. Nobody waits for files beyond `stop`.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn start(
        session: &FitSession,
        model: &Model,
        events: Sender<Event>,
        stop: Stop,
    ) -> Result<Self, Error> {
        let folder = Folder::new(session.local_dir.clone(), events);
        let (wanted, settings) = (session.model_dir, &session.fit);
        let start = || Summaries::start(session.local_dir.clone(), &model.to_json());
        let summaries = (wanted && session.micro_batch.is_none()).then(start);
        Ok(Self {
            summaries: summaries.transpose()?,
            summaries_told: Instant::now(),
            writer: Writer::start(folder.clone(), settings.keep_checkpoints, stop)?,
            folder,
            formats: settings.export_formats.clone(),
        })
    }

    /// Takes down how training goes after `step` steps.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn step(&mut self, step: u64, logs: &Logs, rows_per_second: f64) -> Result<(), Error> {
        if let Some(summaries) = &mut self.summaries {
            summaries.step(step, logs, rows_per_second)?;
        }
        if self.summaries_told.elapsed() > SUMMARIES_INTERVAL {
            self.show_summaries()?;
        }
        Ok(())
    }

    /// Takes down the epoch that `state` ends with.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn epoch(&mut self, trainer: &Trainer, state: &State, logs: &Logs) -> Result<(), Error> {
        if let Some(summaries) = &mut self.summaries {
            summaries.epoch(trainer, state, logs)?;
        }
        self.show_summaries()
    }

    /// Leaves a checkpoint.
    ///
    /// # Errors
    /// [`Error::Storage`], of an earlier one too; [`Error::Collective`].
    pub fn checkpoint(&mut self, trainer: &mut Trainer, state: &State) -> Result<(), Error> {
        self.write("model.json", trainer.model().to_json().into_bytes())?;
        if trainer.has_a_stage() {
            let step = state.step;
            match trainer.write_stages(state, Some(self.folder.path()))? {
                Written::Here(path) => self.writer.give(Work::Written { step, path })?,
                // The next step, or the end of the fit, says so, too.
                Written::NotANumber(tensor) => {
                    log::warn!("no checkpoint after step {step}: {tensor} holds NaN");
                }
                Written::Elsewhere => {}
            }
            return Ok(());
        }
        let checkpoint = state.checkpoint(trainer)?;
        self.writer.give(Work::Checkpoint(checkpoint))
    }

    /// Leaves the history and the trained model.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::Keras`].
    pub(crate) fn finish(
        mut self,
        trained: Trained<'_>,
        state: &State,
    ) -> Result<FitResult, Error> {
        self.show_summaries()?;
        let history = serde_json::to_vec_pretty(&state.history).map_err(std::io::Error::other);
        let history = history.map_err(|error| cannot_write(self.folder.path(), error))?;
        self.write("history.json", history)?;
        let mut compile = trained.objective.compile_config();
        compile["optimizer"] = trained.described.clone();
        let export = Export {
            model: trained.model,
            compile: Some(&compile),
            optimizer: trained.optimizer,
            elsewhere: trained.elsewhere,
        };
        self.stream(EXPORT, |file| export.write_archive(file))?;
        for format in self.formats.clone() {
            self.export(format, &export)?;
        }
        self.writer.finish()?;
        Ok(FitResult {
            model: Some(self.folder.path().join(EXPORT)),
            ..result(trained.model, trained.elsewhere, state)?
        })
    }

    /// The trained model in a format besides the `.keras` archive.
    fn export(&mut self, format: ExportFormat, export: &Export<'_>) -> Result<(), Error> {
        match format {
            ExportFormat::Keras => {}
            ExportFormat::WeightsH5 => {
                let weights = export.weights_file()?;
                self.stream(EXPORT_WEIGHTS, |file| weights.write(file).map_err(written))?;
            }
            ExportFormat::H5 => {
                let legacy = export.legacy_file()?;
                self.stream(EXPORT_LEGACY, |file| legacy.write(file).map_err(written))?;
            }
            ExportFormat::Checkpoint => {
                let name = data_file_name(EXPORT_CHECKPOINT, 0, 1);
                let index = self.stream(&name, |file| export.write_checkpoint(file))?;
                self.write(&index_file_name(EXPORT_CHECKPOINT), index)?;
            }
        }
        Ok(())
    }

    /// A file that `make` writes; what it gives.
    fn stream<T>(
        &mut self,
        name: &str,
        make: impl FnOnce(&mut Stream<'_>) -> Result<T, flambeau_keras::Error>,
    ) -> Result<T, Error> {
        let mut stream = Stream::begin(&mut self.writer, name)?;
        let made = make(&mut stream);
        stream.end(made)
    }

    fn write(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let name = name.to_owned();
        self.writer.give(Work::File { name, bytes })
    }

    fn show_summaries(&mut self) -> Result<(), Error> {
        if let Some(summaries) = &mut self.summaries {
            for name in summaries.flush()? {
                self.folder.show(name);
            }
        }
        self.summaries_told = Instant::now();
        Ok(())
    }
}

fn written(source: flambeau_formats::Error) -> flambeau_keras::Error {
    flambeau_keras::Error::Archive {
        action: "written",
        source,
    }
}

/// What any rank can say of a finished fit.
///
/// # Errors
/// As [`digest`].
pub(crate) fn result(
    model: &Model,
    elsewhere: Option<&Reader>,
    state: &State,
) -> Result<FitResult, Error> {
    Ok(FitResult {
        history: History::clone(&state.history),
        epochs: state.epochs,
        steps: state.step,
        rows: state.rows.clone(),
        model: None,
        staleness: BTreeMap::new(),
        digest: digest(model, elsewhere)?,
    })
}

/// SHA-256 over all float32 variables, hexadecimal: those that train and then the others, as
/// little-endian numbers, each in Keras's order. Those that the model has no memory for are `elsewhere`.
///
/// # Errors
/// [`Error::Keras`] for one that is not there either.
fn digest(model: &Model, elsewhere: Option<&Reader>) -> Result<String, Error> {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    let mut add = |values: &[f32]| {
        for values in values.chunks(4096) {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            hash.update(&bytes);
        }
    };
    match elsewhere {
        None => {
            add(model.trainable().as_slice()?);
            add(model.non_trainable().as_slice()?);
        }
        Some(reader) => {
            for path in model.paths() {
                let found = reader.read(path).map_err(written)?;
                add(&found.map_or(Vec::new(), |(_, values)| values));
            }
        }
    }
    let bytes = hash.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
