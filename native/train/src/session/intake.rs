//! The trainer thread's end of the feed.

use crate::block::Block;
use crate::dataset::{Arrival, Blocks, Stream};
use crate::error::{DataError, Error};
use crate::fit::Intake;
use crate::session::{Room, Stop};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a wait lasts before cancellation is looked at again.
const TICK: Duration = Duration::from_millis(50);

/// What the caller hands to the trainer thread.
#[derive(Debug)]
pub(crate) enum Message {
    /// With the room that it takes.
    Block(Stream, Block, Vec<Room>),
    /// A batch could not be decoded.
    Refused(DataError),
    /// The rows to validate with have all come.
    EndOfValidation,
    /// A pass over the rows is over, from which so many were left out.
    End { left_out: u64 },
    /// An evaluator shall measure this checkpoint.
    Checkpoint(PathBuf),
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Channel {
    incoming: Receiver<Message>,
    room: Sender<Room>,
    stop: Stop,
    /// Whether a pass has ended that no other follows.
    ended: bool,
    /// Whether rows come anew in each pass.
    reread: bool,
    /// Rows left out of the last pass that has ended.
    left_out: u64,
}

impl Channel {
    pub(crate) fn new(
        incoming: Receiver<Message>,
        room: Sender<Room>,
        stop: Stop,
        reread: bool,
    ) -> Self {
        Self {
            incoming,
            room,
            stop,
            ended: false,
            reread,
            left_out: 0,
        }
    }
}

impl Channel {
    /// The next checkpoint that an evaluator shall measure; none once rows and checkpoints have ended. The
    /// rows to validate with must all have come.
    pub(crate) fn next_checkpoint(&mut self) -> Result<Option<PathBuf>, Error> {
        loop {
            self.check()?;
            match self.incoming.recv_timeout(TICK) {
                Ok(Message::Checkpoint(path)) => return Ok(Some(path)),
                Ok(Message::End { .. }) => return Ok(None),
                Ok(Message::Refused(error)) => return Err(error.into()),
                Ok(Message::Block(..) | Message::EndOfValidation) => return Err(untimely()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Cancelled),
            }
        }
    }
}

fn untimely() -> Error {
    Error::Config("checkpoints to evaluate come after all rows to validate with".to_owned())
}

impl Blocks for Channel {
    fn next_block(&mut self, deadline: Option<Instant>) -> Result<Arrival, Error> {
        while !self.ended {
            // Not only where there is nothing to receive: a rank may be fed for long before it has a
            // batch and meets the others.
            self.check()?;
            let until = Instant::now() + TICK;
            let until = deadline.map_or(until, |deadline| deadline.min(until));
            match self.incoming.recv_deadline(until) {
                Ok(Message::Block(stream, block, rooms)) => {
                    for room in rooms {
                        self.room.send(room).ok();
                    }
                    return Ok(Arrival::Block(stream, block));
                }
                Ok(Message::Refused(error)) => return Err(error.into()),
                Ok(Message::EndOfValidation) => {
                    self.room.send(Room(())).ok();
                    return Ok(Arrival::End(Stream::Validation));
                }
                Ok(Message::End { left_out }) => {
                    self.left_out = left_out;
                    self.room.send(Room(())).ok();
                    self.ended = !self.reread;
                    break;
                }
                Ok(Message::Checkpoint(_)) => return Err(untimely()),
                Err(RecvTimeoutError::Timeout) if deadline == Some(until) => {
                    return Ok(Arrival::Late);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Cancelled),
            }
        }
        Ok(Arrival::End(Stream::Training))
    }
}

impl Intake for Channel {
    fn left_out(&self) -> u64 {
        self.left_out
    }

    fn check(&self) -> Result<(), Error> {
        self.stop.check("work of its own between operations")
    }
}
