//! A link over a TCP connection: sealed frames through a socket that never blocks.
//!
//! ```text
//! 0   head, see `frame`
//! 28  tag, see `seal`
//! 44  payload
//! ```
//! Buffers of the socket are left to the kernel, which fits them to the network.

use std::io::{self, IoSlice, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::SockRef;

use crate::transport::frame::{HEAD_BYTES, Head};
use crate::transport::seal::{Seal, TAG_BYTES};
use crate::transport::{Fault, Link, Progress};

/// The largest payload of a frame: large enough to make system calls rare, small enough to stay in a
/// core's cache between the kernel, the tag and the sum.
pub(crate) const SEGMENT_BYTES: usize = 256 << 10;
const PREFIX_BYTES: usize = HEAD_BYTES + TAG_BYTES;

/// Both directions of an authenticated connection.
pub(crate) struct TcpLink {
    stream: TcpStream,
    outgoing: Seal,
    incoming: Seal,
    /// Head and tag of the frame under way, and how much of all of it has been sent.
    sending: Option<([u8; PREFIX_BYTES], usize)>,
    /// Its payload, if that goes out encrypted.
    sealed: Vec<u8>,
    prefix: [u8; PREFIX_BYTES],
    /// The payload that comes in, as long as the frame that is due.
    payload: Vec<u8>,
    scratch: Vec<u8>,
    received: usize,
    come: bool,
}

impl TcpLink {
    /// Takes over a connection with what protects the frames it sends, and those it receives.
    pub(crate) fn new(stream: TcpStream, (outgoing, incoming): (Seal, Seal)) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            outgoing,
            incoming,
            sending: None,
            sealed: Vec::new(),
            prefix: [0; PREFIX_BYTES],
            payload: Vec::new(),
            scratch: Vec::new(),
            received: 0,
            come: false,
        })
    }

    /// Reads what there is of prefix and payload; true when both are whole.
    fn fill(&mut self, due: &Head, moved: &mut bool) -> Result<bool, Fault> {
        let whole = PREFIX_BYTES + due.payload;
        if self.payload.len() != due.payload {
            self.payload.resize(due.payload, 0);
        }
        while self.received < whole {
            let read = match self.received.checked_sub(PREFIX_BYTES) {
                Some(filled) => self.stream.read(&mut self.payload[filled..]),
                None => self.stream.read_vectored(&mut [
                    io::IoSliceMut::new(&mut self.prefix[self.received..]),
                    io::IoSliceMut::new(&mut self.payload),
                ]),
            };
            let Some(count) = transferred(read)? else {
                return Ok(false);
            };
            let headless = self.received < HEAD_BYTES;
            self.received += count;
            *moved = true;
            // Told at once: the rest of a frame of another length may never come.
            let (head, _) = self.prefix.split_first_chunk().unwrap_or((&due.bytes, &[]));
            if headless && self.received >= HEAD_BYTES && *head != due.bytes {
                return Err(Fault::Wrong(due.differs_from(head)));
            }
        }
        Ok(true)
    }
}

impl Link for TcpLink {
    fn try_send(&mut self, head: &Head, payload: &[u8]) -> Result<Progress, Fault> {
        let (prefix, mut sent) = match self.sending {
            Some(sending) => sending,
            None => {
                let tag = self.outgoing.close(head, payload, &mut self.sealed);
                let tag =
                    tag.ok_or_else(|| Fault::Broken(io::Error::other("no tag for a frame")))?;
                let mut prefix = [0; PREFIX_BYTES];
                prefix[..HEAD_BYTES].copy_from_slice(&head.bytes);
                prefix[HEAD_BYTES..].copy_from_slice(&tag);
                (prefix, 0)
            }
        };
        let payload = if self.sealed.is_empty() {
            payload
        } else {
            &self.sealed
        };
        let before = sent;
        while sent < PREFIX_BYTES + payload.len() {
            let slices = [
                IoSlice::new(&prefix[sent.min(PREFIX_BYTES)..]),
                IoSlice::new(&payload[sent.saturating_sub(PREFIX_BYTES)..]),
            ];
            // Without the flag a closed connection raises SIGPIPE in a process that does not
            // ignore it.
            let socket = SockRef::from(&self.stream);
            let Some(count) =
                transferred(socket.send_vectored_with_flags(&slices, libc::MSG_NOSIGNAL))?
            else {
                self.sending = Some((prefix, sent));
                let moved = sent > before;
                return Ok(if moved {
                    Progress::Some
                } else {
                    Progress::Nothing
                });
            };
            sent += count;
        }
        self.sending = None;
        Ok(Progress::Done)
    }

    fn try_receive(&mut self, due: &Head) -> Result<Progress, Fault> {
        if self.come {
            return Ok(Progress::Done);
        }
        let mut moved = false;
        if !self.fill(due, &mut moved)? {
            return Ok(if moved {
                Progress::Some
            } else {
                Progress::Nothing
            });
        }
        let tag = &self.prefix[HEAD_BYTES..];
        if !self
            .incoming
            .open(due, &mut self.payload, &mut self.scratch, tag)
        {
            return Err(Fault::Wrong(format!(
                "{due} came damaged, or not as it was sent: its tag is wrong"
            )));
        }
        self.come = true;
        Ok(Progress::Done)
    }

    fn payload(&self) -> [&[u8]; 2] {
        [if self.come { &self.payload } else { &[] }, &[]]
    }

    fn release(&mut self) {
        self.come = false;
        self.received = 0;
    }

    fn segment_bytes(&self) -> usize {
        SEGMENT_BYTES
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.stream.as_fd())
    }
}

/// How many bytes a call moved; none if it would have had to wait.
fn transferred(result: io::Result<usize>) -> Result<Option<usize>, Fault> {
    match result {
        Ok(0) => Err(Fault::Broken(io::ErrorKind::UnexpectedEof.into())),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
        Err(error) => Err(Fault::Broken(error)),
    }
}
