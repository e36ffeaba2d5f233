//! One operation from its number to its outcome, whichever thread runs it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::data_plane::DataPlane;
use crate::error::{Error, Scene};
use crate::failure::abort::Shared;
use crate::failure::cause::Cause;
use crate::membership::job::Job;
use crate::transport::frame::{Kind, Operation};
use crate::transport::{Fault, LinkError};

/// A broken data connection only shows that a peer is gone or has given up; the control plane knows
/// why. It is given so long to say so before the peer is blamed.
const ROOT_CAUSE_PATIENCE: Duration = Duration::from_secs(1);

/// What operations run on; none in a world of one, which opens no sockets.
pub(crate) type Plane = Arc<Mutex<Option<DataPlane>>>;

pub(crate) fn lock(plane: &Plane) -> MutexGuard<'_, Option<DataPlane>> {
    plane.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The operations of one rank, one at a time.
pub(crate) struct Operations {
    pub(crate) job: Arc<Job>,
    pub(crate) shared: Arc<Shared>,
}

impl Operations {
    /// Runs the next operation, and finds the first cause of its failure.
    pub(crate) fn run<R>(
        &self,
        plane: &Plane,
        kind: Kind,
        bytes: usize,
        run: impl FnOnce(Option<&mut DataPlane>, Operation) -> Result<R, LinkError>,
    ) -> Result<R, Error> {
        let started = Instant::now();
        let mut plane = lock(plane);
        let number = self.shared.begin_operation(kind, bytes);
        let outcome = match self.shared.cause() {
            Some(cause) => Err(cause),
            None => run(plane.as_mut(), Operation { number, kind })
                .map_err(|error| self.first_cause(error)),
        };
        outcome.map_err(|cause| {
            let name = name_of(kind, number, bytes);
            cause.into_error(&self.job, self.scene(name, started))
        })
    }

    fn first_cause(&self, LinkError { rank, fault }: LinkError) -> Cause {
        let name = self.job.name(rank);
        self.shared.fail(match fault {
            Fault::Wrong(what) => Cause::Protocol { rank: name, what },
            Fault::Stalled(waited) => self.stalled(rank, waited),
            Fault::Broken(error) => {
                if let Some(cause) = self.shared.wait_for_cause(ROOT_CAUSE_PATIENCE) {
                    return cause;
                }
                Cause::Lost {
                    rank: name,
                    how: format!("its data connection broke: {error}"),
                }
            }
        })
    }

    /// Blames the rank furthest behind, as far as known, else the one waited for.
    pub(crate) fn stalled(&self, waited_for: usize, waited: Duration) -> Cause {
        let operations = self.shared.operations();
        let behind = self
            .shared
            .furthest_behind()
            .filter(|rank| rank.operations < operations);
        let waited = waited.as_secs_f64();
        match behind {
            Some(behind) => Cause::Stalled {
                rank: self.job.name(behind.rank),
                how: format!(
                    "waited {waited:.1} s for it in operation {operations}, it began {}",
                    behind.operations
                ),
            },
            None => Cause::Stalled {
                rank: self.job.name(waited_for),
                how: format!("waited {waited:.1} s for it"),
            },
        }
    }

    pub(crate) fn scene(&self, operation: String, started: Instant) -> Box<Scene> {
        Box::new(Scene {
            rank: self.job.own_name(),
            operation,
            elapsed: started.elapsed(),
        })
    }
}

/// As in `allreduce 812 (4.2 MB)`.
pub(crate) fn name_of(kind: Kind, number: u64, bytes: usize) -> String {
    format!("{kind} {number} ({})", in_bytes(bytes))
}

pub(crate) fn in_bytes(count: usize) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}
