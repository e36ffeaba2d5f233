//! Allreduce of small vectors in one round: everybody sends all it has to everybody.
//!
//! ```text
//!   0 ─ a0 ─> 1, 2     1 ─ a1 ─> 0, 2     2 ─ a2 ─> 0, 1     then each adds a0 + a1 + a2
//! ```
//! Each sends `n - 1` times the vector, but nobody waits twice. All add in the order of ranks.

use crate::algorithm::gather::Gather;
use crate::algorithm::pipeline::run;
use crate::element::{Element, bytes};
use crate::transport::LinkError;
use crate::transport::links::Links;
use crate::wire::Encoding;

/// Sums `data` over `members`, of which this rank is the one at `place`; all have links to all.
pub(crate) fn allreduce<T: Element, E: Encoding<T>>(
    links: &mut Links,
    (members, place): (&[usize], usize),
    data: &mut [T],
) -> Result<(), LinkError> {
    let length = data.len();
    let mut all = vec![T::default(); members.len() * length];
    let pieces: Vec<_> = (0..members.len())
        .map(|place| place * length..(place + 1) * length)
        .collect();
    all[pieces[place].clone()].copy_from_slice(data);
    let gather = Gather {
        members,
        place,
        pieces: &pieces,
        mesh: true,
    };
    run::<T, E>(links, &gather, &mut all)?;
    data.copy_from_slice(&all[..length]);
    for piece in pieces.into_iter().skip(1) {
        T::add(data, bytes(&all[piece]));
    }
    Ok(())
}
