//! Vectors of the ranks of one host that all of them have mapped, so that each reads and writes those
//! of the others where they lie (MPI's word for it: a window).
//!
//! ```text
//!   0    token, u64: random, proves that this is the memory that a member was told of
//!   64   the member's vector, float32
//! ```
//! The memory itself is that of [`Memory`]: without a name, open only to processes of the same user.

#![expect(unsafe_code, reason = "a member's vector is lent as numbers")]

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::element::{Element, bytes};
use crate::transport::memory::Memory;

const PURPOSE: &str = "window";
const TOKEN: usize = 0;
const VECTOR: usize = 64;

/// Elements that are summed before they are given to the others: few enough to stay in a core's second
/// cache (256 KiB), and many enough that memory is read and written in long runs: a quarter of it takes
/// up to a fifth longer among eight members.
const PIECE: usize = 64 << 10;

/// Where a member's memory is to be found: its process, descriptor and token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address(u32, i32, u64);

/// A member's own memory, which the others have not opened yet.
#[derive(Debug)]
pub(crate) struct Offer {
    memory: Memory,
    file: OwnedFd,
    length: usize,
    token: u64,
}

impl Offer {
    /// Memory for `length` elements, proven by `token`. All of it is taken from the system, so that a
    /// lack of it is an error here.
    pub(crate) fn new(length: usize, token: u64) -> io::Result<Self> {
        let (memory, file) = Memory::create(PURPOSE, size(length))?;
        Memory::reserve(&file, size(length))?;
        memory.word64(TOKEN).store(token, Ordering::Release);
        Ok(Self {
            memory,
            file,
            length,
            token,
        })
    }

    pub(crate) fn address(&self) -> Address {
        Address(std::process::id(), self.file.as_raw_fd(), self.token)
    }

    /// The memory of the other members, this one being at `place` among those at `addresses`.
    pub(crate) fn open(&self, addresses: &[Address], place: usize) -> io::Result<Vec<Memory>> {
        let others = addresses.iter().enumerate().filter(|(at, _)| *at != place);
        let opened = others.map(|(_, &Address(pid, fd, token))| {
            let memory = Memory::open(PURPOSE, (pid, fd), size(self.length))?;
            if memory.word64(TOKEN).load(Ordering::Acquire) != token {
                return Err(io::Error::other("its token is not there"));
            }
            Ok(memory)
        });
        opened.collect()
    }

    /// The window, once all members have opened each other's memory: `others` is what
    /// [`open`](Self::open) gave. Nobody else can open this member's any more.
    pub(crate) fn accept(self, mut others: Vec<Memory>, place: usize) -> Window {
        let length = self.length;
        others.insert(place.min(others.len()), self.memory);
        Window {
            members: others,
            place,
            length,
        }
    }
}

/// The members' vectors, all of one length, as one of them sees them.
pub(crate) struct Window {
    members: Vec<Memory>,
    place: usize,
    length: usize,
}

impl Window {
    /// How many elements a vector has.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// This member's vector.
    pub(crate) fn own(&self) -> NonNull<f32> {
        self.members[self.place].at(VECTOR).cast()
    }

    /// Where `numbers` begin in this member's vector, if they lie in it.
    pub(crate) fn place_of(&self, numbers: &[f32]) -> Option<usize> {
        let distance = numbers
            .as_ptr()
            .addr()
            .checked_sub(self.own().addr().get())?;
        let start = distance / size_of::<f32>();
        let inside = start
            .checked_add(numbers.len())
            .is_some_and(|end| end <= self.length);
        inside.then_some(start)
    }

    /// Sums elements of all members' vectors: those that are `range` after `starts`, of each member one.
    /// With `give` all of them have the sums, else this member. A sum is this member's own element first, then those of
    /// the members before it, in turn.
    ///
    /// Nobody else may read or write these elements meanwhile: of any member's.
    pub(crate) fn sum(&self, starts: &[usize], range: Range<usize>, give: bool) {
        let members = self.members.len();
        let mut start = range.start;
        while start < range.end {
            let piece = start..range.end.min(start + PIECE);
            let Some(own) = self.own_piece(starts[self.place], &piece) else {
                return;
            };
            for distance in 1..members {
                let other = (self.place + members - distance) % members;
                let at = offset(starts[other] + piece.start);
                f32::add(own, self.members[other].bytes(at, size_of_val(own)));
            }
            for (other, memory) in self.members.iter().enumerate() {
                if give && other != self.place {
                    memory.write(offset(starts[other] + piece.start), bytes(own));
                }
            }
            start = piece.end;
        }
    }

    /// None beyond the end.
    #[expect(clippy::mut_from_ref, reason = "the memory is not this window's alone")]
    fn own_piece(&self, start: usize, piece: &Range<usize>) -> Option<&mut [f32]> {
        if start + piece.end > self.length {
            return None;
        }
        // SAFETY: inside the vector, which lies in the mapping at a multiple of 64. Whoever owns the
        // vector has lent these elements for this operation, and does not use them while it runs; by
        // its plan no other member touches this piece, and one that did could only leave other
        // numbers here.
        unsafe {
            let first = self.own().add(start + piece.start);
            Some(std::slice::from_raw_parts_mut(first.as_ptr(), piece.len()))
        }
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("members", &self.members.len())
            .field("place", &self.place)
            .field("length", &self.length)
            .finish()
    }
}

/// Bytes of a member's memory for a vector of `length` elements.
fn size(length: usize) -> usize {
    offset(length)
}

/// Where element `index` begins.
fn offset(index: usize) -> usize {
    index
        .saturating_mul(size_of::<f32>())
        .saturating_add(VECTOR)
}

#[cfg(test)]
mod tests {
    use super::{Offer, Window};

    /// The windows of `count` members of this process.
    fn windows(count: usize, length: usize) -> Vec<Window> {
        let offers = (0..count).map(|place| Offer::new(length, 7 + place as u64));
        let offers: Vec<_> = offers.map(|offer| offer.expect("memory")).collect();
        let addresses: Vec<_> = offers.iter().map(Offer::address).collect();
        let opened: Vec<_> = offers
            .iter()
            .enumerate()
            .map(|(place, offer)| offer.open(&addresses, place).expect("the others' memory"))
            .collect();
        let all = offers.into_iter().zip(opened).enumerate();
        all.map(|(place, (offer, opened))| offer.accept(opened, place))
            .collect()
    }

    fn fill(window: &Window, start: usize, values: &[f32]) {
        for (index, value) in values.iter().enumerate() {
            // SAFETY: inside the vector, which nobody else uses.
            unsafe { window.own().add(start + index).write(*value) };
        }
    }

    fn read(window: &Window, start: usize, count: usize) -> Vec<f32> {
        let at = |index| {
            // SAFETY: as above.
            unsafe { window.own().add(start + index).read() }
        };
        (0..count).map(at).collect()
    }

    #[test]
    fn a_sum_is_in_all_vectors_wherever_they_lie_in_them() {
        let windows = windows(3, 40);
        let starts = [0, 4, 30];
        for (place, window) in windows.iter().enumerate() {
            fill(window, starts[place], &[place as f32 + 1.0; 10]);
        }
        windows[1].sum(&starts, 2..7, true);
        for (place, window) in windows.iter().enumerate() {
            let own = place as f32 + 1.0;
            let mut expected = [own; 10];
            expected[2..7].fill(6.0);
            assert_eq!(read(window, starts[place], 10), expected);
        }
        // Beyond a vector's end nothing happens.
        windows[1].sum(&[0, 35, 0], 2..7, true);
        windows[1].sum(&starts, 2..3, false);
        let third = windows.iter().zip(starts);
        let third = third.map(|(window, start)| read(window, start + 2, 1)[0]);
        assert_eq!(third.collect::<Vec<_>>(), [6.0, 18.0, 6.0]);
    }

    #[test]
    fn numbers_are_found_in_their_vector() {
        let window = windows(2, 10).swap_remove(1);
        // SAFETY: the elements lie in the window's memory.
        let own = unsafe { std::slice::from_raw_parts(window.own().as_ptr(), 10) };
        assert_eq!(window.place_of(&own[3..]), Some(3));
        assert_eq!(window.place_of(own), Some(0));
        assert_eq!(window.place_of(&[1.0, 2.0]), None);
    }

    #[test]
    fn memory_of_another_size_or_token_is_refused() {
        let (one, other) = (Offer::new(8, 1).unwrap(), Offer::new(9, 2).unwrap());
        let addresses = [one.address(), other.address()];
        assert!(one.open(&addresses, 0).is_err());
        let wrong = super::Address(addresses[0].0, addresses[0].1, 3);
        let same = Offer::new(8, 4).unwrap();
        assert!(same.open(&[wrong, same.address()], 1).is_err());
        assert!(same.open(&[addresses[0], same.address()], 1).is_ok());
    }
}
