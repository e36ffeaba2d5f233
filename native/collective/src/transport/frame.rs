//! What goes over a link: frames, each with a head that says what it is part of.
//!
//! ```text
//! 0   operation number, u64              16  frame in the operation and direction, u32
//! 8   bytes of the whole operation, u64  20  kind of operation, u32
//!                                        24  payload bytes, u32; integers are little-endian
//! ```
//! Both ends know from the operation which frame comes next, so one that differs is an error.

use std::fmt;

/// Size of an encoded head in bytes.
pub(crate) const HEAD_BYTES: usize = 28;

/// What a frame is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Allreduce = 1,
    AllreduceF64 = 2,
    Broadcast = 3,
    Allgather = 4,
    ReduceScatter = 5,
    Barrier = 6,
    AllreduceBfloat16 = 7,
    AllreduceFloat16 = 8,
    Call = 9,
    Answer = 10,
    Heartbeat = 11,
    Failure = 12,
}

const KINDS: [Kind; 12] = [
    Kind::Allreduce,
    Kind::AllreduceF64,
    Kind::Broadcast,
    Kind::Allgather,
    Kind::ReduceScatter,
    Kind::Barrier,
    Kind::AllreduceBfloat16,
    Kind::AllreduceFloat16,
    Kind::Call,
    Kind::Answer,
    Kind::Heartbeat,
    Kind::Failure,
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Allreduce => "allreduce",
            Kind::AllreduceF64 => "allreduce_f64",
            Kind::Broadcast => "broadcast",
            Kind::Allgather => "allgather",
            Kind::ReduceScatter => "reduce_scatter",
            Kind::Barrier => "barrier",
            Kind::AllreduceBfloat16 => "allreduce in bfloat16",
            Kind::AllreduceFloat16 => "allreduce in float16",
            Kind::Call => "call",
            Kind::Answer => "answer",
            Kind::Heartbeat => "heartbeat",
            Kind::Failure => "failure",
        })
    }
}

/// The operation that frames belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
}

/// The encoded head of a frame, with the length of its payload at hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) bytes: [u8; HEAD_BYTES],
    pub(crate) payload: usize,
}

impl Head {
    /// Frame `index` of an operation on `total` bytes in one direction of one link.
    pub(crate) fn new(operation: Operation, total: usize, index: u32, payload: usize) -> Self {
        // A payload is a segment at most, far from 4 GiB.
        let length = u32::try_from(payload).unwrap_or(u32::MAX);
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&operation.number.to_le_bytes());
        bytes[8..16].copy_from_slice(&(total as u64).to_le_bytes());
        bytes[16..20].copy_from_slice(&index.to_le_bytes());
        bytes[20..24].copy_from_slice(&(operation.kind as u32).to_le_bytes());
        bytes[24..].copy_from_slice(&length.to_le_bytes());
        Self { bytes, payload }
    }

    /// Of an operation that the receiver does not know before: that, and its bytes. None if `bytes` are
    /// not the head of frame `index`, or its payload is not what is left of them, up to `segment`.
    pub(crate) fn read(
        bytes: [u8; HEAD_BYTES],
        index: u32,
        segment: usize,
    ) -> Option<(Operation, usize, Self)> {
        let kind = KINDS
            .into_iter()
            .find(|kind| *kind as u64 == number(&bytes[20..24]))?;
        let operation = Operation {
            number: number(&bytes[..8]),
            kind,
        };
        let total = usize::try_from(number(&bytes[8..16])).ok()?;
        let sent = usize::try_from(index).ok()?.checked_mul(segment)?;
        let payload = total.checked_sub(sent)?.min(segment);
        let head = Self::new(operation, total, index, payload);
        (head.bytes == bytes).then_some((operation, total, head))
    }

    /// Says what is due and what came instead.
    pub(crate) fn differs_from(&self, came: &[u8; HEAD_BYTES]) -> String {
        format!(
            "{self} is due, but {} came: all ranks must make the same calls in the same order, \
             with data of the same length",
            describe(came)
        )
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(&self.bytes))
    }
}

fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn describe(head: &[u8; HEAD_BYTES]) -> String {
    let number = |at: std::ops::Range<usize>| number(&head[at]);
    let kind = KINDS
        .into_iter()
        .find(|kind| *kind as u64 == number(20..24))
        .map_or_else(|| "unknown operation".to_owned(), |kind| kind.to_string());
    format!(
        "{kind} {} of {} bytes, frame {} of {} bytes",
        number(0..8),
        number(8..16),
        number(16..20),
        number(24..28)
    )
}

#[cfg(test)]
mod tests {
    use super::{Head, Kind, Operation};

    #[test]
    fn a_head_says_what_it_is() {
        let operation = Operation {
            number: 812,
            kind: Kind::Broadcast,
        };
        let due = Head::new(operation, 1000, 3, 17);
        assert_eq!(due.bytes[..10], [44, 3, 0, 0, 0, 0, 0, 0, 232, 3]);
        assert_eq!(due.bytes[16..], [3, 0, 0, 0, 3, 0, 0, 0, 17, 0, 0, 0]);
        let said = due.differs_from(&[255; 28]);
        let known =
            "broadcast 812 of 1000 bytes, frame 3 of 17 bytes is due, but unknown operation";
        assert!(said.starts_with(known), "{said}");
    }
}
