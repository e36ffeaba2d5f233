//! One rank among the ranks of a job.

use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::algorithm::choice::World;
use crate::config::Config;
use crate::error::{Error, Scene};
use crate::failure::abort::{AbortHandle, AbortReason, Departure, Shared};
use crate::failure::cause::Cause;
use crate::membership::job::Job;
use crate::membership::rendezvous::{self, Connection, Met};
use crate::secret::Secret;
use crate::transport::frame::{Kind, Operation};
use crate::transport::links::Links;
use crate::transport::shared::SharedLink;
use crate::transport::tcp::TcpLink;
use crate::transport::{Fault, LinkError};

/// A broken data connection only shows that a neighbour is gone or has given up; the control plane
/// knows why. It is given so long to say so before the neighbour is blamed.
const ROOT_CAUSE_PATIENCE: Duration = Duration::from_secs(1);

/// After the end of a job its control thread takes a second to tell it, at most.
const CONTROL_PATIENCE: Duration = Duration::from_secs(3);

/// One rank's end of the collective operations. All ranks must make the same calls in the same
/// order. Every call blocks until this rank's part is done, the job fails anywhere, or its
/// deadline passes; after an error every further call returns the same first cause.
pub struct Communicator {
    job: Arc<Job>,
    shared: Arc<Shared>,
    /// None in a world of one, which opens no sockets.
    data: Option<(World, Links)>,
    control: Option<ControlThread>,
}

struct ControlThread {
    thread: JoinHandle<()>,
    /// Closed when the thread has done its work, well or not.
    ended: mpsc::Receiver<()>,
}

impl Communicator {
    /// Meets the other ranks; blocks until all have come.
    ///
    /// # Errors
    /// Any but `ProgressTimeout`: see [`Error`]. Those of the configuration come at once.
    pub fn connect(config: &Config, secret: &Secret, abort: &AbortHandle) -> Result<Self, Error> {
        config.validate()?;
        let job = Arc::new(Job::new(config, secret));
        let shared = Arc::clone(&abort.shared);
        // A handle is of one communicator: it has not been set before.
        shared.job.set(Arc::clone(&job)).ok();
        let mut communicator = Self {
            job,
            shared,
            data: None,
            control: None,
        };
        if config.world_size > 1 {
            communicator.open()?;
        }
        Ok(communicator)
    }

    fn open(&mut self) -> Result<(), Error> {
        let local = |what: &str, source, job: &Job| Error::Local {
            what: what.to_owned(),
            source,
            scene: job.rendezvous_scene(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| local("start the control plane", source, &self.job))?;
        let (ready, outcome) = mpsc::channel();
        let (ending, ended) = mpsc::channel::<()>();
        let (job, shared) = (Arc::clone(&self.job), Arc::clone(&self.shared));
        let thread = thread::Builder::new()
            .name(format!("flambeau-control-{}", self.job.rank()))
            .spawn(move || {
                let _ending = ending;
                runtime.block_on(rendezvous::serve(job, shared, ready));
                // A name look-up may still be under way: it is not worth waiting for.
                runtime.shutdown_background();
            })
            .map_err(|source| local("start the control thread", source, &self.job))?;
        self.control = Some(ControlThread { thread, ended });
        let met = outcome.recv().unwrap_or_else(|_ended| {
            let source = std::io::Error::other("the control thread ended; see its panic message");
            Err(local("meet the other ranks", source, &self.job))
        })?;
        let data = self.link(met);
        self.data = Some(data.map_err(|source| local("set the data links up", source, &self.job))?);
        Ok(())
    }

    fn link(&self, met: Met) -> io::Result<(World, Links)> {
        let (job, config) = (&self.job, &self.job.config);
        let inbox = met.inbox.map(Arc::new);
        let sockets = met.connections.values().map(|one| one.stream.try_clone());
        self.shared
            .guard_links(sockets.collect::<io::Result<_>>()?, inbox.clone());
        let group = met.groups.of(job.rank());
        // Only a guess at who shares this host's cores, where they do not share memory.
        let named_alike = config
            .hosts
            .iter()
            .filter(|host| **host == config.hosts[job.rank()]);
        let on_this_host = group.len().max(named_alike.count());
        let mut links = Links::new(
            job.world_size(),
            inbox.clone(),
            self.shared.stopped(),
            config.progress_timeout(),
            thread::available_parallelism().is_ok_and(|cores| cores.get() >= on_this_host),
        );
        let place = |rank: usize| group.iter().position(|member| *member == rank).unwrap_or(0);
        if let Some(own) = inbox {
            for (rank, theirs) in met.inboxes {
                let (own, places) = (Arc::clone(&own), (place(job.rank()), place(rank)));
                let link = SharedLink::new(own, theirs, places, group.len());
                links.add(rank, Box::new(link), Some(places.1));
            }
        }
        for (
            rank,
            Connection {
                stream,
                key,
                dialled,
            },
        ) in met.connections
        {
            let (outgoing, incoming) = key.seals(&job.key, config.security, dialled)?;
            links.add(
                rank,
                Box::new(TcpLink::new(stream, outgoing, incoming)?),
                None,
            );
        }
        Ok((World::new(job.rank(), job.world_size(), met.groups), links))
    }

    /// This rank, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.job.rank()
    }

    /// Number of ranks.
    #[must_use]
    pub fn world_size(&self) -> usize {
        self.job.world_size()
    }

    /// Replaces `data` by its sum over all ranks, with the same bits on each. All ranks give the
    /// same length, which may be less than the number of ranks.
    ///
    /// # Errors
    /// As [`Error`] describes; `data` is then of no use.
    pub fn allreduce(&mut self, data: &mut [f32]) -> Result<(), Error> {
        self.operate(
            Kind::Allreduce,
            size_of_val(data),
            |data_plane, operation| {
                data_plane.map_or(Ok(()), |(world, links)| {
                    world.allreduce(links, operation, data)
                })
            },
        )
    }

    /// [`allreduce`](Self::allreduce) in double precision.
    ///
    /// # Errors
    /// As [`Error`] describes; `data` is then of no use.
    pub fn allreduce_f64(&mut self, data: &mut [f64]) -> Result<(), Error> {
        self.operate(
            Kind::AllreduceF64,
            size_of_val(data),
            |data_plane, operation| {
                data_plane.map_or(Ok(()), |(world, links)| {
                    world.allreduce(links, operation, data)
                })
            },
        )
    }

    /// Replaces `data` by that of rank 0. All ranks give the same length.
    ///
    /// # Errors
    /// As [`Error`] describes; `data` is then of no use.
    pub fn broadcast(&mut self, data: &mut [f32]) -> Result<(), Error> {
        self.operate(
            Kind::Broadcast,
            size_of_val(data),
            |data_plane, operation| {
                data_plane.map_or(Ok(()), |(world, links)| {
                    world.broadcast(links, operation, data)
                })
            },
        )
    }

    /// Returns the `bytes` of rank 0; those of the other ranks are ignored.
    ///
    /// # Errors
    /// As [`Error`] describes.
    pub fn broadcast_bytes(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.operate(
            Kind::Broadcast,
            bytes.len(),
            |data_plane, operation| match data_plane {
                Some((world, links)) => world.broadcast_bytes(links, operation, bytes),
                None => Ok(bytes),
            },
        )
    }

    /// Returns the `bytes` of every rank, in rank order. Lengths may differ.
    ///
    /// # Errors
    /// As [`Error`] describes.
    pub fn allgather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        self.operate(
            Kind::Allgather,
            bytes.len(),
            |data_plane, operation| match data_plane {
                Some((world, links)) => world.allgather(links, operation, bytes),
                None => Ok(vec![bytes.to_vec()]),
            },
        )
    }

    /// Stays until all ranks have called `close`, so that none mistakes the end of another for a
    /// failure, at most for the progress timeout; then takes the connections down.
    ///
    /// # Errors
    /// As [`Error`] describes: a job that failed before all ranks came here has not ended well.
    pub fn close(mut self) -> Result<(), Error> {
        let started = Instant::now();
        let scene = || self.scene("close".to_owned(), started);
        if self.data.is_none() {
            let cause = self.shared.cause();
            return cause.map_or(Ok(()), |cause| Err(cause.into_error(&self.job, scene())));
        }
        let patience = self.job.config.progress_timeout();
        let cause = match self.shared.leave(patience) {
            Departure::Agreed => {
                self.join_control();
                return Ok(());
            }
            Departure::Failed(cause) => cause,
            Departure::TimedOut => self.shared.fail(self.stalled(0, patience)),
        };
        Err(cause.into_error(&self.job, scene()))
    }

    /// Runs one operation, and finds the first cause of its failure.
    fn operate<R>(
        &mut self,
        kind: Kind,
        bytes: usize,
        run: impl FnOnce(Option<&mut (World, Links)>, Operation) -> Result<R, LinkError>,
    ) -> Result<R, Error> {
        let started = Instant::now();
        let number = self.shared.begin_operation();
        let failed = match self.shared.cause() {
            Some(cause) => Err(cause),
            None => run(self.data.as_mut(), Operation { number, kind })
                .map_err(|error| self.first_cause(error)),
        };
        failed.map_err(|cause| {
            let name = format!("{kind} {number} ({})", in_bytes(bytes));
            cause.into_error(&self.job, self.scene(name, started))
        })
    }

    fn first_cause(&self, LinkError { rank, fault }: LinkError) -> Cause {
        self.shared.fail(match fault {
            Fault::Wrong(what) => Cause::Protocol { rank, what },
            Fault::Stalled(waited) => self.stalled(rank, waited),
            Fault::Broken(error) => {
                if let Some(cause) = self.shared.wait_for_cause(ROOT_CAUSE_PATIENCE) {
                    return cause;
                }
                Cause::Lost {
                    rank,
                    how: format!("its data connection broke: {error}"),
                }
            }
        })
    }

    /// Blames the rank furthest behind, as far as known, else the one waited for.
    fn stalled(&self, waited_for: usize, waited: Duration) -> Cause {
        let operations = self.shared.operations();
        let behind = self
            .shared
            .furthest_behind()
            .filter(|rank| rank.operations < operations);
        let waited = waited.as_secs_f64();
        match behind {
            Some(behind) => Cause::Stalled {
                rank: behind.rank,
                how: format!(
                    "waited {waited:.1} s for it in operation {operations}, it began {}",
                    behind.operations
                ),
            },
            None => Cause::Stalled {
                rank: waited_for,
                how: format!("waited {waited:.1} s for it"),
            },
        }
    }

    fn scene(&self, operation: String, started: Instant) -> Box<Scene> {
        Box::new(Scene {
            rank: self.rank(),
            operation,
            elapsed: started.elapsed(),
        })
    }

    /// The control thread ends by itself, soon after the job has ended or failed. If it does not it is
    /// left to itself: it holds nothing that anybody waits for.
    fn join_control(&mut self) {
        let Some(ControlThread { thread, ended }) = self.control.take() else {
            return;
        };
        if ended.recv_timeout(CONTROL_PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            log::error!("the control thread of rank {} does not end", self.rank());
        } else if thread.join().is_err() {
            log::error!("the control thread of rank {} panicked", self.rank());
        }
    }
}

impl Drop for Communicator {
    /// Without `close` this is a failure, of which the peers are told.
    fn drop(&mut self) {
        if self.control.is_some() {
            self.shared.fail(Cause::Own(AbortReason {
                deterministic: false,
                message: "it ended before all ranks were done; its own log says why".to_owned(),
            }));
            self.join_control();
        }
        self.data = None;
        self.shared.release_links();
    }
}

impl fmt::Debug for Communicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Communicator")
            .field("rank", &self.rank())
            .field("world_size", &self.world_size())
            .finish_non_exhaustive()
    }
}

fn in_bytes(count: usize) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}
