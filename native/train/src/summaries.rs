//! What TensorBoard shows of a fit: the event files, tags and steps of Keras's TensorBoard callback.
//!
//! `train/` has a model's layers, `epoch_*` with the learning rate by epochs from 0, and `batch_*`
//! by steps from 1; `validation/` has `epoch_*` and `evaluation_*_vs_iterations`, by the
//! optimizer's iterations. The callback's `batch_*` come every so many steps, if asked for; these
//! come with the progress that is told, beside `rows_per_second`, which is no tag of Keras.

use crate::artifacts::cannot_write;
use crate::error::Error;
use crate::event::Logs;
use crate::resume::State;
use crate::step::Trainer;
use flambeau_formats::events::{EventWriter, file_name};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The event files of one fit.
#[derive(Debug)]
pub(crate) struct Summaries {
    train: EventFile,
    validation: Validation,
}

/// What `validation/` has, from the first validation on.
#[derive(Debug)]
pub(crate) struct Validation {
    directory: PathBuf,
    file: Option<EventFile>,
}

impl Summaries {
    /// Starts the file of the training in `directory`, with the model's JSON.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn start(directory: PathBuf, model: &str) -> Result<Self, Error> {
        let mut train = EventFile::create(&directory, "train", 0)?;
        train.write(|events| events.keras_model(unix_time().as_secs_f64(), model))?;
        Ok(Self {
            train,
            validation: Validation::new(directory),
        })
    }

    /// Takes down how training goes after `step` steps.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn step(
        &mut self,
        step: u64,
        logs: &Logs,
        rows_per_second: f64,
    ) -> Result<(), Error> {
        let train = &mut self.train;
        train.scalars(step, logs, |name| format!("batch_{name}"))?;
        train.scalar(step, "rows_per_second", rows_per_second)
    }

    /// Takes down the epoch that `state` ends with.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn epoch(
        &mut self,
        trainer: &Trainer,
        state: &State,
        logs: &Logs,
    ) -> Result<(), Error> {
        let epoch = state.epochs.saturating_sub(1) as u64;
        let mut validation = Logs::new();
        let mut training = logs.clone();
        training.retain(|name, value| match name.strip_prefix("val_") {
            Some(name) => {
                validation.insert(name.to_owned(), value.take());
                false
            }
            None => true,
        });
        let optimizer = trainer.optimizer();
        let in_epoch = |name: &str| format!("epoch_{name}");
        self.train.scalars(epoch, &training, in_epoch)?;
        let rate = optimizer.learning_rate();
        self.train.scalar(epoch, "epoch_learning_rate", rate)?;
        if validation.is_empty() {
            return Ok(());
        }
        let iterations = u64::try_from(optimizer.iterations()).unwrap_or_default();
        self.validation.epoch(epoch, iterations, &validation)
    }

    /// Flushes the files; their names relative to the directory.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn flush(&mut self) -> Result<Vec<String>, Error> {
        let mut names = vec![self.train.flush()?];
        names.extend(self.validation.flush()?);
        Ok(names)
    }
}

impl Validation {
    /// Its file will be in a folder of `directory`.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            file: None,
        }
    }

    /// Takes down what an epoch, counted from 0, came to on rows to validate with, after so many updates.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn epoch(&mut self, epoch: u64, iterations: u64, logs: &Logs) -> Result<(), Error> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = EventFile::create(&self.directory, "validation", 1)?;
                self.file.insert(file)
            }
        };
        file.scalars(iterations, logs, |name| {
            format!("evaluation_{name}_vs_iterations")
        })?;
        file.scalars(epoch, logs, |name| format!("epoch_{name}"))
    }

    /// Flushes the file, if there is one; its name relative to the directory.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn flush(&mut self) -> Result<Option<String>, Error> {
        self.file.as_mut().map(EventFile::flush).transpose()
    }
}

#[derive(Debug)]
struct EventFile {
    path: PathBuf,
    name: String,
    events: EventWriter<BufWriter<File>>,
}

impl EventFile {
    fn create(directory: &Path, folder: &str, counter: u32) -> Result<Self, Error> {
        let now = unix_time();
        let name = file_name(now.as_secs(), &host(), std::process::id(), counter);
        let name = format!("{folder}/{name}");
        let path = directory.join(&name);
        let file = std::fs::create_dir_all(directory.join(folder))
            .and_then(|()| File::create_new(&path))
            .map_err(|error| cannot_write(&path, error))?;
        let events = EventWriter::new(BufWriter::new(file), now.as_secs_f64())
            .map_err(|error| cannot_write(&path, error))?;
        Ok(Self { path, name, events })
    }

    /// Its name.
    fn flush(&mut self) -> Result<String, Error> {
        self.write(EventWriter::flush)?;
        Ok(self.name.clone())
    }

    /// One value of each log, or one for each class or threshold with a tag of its own.
    fn scalars(
        &mut self,
        step: u64,
        logs: &Logs,
        tag: impl Fn(&str) -> String,
    ) -> Result<(), Error> {
        for (name, value) in logs {
            if let Some(value) = value.as_f64() {
                self.scalar(step, &tag(name), value)?;
            }
            for (at, value) in value.as_array().into_iter().flatten().enumerate() {
                if let Some(value) = value.as_f64() {
                    self.scalar(step, &tag(&format!("{name}_{at}")), value)?;
                }
            }
        }
        Ok(())
    }

    fn scalar(&mut self, step: u64, tag: &str, value: f64) -> Result<(), Error> {
        #[expect(clippy::cast_possible_truncation, reason = "TensorBoard shows float32")]
        let value = value as f32;
        self.write(|events| events.scalar(step, unix_time().as_secs_f64(), tag, value))
    }

    fn write(
        &mut self,
        write: impl FnOnce(&mut EventWriter<BufWriter<File>>) -> flambeau_formats::Result<()>,
    ) -> Result<(), Error> {
        write(&mut self.events).map_err(|error| cannot_write(&self.path, error))
    }
}

fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name.to_owned()
    }
}
