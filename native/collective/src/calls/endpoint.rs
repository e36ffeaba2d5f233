//! A rank that calls others, and may be called.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

pub use crate::calls::connection::Answer;
use crate::calls::line::Line;
use crate::calls::serve::{Command, Switchboard};
use crate::config::Config;
use crate::engine::carrier::Carrier;
use crate::error::{Error, Scene};
use crate::failure::abort::{AbortHandle, AbortReason, Shared};
use crate::failure::cause::Cause;
use crate::membership::dial::Place;
use crate::membership::job::Job;
use crate::secret::Secret;

/// What callers do.
#[derive(Debug)]
pub enum Event {
    /// A rank has come, or has come again: then the one before has gone.
    Came {
        /// The rank.
        rank: usize,
        /// Which of its processes.
        incarnation: u64,
    },
    /// A rank wants something.
    Call {
        /// The rank.
        rank: usize,
        /// What it sent.
        body: Vec<u8>,
        /// Takes the answer.
        answer: Answer,
    },
    /// A rank calls no more.
    Gone {
        /// The rank.
        rank: usize,
        /// What it told before it went, or what was seen of it.
        reason: AbortReason,
    },
}

/// A rank's end of all its calls, carried by one thread. Any number may live in one process.
pub struct Endpoint {
    job: Arc<Job>,
    shared: Arc<Shared>,
    commands: Option<UnboundedSender<Command>>,
    events: mpsc::Receiver<Event>,
    carrier: Option<Carrier>,
}

impl Endpoint {
    /// Starts the thread. `incarnation` says which of this rank's processes it is: one that is started
    /// later has a larger number.
    ///
    /// # Errors
    /// Of the configuration, which needs no hosts, or [`Error::Local`].
    pub fn open(
        config: &Config,
        secret: &Secret,
        incarnation: u64,
        abort: &AbortHandle,
    ) -> Result<Self, Error> {
        config.validate()?;
        let job = Arc::new(Job::new(config, secret));
        let shared = Arc::clone(&abort.shared);
        // A handle is of one endpoint: it has not been set before.
        shared.job.set(Arc::clone(&job)).ok();
        let (commands, received) = unbounded_channel();
        let (sender, events) = mpsc::channel();
        let switchboard = Switchboard::new(&job, &shared, incarnation, sender);
        let carrier = Carrier::start(&job, "calls", move || switchboard.run(received))?;
        Ok(Self {
            job,
            shared,
            commands: Some(commands),
            events,
            carrier: Some(carrier),
        })
    }

    /// Takes calls from now on, on the first free port of the range, which it returns.
    ///
    /// # Errors
    /// [`Error::Bind`] if none is free, or the first cause of what has ended this rank.
    pub fn listen(&self) -> Result<u16, Error> {
        let (reply, port) = mpsc::channel();
        self.ask(Command::Listen(reply), &port, "listen")
    }

    /// Finds a rank that listens: on one of `hosts`, at one of `ports`, or of the range where those are
    /// none. Waits for it up to the rendezvous timeout.
    ///
    /// # Errors
    /// [`Error::RendezvousTimeout`], or the first cause of what has ended this rank.
    pub fn connect(
        &self,
        rank: usize,
        hosts: &[String],
        ports: Option<RangeInclusive<u16>>,
    ) -> Result<Line, Error> {
        if rank >= self.job.world_size() || rank == self.job.rank() {
            let what = format!("a line to rank {rank} of {} ranks", self.job.world_size());
            return Err(Error::Config { what });
        }
        let place = Place {
            hosts: hosts.to_vec(),
            ports: ports.unwrap_or(self.job.config.ports()),
        };
        let (reply, line) = mpsc::channel();
        let command = Command::Connect { rank, place, reply };
        self.ask(command, &line, &format!("the search for rank {rank}"))
    }

    /// What a caller has done, waiting for it up to `patience`.
    ///
    /// # Errors
    /// The first cause of what has ended this rank.
    pub fn next(&self, patience: Duration) -> Result<Option<Event>, Error> {
        let started = Instant::now();
        if self.shared.cause().is_none() {
            match self.events.recv_timeout(patience) {
                Ok(event) => return Ok(Some(event)),
                Err(mpsc::RecvTimeoutError::Timeout) if self.shared.cause().is_none() => {
                    return Ok(None);
                }
                Err(_) => {}
            }
        }
        Err(self.failure("waiting for calls", started))
    }

    /// Ends this rank with the failure of one that called it, which all at other ends are told; the
    /// error that it is for this one.
    #[must_use]
    pub fn fail_as(&self, rank: usize, reason: AbortReason) -> Error {
        let started = Instant::now();
        self.shared.fail(Cause::Aborted { rank, reason });
        self.failure("answering calls", started)
    }

    /// Ends it well: what was sent still arrives.
    pub fn close(mut self) {
        self.commands = None;
        self.join();
    }

    fn ask<T>(
        &self,
        command: Command,
        reply: &mpsc::Receiver<Result<T, Error>>,
        doing: &str,
    ) -> Result<T, Error> {
        let started = Instant::now();
        if let Some(commands) = &self.commands {
            // A thread that has ended says why below.
            commands.send(command).ok();
        }
        reply
            .recv()
            .unwrap_or_else(|_ended| Err(self.failure(doing, started)))
    }

    fn failure(&self, doing: &str, started: Instant) -> Error {
        let cause = self.shared.cause().unwrap_or_else(|| {
            let message = "the thread for calls ended; see its panic message".to_owned();
            self.shared.fail(Cause::Own(AbortReason {
                deterministic: true,
                message,
            }))
        });
        let scene = Scene {
            rank: self.job.rank(),
            operation: doing.to_owned(),
            elapsed: started.elapsed(),
        };
        cause.into_error(&self.job, Box::new(scene))
    }

    fn join(&mut self) {
        if let Some(carrier) = self.carrier.take() {
            carrier.join();
        }
    }
}

impl Drop for Endpoint {
    /// Without `close` this is a failure, of which all at the other ends are told.
    fn drop(&mut self) {
        if self.commands.is_some() {
            // Before the commands end, which by themselves would be a good end.
            self.shared.fail(Cause::Own(AbortReason {
                deterministic: false,
                message: "it ended before it was done; its own log says why".to_owned(),
            }));
        }
        self.commands = None;
        self.join();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("rank", &self.job.rank())
            .finish_non_exhaustive()
    }
}
