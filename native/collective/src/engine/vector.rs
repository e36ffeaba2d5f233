//! A vector whose parts are owned one by one, so that some can be on their way to other ranks while
//! others are still being written.

#![expect(
    unsafe_code,
    reason = "disjoint parts of one allocation are written by several owners"
)]

use std::cell::UnsafeCell;
use std::fmt;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use crate::transport::window::Window;

enum Memory {
    Own(Box<[UnsafeCell<f32>]>),
    /// What the other ranks of this host have mapped, too. They use it only within operations that
    /// this rank takes part in with what it owns.
    Window(Arc<Window>),
}

impl Memory {
    fn length(&self) -> usize {
        match self {
            Self::Own(cells) => cells.len(),
            Self::Window(window) => window.length(),
        }
    }

    /// The elements `range`, which are inside.
    fn elements(&self, range: Range<usize>) -> *mut [f32] {
        let first = match self {
            Self::Own(cells) => UnsafeCell::raw_get(cells.as_ptr()),
            Self::Window(window) => window.own().as_ptr(),
        };
        ptr::slice_from_raw_parts_mut(first.wrapping_add(range.start), range.len())
    }
}

// SAFETY: its elements are reached only through the `Vector` or the `Part`s that own them, each
// element through one of them.
unsafe impl Sync for Memory {}

/// Numbers in one piece of memory.
pub struct Vector {
    /// No part shares it.
    memory: Arc<Memory>,
}

/// Elements of a vector that has been cut, next to each other.
pub struct Part {
    memory: Arc<Memory>,
    range: Range<usize>,
}

impl Default for Vector {
    /// No elements.
    fn default() -> Self {
        Self {
            memory: Arc::new(Memory::Own(Box::default())),
        }
    }
}

impl Vector {
    /// `length` zeros; none if there is no memory for them.
    #[must_use]
    pub fn zeros(length: usize) -> Option<Self> {
        let mut cells = Vec::new();
        cells.try_reserve_exact(length).ok()?;
        cells.resize_with(length, || UnsafeCell::new(0.0));
        Some(Self {
            memory: Arc::new(Memory::Own(cells.into())),
        })
    }

    /// This rank's vector of a window, which has no other.
    pub(crate) fn in_window(window: Arc<Window>) -> Self {
        Self {
            memory: Arc::new(Memory::Window(window)),
        }
    }

    /// Whether the other ranks have mapped it, too, so that its sums are made without a copy.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(*self.memory, Memory::Window(_))
    }

    fn elements(&self) -> *mut [f32] {
        self.memory.elements(0..self.memory.length())
    }

    /// All elements.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: no part exists, and whoever writes needs this vector mutably.
        unsafe { &*self.elements() }
    }

    /// All elements.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: no part exists and this vector is borrowed mutably, so that nobody else reaches
        // an element.
        unsafe { &mut *self.elements() }
    }

    /// Cuts it before the elements `cuts`, which are in order and not beyond its end: one part more
    /// than there are cuts, in order.
    #[must_use]
    pub fn cut(self, cuts: &[usize]) -> Vec<Part> {
        let length = self.memory.length();
        let mut start = 0;
        let ends = cuts.iter().copied().chain([length]);
        let parts = ends.map(|end| {
            // Parts are disjoint whatever the cuts are.
            let end = end.clamp(start, length);
            let range = start..end;
            start = end;
            Part {
                memory: Arc::clone(&self.memory),
                range,
            }
        });
        parts.collect()
    }

    /// The vector that has been cut into these parts; none if some are missing, or of another one.
    #[must_use]
    pub fn join(mut parts: Vec<Part>) -> Option<Self> {
        let memory = Arc::clone(&parts.first()?.memory);
        let same = |part: &Part| Arc::ptr_eq(&part.memory, &memory);
        let length: usize = parts.iter().map(|part| part.range.len()).sum();
        if !parts.iter().all(same) || length != memory.length() {
            return None;
        }
        // All elements are here, so that a part that is elsewhere has none.
        parts.clear();
        Some(Self { memory })
    }
}

impl AsMut<[f32]> for Part {
    fn as_mut(&mut self) -> &mut [f32] {
        // SAFETY: no other part has these elements, no vector exists while there are parts that
        // have elements, and this part is borrowed mutably.
        unsafe { &mut *self.memory.elements(self.range.clone()) }
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vector of {}", self.memory.length())
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part {:?}", self.range)
    }
}

#[cfg(test)]
mod tests {
    use super::Vector;

    #[test]
    fn parts_are_written_apart_and_joined_in_any_order() {
        let mut parts = Vector::zeros(10).unwrap().cut(&[3, 3, 8]);
        std::thread::scope(|scope| {
            for (value, part) in [1.0, 2.0, 3.0, 4.0].into_iter().zip(&mut parts) {
                scope.spawn(move || part.as_mut().fill(value));
            }
        });
        parts.reverse();
        let mut whole = Vector::join(parts).unwrap();
        assert_eq!(
            whole.as_slice(),
            [1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0, 3.0, 4.0, 4.0]
        );
        whole.as_mut_slice()[9] = 5.0;
        assert_eq!(whole.as_slice()[9], 5.0);
    }

    #[test]
    fn cuts_that_make_no_sense_make_disjoint_parts() {
        let parts = Vector::zeros(4).unwrap().cut(&[9, 2]);
        let lengths = parts.into_iter().map(|mut part| part.as_mut().len());
        assert_eq!(lengths.collect::<Vec<_>>(), [4, 0, 0]);
    }

    #[test]
    fn what_is_not_whole_is_not_joined() {
        let mut parts = Vector::zeros(4).unwrap().cut(&[2]);
        let last = parts.pop();
        assert!(Vector::join(parts).is_none());
        let mut other = Vector::zeros(4).unwrap().cut(&[2]);
        other.pop();
        other.extend(last);
        assert!(Vector::join(other).is_none());
        assert!(Vector::join(Vec::new()).is_none());
    }
}
