//! One rank among the ranks of a job.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use crate::config::Config;
use crate::engine::carrier::Carrier;
use crate::engine::data_plane::DataPlane;
use crate::engine::operation::{Operations, Plane, lock};
use crate::engine::ticket::{Ticket, Worker};
use crate::engine::vector::Vector;
use crate::error::Error;
use crate::failure::abort::{AbortHandle, AbortReason, Departure, Shared};
use crate::failure::cause::Cause;
use crate::membership::job::Job;
use crate::membership::rendezvous;
use crate::secret::Secret;
use crate::topology::chunks::chunk;
use crate::transport::LinkError;
use crate::transport::frame::{Kind, Operation};
use crate::wire::{Plain, Wire};

/// One rank's end of the collective operations. All ranks must make the same calls in the same
/// order. Every call but those that start something blocks until this rank's part is done, the job fails
/// anywhere, or its deadline passes; after an error every further call returns the same first cause.
pub struct Communicator {
    pub(super) operations: Arc<Operations>,
    plane: Plane,
    /// Once an operation has been started.
    worker: Option<Worker>,
    control: Option<Carrier>,
}

impl Communicator {
    /// Meets the other ranks; blocks until all have come.
    ///
    /// # Errors
    /// Any but `ProgressTimeout`: see [`Error`]. Those of the configuration come at once.
    pub fn connect(config: &Config, secret: &Secret, abort: &AbortHandle) -> Result<Self, Error> {
        config.validate_world()?;
        Self::meet(Job::new(config, secret), &abort.shared)
    }

    /// As [`connect`](Self::connect) to the ranks of `job`.
    pub(super) fn meet(job: Job, shared: &Arc<Shared>) -> Result<Self, Error> {
        let (job, shared) = (Arc::new(job), Arc::clone(shared));
        // A handle is of one communicator: it has not been set before.
        shared.job.set(Arc::clone(&job)).ok();
        let mut communicator = Self {
            operations: Arc::new(Operations { job, shared }),
            plane: Plane::default(),
            worker: None,
            control: None,
        };
        if communicator.world_size() > 1 {
            communicator.open()?;
        }
        Ok(communicator)
    }

    fn open(&mut self) -> Result<(), Error> {
        let Operations { job, shared } = &*self.operations;
        let local = |what: &str, source| Error::Local {
            what: what.to_owned(),
            source,
            scene: job.rendezvous_scene(),
        };
        let (ready, outcome) = mpsc::channel();
        let (job_there, shared_there) = (Arc::clone(job), Arc::clone(shared));
        let serve = move || rendezvous::serve(job_there, shared_there, ready);
        self.control = Some(Carrier::start(job, "control", serve)?);
        let met = outcome.recv().unwrap_or_else(|_ended| {
            let source = io::Error::other("the control thread ended; see its panic message");
            Err(local("meet the other ranks", source))
        })?;
        let plane = DataPlane::new(met, job, shared);
        let plane = plane.map_err(|source| local("set the data links up", source))?;
        *lock(&self.plane) = Some(plane);
        Ok(())
    }

    /// Runs one operation in this thread, after all that have been started.
    fn run<R>(
        &mut self,
        kind: Kind,
        bytes: usize,
        run: impl FnOnce(Option<&mut DataPlane>, Operation) -> Result<R, LinkError>,
    ) -> Result<R, Error> {
        if let Some(worker) = &self.worker {
            worker.wait_until_idle();
        }
        self.operations.run(&self.plane, kind, bytes, run)
    }

    fn worker(&mut self) -> Result<&Worker, Error> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::new(&self.operations).map_err(|source| Error::Local {
                what: "start the communication thread".to_owned(),
                source,
                scene: self.operations.scene("start".to_owned(), Instant::now()),
            })?,
        };
        Ok(self.worker.insert(worker))
    }

    fn check_root(&self, root: usize) -> Result<(), Error> {
        if root < self.world_size() {
            return Ok(());
        }
        let what = format!("root {root} of {} ranks", self.world_size());
        Err(Error::Config { what })
    }

    /// This rank, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.operations.job.rank()
    }

    /// Number of ranks.
    #[must_use]
    pub fn world_size(&self) -> usize {
        self.operations.job.world_size()
    }

    /// A vector of `length` zeros: where all ranks share memory one that the others see, so that its
    /// sums are made without a copy. All ranks call this, with the same length.
    ///
    /// # Errors
    /// As [`Error`] describes; [`Error::Local`] with [`ErrorKind::OutOfMemory`](io::ErrorKind::OutOfMemory)
    /// if there is no memory for it.
    pub fn allocate(&mut self, length: usize) -> Result<Vector, Error> {
        let started = Instant::now();
        let bytes = length.saturating_mul(size_of::<f32>());
        let in_window = self.run(Kind::Allgather, bytes, |plane, operation| match plane {
            Some(plane) => plane.allocate(operation, length),
            None => Ok(None),
        })?;
        let vector = in_window.or_else(|| Vector::zeros(length));
        vector.ok_or_else(|| Error::Local {
            what: format!("get the {bytes} bytes of a vector"),
            source: io::ErrorKind::OutOfMemory.into(),
            scene: self.operations.scene("allocate".to_owned(), started),
        })
    }

    /// Says which step of its work this rank begins: warnings name it beside the operation.
    pub fn begin_step(&self, step: u64) {
        self.operations.shared.begin_step(step);
    }

    /// Replaces `data` by its sum over all ranks, with the same bits on each. All ranks give the
    /// same length, which may be less than the number of ranks.
    ///
    /// # Errors
    /// As [`Error`] describes; `data` is then of no use.
    pub fn allreduce(&mut self, data: &mut [f32]) -> Result<(), Error> {
        self.allreduce_as(data, Wire::Float32)
    }

    /// [`allreduce`](Self::allreduce) with numbers that travel as `wire` says, the same on all ranks.
    /// Sums are made in float32.
    ///
    /// # Errors
    /// As [`Error`] describes; `data` is then of no use.
    pub fn allreduce_as(&mut self, data: &mut [f32], wire: Wire) -> Result<(), Error> {
        self.run(kind_of(wire), size_of_val(data), |plane, operation| {
            plane.map_or(Ok(()), |plane| plane.allreduce(operation, data, wire))
        })
    }

    /// Begins an [`allreduce_as`](Self::allreduce_as) in the communicator's own thread, which owns
    /// `data` until the ticket gives it back. Operations run in the order in which they were started.
    ///
    /// # Errors
    /// [`Error::Local`] if there can be no such thread; what fails later the ticket says.
    pub fn start_allreduce<B>(&mut self, mut data: B, wire: Wire) -> Result<Ticket<B>, Error>
    where
        B: AsMut<[f32]> + Send + 'static,
    {
        let (kind, bytes) = (kind_of(wire), size_of_val(data.as_mut()));
        let (operations, plane) = (Arc::clone(&self.operations), Arc::clone(&self.plane));
        let worker = self.worker()?;
        Ok(worker.start(move || {
            let done = operations.run(&plane, kind, bytes, |plane, operation| {
                plane.map_or(Ok(()), |plane| {
                    plane.allreduce(operation, data.as_mut(), wire)
                })
            });
            done.map(|()| data)
        }))
    }

    /// [`allreduce`](Self::allreduce) in double precision.
    ///
    /// # Errors
    /// As [`Error`] describes; `data` is then of no use.
    pub fn allreduce_f64(&mut self, data: &mut [f64]) -> Result<(), Error> {
        self.run(Kind::AllreduceF64, size_of_val(data), |plane, operation| {
            plane.map_or(Ok(()), |DataPlane { world, links, .. }| {
                world.allreduce::<f64, Plain>(links, operation, data)
            })
        })
    }

    /// The part of each rank, where a vector of `length` elements is divided among them: of about the
    /// same length, in the order of ranks.
    #[must_use]
    pub fn parts(&self, length: usize) -> Vec<Range<usize>> {
        let ranks = self.world_size();
        (0..ranks).map(|rank| chunk(length, ranks, rank)).collect()
    }

    /// Sums `data` over all ranks, of which each keeps its [part](Self::parts): the other elements of
    /// `data` are of no use any more. Sums have the bits of an [`allreduce`](Self::allreduce). All ranks
    /// give the same length.
    ///
    /// # Errors
    /// As [`Error`] describes; `data` is then of no use.
    pub fn reduce_scatter(&mut self, data: &mut [f32]) -> Result<(), Error> {
        self.run(
            Kind::ReduceScatter,
            size_of_val(data),
            |plane, operation| plane.map_or(Ok(()), |plane| plane.reduce_scatter(operation, data)),
        )
    }

    /// Begins a [`reduce_scatter`](Self::reduce_scatter) in the communicator's own thread, as
    /// [`start_allreduce`](Self::start_allreduce) does an allreduce.
    ///
    /// # Errors
    /// [`Error::Local`] if there can be no such thread; what fails later the ticket says.
    pub fn start_reduce_scatter<B>(&mut self, mut data: B) -> Result<Ticket<B>, Error>
    where
        B: AsMut<[f32]> + Send + 'static,
    {
        let bytes = size_of_val(data.as_mut());
        let (operations, plane) = (Arc::clone(&self.operations), Arc::clone(&self.plane));
        let worker = self.worker()?;
        Ok(worker.start(move || {
            let run = |plane: Option<&mut DataPlane>, operation| {
                plane.map_or(Ok(()), |plane| {
                    plane.reduce_scatter(operation, data.as_mut())
                })
            };
            let done = operations.run(&plane, Kind::ReduceScatter, bytes, run);
            done.map(|()| data)
        }))
    }

    /// Fills `data` with the piece of each rank: the elements `pieces[rank]` of its `data`. All ranks
    /// give the same length and the same pieces, which do not overlap.
    ///
    /// # Errors
    /// As [`Error`] describes; `data` is then of no use.
    pub fn gather(&mut self, data: &mut [f32], pieces: &[Range<usize>]) -> Result<(), Error> {
        let inside = |piece: &Range<usize>| data.get(piece.clone()).is_some();
        if pieces.len() != self.world_size() || !pieces.iter().all(inside) {
            let (count, ranks, length) = (pieces.len(), self.world_size(), data.len());
            let what = format!("{count} pieces of {ranks} ranks in {length} elements");
            return Err(Error::Config { what });
        }
        self.run(Kind::Allgather, size_of_val(data), |plane, operation| {
            plane.map_or(Ok(()), |DataPlane { world, links, .. }| {
                world.gather(links, operation, pieces, data)
            })
        })
    }

    /// Replaces `data` by that of rank `root`. All ranks give the same length.
    ///
    /// # Errors
    /// As [`Error`] describes; `data` is then of no use.
    pub fn broadcast(&mut self, root: usize, data: &mut [f32]) -> Result<(), Error> {
        self.check_root(root)?;
        self.run(Kind::Broadcast, size_of_val(data), |plane, operation| {
            plane.map_or(Ok(()), |DataPlane { world, links, .. }| {
                world.broadcast(links, operation, root, data)
            })
        })
    }

    /// Returns the `bytes` of rank `root`; those of the other ranks are ignored.
    ///
    /// # Errors
    /// As [`Error`] describes.
    pub fn broadcast_bytes(&mut self, root: usize, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.check_root(root)?;
        self.run(
            Kind::Broadcast,
            bytes.len(),
            |plane, operation| match plane {
                Some(DataPlane { world, links, .. }) => {
                    world.broadcast_bytes(links, operation, root, bytes)
                }
                None => Ok(bytes),
            },
        )
    }

    /// Begins a [`broadcast_bytes`](Self::broadcast_bytes) in the communicator's own thread, as
    /// [`start_allreduce`](Self::start_allreduce) does an allreduce.
    ///
    /// # Errors
    /// [`Error::Local`] if there can be no such thread; what fails later the ticket says.
    pub fn start_broadcast_bytes(
        &mut self,
        root: usize,
        bytes: Vec<u8>,
    ) -> Result<Ticket<Vec<u8>>, Error> {
        self.check_root(root)?;
        let (operations, plane) = (Arc::clone(&self.operations), Arc::clone(&self.plane));
        let worker = self.worker()?;
        Ok(worker.start(move || {
            let (kind, length) = (Kind::Broadcast, bytes.len());
            operations.run(&plane, kind, length, |plane, operation| match plane {
                Some(DataPlane { world, links, .. }) => {
                    world.broadcast_bytes(links, operation, root, bytes)
                }
                None => Ok(bytes),
            })
        }))
    }

    /// Returns the `bytes` of every rank, in rank order. Lengths may differ.
    ///
    /// # Errors
    /// As [`Error`] describes.
    pub fn allgather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        self.run(
            Kind::Allgather,
            bytes.len(),
            |plane, operation| match plane {
                Some(DataPlane { world, links, .. }) => world.allgather(links, operation, bytes),
                None => Ok(vec![bytes.to_vec()]),
            },
        )
    }

    /// Begins an [`allgather`](Self::allgather) in the communicator's own thread, as
    /// [`start_allreduce`](Self::start_allreduce) does an allreduce.
    ///
    /// # Errors
    /// [`Error::Local`] if there can be no such thread; what fails later the ticket says.
    pub fn start_allgather(&mut self, bytes: Vec<u8>) -> Result<Ticket<Vec<Vec<u8>>>, Error> {
        let (operations, plane) = (Arc::clone(&self.operations), Arc::clone(&self.plane));
        let worker = self.worker()?;
        Ok(worker.start(move || {
            operations.run(
                &plane,
                Kind::Allgather,
                bytes.len(),
                |plane, operation| match plane {
                    Some(DataPlane { world, links, .. }) => {
                        world.allgather(links, operation, &bytes)
                    }
                    None => Ok(vec![bytes.clone()]),
                },
            )
        }))
    }

    /// Returns once all ranks have called it.
    ///
    /// # Errors
    /// As [`Error`] describes.
    pub fn barrier(&mut self) -> Result<(), Error> {
        self.run(Kind::Barrier, 0, |plane, operation| {
            plane.map_or(Ok(()), |DataPlane { world, links, .. }| {
                world.allreduce::<u8, Plain>(links, operation, &mut [0])
            })
        })
    }

    /// Stays until all ranks have called `close`, so that none mistakes the end of another for a
    /// failure, at most for the progress timeout; then takes the connections down.
    ///
    /// # Errors
    /// As [`Error`] describes: a job that failed before all ranks came here has not ended well.
    pub fn close(mut self) -> Result<(), Error> {
        let started = Instant::now();
        self.worker = None;
        let Operations { job, shared } = &*self.operations;
        let cause = if self.control.is_none() {
            shared.cause()
        } else {
            let patience = job.config.progress_timeout();
            match shared.leave(patience) {
                Departure::Agreed => None,
                Departure::Failed(cause) => Some(cause),
                Departure::TimedOut => Some(shared.fail(self.operations.stalled(0, patience))),
            }
        };
        let scene = self.operations.scene("close".to_owned(), started);
        let outcome = cause.map_or(Ok(()), |cause| Err(cause.into_error(job, scene)));
        if outcome.is_ok() {
            self.join_control();
        }
        outcome
    }

    /// The control thread ends by itself, soon after the job has ended or failed.
    fn join_control(&mut self) {
        if let Some(control) = self.control.take() {
            control.join();
        }
    }
}

impl Drop for Communicator {
    /// Without `close` this is a failure, of which the peers are told.
    fn drop(&mut self) {
        let shared = Arc::clone(&self.operations.shared);
        if self.control.is_some() {
            shared.fail(Cause::Own(AbortReason {
                deterministic: false,
                message: "it ended before all ranks were done; its own log says why".to_owned(),
            }));
            self.join_control();
        }
        // Ends what has been started: it hears of the failure, if it has not been done.
        self.worker = None;
        *lock(&self.plane) = None;
        shared.release_links();
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

fn kind_of(wire: Wire) -> Kind {
    match wire {
        Wire::Float32 => Kind::Allreduce,
        Wire::Bfloat16 => Kind::AllreduceBfloat16,
        Wire::Float16 => Kind::AllreduceFloat16,
    }
}
