//! Stopping: the state that the caller, its abort handle and the control thread share.
//!
//! The first cause wins and stays. Setting it wakes everybody at once: the control thread through
//! a `Notify`, a caller in the exit barrier through a `Condvar`, a caller that waits for data by
//! shutting its sockets down and ringing the doorbell of its inbox.

use std::collections::VecDeque;
use std::fmt;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::engine::operation::name_of;
use crate::error::{Error, Scene};
use crate::failure::cause::Cause;
use crate::failure::kin::Kin;
use crate::membership::job::Job;
use crate::transport::frame::Kind;
use crate::transport::inbox::Inbox;

/// Warnings that wait for a caller who may never ask for them.
const WARNINGS: usize = 8;

/// Why a rank gives up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortReason {
    /// Whether the same input would fail in the same way again, so that a retry is pointless.
    pub deterministic: bool,
    /// What happened, for a person; peers receive the first 4 KiB.
    pub message: String,
}

/// Stops one communicator, before, while or after it connects, from any thread. Make a new handle
/// for each communicator.
#[derive(Clone)]
pub struct AbortHandle {
    pub(crate) shared: Arc<Shared>,
}

impl AbortHandle {
    /// A handle for a communicator yet to be connected.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::default(),
        }
    }

    /// Wakes every blocked call of the communicator, which then returns
    /// [`Error::Aborted`](crate::Error::Aborted), and tells all peers the reason, unless the
    /// communicator failed before.
    pub fn abort(&self, mut reason: AbortReason) {
        const LIMIT: usize = 4096;
        if reason.message.len() > LIMIT {
            let boundary = (0..=LIMIT)
                .rev()
                .find(|at| reason.message.is_char_boundary(*at));
            reason.message.truncate(boundary.unwrap_or(0));
        }
        self.shared.fail(Cause::Own(reason));
    }

    /// Fails with the first cause once the communicator has stopped, by this handle or by a failure
    /// anywhere in the job: for a rank that is busy with something of its own, `doing`.
    ///
    /// # Errors
    /// As [`Error`] describes.
    pub fn check(&self, doing: &str) -> Result<(), Error> {
        let (Some(cause), Some(job)) = (self.shared.cause(), self.shared.job.get()) else {
            return Ok(());
        };
        let scene = Scene {
            rank: job.own_name(),
            operation: doing.to_owned(),
            elapsed: job.started.elapsed(),
        };
        Err(cause.into_error(job, Box::new(scene)))
    }

    /// What the user should know of the ranks and has not been told yet, such as who holds the others
    /// up. Rank 0 knows it.
    #[must_use]
    pub fn take_warning(&self) -> Option<String> {
        self.shared.lock().warnings.pop_front()
    }

    /// Whether the communicator has stopped, by this handle or by a failure anywhere in the job.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.shared.cause().is_some()
    }
}

impl Default for AbortHandle {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbortHandle")
            .field("aborted", &self.is_aborted())
            .finish()
    }
}

/// How far a rank has come: the number of operations it has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) operations: u64,
    pub(crate) rank: usize,
}

#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Known once the communicator begins to connect.
    pub(crate) job: OnceLock<Arc<Job>>,
    changed: Condvar,
    notify: Notify,
    stopped: Arc<AtomicBool>,
    /// Who hears of its failure.
    kin: Mutex<Vec<Kin>>,
}

#[derive(Default)]
struct State {
    cause: Option<Cause>,
    sockets: Vec<TcpStream>,
    inbox: Option<Arc<Inbox>>,
    operations: u64,
    /// Which step of its work the caller has begun, if it counts them.
    step: Option<u64>,
    /// Kind and bytes of the operation begun last.
    operation: Option<(Kind, usize)>,
    furthest_behind: Option<Position>,
    leaving: bool,
    left: bool,
    warnings: VecDeque<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        self.lock().cause.clone()
    }

    /// Records `cause` unless there is one already, wakes everybody, and returns the first cause.
    pub(crate) fn fail(&self, cause: Cause) -> Cause {
        let mut others = Vec::new();
        let first = self.record(&cause, &mut others);
        self.wake();
        others.iter().for_each(|other| other.wake());
        first
    }

    /// Takes the cause down, here and wherever it is to be heard of, before anybody is woken: who wakes up
    /// may end another communicator for that. The first cause, and by `others` who has it now, too.
    fn record(&self, cause: &Cause, others: &mut Vec<Arc<Shared>>) -> Cause {
        let mut state = self.lock();
        let is_first = state.cause.is_none();
        let first = state.cause.get_or_insert_with(|| cause.clone()).clone();
        drop(state);
        if is_first {
            let kin = self.kin().clone();
            for other in kin.iter().filter_map(Kin::shared) {
                other.record(&first, others);
                others.push(other);
            }
        }
        first
    }

    fn wake(&self) {
        self.stopped.store(true, Ordering::Release);
        self.lock().cut_off();
        self.changed.notify_all();
        self.notify.notify_one();
    }

    /// Has another communicator hear of the failure of this one, or of that which has been.
    pub(crate) fn tell(&self, kin: Kin) {
        let mut all = self.kin();
        all.retain(Kin::is_there);
        all.push(kin.clone());
        drop(all);
        if let (Some(cause), Some(other)) = (self.cause(), kin.shared()) {
            other.fail(cause);
        }
    }

    fn kin(&self) -> MutexGuard<'_, Vec<Kin>> {
        self.kin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has whoever waits for these sockets or this inbox stop when the communicator fails, or now
    /// if it has.
    pub(crate) fn guard_links(&self, sockets: Vec<TcpStream>, inbox: Option<Arc<Inbox>>) {
        let mut state = self.lock();
        (state.sockets, state.inbox) = (sockets, inbox);
        if state.cause.is_some() {
            state.cut_off();
        }
    }

    /// Lets go of the data links.
    pub(crate) fn release_links(&self) {
        let mut state = self.lock();
        state.sockets.clear();
        state.inbox = None;
    }

    /// Whether the communicator has failed, for those who ask often.
    pub(crate) fn stopped(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stopped)
    }

    /// Waits up to `patience` for a cause to come in from elsewhere.
    pub(crate) fn wait_for_cause(&self, patience: Duration) -> Option<Cause> {
        let deadline = Instant::now() + patience;
        self.wait_until(deadline, |state| state.cause.is_some())
            .cause
            .clone()
    }

    /// Asks to leave and blocks until all ranks do.
    pub(crate) fn leave(&self, patience: Duration) -> Departure {
        self.lock().leaving = true;
        self.notify.notify_one();
        let deadline = Instant::now() + patience;
        let state = self.wait_until(deadline, |state| state.left || state.cause.is_some());
        match &state.cause {
            _ if state.left => Departure::Agreed,
            Some(cause) => Departure::Failed(cause.clone()),
            None => Departure::TimedOut,
        }
    }

    fn wait_until(
        &self,
        deadline: Instant,
        done: impl Fn(&State) -> bool,
    ) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Keeps a warning for the caller; of many, the last ones.
    pub(crate) fn warn(&self, message: String) {
        let mut state = self.lock();
        if state.warnings.len() == WARNINGS {
            state.warnings.pop_front();
        }
        state.warnings.push_back(message);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.lock().leaving
    }

    pub(crate) fn set_left(&self) {
        self.lock().left = true;
        self.changed.notify_all();
    }

    pub(crate) fn begin_operation(&self, kind: Kind, bytes: usize) -> u64 {
        let mut state = self.lock();
        state.operations += 1;
        state.operation = Some((kind, bytes));
        state.operations
    }

    /// The name of operation `number`, as far as this rank knows it.
    pub(crate) fn name_of(&self, number: u64) -> String {
        let state = self.lock();
        match state.operation {
            Some((kind, bytes)) if state.operations == number => name_of(kind, number, bytes),
            _ => format!("operation {number}"),
        }
    }

    pub(crate) fn begin_step(&self, step: u64) {
        self.lock().step = Some(step);
    }

    pub(crate) fn step(&self) -> Option<u64> {
        self.lock().step
    }

    pub(crate) fn operations(&self) -> u64 {
        self.lock().operations
    }

    pub(crate) fn set_furthest_behind(&self, position: Position) {
        self.lock().furthest_behind = Some(position);
    }

    pub(crate) fn furthest_behind(&self) -> Option<Position> {
        self.lock().furthest_behind
    }

    /// Completes when something changed that the control thread acts on. For one waiter only.
    pub(crate) async fn change(&self) {
        self.notify.notified().await;
    }

    /// Completes with the cause once there is one. For one waiter only.
    pub(crate) async fn failure(&self) -> Cause {
        loop {
            if let Some(cause) = self.cause() {
                return cause;
            }
            self.change().await;
        }
    }
}

/// How the exit barrier ended.
pub(crate) enum Departure {
    Agreed,
    Failed(Cause),
    TimedOut,
}

impl State {
    fn cut_off(&self) {
        for socket in &self.sockets {
            // The peer may have closed it before us: then there is nothing left to shut down.
            socket.shutdown(Shutdown::Both).ok();
        }
        if let Some(inbox) = &self.inbox {
            inbox.wake();
        }
    }
}
