//! The batches that a rank trains on, each drawn while the one before it trains.
//!
//! What a batch holds is decided before the step that comes first, so that the ranks can agree in
//! that step whether to go on. Its rows are gathered beside that step where this takes a while: when
//! some are on the disk or there are many bytes.

use crate::batch::{Batch, BatchShape};
use crate::block::Block;
use crate::dataset::{Cursor, Dataset, RowRef};
use crate::error::Error;
use crate::fit::Intake;
use crate::session::panic_message;
use flambeau_libtorch::Uploads;
use std::borrow::Cow;
use std::time::{Duration, Instant};
use tch::Device;

/// How long a rank that is not where the others are waits for rows before it meets them again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Gathering fewer bytes costs less than a thread for it.
const WORTH_A_THREAD: u64 = 1 << 20;

/// A rank's batches.
#[derive(Debug)]
pub struct Batches<'a> {
    dataset: Dataset,
    intake: &'a mut dyn Intake,
    shape: BatchShape,
    /// The pass that `ahead` is of.
    pass: Option<usize>,
    ahead: Option<Batch>,
    /// The way to the GPU that batches are for, if they are.
    uploads: Option<Uploads>,
}

impl<'a> Batches<'a> {
    /// Those that `dataset` draws from the rows of `intake`, in `shape`.
    pub fn new(dataset: Dataset, intake: &'a mut dyn Intake, shape: BatchShape) -> Self {
        Self {
            dataset,
            intake,
            shape,
            pass: None,
            ahead: None,
            uploads: None,
        }
    }

    /// Copies each batch to `device` while the one before it trains.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn on(self, device: Device) -> Result<Self, Error> {
        let uploads = Uploads::to(device)?;
        Ok(Self { uploads, ..self })
    }

    /// Gives up if the caller has cancelled or another rank has failed.
    ///
    /// # Errors
    /// Those of [`Intake::check`].
    pub fn check(&self) -> Result<(), Error> {
        self.intake.check()
    }

    /// Rows left out of the last pass that has ended, on this rank.
    pub fn left_out(&self) -> u64 {
        self.intake.left_out()
    }

    /// Receives all rows to validate with, for a second: whether they are there.
    ///
    /// # Errors
    /// The intake's, and [`Error::Storage`].
    pub fn fill_validation(&mut self) -> Result<bool, Error> {
        let deadline = Instant::now() + PATIENCE;
        self.dataset.fill_validation(self.intake, deadline)
    }

    /// Goes on to where a fit stood, for a second: whether it is there.
    ///
    /// # Errors
    /// The intake's, and [`Error::Storage`].
    pub fn seek(&mut self, to: Cursor) -> Result<bool, Error> {
        let deadline = Instant::now() + PATIENCE;
        self.dataset.seek(to, self.intake, deadline)
    }

    /// Starts pass `pass`, counted from 0, or what [`seek`](Self::seek) has left of it, unless it is
    /// running.
    ///
    /// # Errors
    /// The intake's, [`Error::Storage`], and those of memory that runs out.
    pub fn enter(&mut self, pass: usize) -> Result<(), Error> {
        if self.pass == Some(pass) {
            return Ok(());
        }
        if self.dataset.cursor().passes != pass {
            self.dataset.start_pass(pass);
        }
        self.pass = Some(pass);
        let drawn = self.dataset.draw(self.intake)?;
        let batch = self.shape.gather(&self.dataset, &drawn)?;
        self.ahead = uploaded(batch, self.uploads.as_ref())?;
        self.dataset.release(&drawn);
        Ok(())
    }

    /// Calls `step` with the next batch, which has no rows if the pass is over on this rank, and with
    /// whether another one follows in the pass; that one is got ready meanwhile.
    ///
    /// # Errors
    /// Those of the step, and those of [`enter`](Self::enter).
    pub fn step<T>(
        &mut self,
        step: impl FnOnce(Option<&Batch>, bool) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let batch = self.ahead.take();
        let drawn = self.dataset.draw(self.intake)?;
        let more = !drawn.is_empty();
        if let (Some(batch), Some(uploads)) = (&batch, &self.uploads) {
            batch.arrive(uploads)?;
        }
        let (shape, dataset, uploads) = (&self.shape, &self.dataset, self.uploads.as_ref());
        let gather = || uploaded(shape.gather(dataset, &drawn)?, uploads);
        let (stepped, next) = if self.takes_a_while(batch.as_ref(), &drawn) {
            beside(gather, || step(batch.as_ref(), more))
        } else {
            (step(batch.as_ref(), more), gather())
        };
        // What the ranks have agreed on comes before what only this one met.
        let stepped = stepped?;
        self.ahead = next?;
        self.dataset.release(&drawn);
        Ok(stepped)
    }

    /// What [`Dataset::validation`] gives.
    ///
    /// # Errors
    /// Of each block, [`Error::Storage`].
    pub fn validation(&self) -> impl Iterator<Item = Result<Cow<'_, Block>, Error>> {
        self.dataset.validation()
    }

    /// Batches are about as large as the one before.
    fn takes_a_while(&self, last: Option<&Batch>, drawn: &[RowRef]) -> bool {
        let bytes = last.map_or(0, Batch::bytes);
        bytes >= WORTH_A_THREAD || self.dataset.is_on_disk(drawn)
    }
}

/// A batch on its way to a GPU, if that is where it goes.
fn uploaded(batch: Option<Batch>, uploads: Option<&Uploads>) -> Result<Option<Batch>, Error> {
    match (batch, uploads) {
        (Some(batch), Some(uploads)) => batch.upload(uploads).map(Some),
        (batch, _) => Ok(batch),
    }
}

/// Runs `gather` in a thread of its own while `step` runs in this one.
fn beside<T, G: Send>(
    gather: impl FnOnce() -> Result<G, Error> + Send,
    step: impl FnOnce() -> Result<T, Error>,
) -> (Result<T, Error>, Result<G, Error>) {
    std::thread::scope(|scope| {
        let gathered = scope.spawn(gather);
        let stepped = step();
        let gathered = gathered.join();
        (
            stepped,
            gathered.unwrap_or_else(|panic| Err(Error::Panic(panic_message(panic)))),
        )
    })
}
