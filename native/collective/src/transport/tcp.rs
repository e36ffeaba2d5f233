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
use crate::transport::{Fault, Link, Progress, store_copy};

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
    incoming_frame: Incoming,
    /// Its payload, where it has no other place: as long as the frame that is due.
    payload: Vec<u8>,
    come: bool,
}

/// The frame that comes in.
struct Incoming {
    prefix: [u8; PREFIX_BYTES],
    /// How much of it all is there.
    received: usize,
    /// Whether its payload goes where its caller wants it, rather than to memory of the link.
    in_place: bool,
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
            incoming_frame: Incoming {
                prefix: [0; PREFIX_BYTES],
                received: 0,
                in_place: false,
            },
            payload: Vec::new(),
            come: false,
        })
    }
}

impl Incoming {
    /// Reads what there is of prefix and `payload`. Done when both are whole.
    fn fill(
        &mut self,
        stream: &mut TcpStream,
        due: &Head,
        payload: &mut [u8],
    ) -> Result<Progress, Fault> {
        let before = self.received;
        while self.received < PREFIX_BYTES + payload.len() {
            let read = match self.received.checked_sub(PREFIX_BYTES) {
                Some(filled) => stream.read(&mut payload[filled..]),
                None => stream.read_vectored(&mut [
                    io::IoSliceMut::new(&mut self.prefix[self.received..]),
                    io::IoSliceMut::new(payload),
                ]),
            };
            let Some(count) = transferred(read)? else {
                let moved = self.received > before;
                return Ok(if moved {
                    Progress::Some
                } else {
                    Progress::Nothing
                });
            };
            let headless = self.received < HEAD_BYTES;
            self.received += count;
            // Told at once: the rest of a frame of another length may never come.
            let (head, _) = self.prefix.split_first_chunk().unwrap_or((&due.bytes, &[]));
            if headless && self.received >= HEAD_BYTES && *head != due.bytes {
                return Err(Fault::Wrong(due.differs_from(head)));
            }
        }
        Ok(Progress::Done)
    }

    /// Checks the whole frame, whose payload is decrypted; the next one may come.
    fn open(&mut self, seal: &mut Seal, due: &Head, payload: &mut [u8]) -> Result<(), Fault> {
        self.received = 0;
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&self.prefix[HEAD_BYTES..]);
        if seal.open(due, payload, &tag) {
            return Ok(());
        }
        Err(Fault::Wrong(format!(
            "{due} came damaged, or not as it was sent: its tag is wrong"
        )))
    }
}

impl Link for TcpLink {
    fn try_send(&mut self, head: &Head, payload: &[u8]) -> Result<Progress, Fault> {
        let (prefix, mut sent) = match self.sending {
            Some(sending) => sending,
            None => {
                let tag = self.outgoing.close(head, payload, &mut self.sealed);
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
        self.payload.resize(due.payload, 0);
        let progress = self
            .incoming_frame
            .fill(&mut self.stream, due, &mut self.payload)?;
        if progress == Progress::Done {
            self.incoming_frame
                .open(&mut self.incoming, due, &mut self.payload)?;
            self.come = true;
        }
        Ok(progress)
    }

    fn try_store(&mut self, due: &Head, into: &mut [u8]) -> Result<Progress, Fault> {
        let frame = &mut self.incoming_frame;
        frame.in_place |= frame.received == 0 && !self.come;
        if !frame.in_place {
            return store_copy(self, due, into);
        }
        let progress = frame.fill(&mut self.stream, due, into)?;
        if progress == Progress::Done {
            frame.open(&mut self.incoming, due, into)?;
            frame.in_place = false;
        }
        Ok(progress)
    }

    fn payload(&self) -> [&[u8]; 2] {
        [if self.come { &self.payload } else { &[] }, &[]]
    }

    fn release(&mut self) {
        self.come = false;
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::{PREFIX_BYTES, TcpLink};
    use crate::config::{Config, Security};
    use crate::secret::Secret;
    use crate::transport::frame::{Head, Kind, Operation};
    use crate::transport::keys::ConnectionKey;
    use crate::transport::{Fault, Link, Progress};

    const MODES: [Security; 3] = [Security::Auth, Security::Encrypt, Security::Off];
    const PAYLOAD: &[u8] = b"gradients";

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("its address"));
        (
            near.expect("a connection"),
            listener.accept().expect("its other end").0,
        )
    }

    fn head(index: u32, length: usize) -> Head {
        let kind = Kind::Allreduce;
        Head::new(Operation { number: 7, kind }, 36, index, length)
    }

    /// The two ends of a link, with what goes over each in between in the hands of the test.
    struct Tapped {
        sender: TcpLink,
        sent: TcpStream,
        receiver: TcpLink,
        came: TcpStream,
        /// Whether the receiver gives payloads a place.
        in_place: bool,
    }

    fn tapped(security: Security) -> Tapped {
        let (session, key) = (
            Secret::new([5; 32]),
            ConnectionKey::random().expect("32 bytes"),
        );
        let seals = |dialled| key.seals(&session, security, dialled).expect("keys");
        let ((near, sent), (far, came)) = (pair(), pair());
        Tapped {
            sender: TcpLink::new(near, seals(true)).expect("a link"),
            sent,
            receiver: TcpLink::new(far, seals(false)).expect("a link"),
            came,
            in_place: false,
        }
    }

    /// In every mode, with payloads in memory of the link and in their place.
    fn all_taps() -> impl Iterator<Item = (Security, Tapped)> {
        let ways = MODES
            .into_iter()
            .flat_map(|mode| [(mode, false), (mode, true)]);
        ways.map(|(security, in_place)| {
            let link = tapped(security);
            (security, Tapped { in_place, ..link })
        })
    }

    impl Tapped {
        /// The bytes of the next frame.
        fn frame(&mut self, index: u32, payload: &[u8]) -> Vec<u8> {
            let sent = self.sender.try_send(&head(index, payload.len()), payload);
            assert_eq!(sent.expect("a whole link"), Progress::Done);
            let mut bytes = vec![0; PREFIX_BYTES + payload.len()];
            self.sent.read_exact(&mut bytes).expect("the frame");
            bytes
        }

        /// What the receiver makes of `bytes`, if they are a frame as long as the one due.
        fn receive(&mut self, bytes: &[u8], due: Head) -> Result<Vec<u8>, Fault> {
            self.came.write_all(bytes).expect("room in a socket");
            let deadline = Instant::now() + Duration::from_secs(10);
            let mut payload = vec![0; due.payload];
            while match self.in_place {
                true => self.receiver.try_store(&due, &mut payload)?,
                false => self.receiver.try_receive(&due)?,
            } != Progress::Done
            {
                assert!(Instant::now() < deadline, "the bytes have not come");
                std::thread::yield_now();
            }
            if !self.in_place {
                payload = self.receiver.payload().concat();
                self.receiver.release();
            }
            Ok(payload)
        }
    }

    #[test]
    fn frames_arrive_as_they_were_sent() {
        for (security, mut link) in all_taps() {
            for index in 0..3 {
                let bytes = link.frame(index, PAYLOAD);
                let hidden = !bytes.windows(PAYLOAD.len()).any(|window| window == PAYLOAD);
                assert_eq!(hidden, security == Security::Encrypt);
                let came = link.receive(&bytes, head(index, PAYLOAD.len()));
                assert_eq!(came.expect("the frame"), PAYLOAD);
            }
        }
    }

    #[test]
    fn a_frame_with_any_bit_flipped_is_refused() {
        for bit in 0..8 * (PREFIX_BYTES + PAYLOAD.len()) {
            for (security, mut link) in all_taps() {
                let mut bytes = link.frame(0, PAYLOAD);
                bytes[bit / 8] ^= 1 << (bit % 8);
                let came = link.receive(&bytes, head(0, PAYLOAD.len()));
                assert!(
                    matches!(came, Err(Fault::Wrong(_))),
                    "{security:?} bit {bit}"
                );
            }
        }
    }

    #[test]
    fn a_frame_that_came_before_its_place_was_free_is_copied_there() {
        for security in MODES {
            let due = head(0, PAYLOAD.len());
            for cut in [1, PREFIX_BYTES, PREFIX_BYTES + 3] {
                let mut link = tapped(security);
                let bytes = link.frame(0, PAYLOAD);
                link.came
                    .write_all(&bytes[..cut])
                    .expect("room in a socket");
                let deadline = Instant::now() + Duration::from_secs(10);
                while link.receiver.try_receive(&due).expect("a whole link") == Progress::Nothing {
                    assert!(Instant::now() < deadline, "the bytes have not come");
                }
                link.in_place = true;
                let came = link.receive(&bytes[cut..], due);
                assert_eq!(came.expect("the frame"), PAYLOAD);
            }
        }
    }

    #[test]
    fn repeated_exchanged_and_forged_frames_are_refused() {
        for security in [Security::Auth, Security::Encrypt] {
            let due = head(0, PAYLOAD.len());
            // The same frame again, where it is even the right one by its head.
            let mut link = tapped(security);
            let bytes = link.frame(0, PAYLOAD);
            link.receive(&bytes, due).expect("the first time");
            assert!(matches!(link.receive(&bytes, due), Err(Fault::Wrong(_))));
            // The second before the first.
            let mut link = tapped(security);
            let (_, second) = (link.frame(0, b"gradient1"), link.frame(0, b"gradient2"));
            assert!(matches!(link.receive(&second, due), Err(Fault::Wrong(_))));
            // One that this rank sent itself, sent back to it.
            let mut link = tapped(security);
            link.receiver.try_send(&due, PAYLOAD).expect("a whole link");
            let mut own = vec![0; PREFIX_BYTES + PAYLOAD.len()];
            link.came.read_exact(&mut own).expect("the frame");
            assert!(matches!(link.receive(&own, due), Err(Fault::Wrong(_))));
            // One of another connection of the same ranks.
            let (mut link, mut other) = (tapped(security), tapped(security));
            let bytes = other.frame(0, PAYLOAD);
            assert!(matches!(link.receive(&bytes, due), Err(Fault::Wrong(_))));
        }
    }

    #[test]
    fn a_frame_that_ends_early_is_a_broken_link() {
        let mut link = tapped(Security::Auth);
        let bytes = link.frame(0, PAYLOAD);
        let Tapped { came, receiver, .. } = &mut link;
        came.write_all(&bytes[..bytes.len() - 1])
            .expect("room in a socket");
        came.shutdown(std::net::Shutdown::Both).expect("an end");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            assert!(Instant::now() < deadline, "the end has not come");
            match receiver.try_receive(&head(0, PAYLOAD.len())) {
                Ok(progress) => assert_ne!(progress, Progress::Done),
                Err(fault) => break assert!(matches!(fault, Fault::Broken(_))),
            }
        }
    }

    #[test]
    fn the_default_is_to_authenticate() {
        let config = serde_json::json!({
            "run_id": "", "stage_id": 0, "stage_attempt": 0, "rank": 0, "world_size": 1,
            "hosts": [""], "bind_host": "", "port": 1, "port_retries": 0,
            "rendezvous_timeout_ms": 1, "progress_timeout_ms": 1,
        });
        let config: Config = serde_json::from_value(config).expect("all that has no default");
        assert_eq!(config.security, Security::Auth);
    }
}
