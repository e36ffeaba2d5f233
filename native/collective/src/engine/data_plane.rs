//! What operations run on: the links of a rank, and what it knows of the world.

use std::io;
use std::sync::Arc;
use std::thread;

use crate::algorithm::choice::World;
use crate::failure::abort::Shared;
use crate::membership::job::Job;
use crate::membership::rendezvous::Met;
use crate::transport::LinkError;
use crate::transport::frame::Operation;
use crate::transport::links::Links;
use crate::transport::shared::SharedLink;
use crate::transport::tcp::TcpLink;
use crate::wire::{Bfloat16, Float16, Plain, Wire};

pub(crate) struct DataPlane {
    pub(crate) world: World,
    pub(crate) links: Links,
}

impl DataPlane {
    /// Makes links of what the rendezvous brought, and has `shared` cut them when the job fails.
    pub(crate) fn new(met: Met, job: &Job, shared: &Shared) -> io::Result<Self> {
        let (rank, config) = (job.rank(), &job.config);
        let inbox = met.inbox.map(Arc::new);
        let sockets = met.connections.values().map(|one| one.stream.try_clone());
        shared.guard_links(sockets.collect::<io::Result<_>>()?, inbox.clone());

        let group = met.groups.of(rank);
        // Only a guess at who shares this host's cores, where they share no memory.
        let alike = |host: &&String| **host == config.hosts[rank];
        let on_this_host = group.len().max(config.hosts.iter().filter(alike).count());
        let mut links = Links::new(
            &met.groups,
            inbox.clone(),
            shared.stopped(),
            config.progress_timeout(),
            thread::available_parallelism().is_ok_and(|cores| cores.get() >= on_this_host),
        );
        let place = |rank| group.iter().position(|member| *member == rank).unwrap_or(0);
        for (peer, theirs) in met.inboxes {
            let Some(own) = inbox.clone() else { continue };
            let link = SharedLink::new(own, theirs, (place(rank), place(peer)), group.len());
            links.add(peer, Box::new(link), Some(place(peer)));
        }
        for (peer, connection) in met.connections {
            let dialled = connection.dialled;
            let seals = connection.key.seals(&job.key, config.security, dialled)?;
            let link = TcpLink::new(connection.stream, seals)?;
            links.add(peer, Box::new(link), None);
        }
        let world = World::new(rank, job.world_size(), met.groups);
        Ok(Self { world, links })
    }

    /// Sums `data` over all ranks, its numbers travelling as `wire` says.
    pub(crate) fn allreduce(
        &mut self,
        operation: Operation,
        data: &mut [f32],
        wire: Wire,
    ) -> Result<(), LinkError> {
        let Self { world, links } = self;
        match wire {
            Wire::Float32 => world.allreduce::<f32, Plain>(links, operation, data),
            Wire::Bfloat16 => world.allreduce::<f32, Bfloat16>(links, operation, data),
            Wire::Float16 => world.allreduce::<f32, Float16>(links, operation, data),
        }
    }
}
