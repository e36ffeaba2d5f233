//! Steps into epochs: the training loop that every rank runs.
//!
//! An epoch is one pass over the data, unless settings count it in steps. The ranks are in the same
//! step of the same pass at all times: a pass is over for all of them when the last one has run out
//! of rows.

use crate::artifacts::Artifacts;
use crate::batches::Batches;
use crate::config;
use crate::dataset::{Blocks, Cursor};
use crate::error::{DataError, Error};
use crate::event::{Event, Logs};
use crate::progress::Progress;
use crate::resume::{State, Unfinished};
use crate::soundness;
use crate::step::{Position, Totals, Trainer};
use crossbeam::channel::Sender;
use std::time::Instant;

/// A rank's incoming rows.
pub trait Intake: Blocks + std::fmt::Debug {
    /// Gives up if the caller has cancelled or another rank has failed.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or the first cause as [`Error::Collective`].
    fn check(&self) -> Result<(), Error>;

    /// Rows that were left out of the last pass that has ended.
    fn left_out(&self) -> u64;
}

/// One rank's part of a fit.
#[derive(Debug)]
pub struct FitLoop<'a> {
    /// What is trained.
    pub trainer: &'a mut Trainer,
    /// On what.
    pub batches: Batches<'a>,
    /// How.
    pub settings: &'a config::Fit,
    /// Where events go.
    pub events: &'a Sender<Event>,
    /// Rank 0 leaves files.
    pub artifacts: Option<&'a mut Artifacts>,
    /// Whether there is a place for checkpoints.
    pub has_model_dir: bool,
    /// When the session was opened.
    pub opened: Instant,
    /// Whether it is no error if there are no rows.
    pub may_be_empty: bool,
    /// Whether the user was told of an epoch cut short.
    pub warned: bool,
    /// Whether all ranks have all their rows to validate with.
    pub validates: bool,
}

impl FitLoop<'_> {
    /// Trains from `state` to the last epoch. Whatever ends it before, `state` is then where the
    /// trainer stands.
    ///
    /// # Errors
    /// [`DataError::Empty`] if no rank has rows, [`DataError::NoWholeBatch`], and whatever ends a
    /// step, the intake or the writing of files.
    pub fn run(&mut self, state: &mut State) -> Result<(), Error> {
        let mut progress = Progress::new(self.settings);
        self.tell(Event::Feed {
            pass: state.cursor.passes,
        });
        if self.settings.is_over(state) {
            return Ok(());
        }
        if let Some(message) = self.trainer.warning_of_embeddings() {
            self.warn(message);
        }
        let cursor = state.cursor;
        if cursor != Cursor::default() {
            self.together(|batches| batches.seek(cursor))?;
        }
        while !self.settings.is_over(state) {
            let before = state.unfinished.as_ref().map_or(0, |epoch| epoch.steps);
            progress.start_epoch(state.epochs + 1, before);
            let Some(totals) = self.epoch(state, &mut progress)? else {
                state.unfinished = None;
                return self.leave_checkpoint(state);
            };
            soundness::check(self.trainer, state.step)?;
            let logs = self.validate(&totals)?;
            state.end_epoch(&logs, totals.row_count());
            if let Some(artifacts) = &mut self.artifacts {
                artifacts.epoch(self.trainer, state, &logs)?;
            }
            let every = self.settings.checkpoint_every_epochs;
            let due = every > 0 && state.epochs.is_multiple_of(every);
            if due || self.settings.is_over(state) {
                self.leave_checkpoint(state)?;
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
        Ok(())
    }

    /// Repeats what takes a rank up to a second until all ranks are done with it. They meet all the
    /// while, so that none waits long for another.
    fn together(
        &mut self,
        mut work: impl FnMut(&mut Batches<'_>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        loop {
            self.batches.check()?;
            let mut busy = [if work(&mut self.batches)? { 0.0 } else { 1.0 }];
            self.trainer.communicator_mut().allreduce_f64(&mut busy)?;
            if busy == [0.0] {
                return Ok(());
            }
        }
    }

    /// The steps of one epoch, or the rest of them; the sums over its rows, or none if there are none
    /// and may be none.
    fn epoch(
        &mut self,
        state: &mut State,
        progress: &mut Progress,
    ) -> Result<Option<Totals>, Error> {
        loop {
            let nothing = || Unfinished::new(self.trainer.no_totals());
            let epoch = state.unfinished.get_or_insert_with(nothing);
            if epoch.trained {
                let epoch = epoch.clone();
                self.end_epoch(state, &epoch, progress);
                return Ok(Some(epoch.totals));
            }
            self.batches.check()?;
            self.batches.enter(state.cursor.passes)?;
            let (trainer, settings) = (&mut *self.trainer, self.settings);
            let apart = trainer.steps_apart() + 1;
            let at = Position {
                epoch: state.epochs + 1,
                step: state.step + apart,
            };
            let is_first = state.step + 1 == state.first_step;
            let meet = settings.meets(epoch.steps + apart, at.step);
            // Taken down at once: what comes after the step may fail.
            let stepped = self.batches.step(|batch, more| {
                let stepped = trainer.step(batch, more, at, meet)?;
                if let Some(stepped) = &stepped
                    && stepped.totals.rows > 0.0
                {
                    state.step(stepped, settings);
                }
                Ok(stepped)
            })?;
            let Some(stepped) = stepped else {
                continue;
            };
            if stepped.totals.rows == 0.0 && self.may_be_empty {
                return Ok(None);
            }
            if stepped.totals.rows == 0.0 {
                return Err(self.without_rows().into());
            }
            if is_first && self.artifacts.is_some() {
                self.tell(Event::Started {
                    seconds: self.opened.elapsed().as_secs_f64(),
                });
            }
            self.report(state, progress)?;
            if !stepped.more {
                self.tell_left_out(state)?;
            }
            self.checkpoint(state)?;
        }
    }

    /// Takes note that an epoch has no more steps, and warns of one that was cut short.
    fn end_epoch(&mut self, state: &State, epoch: &Unfinished, progress: &mut Progress) {
        progress.end_epoch(epoch.steps);
        let wanted = self.settings.steps_per_epoch.unwrap_or(0);
        let cut_short = epoch.steps < wanted && self.settings.max_steps != Some(state.step);
        if cut_short && !self.warned {
            self.warned = true;
            self.warn(format!(
                "epoch {} ends after {} of {wanted} steps, as the rows have run out: set repeat to \
                 go on with the first ones, or lower stepsPerEpoch",
                state.epochs + 1,
                epoch.steps,
            ));
        }
    }

    /// Says how many rows are left out, once the first pass is over.
    fn tell_left_out(&mut self, state: &State) -> Result<(), Error> {
        if state.cursor.passes != 1 {
            return Ok(());
        }
        let mut left_out = [self.batches.left_out() as f64];
        let communicator = self.trainer.communicator_mut();
        communicator.allreduce_f64(&mut left_out)?;
        if left_out[0] > 0.0 {
            let message = format!(
                "{} rows are left out of training and validation: they hold nulls or damaged images, \
                 and nullPolicy is drop",
                left_out[0]
            );
            self.warn(message);
        }
        Ok(())
    }

    /// Tells the user something, once for all ranks.
    fn warn(&self, message: String) {
        if self.artifacts.is_some() {
            self.tell(Event::Warning { message });
        }
    }

    fn without_rows(&mut self) -> DataError {
        let communicator = self.trainer.communicator_mut();
        let partitions = communicator.world_size();
        if self.settings.drop_remainder {
            let rank = communicator.rank();
            let batch_size = self.settings.batch_size_of(rank, partitions);
            DataError::NoWholeBatch {
                partitions,
                batch_size,
            }
        } else {
            DataError::Empty { partitions }
        }
    }

    /// Leaves a checkpoint within an epoch where it is time for one.
    fn checkpoint(&mut self, state: &State) -> Result<(), Error> {
        let every = self.settings.checkpoint_every_steps;
        let goes_on = state
            .unfinished
            .as_ref()
            .is_some_and(|epoch| !epoch.trained);
        if every > 0 && state.step.is_multiple_of(every) && goes_on {
            self.leave_checkpoint(state)?;
        }
        Ok(())
    }

    /// Rank 0 leaves a checkpoint, where there is a place for it. All ranks come here after the same
    /// step, as each may have a part of the state.
    fn leave_checkpoint(&mut self, state: &State) -> Result<(), Error> {
        match &mut self.artifacts {
            _ if !self.has_model_dir => Ok(()),
            Some(artifacts) => artifacts.checkpoint(self.trainer, state),
            None => self.trainer.lend_state(),
        }
    }

    /// Training means of the epoch, and validation means where any rank has validation rows.
    fn validate(&mut self, totals: &Totals) -> Result<Logs, Error> {
        let mut logs = self.trainer.logs(totals, "");
        if !self.validates {
            self.together(|batches| batches.fill_validation())?;
            self.validates = true;
        }
        let batches = &self.batches;
        let check = || batches.check();
        let validation = self.trainer.evaluate(batches.validation(), check)?;
        if validation.rows > 0.0 {
            logs.extend(self.trainer.logs(&validation, "val_"));
        }
        Ok(logs)
    }

    /// Rank 0 tells how the epoch goes.
    fn report(&mut self, state: &State, progress: &mut Progress) -> Result<(), Error> {
        let (Some(artifacts), Some(epoch)) = (&mut self.artifacts, &state.unfinished) else {
            return Ok(());
        };
        let trainer = &self.trainer;
        let logs = || trainer.logs(&epoch.totals, "");
        let Some(event) = progress.step(epoch, state.step, logs) else {
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
