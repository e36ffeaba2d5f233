//! Sums of vectors that all ranks have mapped: each sums a chunk where it lies, for all or for itself.
//!
//! ```text
//!   vectors of   0      1      2
//!               abc    abc    abc     each tells where its vector begins: then all are whole
//!               A..    A..    A..     0 reads a of all and writes A to all; 1 sums b, 2 sums c
//!               ABC    ABC    ABC     all have done so: a barrier
//! ```
//! A byte is read once and written once for each rank, and nothing is copied on the way. Where each rank
//! is to have its own sums only, they are not written to the others. Sums have the order, and so the bits, of [`Scatter`](crate::algorithm::scatter::Scatter).

use crate::algorithm::choice::World;
use crate::topology::chunks::chunk;
use crate::transport::LinkError;
use crate::transport::frame::Operation;
use crate::transport::links::Links;
use crate::transport::window::Window;
use crate::wire::Plain;

/// With fewer bytes telling each other where they are takes longer than copying them.
pub(crate) const LEAST: usize = 128 << 10;

/// Of a rank whose numbers lie in no window.
const NOWHERE: [u64; 2] = [u64::MAX; 2];

/// A window and its number, which all ranks have given it.
pub(crate) type Numbered<'a> = (u64, &'a Window);

/// Sums `length` elements that begin at `start` of this rank's vector in a window, if those of all
/// ranks lie in one: whether they do. All ranks take part, also one whose numbers lie elsewhere.
/// `gather` says whether all shall have all sums, and not only each its own chunk.
pub(crate) fn sum(
    world: &World,
    links: &mut Links,
    operation: Operation,
    found: Option<(Numbered<'_>, usize)>,
    length: usize,
    gather: bool,
) -> Result<bool, LinkError> {
    let own = found.map_or(NOWHERE, |((number, _), start)| [number, start as u64]);
    let told = world.gather_words(links, operation, own)?;
    let (Some(((_, window), _)), true) = (found, told.iter().all(|[number, _]| *number == own[0]))
    else {
        return Ok(false);
    };
    let starts = told
        .iter()
        .map(|[_, start]| usize::try_from(*start).unwrap_or(usize::MAX));
    let starts: Vec<_> = starts.collect();
    let own = chunk(length, starts.len(), world.rank());
    window.sum(&starts, own, gather);
    world.allreduce::<u8, Plain>(links, operation, &mut [0])?;
    Ok(true)
}
