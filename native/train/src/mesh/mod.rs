//! Ranks that share a model none of them holds as a whole: a mesh of replicas, stages and parts.
//!
//! ```text
//!              stage 0        stage 1
//! replica 0    rank 0   -->   rank 1      values go on, gradients come back
//!                 :              :
//! replica 1    rank 2   -->   rank 3      ranks above each other have the same variables, and add up
//!                                         their gradients
//! ```
//! The first rank of a replica has its rows; it tells the others of a batch, labels and all. A batch
//! is cut into parts that stages work on at the same time, in the order of `schedule`; what they hand each
//! other is in `boundary`. `balance` cuts a model into stages that take about as long.

pub(crate) mod balance;
pub(crate) mod boundary;
pub(crate) mod grid;
pub(crate) mod schedule;

use crate::config;
use crate::error::Error;
use crate::ranks::Parts;
use flambeau_collective::{Communicator, Ticket};
use flambeau_keras::TensorGroup;
use grid::{Grid, Place};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A rank's ways to the others of a mesh.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) grid: Grid,
    pub(crate) place: Place,
    pub(crate) micro_batches: usize,
    pub(crate) schedule: config::Schedule,
    /// The ranks with the same variables.
    pub(crate) alike: Communicator,
    /// The ranks of this replica.
    pub(crate) replica: Communicator,
    /// The ranks that share the weights of this stage, where there are several.
    pub(crate) parts: Option<Arc<Mutex<Parts>>>,
    /// The stage before this one, and the one behind it.
    pub(crate) before: Option<Neighbour>,
    pub(crate) behind: Option<Neighbour>,
}

/// Both ways between two stages. Each has a communicator of its own, so that neither waits for the other.
#[derive(Debug)]
pub(crate) struct Neighbour {
    /// From the earlier stage, rank 0 of both, to the later one.
    down: Communicator,
    up: Communicator,
    sent: VecDeque<Ticket<Vec<u8>>>,
}

/// Whoever panicked with the lock has ended the fit.
pub(crate) fn lock(parts: &Mutex<Parts>) -> MutexGuard<'_, Parts> {
    parts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is sent and not yet taken, at most: more would be memory for a stage that is behind.
const UNDER_WAY: usize = 8;

impl Mesh {
    /// Meets the ranks of each group that this one is in. All ranks of `world` call this.
    ///
    /// # Errors
    /// [`Error::Config`] if they do not fill the mesh, [`Error::Collective`].
    pub(crate) fn connect(world: &Communicator, mesh: &config::Mesh) -> Result<Self, Error> {
        let grid = Grid::new(mesh, world.world_size())?;
        let place = grid.place(world.rank());
        let alike = world.split(
            &format!("stage {} part {}", place.stage, place.part),
            &grid.alike(place),
        )?;
        let replica = format!("replica {}", place.replica);
        let replica = world.split(&replica, &grid.replica(place.replica))?;
        let parts = (grid.parts > 1).then(|| {
            let members = grid.parts(place);
            let parts = world.split(&format!("parts from {}", members[0]), &members)?;
            Ok::<_, Error>(Arc::new(Mutex::new(Parts(parts))))
        });
        // The ends of stages in their order, so that nobody waits in a circle.
        let mut across = |stage: usize| {
            let members = grid.across(place, stage);
            let name = format!("{} to {}", members[0], members[1]);
            Ok::<_, Error>(Neighbour {
                down: world.split(&format!("down {name}"), &members)?,
                up: world.split(&format!("up {name}"), &members)?,
                sent: VecDeque::new(),
            })
        };
        let before = place.stage.checked_sub(1).map(&mut across).transpose()?;
        let behind = (place.stage + 1 < grid.stages).then(|| across(place.stage));
        Ok(Self {
            grid,
            place,
            micro_batches: mesh.micro_batches,
            schedule: mesh.schedule,
            alike,
            replica,
            parts: parts.transpose()?,
            before,
            behind: behind.transpose()?,
        })
    }

    /// Whether this rank has its replica's rows.
    pub(crate) fn has_rows(&self) -> bool {
        self.place.stage == 0 && self.place.part == 0
    }

    /// Whether what this rank has counts: that of the first of those which share a stage's weights.
    pub(crate) fn counts(&self) -> bool {
        self.place.part == 0
    }

    /// The ranks that share this stage's weights, as a pass takes them.
    pub(crate) fn group(&self) -> Option<Arc<Mutex<dyn TensorGroup>>> {
        let parts = self.parts.as_ref()?;
        Some(Arc::clone(parts) as Arc<Mutex<dyn TensorGroup>>)
    }

    /// Whether this rank has a part of the state that goes into a checkpoint.
    pub(crate) fn is_of_the_first_replica(&self) -> bool {
        self.place.replica == 0
    }

    /// Takes leave of all groups, once all ranks have come here.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn close(self) -> Result<(), Error> {
        let neighbours = self.before.into_iter().chain(self.behind);
        for Neighbour { down, up, .. } in neighbours {
            down.close()?;
            up.close()?;
        }
        // Passes that held it, too, are over.
        if let Some(parts) = self.parts.and_then(Arc::into_inner) {
            let parts = parts.into_inner();
            parts.unwrap_or_else(PoisonError::into_inner).0.close()?;
        }
        self.replica.close()?;
        Ok(self.alike.close()?)
    }
}

impl Neighbour {
    /// Sends bytes to the later stage.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn send_down(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        let ticket = self.down.start_broadcast_bytes(0, bytes)?;
        self.keep(ticket)
    }

    /// Sends bytes to the earlier stage.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn send_up(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        let ticket = self.up.start_broadcast_bytes(1, bytes)?;
        self.keep(ticket)
    }

    /// Bytes of the earlier stage.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn receive_from_above(&mut self) -> Result<Vec<u8>, Error> {
        Ok(self.down.broadcast_bytes(0, Vec::new())?)
    }

    /// Bytes of the later stage.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn receive_from_below(&mut self) -> Result<Vec<u8>, Error> {
        Ok(self.up.broadcast_bytes(1, Vec::new())?)
    }

    /// Waits until all that was sent is taken.
    ///
    /// # Errors
    /// [`Error::Collective`].
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        while let Some(ticket) = self.sent.pop_front() {
            ticket.wait()?;
        }
        Ok(())
    }

    fn keep(&mut self, ticket: Ticket<Vec<u8>>) -> Result<(), Error> {
        self.sent.push_back(ticket);
        if self.sent.len() > UNDER_WAY
            && let Some(first) = self.sent.pop_front()
        {
            first.wait()?;
        }
        Ok(())
    }
}
