//! Operations that run while their caller does something else.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::engine::operation::Operations;
use crate::error::Error;

/// An operation that has been started, and the memory it works on. Dropping it does not stop the
/// operation, which all ranks must go through.
#[must_use = "the data comes back through the ticket"]
pub struct Ticket<B> {
    outcome: mpsc::Receiver<Result<B, Error>>,
    operations: Arc<Operations>,
    started: Instant,
}

impl<B> Ticket<B> {
    /// Blocks until the operation is done and gives its data back. An operation ends by itself when
    /// the job fails or makes no progress, so this does too.
    ///
    /// # Errors
    /// As [`Error`] describes; the data is then gone.
    pub fn wait(self) -> Result<B, Error> {
        self.outcome.recv().unwrap_or_else(|_panicked| {
            Err(Error::Local {
                what: "go on".to_owned(),
                source: io::Error::other("the communication thread ended; see its panic message"),
                scene: self.operations.scene("wait".to_owned(), self.started),
            })
        })
    }
}

impl<B> fmt::Debug for Ticket<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// The thread of a communicator that runs what has been started, in that order. Dropping it waits
/// for all of that to end.
pub(crate) struct Worker {
    work: Option<mpsc::Sender<Work>>,
    unfinished: Arc<Unfinished>,
    operations: Arc<Operations>,
    thread: Option<JoinHandle<()>>,
}

/// How many operations have been started and not ended.
#[derive(Default)]
struct Unfinished {
    count: Mutex<usize>,
    none: Condvar,
}

/// One of them, until dropped.
struct One(Arc<Unfinished>);

impl Worker {
    pub(crate) fn new(operations: &Arc<Operations>) -> io::Result<Self> {
        let (work, to_do) = mpsc::channel::<Work>();
        let thread = thread::Builder::new()
            .name(format!("flambeau-engine-{}", operations.job.rank()))
            .spawn(move || to_do.into_iter().for_each(|work| work()))?;
        Ok(Self {
            work: Some(work),
            unfinished: Arc::default(),
            operations: Arc::clone(operations),
            thread: Some(thread),
        })
    }

    /// Has the thread run `operation` after all that came before it.
    pub(crate) fn start<B: Send + 'static>(
        &self,
        operation: impl FnOnce() -> Result<B, Error> + Send + 'static,
    ) -> Ticket<B> {
        let (sender, outcome) = mpsc::channel();
        let one = One::of(&self.unfinished);
        let work: Work = Box::new(move || {
            let outcome = operation();
            drop(one);
            // Nobody may want it any more.
            sender.send(outcome).ok();
        });
        // If the thread has panicked the ticket finds out, as its sender is dropped here.
        self.work.as_ref().map(|queue| queue.send(work));
        Ticket {
            outcome,
            operations: Arc::clone(&self.operations),
            started: Instant::now(),
        }
    }

    /// Blocks until all that has been started has ended.
    pub(crate) fn wait_until_idle(&self) {
        let count = self.unfinished.count.lock();
        let mut count = count.unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            let waited = self.unfinished.none.wait(count);
            count = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.work = None;
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            log::error!("the communication thread panicked");
        }
    }
}

impl One {
    fn of(unfinished: &Arc<Unfinished>) -> Self {
        *unfinished
            .count
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += 1;
        Self(Arc::clone(unfinished))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.none.notify_all();
    }
}
