//! Links between two ranks, whatever carries them, and what goes wrong with them.

pub(crate) mod byte_ring;
pub(crate) mod frame;
pub(crate) mod inbox;
pub(crate) mod keys;
pub(crate) mod links;
pub(crate) mod memory;
pub(crate) mod seal;
pub(crate) mod shared;
pub(crate) mod stream;
pub(crate) mod tcp;
pub(crate) mod wait;
pub(crate) mod window;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::transport::frame::Head;

/// How far a call came that never waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The whole frame has left the caller's memory, or has come.
    Done,
    /// Part of it.
    Some,
    /// Nothing: the link is full or empty.
    Nothing,
}

/// Both directions between this rank and one other. No call waits, so that one thread can serve
/// many links in both directions at once.
pub(crate) trait Link: Send {
    /// Begins to send a frame, or goes on: a caller repeats the same arguments until it is done.
    fn try_send(&mut self, head: &Head, payload: &[u8]) -> Result<Progress, Fault>;

    /// Looks whether the frame that is due has come; one that differs is an error. Once done, it is
    /// done again until [`release`](Self::release).
    fn try_receive(&mut self, due: &Head) -> Result<Progress, Fault>;

    /// [`try_receive`](Self::try_receive), with a place for the payload, which may be filled before
    /// anything is checked: only when this is done is it what was sent, and the frame released. A
    /// frame that `try_receive` has begun to take is copied; one begun here is repeated here.
    fn try_store(&mut self, due: &Head, into: &mut [u8]) -> Result<Progress, Fault>;

    /// The payload of the frame that has come, where it lies in the transport's own memory: the
    /// second piece follows the first, and no number is split between them.
    fn payload(&self) -> [&[u8]; 2];

    /// Has done with the frame that has come.
    fn release(&mut self);

    /// The most payload bytes of a frame, the same at both ends.
    fn segment_bytes(&self) -> usize;

    /// What to wait on, unless the link rings the doorbell of this rank's inbox.
    fn socket(&self) -> Option<BorrowedFd<'_>>;
}

/// [`Link::try_store`] by way of the link's own memory.
pub(crate) fn store_copy(
    link: &mut dyn Link,
    due: &Head,
    into: &mut [u8],
) -> Result<Progress, Fault> {
    let progress = link.try_receive(due)?;
    if progress == Progress::Done {
        let [front, back] = link.payload();
        let (first, second) = into.split_at_mut(front.len().min(into.len()));
        first.copy_from_slice(front);
        second.copy_from_slice(back);
        link.release();
    }
    Ok(progress)
}

/// What went wrong with the link to a rank.
#[derive(Debug)]
pub(crate) struct LinkError {
    pub(crate) rank: usize,
    pub(crate) fault: Fault,
}

#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection ended, or the job did.
    Broken(io::Error),
    /// No byte moved for so long.
    Stalled(Duration),
    /// A frame came that is not the one due, or is damaged.
    Wrong(String),
}
