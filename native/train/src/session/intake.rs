//! The trainer thread's end of the feed.

use crate::block::Block;
use crate::dataset::Blocks;
use crate::error::{DataError, Error};
use crate::fit::Intake;
use crate::session::{Room, Stop, Stream};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// How long a wait lasts before cancellation is looked at again.
const TICK: Duration = Duration::from_millis(50);

/// What the caller hands to the trainer thread.
#[derive(Debug)]
pub(crate) enum Message {
    Block(Stream, Block),
    /// A batch could not be decoded.
    Refused(DataError),
    End,
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Channel {
    incoming: Receiver<Message>,
    room: Sender<Room>,
    stop: Stop,
    validation: Vec<Block>,
    ended: bool,
}

impl Channel {
    pub(crate) fn new(incoming: Receiver<Message>, room: Sender<Room>, stop: Stop) -> Self {
        Self {
            incoming,
            room,
            stop,
            validation: Vec::new(),
            ended: false,
        }
    }
}

impl Blocks for Channel {
    fn next_block(&mut self) -> Result<Option<Block>, Error> {
        while !self.ended {
            match self.incoming.recv_timeout(TICK) {
                Ok(Message::Block(stream, block)) => {
                    self.room.send(Room(())).ok();
                    match stream {
                        Stream::Training => return Ok(Some(block)),
                        Stream::Validation => self.validation.push(block),
                    }
                }
                Ok(Message::Refused(error)) => return Err(error.into()),
                Ok(Message::End) => self.ended = true,
                Err(RecvTimeoutError::Timeout) => self.check_cancelled()?,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Cancelled),
            }
        }
        Ok(None)
    }
}

impl Intake for Channel {
    fn validation(&self) -> &[Block] {
        &self.validation
    }

    /// A failure anywhere in the job counts too; the next collective call says which.
    fn check_cancelled(&self) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }
}
