//! Steps into epochs: the training loop that every rank runs.

use crate::artifacts::Artifacts;
use crate::batch::Batch;
use crate::config;
use crate::dataset::{Blocks, Dataset};
use crate::error::{DataError, Error};
use crate::event::{Event, Logs};
use crate::progress::Progress;
use crate::resume::State;
use crate::step::{Position, Totals, Trainer};
use crossbeam::channel::Sender;
use std::time::{Duration, Instant};

/// How long a rank that resumes receives rows before it meets the others again.
const FILL: Duration = Duration::from_secs(1);

/// A rank's incoming rows.
pub trait Intake: Blocks {
    /// Gives up with [`Error::Cancelled`] if the caller has cancelled.
    ///
    /// # Errors
    /// Only that.
    fn check_cancelled(&self) -> Result<(), Error>;
}

/// One rank's part of a fit.
#[derive(Debug)]
pub struct FitLoop<'a> {
    /// What is trained.
    pub trainer: &'a mut Trainer,
    /// How.
    pub settings: &'a config::Fit,
    /// Where events go.
    pub events: &'a Sender<Event>,
    /// Rank 0 leaves files.
    pub artifacts: Option<&'a mut Artifacts>,
    /// When the session was opened.
    pub opened: Instant,
}

impl FitLoop<'_> {
    /// Trains from `state` to the last epoch.
    ///
    /// # Errors
    /// [`DataError::Empty`] if no rank has rows, and whatever ends a step, the intake or the
    /// writing of files.
    pub fn run(
        &mut self,
        mut state: State,
        dataset: &mut Dataset,
        intake: &mut dyn Intake,
    ) -> Result<State, Error> {
        let mut progress = Progress::new(self.settings.epochs, self.settings.expected_rows);
        if (1..self.settings.epochs).contains(&state.epochs) {
            self.fill(dataset, intake)?;
        }
        for epoch in state.epochs..self.settings.epochs {
            dataset.start_epoch(epoch);
            progress.start_epoch(epoch + 1);
            let totals = self.epoch(epoch, &mut state, dataset, intake, &mut progress)?;
            let logs = self.validate(&totals, dataset)?;
            state.end_epoch(&logs, totals.row_count());
            if let Some(artifacts) = &mut self.artifacts {
                artifacts.epoch(self.trainer, &state, &logs)?;
                let every = self.settings.checkpoint_every_epochs;
                if state.epochs == self.settings.epochs
                    || (every > 0 && state.epochs.is_multiple_of(every))
                {
                    artifacts.checkpoint(self.trainer, &state)?;
                }
            }
            self.tell(Event::Epoch {
                epoch: state.epochs,
                epochs: self.settings.epochs,
                step: state.step,
                logs,
                rows: totals.row_count(),
                seconds: progress.seconds(),
            });
        }
        Ok(state)
    }

    /// Receives every rank's rows, which an epoch that is not the first starts with. The ranks meet
    /// all the while, so that none waits longer for another than [`FILL`].
    fn fill(&mut self, dataset: &mut Dataset, intake: &mut dyn Intake) -> Result<(), Error> {
        loop {
            intake.check_cancelled()?;
            let complete = dataset.fill(intake, Instant::now() + FILL)?;
            let mut filling = [if complete { 0.0 } else { 1.0 }];
            let communicator = self.trainer.communicator_mut();
            communicator.allreduce_f64(&mut filling)?;
            if filling == [0.0] {
                return Ok(());
            }
        }
    }

    /// All steps of one epoch; the sums over its rows.
    fn epoch(
        &mut self,
        epoch: usize,
        state: &mut State,
        dataset: &mut Dataset,
        intake: &mut dyn Intake,
        progress: &mut Progress,
    ) -> Result<Totals, Error> {
        let mut totals = self.trainer.no_totals();
        let mut steps = 0;
        let mut next = self.draw(dataset, intake)?;
        loop {
            intake.check_cancelled()?;
            // The next batch is drawn first, so that the ranks can agree whether to go on.
            let batch = next.take();
            next = self.draw(dataset, intake)?;
            let at = Position {
                epoch: epoch + 1,
                step: state.step + 1,
            };
            let stepped = self.trainer.step(batch.as_ref(), next.is_some(), at)?;
            if stepped.totals.rows == 0.0 {
                let partitions = self.trainer.communicator_mut().world_size();
                return Err(DataError::Empty { partitions }.into());
            }
            state.step += 1;
            steps += 1;
            totals.add(&stepped.totals);
            if state.step == state.first_step && self.artifacts.is_some() {
                self.tell(Event::Started {
                    seconds: self.opened.elapsed().as_secs_f64(),
                });
            }
            self.report(steps, state, &totals, progress)?;
            if !stepped.more {
                progress.end_epoch(steps);
                return Ok(totals);
            }
        }
    }

    fn draw(&self, dataset: &mut Dataset, intake: &mut dyn Intake) -> Result<Option<Batch>, Error> {
        let rows = dataset.draw(self.settings.batch_size, intake)?;
        let batch = self.trainer.batch_shape().gather(dataset, &rows)?;
        dataset.release(&rows);
        Ok(batch)
    }

    /// Training means of the epoch, and validation means where any rank has validation rows.
    fn validate(&mut self, totals: &Totals, dataset: &Dataset) -> Result<Logs, Error> {
        let mut logs = self.trainer.logs(totals, "");
        let validation = self.trainer.evaluate(dataset.validation())?;
        if validation.rows > 0.0 {
            logs.extend(self.trainer.logs(&validation, "val_"));
        }
        Ok(logs)
    }

    /// Rank 0 tells how the epoch goes.
    fn report(
        &mut self,
        steps: u64,
        state: &State,
        totals: &Totals,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let Some(artifacts) = &mut self.artifacts else {
            return Ok(());
        };
        let trainer = &self.trainer;
        let Some(event) = progress.step(steps, totals.row_count(), || trainer.logs(totals, ""))
        else {
            return Ok(());
        };
        if let Event::Step {
            logs,
            rows_per_second,
            ..
        } = &event
        {
            artifacts.step(state.step, logs, *rows_per_second)?;
        }
        self.tell(event);
        Ok(())
    }

    fn tell(&self, event: Event) {
        // The caller that would listen may have closed the session: then nobody needs it.
        self.events.send(event).ok();
    }
}
