//! What operations run on: the links of a rank, and what it knows of the world.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;

use crate::algorithm::choice::World;
use crate::algorithm::windows;
use crate::engine::vector::Vector;
use crate::failure::abort::Shared;
use crate::membership::job::Job;
use crate::membership::rendezvous::Met;
use crate::transport::LinkError;
use crate::transport::frame::Operation;
use crate::transport::keys::random_token;
use crate::transport::links::Links;
use crate::transport::shared::SharedLink;
use crate::transport::tcp::TcpLink;
use crate::transport::window::{Offer, Window};
use crate::wire::{Bfloat16, Float16, Plain, Wire};

pub(crate) struct DataPlane {
    pub(crate) world: World,
    pub(crate) links: Links,
    windows: Windows,
}

/// The windows of this job's vectors.
#[derive(Default)]
struct Windows {
    /// How many there have been, the same on all ranks.
    made: u64,
    /// Those whose vectors are still there on this rank, by number.
    live: Vec<(u64, Weak<Window>)>,
}

impl Windows {
    /// The window that `data` lies in with its number, and where.
    fn find(&mut self, data: &[f32]) -> Option<(u64, Arc<Window>, usize)> {
        self.live.retain(|(_, window)| window.strong_count() > 0);
        self.live.iter().find_map(|(number, window)| {
            let window = window.upgrade()?;
            let start = window.place_of(data)?;
            Some((*number, window, start))
        })
    }
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
        Ok(Self {
            world,
            links,
            windows: Windows::default(),
        })
    }

    /// A vector of zeros in a window, which all ranks make at the same time; none unless all share
    /// memory and have enough of it.
    pub(crate) fn allocate(
        &mut self,
        operation: Operation,
        length: usize,
    ) -> Result<Option<Vector>, LinkError> {
        if !self.world.shares_memory() || length == 0 {
            return Ok(None);
        }
        let Self { world, links, .. } = self;
        let offer = random_token().and_then(|token| Offer::new(length, token));
        let offer = offer.inspect_err(tell_no_window).ok();
        let own = serde_json::to_vec(&offer.as_ref().map(Offer::address)).unwrap_or_default();
        let told = world.allgather(links, operation, &own)?;
        let told = told
            .iter()
            .map(|address| serde_json::from_slice(address).ok().flatten());
        let addresses: Option<Vec<_>> = told.collect();
        let opened = offer.zip(addresses).and_then(|(offer, addresses)| {
            let others = offer.open(&addresses, world.rank());
            Some((offer, others.inspect_err(tell_no_window).ok()?))
        });
        let done = world.gather_words(links, operation, [opened.is_some().into(), 0])?;
        let Some((offer, others)) = opened.filter(|_| done.iter().all(|[done, _]| *done == 1))
        else {
            return Ok(None);
        };
        let window = Arc::new(offer.accept(others, world.rank()));
        self.windows
            .live
            .push((self.windows.made, Arc::downgrade(&window)));
        self.windows.made += 1;
        Ok(Some(Vector::in_window(window)))
    }

    /// Whether `data` of all ranks lay in a window, where it is summed now; with `gather` for all ranks,
    /// else each its own chunk.
    fn sum_in_windows(
        &mut self,
        operation: Operation,
        data: &[f32],
        gather: bool,
    ) -> Result<bool, LinkError> {
        if self.windows.made == 0 || size_of_val(data) < windows::LEAST {
            return Ok(false);
        }
        let found = self.windows.find(data);
        let found = found
            .as_ref()
            .map(|(number, window, start)| ((*number, &**window), *start));
        let Self { world, links, .. } = self;
        windows::sum(world, links, operation, found, data.len(), gather)
    }

    /// Sums `data` over all ranks, its numbers travelling as `wire` says.
    pub(crate) fn allreduce(
        &mut self,
        operation: Operation,
        data: &mut [f32],
        wire: Wire,
    ) -> Result<(), LinkError> {
        if matches!(wire, Wire::Float32) && self.sum_in_windows(operation, data, true)? {
            return Ok(());
        }
        let Self { world, links, .. } = self;
        match wire {
            Wire::Float32 => world.allreduce::<f32, Plain>(links, operation, data),
            Wire::Bfloat16 => world.allreduce::<f32, Bfloat16>(links, operation, data),
            Wire::Float16 => world.allreduce::<f32, Float16>(links, operation, data),
        }
    }

    /// Sums the chunks of `data` over all ranks, each on one of them.
    pub(crate) fn reduce_scatter(
        &mut self,
        operation: Operation,
        data: &mut [f32],
    ) -> Result<(), LinkError> {
        if self.sum_in_windows(operation, data, false)? {
            return Ok(());
        }
        let Self { world, links, .. } = self;
        world.reduce_scatter(links, operation, data)
    }
}

fn tell_no_window(error: &io::Error) {
    log::debug!("vectors have no memory in common: {error}; they are exchanged by way of rings");
}
