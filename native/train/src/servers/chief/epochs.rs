//! What server 0 makes of what workers bring: epochs, the files of the fit, its result.

use super::{Chief, TICK};
use crate::error::{DataError, Error};
use crate::event::{Event, FitResult};
use crate::servers::message::{Leave, Packed, Request, unpack};
use crate::servers::parts::{self, Held};
use crate::servers::plan::Stretch;
use crate::soundness;
use flambeau_collective::{self as collective, Endpoint};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long workers that train no more may take to hear that they may end.
const PATIENCE: Duration = Duration::from_secs(10);

impl Chief<'_> {
    /// Brings what all servers hold into the trainer, piece by piece. Where workers push meanwhile, those
    /// that come late have a few updates more.
    pub(super) fn gather(&mut self) -> Result<(), Error> {
        let step = self.state.step;
        for rank in 1..self.plans.len() {
            for piece in pieces(&self.plans[rank]) {
                let request = Request::Gather {
                    step,
                    variable: piece.variable,
                    elements: piece.elements,
                };
                let request = Packed::new(&request)?.into_bytes();
                let line = self.seats.get(&rank).map(|(_, line)| line);
                let answer = line.map(|line| line.call(request)).transpose()?;
                answer.map_or(Ok(()), |answer| self.take_part(&answer))?;
            }
        }
        // Its counts are those of the fit.
        for piece in pieces(&self.plans[0]) {
            let own = self.shard.pack(&piece)?;
            self.take_part(&own)?;
        }
        Ok(())
    }

    fn take_part(&mut self, message: &[u8]) -> Result<(), Error> {
        let (model, optimizer) = self.trainer.parts_mut();
        let store = model.trainable_mut();
        let stretches = Stretch::whole(store.variables());
        let mut whole = Held {
            stretches: &stretches,
            store,
            optimizer,
        };
        parts::store(message, &mut whole).map(|_| ())
    }

    pub(super) fn end_epoch(&mut self) -> Result<(), Error> {
        let epoch = self.state.epochs;
        self.gather()?;
        soundness::check(&mut self.trainer, self.state.step)?;
        let nothing = || self.trainer.no_totals();
        let sums = self.tally.epoch(epoch, nothing).clone();
        let totals = &sums.training.totals;
        if epoch == 0 && totals.rows == 0.0 && self.roster.missing().is_empty() {
            return Err(self.without_rows().into());
        }
        if epoch == 0 && sums.left_out > 0 {
            let message = format!(
                "{} rows are left out of training and validation: they hold nulls or damaged images, \
                 and nullPolicy is drop",
                sums.left_out
            );
            self.tell(Event::Warning { message });
        }
        let logs = sums.logs(&self.trainer);
        self.state.end_epoch(&logs, totals.row_count());
        self.artifacts.epoch(&self.trainer, &self.state, &logs)?;
        let every = self.config.fit.checkpoint_every_epochs;
        if every > 0 && self.state.epochs.is_multiple_of(every) {
            self.checkpoint()?;
        }
        self.tell(Event::Epoch {
            epoch: self.state.epochs,
            epochs: self.config.fit.epochs,
            step: self.state.step,
            logs,
            rows: totals.row_count(),
            seconds: self.progress.seconds(),
        });
        self.progress.end_epoch(sums.training.steps);
        let begun = self.tally.epochs.get(self.state.epochs);
        let before = begun.map_or(0, |sums| sums.training.steps);
        self.progress.start_epoch(self.state.epochs + 1, before);
        Ok(())
    }

    fn without_rows(&self) -> DataError {
        let partitions = self.tally.workers.len();
        if self.config.fit.drop_remainder {
            let batch_size = self.config.fit.batch_size_of(0, partitions);
            DataError::NoWholeBatch {
                partitions,
                batch_size,
            }
        } else {
            DataError::Empty { partitions }
        }
    }

    /// Leaves a checkpoint of what has been gathered, where there is a place for it.
    pub(super) fn checkpoint(&mut self) -> Result<(), Error> {
        self.tally.workers = self.roster.progress();
        self.state.tally = Some(self.tally.clone());
        if self.config.model_dir {
            self.artifacts.checkpoint(&mut self.trainer, &self.state)?;
        }
        Ok(())
    }

    /// Tells how the epoch goes that is not over.
    pub(super) fn report(&mut self) -> Result<(), Error> {
        let Some(sums) = self.tally.epochs.get(self.state.epochs) else {
            return Ok(());
        };
        let trainer = &self.trainer;
        let logs = || trainer.logs(&sums.training.totals, "");
        let told = self.progress.step(&sums.training, self.state.step, logs);
        if let Some(event) = told {
            if let Event::Step {
                logs,
                rows_per_second,
                ..
            } = &event
            {
                self.artifacts
                    .step(self.state.step, logs, *rows_per_second)?;
            }
            self.tell(event);
        }
        Ok(())
    }

    /// All workers are done.
    pub(super) fn finish(mut self) -> Result<FitResult, Error> {
        self.gather()?;
        soundness::check(&mut self.trainer, self.state.step)?;
        self.tell(Event::Staleness {
            updates: self.roster.staleness().clone(),
        });
        self.checkpoint()?;
        self.count_late_rows();
        self.trainer.finalize()?;
        let result = self.artifacts.finish(self.trainer.trained(), &self.state)?;
        let mut replies = Vec::new();
        for (_, line) in self.seats.values() {
            replies.push(line.start(Packed::new(&Request::End)?.into_bytes()));
        }
        // What is lost from now on is no loss.
        let replies = replies.into_iter();
        replies.for_each(|reply| drop(reply.wait()));
        send_home(self.endpoint, self.plans.len(), self.staying)?;
        Ok(FitResult {
            staleness: self.roster.staleness().clone(),
            ..result
        })
    }

    /// What lost workers have trained of an epoch when it was over belongs to it, too.
    fn count_late_rows(&mut self) {
        let ended = std::mem::take(&mut self.state.epochs);
        self.state.history.clear();
        self.state.rows.clear();
        for sums in self.tally.epochs.iter().take(ended) {
            let logs = sums.logs(&self.trainer);
            let rows = sums.training.totals.row_count();
            self.state.end_epoch(&logs, rows);
        }
    }
}

fn pieces(stretches: &[Stretch]) -> Vec<Stretch> {
    stretches.iter().flat_map(Stretch::pieces).collect()
}

/// Lets the workers end that are still `staying`.
fn send_home(
    endpoint: &Endpoint,
    servers: usize,
    mut staying: BTreeSet<usize>,
) -> Result<(), Error> {
    let leave = Packed::new(&Leave { may_go: true })?.into_bytes();
    let deadline = Instant::now() + PATIENCE;
    while !staying.is_empty() && Instant::now() < deadline {
        let Ok(event) = endpoint.next(TICK) else {
            break;
        };
        match event {
            Some(collective::Event::Call { rank, body, answer }) if rank >= servers => {
                if let Ok((Request::Done, _)) = unpack(&body) {
                    staying.remove(&(rank - servers));
                    answer.give(leave.clone());
                }
            }
            Some(collective::Event::Gone { rank, .. }) if rank >= servers => {
                staying.remove(&(rank - servers));
            }
            _ => {}
        }
    }
    Ok(())
}
