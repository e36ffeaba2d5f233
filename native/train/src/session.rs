//! One rank's fit, with a thread of its own: the caller feeds record batches in and takes events
//! out, and may cancel or close from any thread.
//!
//! ```text
//! caller: feed --decode--> [blocks, at most ROOM] --> trainer thread --> [events] --> poll
//! ```
//!
//! A fault in the rows is handed to the trainer thread, which meets the other ranks first and then
//! tells them, so that every rank ends with the same cause; the caller sees it at its next call.

mod intake;
mod trainer_thread;

use crate::columns::Decoder;
use crate::config::{self, Columns, FitSession, ModelFiles, Strategy};
pub use crate::dataset::Stream;
use crate::error::Error;
use crate::event::Event;
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use flambeau_collective::{AbortHandle, AbortReason, Secret};
use flambeau_formats::checkpoint::Checkpoint;
use flambeau_libtorch::KeptMemory;
pub(crate) use intake::Channel;
use intake::Message;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
pub use trainer_thread::panic_message;
use trainer_thread::{Caller, Setup};
pub(crate) use trainer_thread::{guarded, tell};

/// Blocks that may wait for the trainer thread. More would only hide a slow trainer.
const ROOM: usize = 8;

/// Bytes of a block above which it takes the room of several: a few encoded images are many pixels.
const ROOM_BYTES: usize = 8 << 20;

/// How long the end of the trainer thread is waited for. What it cannot be interrupted in is at most one
/// operation of libtorch.
const PATIENCE: Duration = Duration::from_secs(10);

/// One rank's running fit.
#[derive(Debug)]
pub struct Fit {
    decoders: Mutex<Decoders>,
    messages: Sender<Message>,
    room: Receiver<Room>,
    events: Receiver<Event>,
    outcome: Arc<Outcome>,
    reached: Arc<OnceLock<Arc<Checkpoint>>>,
    stop: Stop,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Closed when the trainer thread has ended.
    ended: Receiver<()>,
    /// Goes last.
    _memory: KeptMemory,
}

/// The right to feed one batch.
#[derive(Debug)]
pub struct Room(());

/// How the trainer thread ended, once it has.
type Outcome = OnceLock<Result<(), Arc<Error>>>;

/// Ends a fit from outside its thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    cancelled: Arc<AtomicBool>,
    pub(crate) abort: AbortHandle,
    /// Of the second rank that the session may be.
    beside: AbortHandle,
}

impl Stop {
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        for abort in [&self.abort, &self.beside] {
            abort.abort(AbortReason {
                deterministic: false,
                message: "its task was cancelled".to_owned(),
            });
        }
    }

    /// That of the second rank that the session is.
    pub(crate) fn beside(&self) -> Self {
        Self {
            cancelled: Arc::clone(&self.cancelled),
            abort: self.beside.clone(),
            beside: self.abort.clone(),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Gives up if the caller has cancelled or the job has failed anywhere, with the first cause; for
    /// a rank that meets the others only after `doing` what it does.
    pub(crate) fn check(&self, doing: &str) -> Result<(), Error> {
        if self.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(self.abort.check(doing)?)
    }
}

#[derive(Debug)]
struct Decoders {
    training: Decoder,
    validation: Decoder,
    /// Set once rows were refused: the trainer thread has the error and will end with it.
    refused: bool,
}

impl Decoders {
    /// Rows are counted from 0 again.
    fn start_pass(&mut self) {
        self.training.start_pass();
        self.validation.start_pass();
    }
}

impl Fit {
    /// Checks model, settings and columns, and starts the trainer thread, which meets the other
    /// ranks while rows are fed. `kept` is what [`reached`](Self::reached) gave for the attempt before,
    /// or for the micro-batch before where the rows are a stream's.
    ///
    /// # Errors
    /// [`Error::Keras`], [`Error::Config`] and [`Error::Data`] for what can be seen without rows.
    pub fn open(
        config: FitSession,
        schema: &Schema,
        files: ModelFiles<'_>,
        secret: Secret,
        kept: Option<Arc<Checkpoint>>,
    ) -> Result<Self, Error> {
        let memory = KeptMemory::begin();
        let opened = Instant::now();
        let (settings, columns) = (&config.fit, &config.columns);
        let serves = settings.workers_serve();
        let has_all = settings.strategy == Strategy::Sync || config.rank == 0;
        let device = config.device.choose()?;
        let (setup, decoders) = prepare(settings, columns, schema, files, !has_all || serves)?;
        let setup = setup.compute_on(device);
        let server = || Setup::new(settings, columns, files, !has_all);
        let server = serves.then(server).transpose()?;
        let (messages, incoming) = unbounded();
        let (room_made, room) = bounded(ROOM);
        for _ in 0..ROOM {
            room_made.send(Room(())).ok();
        }
        let stop = Stop::default();
        let (tell, events) = unbounded();
        let reached = Arc::new(OnceLock::new());
        let caller = Caller {
            events: tell,
            stop: stop.clone(),
            opened,
            kept,
            reached: Arc::clone(&reached),
        };
        let outcome = Arc::new(Outcome::new());
        let channel = Channel::new(incoming, room_made, stop.clone(), config.fit.reread);
        let (ending, ended) = bounded::<()>(0);
        let thread = {
            let (outcome, stop) = (Arc::clone(&outcome), stop.clone());
            std::thread::Builder::new()
                .name(config.collective.thread_name("trainer"))
                .spawn(move || {
                    let _ending = ending;
                    let run = || setup.run(server, &config, &secret, channel, &caller);
                    let result = trainer_thread::guarded(run, &stop);
                    outcome.set(result.map_err(Arc::new)).ok();
                })
        };
        let thread = thread.map_err(no_thread)?;
        Ok(Self {
            decoders: Mutex::new(decoders),
            messages,
            room,
            events,
            outcome,
            reached,
            stop,
            thread: Mutex::new(Some(thread)),
            ended,
            _memory: memory,
        })
    }

    /// Checks what [`open`](Self::open) checks, and leaves it at that.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn check(
        settings: &config::Fit,
        columns: &Columns,
        schema: &Schema,
        files: ModelFiles<'_>,
    ) -> Result<(), Error> {
        let is_async = settings.strategy == Strategy::Async;
        prepare(settings, columns, schema, files, is_async).map(|_| ())
    }

    /// Waits up to `timeout` for room for a batch; none if there is none yet.
    ///
    /// # Errors
    /// The session's failure.
    pub fn room(&self, timeout: Duration) -> Result<Option<Room>, Arc<Error>> {
        self.failure()?;
        if lock(&self.decoders).refused {
            // Nothing more is taken; the failure comes as soon as all ranks know of it.
            std::thread::sleep(timeout);
            self.failure()?;
            return Ok(None);
        }
        match self.room.recv_timeout(timeout) {
            Ok(room) => Ok(Some(room)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                // A fit that is over takes rows as before and has no more use for them.
                self.wait();
                self.failure().map(|()| Some(Room(())))
            }
        }
    }

    /// Takes the rows of `batch` into our own memory. Bad rows end the fit on every rank; the
    /// error comes from the next call.
    pub fn feed(&self, room: Room, stream: Stream, batch: &RecordBatch) {
        let mut decoders = lock(&self.decoders);
        let decoder = match stream {
            Stream::Training => &mut decoders.training,
            Stream::Validation => &mut decoders.validation,
        };
        let message = match decoder.decode(batch) {
            Ok(block) => {
                let more = self.room.try_iter().take(block.bytes() / ROOM_BYTES);
                let rooms = std::iter::once(room).chain(more).collect();
                Message::Block(stream, block, rooms)
            }
            Err(error) => {
                decoders.refused = true;
                Message::Refused(error)
            }
        };
        // If the trainer thread is gone, its outcome says why.
        self.messages.send(message).ok();
    }

    /// Says that a stream has no more rows. That of rows to train on ends with each pass over them: the
    /// only one, unless the settings say that they come anew in each. The other ends once, with the
    /// first pass at the latest.
    pub fn finish(&self, _room: Room, stream: Stream) {
        let message = match stream {
            Stream::Validation => Message::EndOfValidation,
            Stream::Training => {
                let mut decoders = lock(&self.decoders);
                let left_out = decoders.training.left_out() + decoders.validation.left_out();
                decoders.start_pass();
                Message::End { left_out }
            }
        };
        self.messages.send(message).ok();
    }

    /// Has an evaluator measure the weights of a local checkpoint, behind what it was given before; it
    /// tells [`Event::Evaluated`]. All rows must have come.
    pub fn evaluate(&self, checkpoint: PathBuf) {
        self.messages.send(Message::Checkpoint(checkpoint)).ok();
    }

    /// The next event, waiting up to `timeout` for it.
    ///
    /// # Errors
    /// The session's failure, after the last event before it.
    pub fn poll(&self, timeout: Duration) -> Result<Option<Event>, Arc<Error>> {
        if let Some(message) = self.stop.abort.take_warning() {
            return Ok(Some(Event::Warning { message }));
        }
        match self.events.recv_timeout(timeout) {
            Ok(event) => Ok(Some(event)),
            // A thread that writes to a disk that does not answer may still have something to tell.
            Err(RecvTimeoutError::Timeout) => self.failure().map(|()| None),
            Err(RecvTimeoutError::Disconnected) => {
                self.wait();
                self.failure().map(|()| None)
            }
        }
    }

    /// The state that this process keeps, once there is one: of a stream's micro-batch that is done,
    /// or of a fit that failed and may be tried again.
    pub fn reached(&self) -> Option<Arc<Checkpoint>> {
        self.reached.get().cloned()
    }

    /// Ends the fit early: the trainer thread stops at its next wait or step, and the other ranks
    /// are told.
    pub fn cancel(&self) {
        self.stop.cancel();
    }

    /// Whether the fit has failed, so that any call would say why; from any thread.
    pub fn has_failed(&self) -> bool {
        self.outcome.get().is_some_and(Result::is_err)
    }

    /// Whether the trainer thread has not ended; from any thread.
    pub fn is_busy(&self) -> bool {
        !matches!(self.ended.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// Ends the fit if it still runs, and waits for its thread, but not for long: one that is busy with
    /// something that cannot be interrupted ends by itself when that is done.
    pub fn close(&self) {
        if self.outcome.get().is_none() {
            self.cancel();
        }
        self.wait();
    }

    fn failure(&self) -> Result<(), Arc<Error>> {
        self.outcome.get().cloned().unwrap_or(Ok(()))
    }

    fn wait(&self) {
        if let Some(thread) = lock(&self.thread).take() {
            if self.ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let name = thread.thread().name().unwrap_or_default().to_owned();
                log::error!("{name} is still busy after {PATIENCE:?}: it is left to itself");
                return;
            }
            // The thread catches its own panics, so there is nothing to learn from the result.
            thread.join().ok();
            // The rows went with it.
            flambeau_libtorch::trim_process_heap();
        }
    }
}

impl Drop for Fit {
    fn drop(&mut self) {
        self.close();
    }
}

/// What can be made of model, settings and columns without rows or other ranks.
fn prepare(
    settings: &config::Fit,
    columns: &Columns,
    schema: &Schema,
    files: ModelFiles<'_>,
    rows_elsewhere: bool,
) -> Result<(Setup, Decoders), Error> {
    let setup = Setup::new(settings, columns, files, rows_elsewhere)?;
    let wanted = setup.wanted();
    if columns.labels.is_empty() && columns.outputs.is_empty() {
        return Err(Error::Config("training needs a label column".to_owned()));
    }
    let decoders = Decoders {
        training: Decoder::new(schema, columns, wanted.clone())?,
        validation: Decoder::new(schema, columns, wanted)?,
        refused: false,
    };
    Ok((setup, decoders))
}

pub(crate) fn no_thread(source: std::io::Error) -> Error {
    Error::Storage {
        what: "cannot start a thread beside",
        path: std::env::current_exe().unwrap_or_default(),
        source: source.into(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the mutexes guard is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
