//! The files that rank 0 leaves: checkpoints, TensorBoard events, the model, the history.
//!
//! Everything is written to a local folder first; the caller is told when a file is whole and
//! moves it to the model directory, wherever that is. A pointer is told after what it points to.

use crate::config::ExportFormat;
use crate::error::Error;
use crate::event::{Event, FitResult, History, Logs};
use crate::resume::State;
use crate::step::Trainer;
use crate::summaries::Summaries;
use crossbeam::channel::Sender;
use flambeau_formats::bundle::{data_file_name, index_file_name};
use flambeau_formats::{checkpoint, pointer};
use flambeau_keras::Model;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two copies of TensorBoard's files, so that it follows a long epoch.
const SUMMARIES_INTERVAL: Duration = Duration::from_secs(30);

/// The exported model's place in the model directory, and those of its other formats.
const EXPORT: &str = "export/model.keras";
const EXPORT_WEIGHTS: &str = "export/model.weights.h5";
const EXPORT_LEGACY: &str = "export/model.h5";
const EXPORT_CHECKPOINT: &str = "export/model.ckpt";

/// Rank 0's files of one fit.
#[derive(Debug)]
pub struct Artifacts {
    directory: PathBuf,
    tell: Sender<Event>,
    /// None for a micro-batch: a stream would leave files without end.
    summaries: Option<Summaries>,
    summaries_told: Instant,
    keep: usize,
    formats: Vec<ExportFormat>,
}

impl Artifacts {
    /// Starts TensorBoard's files in `directory`, if they are `wanted`. The caller is told of no file before the first
    /// epoch is over: a fit that fails on its data leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn start(
        directory: PathBuf,
        keep: usize,
        formats: Vec<ExportFormat>,
        model: &Model,
        wanted: bool,
        tell: Sender<Event>,
    ) -> Result<Self, Error> {
        let start = || Summaries::start(directory.clone(), &model.to_json());
        Ok(Self {
            summaries: wanted.then(start).transpose()?,
            summaries_told: Instant::now(),
            directory,
            tell,
            keep,
            formats,
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

    /// Leaves a checkpoint, moves the pointer to it, and drops the oldest beyond the number kept.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn checkpoint(&mut self, trainer: &Trainer, state: &State) -> Result<(), Error> {
        let checkpoint = state.checkpoint(trainer)?;
        self.write("model.json", trainer.model().to_json().as_bytes())?;
        let committed = pointer::commit(&self.directory, &checkpoint, self.keep)
            .map_err(|error| cannot_write(&self.directory, error))?;
        self.show(checkpoint::file_name(state.step));
        // A copy, since the caller may look only after the pointer has moved on.
        let pointer = self.directory.join(pointer::FILE);
        let path = pointer.with_extension(state.step.to_string());
        std::fs::copy(&pointer, &path).map_err(|error| cannot_write(&path, error))?;
        self.tell(Event::File {
            path,
            name: pointer::FILE.to_owned(),
        });
        for name in committed.superseded {
            self.tell(Event::Remove {
                path: self.directory.join(&name),
                name,
            });
        }
        Ok(())
    }

    /// Leaves the history and the trained model.
    ///
    /// # Errors
    /// [`Error::Storage`] and [`Error::Keras`].
    pub fn finish(mut self, trainer: &Trainer, state: &State) -> Result<FitResult, Error> {
        self.show_summaries()?;
        let history = serde_json::to_vec_pretty(&state.history).map_err(std::io::Error::other);
        let history = history.map_err(|error| cannot_write(&self.directory, error))?;
        self.write("history.json", &history)?;
        let (model, optimizer) = (trainer.model(), trainer.optimizer());
        let mut compile = trainer.objective().compile_config();
        compile["optimizer"] = optimizer.config();
        let archive = model.to_archive(Some(&compile), Some(optimizer))?;
        let path = self.write(EXPORT, &archive)?;
        for format in &self.formats {
            self.export(*format, trainer, &compile)?;
        }
        Ok(FitResult {
            model: Some(path),
            ..result(trainer, state)
        })
    }

    /// The trained model in a format besides the `.keras` archive.
    fn export(
        &self,
        format: ExportFormat,
        trainer: &Trainer,
        compile: &serde_json::Value,
    ) -> Result<(), Error> {
        let (model, optimizer) = (trainer.model(), trainer.optimizer());
        let unwritten = |name: &str, error: flambeau_formats::Error| Error::Storage {
            what: "cannot write",
            path: self.directory.join(name),
            source: error.into(),
        };
        match format {
            ExportFormat::Keras => {}
            ExportFormat::WeightsH5 => {
                let file = model.to_weights_file(Some(optimizer))?.to_bytes();
                let file = file.map_err(|error| unwritten(EXPORT_WEIGHTS, error))?;
                self.write(EXPORT_WEIGHTS, &file)?;
            }
            ExportFormat::H5 => {
                let file = model.to_legacy_file(Some(compile), Some(optimizer))?;
                let file = file.to_bytes();
                let file = file.map_err(|error| unwritten(EXPORT_LEGACY, error))?;
                self.write(EXPORT_LEGACY, &file)?;
            }
            ExportFormat::Checkpoint => {
                let files = model.to_checkpoint()?;
                self.write(&data_file_name(EXPORT_CHECKPOINT, 0, 1), &files.data)?;
                self.write(&index_file_name(EXPORT_CHECKPOINT), &files.index)?;
            }
        }
        Ok(())
    }

    fn show_summaries(&mut self) -> Result<(), Error> {
        if let Some(summaries) = &mut self.summaries {
            for name in summaries.flush()? {
                self.show(name);
            }
        }
        self.summaries_told = Instant::now();
        Ok(())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
        let path = self.directory.join(name);
        let folder = path.parent().unwrap_or(&self.directory);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, bytes))
            .map_err(|error| cannot_write(&path, error))?;
        self.show(name.to_owned());
        Ok(path)
    }

    fn show(&self, name: String) {
        self.tell(Event::File {
            path: self.directory.join(&name),
            name,
        });
    }

    fn tell(&self, event: Event) {
        // A closed session has nobody left to move files for.
        self.tell.send(event).ok();
    }
}

/// What any rank can say of a finished fit.
pub fn result(trainer: &Trainer, state: &State) -> FitResult {
    FitResult {
        history: History::clone(&state.history),
        epochs: state.epochs,
        steps: state.step,
        rows: state.rows.clone(),
        model: None,
        digest: digest(trainer),
    }
}

/// SHA-256 over all variables as little-endian f32, hexadecimal.
fn digest(trainer: &Trainer) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    let model = trainer.model();
    for value in [
        model.trainable().as_slice(),
        model.non_trainable().as_slice(),
    ]
    .concat()
    {
        hash.update(value.to_le_bytes());
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(crate) fn cannot_write(
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Storage {
        what: "cannot write",
        path: path.to_owned(),
        source: error.into(),
    }
}
