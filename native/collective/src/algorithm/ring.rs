//! Collective operations on a ring: every rank sends to the next and receives from the previous.
//!
//! Allreduce cuts the vector into one chunk per rank. With three ranks and chunks a, b, c, where
//! `a01` is the sum of chunk a of ranks 0 and 1:
//!
//! ```text
//!   rank 0 ──> rank 1 ──> rank 2      reduce-scatter: send a chunk, add the one received
//!     ^                     │           step 0   0 sends a0    1 sends b1    2 sends c2
//!     └─────────────────────┘           step 1   0 sends c20   1 sends a01   2 sends b12
//!                                       then     0 holds b120  1 holds c201  2 holds a012
//!                                     allgather: pass the finished chunks round
//!                                       step 0   0 sends b     1 sends c     2 sends a
//!                                       step 1   0 sends a     1 sends b     2 sends c
//! ```
//! Each rank sends `2 (n - 1) / n` of the vector, whatever `n` is. A chunk is summed in one place
//! in ring order and then copied, so the bits are the same on all ranks and in every run.
//!
//! One thread does it all with blocking calls: a round writes one segment at most, then reads one
//! at most. That cannot deadlock. If every rank were stuck writing, each into a full link, the
//! segments in flight would be as many as the rounds that each rank's writes are ahead of the next
//! rank's reads; round the ring those differences add up to one per rank, so some link holds one
//! segment at most, which the kernel takes in full (see `SEGMENT_BYTES`).

use std::ops::Range;

use crate::element::{Element, bytes, bytes_mut};
use crate::topology::chunks::{chunk, segment};
use crate::transport::tcp::{Link, LinkError, Operation, SEGMENT_BYTES};

/// This rank's place on the ring.
pub(crate) struct Ring {
    rank: usize,
    world_size: usize,
    next: Link,
    previous: Link,
    received: Vec<u8>,
}

/// What a rank does with a chunk it receives.
#[derive(Clone, Copy)]
enum Incoming {
    Add,
    Store,
}

impl Ring {
    pub(crate) fn new(rank: usize, world_size: usize, next: Link, previous: Link) -> Self {
        Self {
            rank,
            world_size,
            next,
            previous,
            received: vec![0; SEGMENT_BYTES],
        }
    }

    /// Sums `data` over all ranks. All must give the same length.
    pub(crate) fn allreduce<T: Element>(
        &mut self,
        operation: Operation,
        data: &mut [T],
    ) -> Result<(), LinkError> {
        let (rank, n) = (self.rank, self.world_size);
        let length = data.len();
        let chunk = |index: usize| chunk(length, n, index % n);
        for step in 0..n - 1 {
            let (outgoing, incoming) = (chunk(rank + n - step), chunk(rank + n - step - 1));
            self.exchange(operation, data, (outgoing, incoming), Incoming::Add)?;
        }
        for step in 0..n - 1 {
            let (outgoing, incoming) = (chunk(rank + 1 + n - step), chunk(rank + n - step));
            self.exchange(operation, data, (outgoing, incoming), Incoming::Store)?;
        }
        Ok(())
    }

    /// Gives every rank the block of each, in rank order. Blocks may differ in length.
    pub(crate) fn allgather(
        &mut self,
        operation: Operation,
        block: &[u8],
    ) -> Result<Vec<Vec<u8>>, LinkError> {
        let (rank, n) = (self.rank, self.world_size);
        let mut blocks = vec![Vec::new(); n];
        blocks[rank] = block.to_vec();
        for step in 0..n - 1 {
            let outgoing = (rank + n - step) % n;
            let incoming = (rank + n - step - 1) % n;
            let length = blocks[outgoing].len();
            self.next.send(operation, &wire_length(length))?;
            let expected = receive_length(&mut self.previous, operation)?;
            let mut round = 0;
            loop {
                let out = segment(&(0..length), SEGMENT_BYTES, round);
                let into = segment(&(0..expected), SEGMENT_BYTES, round);
                if out.is_none() && into.is_none() {
                    break;
                }
                if let Some(out) = out {
                    self.next.send(operation, &blocks[outgoing][out])?;
                }
                if let Some(into) = into {
                    // Grows with what arrives, not with what is announced.
                    blocks[incoming].resize(into.end, 0);
                    self.previous
                        .receive(operation, &mut blocks[incoming][into])?;
                }
                round += 1;
            }
        }
        Ok(blocks)
    }

    /// Fills `data` on every rank with that of rank `root`. All must give the same length.
    pub(crate) fn broadcast<T: Element>(
        &mut self,
        operation: Operation,
        root: usize,
        data: &mut [T],
    ) -> Result<(), LinkError> {
        let data = bytes_mut(data);
        let whole = 0..data.len();
        for round in 0.. {
            let Some(piece) = segment(&whole, SEGMENT_BYTES, round) else {
                break;
            };
            self.pass_on(operation, root, &mut data[piece])?;
        }
        Ok(())
    }

    /// Gives every rank the bytes of rank `root`; what others pass in is ignored.
    pub(crate) fn broadcast_bytes(
        &mut self,
        operation: Operation,
        root: usize,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, LinkError> {
        let mut announced = wire_length(data.len());
        self.pass_on(operation, root, &mut announced)?;
        let whole = 0..local_length(announced);
        for round in 0.. {
            let Some(piece) = segment(&whole, SEGMENT_BYTES, round) else {
                break;
            };
            data.resize(
                if self.rank == root {
                    whole.end
                } else {
                    piece.end
                },
                0,
            );
            self.pass_on(operation, root, &mut data[piece])?;
        }
        data.truncate(whole.end);
        Ok(data)
    }

    /// One step: sends a chunk and receives another, segment by segment in turns.
    fn exchange<T: Element>(
        &mut self,
        operation: Operation,
        data: &mut [T],
        (outgoing, incoming): (Range<usize>, Range<usize>),
        then: Incoming,
    ) -> Result<(), LinkError> {
        let size = SEGMENT_BYTES / size_of::<T>();
        for round in 0..outgoing.len().max(incoming.len()).div_ceil(size) {
            if let Some(out) = segment(&outgoing, size, round) {
                self.next.send(operation, bytes(&data[out]))?;
            }
            if let Some(into) = segment(&incoming, size, round) {
                let sums = &mut data[into];
                match then {
                    Incoming::Store => self.previous.receive(operation, bytes_mut(sums))?,
                    Incoming::Add => {
                        let received = &mut self.received[..size_of_val(sums)];
                        self.previous.receive(operation, received)?;
                        T::add(sums, received);
                    }
                }
            }
        }
        Ok(())
    }

    /// One piece on its way from rank `root` along the ring to the rank before it.
    fn pass_on(
        &mut self,
        operation: Operation,
        root: usize,
        piece: &mut [u8],
    ) -> Result<(), LinkError> {
        if self.rank != root {
            self.previous.receive(operation, piece)?;
        }
        if (self.rank + 1) % self.world_size != root {
            self.next.send(operation, piece)?;
        }
        Ok(())
    }
}

fn wire_length(length: usize) -> [u8; 8] {
    (length as u64).to_le_bytes()
}

fn receive_length(link: &mut Link, operation: Operation) -> Result<usize, LinkError> {
    let mut length = [0; 8];
    link.receive(operation, &mut length)?;
    Ok(local_length(length))
}

/// Nothing is allocated for a length before its bytes arrive, so one beyond memory does no harm.
fn local_length(length: [u8; 8]) -> usize {
    usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX)
}
