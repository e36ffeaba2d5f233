//! Proof that a peer holds the job's secret, and the encrypted link that comes of it.
//!
//! ```text
//! initiator                       responder
//!   hello (128 bytes)      ->
//!                          <-     hello (128 bytes)
//!   psk, e (48 bytes)      ->                          Noise NNpsk0, both hellos the prologue
//!                          <-     e, ee (48 bytes)
//!   first word (528 bytes) ->                          only now is the initiator proved to be one
//!                          <-     welcome
//!   ready                  ->                          only now do both know that they are linked
//! ```
//! Until a peer has given proof all it sends is of a fixed size. A responder that cannot read
//! `psk, e` answers with zeros, which nobody can read either. The first three messages can be replayed
//! by anyone who recorded them; the first word, under a key that the responder has just made, cannot.
//! Both hellos are proved with it, so what they say of attempts is judged only then.
//! A frame is its length (u16, little-endian) and as many bytes of ciphertext; the first word has no
//! length. Later messages take as many frames as they need, each of which begins with a byte that says
//! whether another follows.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use snow::{Builder, HandshakeState, StatelessTransportState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::membership::hello::{HELLO_BYTES, Hello, Mismatch, Purpose};
use crate::membership::job::Job;
use crate::membership::message::Message;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
const HANDSHAKE_BYTES: usize = 48;
const TAG_BYTES: usize = 16;
/// Bytes of a message in one frame, of which Noise allows 65,535 with all that is around them.
const PIECE_BYTES: usize = 60_000;
/// The longest message, a table of very many ranks.
const MESSAGE_BYTES: usize = 4 << 20;
/// What a first word is filled up to, with spaces.
const FIRST_BYTES: usize = 512;

/// Why no link came of a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is not what was looked for: {0:?}")]
    Mismatch(Mismatch),
    /// Said by bytes alone, which anyone can send.
    #[error("it claims to be of attempt {attempt} of this job, but does not hold the job's secret")]
    Unproved { attempt: u64 },
    /// Proved by the secret.
    #[error("it is of attempt {attempt} of this job")]
    OtherAttempt { attempt: u64 },
    #[error("bug in the handshake: {0}")]
    Noise(snow::Error),
    #[error("no answer in time")]
    Silence,
}

/// The receiving side of an encrypted link.
pub(crate) struct SecureReader {
    half: OwnedReadHalf,
    cipher: Arc<StatelessTransportState>,
    frames: u64,
}

/// The sending side of an encrypted link.
pub(crate) struct SecureWriter {
    half: OwnedWriteHalf,
    cipher: Arc<StatelessTransportState>,
    frames: u64,
}

/// Both sides of an encrypted link.
pub(crate) type SecureLink = (SecureReader, SecureWriter);

/// A rank that proved to be one, with the first thing it said.
pub(crate) struct Arrival {
    pub(crate) rank: usize,
    pub(crate) link: SecureLink,
    pub(crate) first: Message,
}

impl Arrival {
    /// Offers the link and waits for the rank to take it. A rank that has given up meanwhile does not,
    /// and may come again.
    pub(crate) async fn confirm(mut self) -> Result<Self, Refusal> {
        let (reader, writer) = &mut self.link;
        writer.send(&Message::Welcome).await?;
        match reader.receive().await? {
            Message::Ready => Ok(self),
            other => Err(invalid(format!("{other:?} in answer to a welcome")).into()),
        }
    }
}

/// Opens a link to rank `to` over a fresh connection, with `first` as the first word.
pub(crate) async fn initiate(
    mut stream: TcpStream,
    job: &Job,
    purpose: Purpose,
    to: usize,
    first: &Message,
) -> Result<SecureLink, Refusal> {
    let own = job.hello(purpose, to);
    stream.write_all(&own.encode()).await?;
    let mut theirs = [0; HELLO_BYTES];
    stream.read_exact(&mut theirs).await?;
    let attempt = own.judge(&theirs).map_err(Refusal::Mismatch)?.stage_attempt;

    let mut noise = noise(job, &own.encode(), &theirs, |builder| {
        builder.build_initiator()
    })?;
    let mut bytes = [0; HANDSHAKE_BYTES];
    noise
        .write_message(&[], &mut bytes)
        .map_err(Refusal::Noise)?;
    stream.write_all(&bytes).await?;
    stream.read_exact(&mut bytes).await?;
    noise
        .read_message(&bytes, &mut [])
        .map_err(|_forged| Refusal::Unproved { attempt })?;
    let (mut reader, mut writer) = link(stream, noise)?;
    // Also to another attempt: if that is the older one, this is how it learns that it is.
    writer.send_first(first).await?;
    if attempt != own.stage_attempt {
        return Err(Refusal::OtherAttempt { attempt });
    }
    match reader.receive().await? {
        Message::Welcome => {}
        other => return Err(invalid(format!("{other:?} in answer to {first:?}")).into()),
    }
    writer.send(&Message::Ready).await?;
    Ok((reader, writer))
}

/// Answers a connection that wants `purpose` of this rank, until it has given proof; returns the rank
/// that made it and its first word.
pub(crate) async fn respond(
    mut stream: TcpStream,
    job: &Job,
    purpose: Purpose,
) -> Result<Arrival, Refusal> {
    let mut theirs = [0; HELLO_BYTES];
    stream.read_exact(&mut theirs).await?;
    let from = Hello::claimed_rank(&theirs);
    let own = job.hello(purpose, from);
    let verdict = own.judge(&theirs);
    if verdict != Err(Mismatch::NotFlambeau) {
        stream.write_all(&own.encode()).await?;
    }
    let attempt = verdict.map_err(Refusal::Mismatch)?.stage_attempt;
    if from >= job.world_size() || from == job.rank() {
        return Err(Refusal::Mismatch(Mismatch::OtherRank));
    }

    let mut noise = noise(job, &theirs, &own.encode(), |builder| {
        builder.build_responder()
    })?;
    let mut bytes = [0; HANDSHAKE_BYTES];
    stream.read_exact(&mut bytes).await?;
    if noise.read_message(&bytes, &mut []).is_err() {
        stream.write_all(&[0; HANDSHAKE_BYTES]).await?;
        return Err(Refusal::Unproved { attempt });
    }
    noise
        .write_message(&[], &mut bytes)
        .map_err(Refusal::Noise)?;
    stream.write_all(&bytes).await?;
    let (mut reader, writer) = link(stream, noise)?;
    let first = reader
        .receive_first()
        .await?
        .ok_or(Refusal::Unproved { attempt })?;
    if attempt != own.stage_attempt {
        return Err(Refusal::OtherAttempt { attempt });
    }
    Ok(Arrival {
        rank: from,
        link: (reader, writer),
        first,
    })
}

fn noise(
    job: &Job,
    initiator: &[u8; HELLO_BYTES],
    responder: &[u8; HELLO_BYTES],
    build: impl FnOnce(Builder<'_>) -> Result<HandshakeState, snow::Error>,
) -> Result<HandshakeState, Refusal> {
    let prologue = [initiator.as_slice(), responder.as_slice()].concat();
    PATTERN
        .parse()
        .and_then(|pattern| {
            build(
                Builder::new(pattern)
                    .psk(0, job.key.bytes())?
                    .prologue(&prologue)?,
            )
        })
        .map_err(Refusal::Noise)
}

fn link(stream: TcpStream, noise: HandshakeState) -> Result<SecureLink, Refusal> {
    let cipher = Arc::new(
        noise
            .into_stateless_transport_mode()
            .map_err(Refusal::Noise)?,
    );
    let (read_half, write_half) = stream.into_split();
    let reader = SecureReader {
        half: read_half,
        cipher: Arc::clone(&cipher),
        frames: 0,
    };
    Ok((
        reader,
        SecureWriter {
            half: write_half,
            cipher,
            frames: 0,
        },
    ))
}

impl SecureReader {
    /// Where the other end is.
    pub(crate) fn peer_address(&self) -> io::Result<SocketAddr> {
        self.half.peer_addr()
    }

    /// The next message. Not to be cancelled half-way: the rest of the stream would be lost.
    pub(crate) async fn receive(&mut self) -> io::Result<Message> {
        let mut json = Vec::new();
        loop {
            let length = usize::from(self.half.read_u16_le().await?);
            let frame = self.open_frame(length).await?;
            let Some([more, piece @ ..]) = frame.as_deref() else {
                return Err(invalid(
                    "a control frame was damaged, repeated or forged".into(),
                ));
            };
            json.extend_from_slice(piece);
            if json.len() > MESSAGE_BYTES {
                return Err(invalid("a control message has no end".into()));
            }
            if *more == 0 {
                return serde_json::from_slice(&json).map_err(|error| invalid(error.to_string()));
            }
        }
    }

    /// The first word; none if it does not come from a holder of the key.
    async fn receive_first(&mut self) -> io::Result<Option<Message>> {
        let json = self.open_frame(FIRST_BYTES + TAG_BYTES).await?;
        json.map(|json| serde_json::from_slice(&json).map_err(|error| invalid(error.to_string())))
            .transpose()
    }

    /// What a frame of `length` bytes holds; none if it was damaged, repeated or forged.
    async fn open_frame(&mut self, length: usize) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0; length];
        self.half.read_exact(&mut frame).await?;
        let mut plain = vec![0; length];
        let opened = self.cipher.read_message(self.frames, &frame, &mut plain);
        self.frames += 1;
        Ok(opened.ok().map(|length| {
            plain.truncate(length);
            plain
        }))
    }
}

impl SecureWriter {
    pub(crate) async fn send(&mut self, message: &Message) -> io::Result<()> {
        let json = to_json(message)?;
        let mut pieces = json.chunks(PIECE_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            let plain = [&[u8::from(pieces.peek().is_some())], piece].concat();
            let length = u16::try_from(plain.len() + TAG_BYTES)
                .map_err(|_| invalid(format!("a frame of {} bytes", plain.len())))?;
            let mut frame = vec![0; 2 + usize::from(length)];
            frame[..2].copy_from_slice(&length.to_le_bytes());
            self.seal(&plain, &mut frame[2..])?;
            self.half.write_all(&frame).await?;
        }
        Ok(())
    }

    async fn send_first(&mut self, message: &Message) -> io::Result<()> {
        let mut json = to_json(message)?;
        if json.len() > FIRST_BYTES {
            return Err(invalid(format!("a first word of {} bytes", json.len())));
        }
        json.resize(FIRST_BYTES, b' ');
        let mut frame = [0; FIRST_BYTES + TAG_BYTES];
        self.seal(&json, &mut frame)?;
        self.half.write_all(&frame).await
    }

    fn seal(&mut self, json: &[u8], frame: &mut [u8]) -> io::Result<()> {
        self.cipher
            .write_message(self.frames, json, frame)
            .map_err(|error| invalid(error.to_string()))?;
        self.frames += 1;
        Ok(())
    }

    /// Says that no more will come; what was sent still arrives.
    pub(crate) async fn finish(&mut self) {
        // The peer may be gone already: then it needs no telling.
        self.half.shutdown().await.ok();
    }
}

/// The bare connection under a link, for data that goes over it in plain.
pub(crate) fn into_stream((reader, writer): SecureLink) -> io::Result<std::net::TcpStream> {
    let stream = reader
        .half
        .reunite(writer.half)
        .map_err(|error| invalid(error.to_string()))?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn to_json(message: &Message) -> io::Result<Vec<u8>> {
    serde_json::to_vec(message).map_err(|error| invalid(error.to_string()))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
