//! A rank's way to another one that it calls.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::calls::message::Message;
use crate::engine::operation::in_bytes;
use crate::error::{Error, Scene};
use crate::failure::abort::Shared;
use crate::failure::cause::Cause;
use crate::membership::job::Job;
use crate::transport::frame::Kind;

/// How long the thread that serves a connection which has ended may take to say why.
const CAUSE_PATIENCE: Duration = Duration::from_secs(1);

/// What is to be sent over a connection; none at its end.
pub(crate) type Outbox = UnboundedSender<Option<Message>>;

/// Requests of a rank to another, which it answers in whatever order. Once one has failed, all do.
pub struct Line {
    rank: usize,
    outbox: Outbox,
    awaited: Arc<Awaited>,
    begun: AtomicU64,
    job: Arc<Job>,
    shared: Arc<Shared>,
}

/// An answer that is on its way.
#[must_use = "what a call comes to is said by its answer"]
pub struct Reply {
    rank: usize,
    answer: mpsc::Receiver<Vec<u8>>,
    operation: String,
    started: Instant,
    job: Arc<Job>,
    shared: Arc<Shared>,
}

impl Line {
    pub(crate) fn new(
        rank: usize,
        outbox: Outbox,
        awaited: Arc<Awaited>,
        job: Arc<Job>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            rank,
            outbox,
            awaited,
            begun: AtomicU64::new(0),
            job,
            shared,
        }
    }

    /// The rank at its other end.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Sends a request.
    pub fn start(&self, request: Vec<u8>) -> Reply {
        let number = 1 + self.begun.fetch_add(1, Ordering::Relaxed);
        let operation = format!("{} {number} ({})", Kind::Call, in_bytes(request.len()));
        let answer = self.awaited.expect(number);
        let message = Message {
            kind: Kind::Call,
            number,
            body: request,
        };
        // Over a connection that has ended nothing is sent, and nothing is awaited either.
        self.outbox.send(Some(message)).ok();
        Reply {
            rank: self.rank,
            answer,
            operation,
            started: Instant::now(),
            job: Arc::clone(&self.job),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// As [`Reply::wait`].
    pub fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.start(request).wait()
    }
}

impl Reply {
    /// The answer, waited for up to the progress timeout.
    ///
    /// # Errors
    /// As [`Error`] describes: the first cause of what has ended this rank.
    pub fn wait(self) -> Result<Vec<u8>, Error> {
        let patience = self.job.config.progress_timeout();
        let cause = match self.answer.recv_timeout(patience) {
            Ok(answer) => return Ok(answer),
            Err(mpsc::RecvTimeoutError::Timeout) => self.shared.fail(Cause::Stalled {
                rank: self.rank,
                how: format!("waited {:.1} s for its answer", patience.as_secs_f64()),
            }),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let told = self.shared.wait_for_cause(CAUSE_PATIENCE);
                told.unwrap_or_else(|| {
                    self.shared.fail(Cause::Lost {
                        rank: self.rank,
                        how: "its connection ended".to_owned(),
                    })
                })
            }
        };
        let scene = Scene {
            rank: self.job.rank(),
            operation: self.operation,
            elapsed: self.started.elapsed(),
        };
        Err(cause.into_error(&self.job, Box::new(scene)))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("rank", &self.rank).finish()
    }
}

/// The answers that a line waits for, by the number of their calls; none any more once it has ended.
#[derive(Debug)]
pub(crate) struct Awaited(Mutex<Option<HashMap<u64, mpsc::Sender<Vec<u8>>>>>);

impl Awaited {
    pub(crate) fn nothing() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(HashMap::new()))))
    }

    fn expect(&self, number: u64) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel();
        if let Some(awaited) = &mut *self.lock() {
            awaited.insert(number, sender);
        }
        receiver
    }

    /// Hands an answer over; whether it was awaited.
    pub(crate) fn take(&self, number: u64, answer: Vec<u8>) -> bool {
        let sender = self.lock().as_mut().and_then(|all| all.remove(&number));
        // Whoever waited may have given up.
        sender.map(|sender| drop(sender.send(answer))).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, mpsc::Sender<Vec<u8>>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the waiting when the connection's task ends, in whatever way.
#[derive(Debug)]
pub(crate) struct EndOfLine(pub(crate) Arc<Awaited>);

impl Drop for EndOfLine {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}
