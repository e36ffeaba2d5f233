//! An evaluator: a session of one rank that trains nothing, and measures with its rows to validate with
//! the weights that another fit leaves in checkpoints. They are the numbers of a validation within that
//! fit.

use crate::config::FitSession;
use crate::dataset::{self, Dataset};
use crate::error::{DataError, Error};
use crate::event::{Event, FitResult, Logs};
use crate::fit::Intake;
use crate::resume::State;
use crate::session::Channel;
use crate::step::Trainer;
use crate::summaries::Validation;
use crossbeam::channel::Sender;
use flambeau_formats::checkpoint;
use std::time::{Duration, Instant};

/// How long rows are received before anything else is looked at.
const TICK: Duration = Duration::from_secs(1);

/// Receives the rows, and measures checkpoints until no more come.
///
/// # Errors
/// [`DataError::Empty`] without rows to validate with, [`Error::Storage`] for files, those of the
/// intake, of a checkpoint of another model, and of [`Trainer::evaluate`].
pub(crate) fn run(
    trainer: &mut Trainer,
    config: &FitSession,
    rows: &mut Channel,
    events: &Sender<Event>,
) -> Result<FitResult, Error> {
    let mut dataset = Dataset::new(dataset::Settings::of(config));
    while !dataset.fill_validation(rows, Instant::now() + TICK)? {}
    let mut summaries = Validation::new(config.local_dir.clone());
    let mut steps = 0;
    while let Some(path) = rows.next_checkpoint()? {
        let checkpoint = checkpoint::read(&path).map_err(|source| Error::Storage {
            what: "cannot read the checkpoint",
            path,
            source: source.into(),
        })?;
        steps = checkpoint.step;
        if State::of(&checkpoint)?.unfinished.is_some() {
            tell(events, None, steps, Logs::new());
            continue;
        }
        let state = State::restore(&checkpoint, trainer)?;
        let totals = trainer.evaluate(dataset.validation(), || rows.check())?;
        if totals.rows == 0.0 {
            return Err(DataError::Empty { partitions: 1 }.into());
        }
        let epoch = u64::try_from(state.epochs.saturating_sub(1)).unwrap_or_default();
        let iterations = u64::try_from(trainer.optimizer().iterations()).unwrap_or_default();
        summaries.epoch(epoch, iterations, &trainer.logs(&totals, ""))?;
        if let Some(name) = summaries.flush()? {
            let path = config.local_dir.join(&name);
            events.send(Event::File { path, name }).ok();
        }
        let logs = trainer.logs(&totals, "val_");
        tell(events, Some(state.epochs), steps, logs);
    }
    Ok(FitResult::of_another(steps))
}

/// The caller that would listen may have closed the session: then nobody needs it.
fn tell(events: &Sender<Event>, epoch: Option<usize>, step: u64, logs: Logs) {
    events.send(Event::Evaluated { epoch, step, logs }).ok();
}
