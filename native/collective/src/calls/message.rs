//! Messages over a connection for calls: each as many sealed frames as it takes, one behind the other.
//!
//! A frame is a head (see `frame`), a tag (see `seal`) and a payload of at most 256 KiB. Memory for a
//! message grows with what has come of it and was found to be as it was sent, not with what it claims.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::transport::frame::{HEAD_BYTES, Head, Kind, Operation};
use crate::transport::seal::{Seal, TAG_BYTES};
use crate::transport::tcp::SEGMENT_BYTES;

/// The longest message, far beyond the weights of any model.
const LONGEST: usize = 1 << 40;

/// What one rank says to another.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// Of a call, and of its answer.
    pub(crate) number: u64,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn heartbeat() -> Self {
        Self {
            kind: Kind::Heartbeat,
            number: 0,
            body: Vec::new(),
        }
    }
}

/// The receiving side.
#[derive(Debug)]
pub(crate) struct MessageReader {
    half: OwnedReadHalf,
    seal: Seal,
}

/// The sending side.
#[derive(Debug)]
pub(crate) struct MessageWriter {
    half: OwnedWriteHalf,
    seal: Seal,
    sealed: Vec<u8>,
    frame: Vec<u8>,
}

/// Takes a connection over that was authenticated, with what protects the frames it sends, and those it
/// receives.
pub(crate) fn over(
    stream: TcpStream,
    (outgoing, incoming): (Seal, Seal),
) -> io::Result<(MessageReader, MessageWriter)> {
    stream.set_nonblocking(true)?;
    let (read, write) = tokio::net::TcpStream::from_std(stream)?.into_split();
    let reader = MessageReader {
        half: read,
        seal: incoming,
    };
    let writer = MessageWriter {
        half: write,
        seal: outgoing,
        sealed: Vec::new(),
        frame: Vec::new(),
    };
    Ok((reader, writer))
}

impl MessageReader {
    /// The next message, of which each frame must come within `patience`. Not to be cancelled half-way.
    pub(crate) async fn receive(&mut self, patience: Duration) -> io::Result<Message> {
        let mut body = Vec::new();
        let mut known: Option<(Operation, usize)> = None;
        for index in 0.. {
            let frame = timeout(patience, self.frame(index, known, &mut body)).await;
            let (operation, total) = frame.map_err(|_late| io::ErrorKind::TimedOut)??;
            if body.len() == total {
                return Ok(Message {
                    kind: operation.kind,
                    number: operation.number,
                    body,
                });
            }
            known = Some((operation, total));
        }
        Err(invalid("a message has no end"))
    }

    /// Appends the payload of frame `index`; what the message is, and how long.
    async fn frame(
        &mut self,
        index: u32,
        known: Option<(Operation, usize)>,
        body: &mut Vec<u8>,
    ) -> io::Result<(Operation, usize)> {
        let mut bytes = [0; HEAD_BYTES];
        let mut tag = [0; TAG_BYTES];
        self.half.read_exact(&mut bytes).await?;
        self.half.read_exact(&mut tag).await?;
        let read = Head::read(bytes, index, SEGMENT_BYTES);
        let read = read.filter(|(_, total, _)| *total <= LONGEST);
        let (operation, total, head) = read.ok_or_else(|| invalid("a frame that is not due"))?;
        if known.is_some_and(|(of, length)| of.number != operation.number || length != total) {
            return Err(invalid("a frame of another message"));
        }
        let start = body.len();
        body.resize(start + head.payload, 0);
        let payload = &mut body[start..];
        self.half.read_exact(payload).await?;
        if self.seal.open(&head, payload, &tag) {
            return Ok((operation, total));
        }
        Err(invalid(
            "a frame came damaged, or not as it was sent: its tag is wrong",
        ))
    }
}

impl MessageWriter {
    pub(crate) async fn send(&mut self, message: &Message) -> io::Result<()> {
        let operation = Operation {
            number: message.number,
            kind: message.kind,
        };
        let mut rest = message.body.as_slice();
        for index in 0.. {
            let (payload, after) = rest.split_at(rest.len().min(SEGMENT_BYTES));
            let head = Head::new(operation, message.body.len(), index, payload.len());
            let tag = self.seal.close(&head, payload, &mut self.sealed);
            let payload = match self.sealed.as_slice() {
                [] => payload,
                sealed => sealed,
            };
            self.frame.clear();
            self.frame.extend_from_slice(&head.bytes);
            self.frame.extend_from_slice(&tag);
            self.frame.extend_from_slice(payload);
            self.half.write_all(&self.frame).await?;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Says that no more will come; what was sent still arrives.
    pub(crate) async fn finish(&mut self) {
        // The peer may be gone already: then it needs no telling.
        self.half.shutdown().await.ok();
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{Message, MessageReader, MessageWriter, over};
    use crate::config::Security;
    use crate::secret::Secret;
    use crate::transport::frame::Kind;
    use crate::transport::keys::ConnectionKey;
    use crate::transport::tcp::SEGMENT_BYTES;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn run<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        runtime.block_on(work)
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("its address"));
        let far = listener.accept().expect("its other end").0;
        (near.expect("a connection"), far)
    }

    /// A sender and a receiver, with what goes over the connection between them in the test's hands.
    fn tapped(
        security: Security,
    ) -> (
        MessageWriter,
        tokio::net::TcpStream,
        tokio::net::TcpStream,
        MessageReader,
    ) {
        let key = ConnectionKey::random().expect("32 bytes");
        let seals = |dialled| {
            let seals = key.seals(&Secret::new([5; 32]), security, dialled);
            seals.expect("keys")
        };
        let ((near, sent), (came, far)) = (pair(), pair());
        let (_, writer) = over(near, seals(true)).expect("a sender");
        let (reader, _) = over(far, seals(false)).expect("a receiver");
        let tokio_end = |stream: TcpStream| {
            stream.set_nonblocking(true).expect("an option");
            tokio::net::TcpStream::from_std(stream).expect("a stream")
        };
        (writer, tokio_end(sent), tokio_end(came), reader)
    }

    fn message(length: usize) -> Message {
        Message {
            kind: Kind::Call,
            number: 7,
            body: (0..=250).cycle().take(length).collect(),
        }
    }

    const MODES: [Security; 3] = [Security::Auth, Security::Encrypt, Security::Off];

    #[test]
    fn messages_of_any_length_arrive_as_they_were_sent() {
        for security in MODES {
            let lengths = [0, 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES];
            run(async {
                let (mut writer, mut sent, mut came, mut reader) = tapped(security);
                let pass = tokio::spawn(async move {
                    tokio::io::copy(&mut sent, &mut came).await.ok();
                });
                for length in lengths {
                    let sent = message(length);
                    let (wrote, read) = tokio::join!(writer.send(&sent), reader.receive(PATIENCE));
                    wrote.expect("a whole connection");
                    let read = read.expect("the message");
                    assert_eq!((read.number, read.body), (7, sent.body), "{security:?}");
                }
                pass.abort();
            });
        }
    }

    #[test]
    fn a_message_with_any_byte_changed_is_refused() {
        for security in MODES {
            for at in 0..44 + 9 {
                run(async {
                    let (mut writer, mut sent, mut came, mut reader) = tapped(security);
                    writer.send(&message(9)).await.expect("a whole connection");
                    let mut bytes = [0; 44 + 9];
                    sent.read_exact(&mut bytes).await.expect("the message");
                    bytes[at] ^= 0x10;
                    came.write_all(&bytes).await.expect("room");
                    drop(came);
                    let read = reader.receive(PATIENCE).await;
                    let kind = read.map(|_| ()).expect_err("it was changed").kind();
                    assert_eq!(kind, std::io::ErrorKind::InvalidData, "{security:?} {at}");
                });
            }
        }
    }

    #[test]
    fn a_message_that_is_repeated_or_stops_is_refused() {
        for security in [Security::Auth, Security::Encrypt] {
            run(async {
                let (mut writer, mut sent, mut came, mut reader) = tapped(security);
                writer.send(&message(9)).await.expect("a whole connection");
                let mut bytes = [0; 44 + 9];
                sent.read_exact(&mut bytes).await.expect("the message");
                came.write_all(&bytes).await.expect("room");
                reader.receive(PATIENCE).await.expect("the first time");
                came.write_all(&bytes).await.expect("room");
                assert!(reader.receive(PATIENCE).await.is_err());

                let (mut writer, mut sent, mut came, mut reader) = tapped(security);
                writer.send(&message(9)).await.expect("a whole connection");
                sent.read_exact(&mut bytes).await.expect("the message");
                came.write_all(&bytes[..50]).await.expect("room");
                let silent = reader.receive(Duration::from_millis(50)).await;
                let kind = silent.map(|_| ()).expect_err("it stops").kind();
                assert_eq!(kind, std::io::ErrorKind::TimedOut);
            });
        }
    }
}
