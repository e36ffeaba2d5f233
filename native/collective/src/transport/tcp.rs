//! One data connection to a neighbour on the ring: checked frames over a blocking socket.
//!
//! ```text
//! 0   operation number, u64       16  payload bytes, u32
//! 8   frame in the operation, u32 20  CRC-32C of bytes 0..20 and the payload, u32
//! 12  kind of operation, u32      24  payload; integers are little-endian
//! ```
//! Both ends know from the operation which frame comes next, so one that differs is an error.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::SockRef;

const HEADER_BYTES: usize = 24;
/// After so long a wait a line in the log says who is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the kernel is asked to hold in each direction.
const SOCKET_BUFFER_BYTES: usize = 2 << 20;
/// The largest payload of a frame: large enough to make system calls rare, small enough to stay
/// in a core's cache between the socket, the checksum and the sum.
pub(crate) const SEGMENT_BYTES: usize = 128 << 10;
/// The least the kernel must hold, so that it surely takes a whole frame: it counts its own
/// bookkeeping against the buffer. Linux grants more than this unless it is told not to.
const LEAST_BUFFER_BYTES: usize = 2 * SEGMENT_BYTES;

/// What a frame is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Allreduce = 1,
    AllreduceF64 = 2,
    Broadcast = 3,
    Allgather = 4,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Allreduce => "allreduce",
            Kind::AllreduceF64 => "allreduce_f64",
            Kind::Broadcast => "broadcast",
            Kind::Allgather => "allgather",
        })
    }
}

/// The operation that frames belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
}

/// What went wrong with the connection to a neighbour.
#[derive(Debug)]
pub(crate) struct LinkError {
    pub(crate) rank: usize,
    pub(crate) fault: Fault,
}

#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection ended.
    Broken(io::Error),
    /// No byte moved for so long.
    Stalled(Duration),
    /// A frame came that is not the one due, or is damaged.
    Wrong(String),
}

/// One direction of the ring: this rank to the next, or the previous rank to this one.
pub(crate) struct Link {
    stream: TcpStream,
    rank: usize,
    progress_timeout: Duration,
    tick: Duration,
    frame: u32,
    operation: u64,
}

impl Link {
    /// Takes over an authenticated connection to `rank`.
    pub(crate) fn new(
        stream: TcpStream,
        rank: usize,
        progress_timeout: Duration,
    ) -> io::Result<Self> {
        let socket = SockRef::from(&stream);
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        let granted = socket.send_buffer_size()?;
        if granted < LEAST_BUFFER_BYTES {
            return Err(io::Error::other(format!(
                "the system grants socket buffers of {granted} bytes, {LEAST_BUFFER_BYTES} are \
                 needed: raise net.core.wmem_max"
            )));
        }
        let tick = progress_timeout.min(PATIENCE);
        stream.set_read_timeout(Some(tick))?;
        stream.set_write_timeout(Some(tick))?;
        Ok(Self {
            stream,
            rank,
            progress_timeout,
            tick,
            frame: 0,
            operation: 0,
        })
    }

    /// Sends `payload` as the next frame of `operation`.
    pub(crate) fn send(&mut self, operation: Operation, payload: &[u8]) -> Result<(), LinkError> {
        let header = self.next_header(operation, payload.len());
        let mut header_and_crc = [0; HEADER_BYTES];
        header_and_crc[..20].copy_from_slice(&header);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header), payload);
        header_and_crc[20..].copy_from_slice(&crc.to_le_bytes());
        let mut sent = 0;
        while sent < HEADER_BYTES + payload.len() {
            let slices = [
                IoSlice::new(&header_and_crc[sent.min(HEADER_BYTES)..]),
                IoSlice::new(&payload[sent.saturating_sub(HEADER_BYTES)..]),
            ];
            // Without the flag a closed connection raises SIGPIPE in a process that does not
            // ignore it.
            sent += self.wait(|stream| {
                SockRef::from(stream).send_vectored_with_flags(&slices, libc::MSG_NOSIGNAL)
            })?;
        }
        Ok(())
    }

    /// Receives the next frame of `operation` into `payload`, which it must fill.
    pub(crate) fn receive(
        &mut self,
        operation: Operation,
        payload: &mut [u8],
    ) -> Result<(), LinkError> {
        let due = self.next_header(operation, payload.len());
        let mut header = [0; HEADER_BYTES];
        let mut received = 0;
        while received < HEADER_BYTES {
            received += self.wait(|mut stream| {
                stream.read_vectored(&mut [
                    IoSliceMut::new(&mut header[received..]),
                    IoSliceMut::new(payload),
                ])
            })?;
        }
        if header[..20] != due {
            return Err(self.fault(Fault::Wrong(format!(
                "{} is due, but {} came: all ranks must make the same calls in the same order, \
                 with data of the same length",
                describe(&due),
                describe(&header)
            ))));
        }
        let mut filled = received - HEADER_BYTES;
        while filled < payload.len() {
            filled += self.wait(|mut stream| stream.read(&mut payload[filled..]))?;
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&due), payload);
        if header[20..] != crc.to_le_bytes() {
            let what = format!("{} came damaged (CRC-32C differs)", describe(&due));
            return Err(self.fault(Fault::Wrong(what)));
        }
        Ok(())
    }

    fn next_header(&mut self, operation: Operation, length: usize) -> [u8; 20] {
        if self.operation != operation.number {
            self.operation = operation.number;
            self.frame = 0;
        }
        // A segment is a fraction of a socket buffer, far from 4 GiB.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let mut header = [0; 20];
        header[..8].copy_from_slice(&operation.number.to_le_bytes());
        header[8..12].copy_from_slice(&self.frame.to_le_bytes());
        header[12..16].copy_from_slice(&(operation.kind as u32).to_le_bytes());
        header[16..].copy_from_slice(&length.to_le_bytes());
        self.frame = self.frame.wrapping_add(1);
        header
    }

    /// Makes one system call, again for as long as it only timed out. The socket's own timeout
    /// does the waiting, so a call that moves data costs nothing beyond itself.
    fn wait(
        &self,
        mut call: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Result<usize, LinkError> {
        let mut waiting_since = None;
        loop {
            match call(&self.stream) {
                Ok(0) => {
                    return Err(self.fault(Fault::Broken(io::ErrorKind::UnexpectedEof.into())));
                }
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let now = Instant::now();
                    let since = *waiting_since.get_or_insert(now - self.tick);
                    let waited = now - since;
                    if waited >= self.progress_timeout {
                        return Err(self.fault(Fault::Stalled(waited)));
                    }
                    log::warn!(
                        "waiting {:.0} s for rank {} in operation {}",
                        waited.as_secs_f64(),
                        self.rank,
                        self.operation
                    );
                }
                Err(error) => return Err(self.fault(Fault::Broken(error))),
            }
        }
    }

    fn fault(&self, fault: Fault) -> LinkError {
        LinkError {
            rank: self.rank,
            fault,
        }
    }
}

fn describe(header: &[u8]) -> String {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    let kind = [
        Kind::Allreduce,
        Kind::AllreduceF64,
        Kind::Broadcast,
        Kind::Allgather,
    ]
    .into_iter()
    .find(|kind| *kind as u64 == number(&header[12..16]))
    .map_or_else(|| "unknown operation".to_owned(), |kind| kind.to_string());
    format!(
        "{kind} {} frame {} of {} bytes",
        number(&header[..8]),
        number(&header[8..12]),
        number(&header[16..20])
    )
}
