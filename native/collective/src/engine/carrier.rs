//! A thread that carries what a rank says to others, with a runtime of its own.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::Error;
use crate::membership::job::Job;

/// After the end of its work such a thread takes a second to tell it, at most.
const PATIENCE: Duration = Duration::from_secs(3);

/// The thread, while it is not waited for.
#[derive(Debug)]
pub(crate) struct Carrier {
    thread: JoinHandle<()>,
    /// Closed when the thread has done its work, well or not.
    ended: mpsc::Receiver<()>,
    role: &'static str,
    rank: usize,
}

impl Carrier {
    /// Starts it, to do what `run` makes.
    ///
    /// # Errors
    /// [`Error::Local`].
    pub(crate) fn start<F: Future<Output = ()>>(
        job: &Job,
        role: &'static str,
        run: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Self, Error> {
        let local = |what: &str, source| Error::Local {
            what: format!("start {what} for {role}"),
            source,
            scene: job.rendezvous_scene(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| local("the runtime", source))?;
        let (ending, ended) = mpsc::channel::<()>();
        let thread = thread::Builder::new()
            .name(job.config.thread_name(role))
            .spawn(move || {
                let _ending = ending;
                runtime.block_on(run());
                // A name look-up may still be under way: it is not worth waiting for.
                runtime.shutdown_background();
            })
            .map_err(|source| local("the thread", source))?;
        Ok(Self {
            thread,
            ended,
            role,
            rank: job.rank(),
        })
    }

    /// Waits for its end. One that does not end is left to itself: it holds nothing that anybody waits for.
    pub(crate) fn join(self) {
        let Self { role, rank, .. } = self;
        if self.ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            log::error!("the thread for {role} of rank {rank} does not end");
        } else if self.thread.join().is_err() {
            log::error!("the thread for {role} of rank {rank} panicked");
        }
    }
}
