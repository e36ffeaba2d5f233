//! One connection for calls: what comes over it, and what goes out.

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::calls::endpoint::Event;
use crate::calls::line::{Awaited, EndOfLine, Outbox};
use crate::calls::message::{Message, MessageReader, MessageWriter};
use crate::config::Config;
use crate::failure::cause::Cause;
use crate::transport::frame::Kind;

/// Calls of one caller that may wait for their answers; more are not read.
const CALLS: usize = 8;

/// How a connection ended.
pub(crate) enum End {
    /// The peer has told why.
    Told(Cause),
    /// It is gone.
    Lost(String),
    /// It sent what cannot be right.
    Wrong(String),
}

/// What a peer is to this rank.
pub(crate) enum Peer {
    /// It is called.
    Called(Arc<Awaited>),
    /// It calls: which rank, and who hears of it.
    Caller(usize, mpsc::Sender<Event>),
}

/// The answer to a call, to be given at any time. To drop it without is to leave the caller waiting.
#[derive(Debug)]
pub struct Answer {
    outbox: Outbox,
    number: u64,
    _turn: OwnedSemaphorePermit,
}

impl Answer {
    /// Sends it. A caller that is gone does not get it.
    pub fn give(self, body: Vec<u8>) {
        let message = Message {
            kind: Kind::Answer,
            number: self.number,
            body,
        };
        self.outbox.send(Some(message)).ok();
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(
    (reader, writer): (MessageReader, MessageWriter),
    (outbox, outgoing): (Outbox, UnboundedReceiver<Option<Message>>),
    peer: Peer,
    config: &Config,
) -> End {
    let writing = tokio::spawn(write(writer, outgoing, config.heartbeat()));
    let end = read(reader, outbox, peer, config.dead_after()).await;
    writing.abort();
    end
}

async fn read(mut reader: MessageReader, outbox: Outbox, peer: Peer, dead_after: Duration) -> End {
    let _end = match &peer {
        Peer::Called(awaited) => Some(EndOfLine(Arc::clone(awaited))),
        Peer::Caller(..) => None,
    };
    let turns = Arc::new(Semaphore::new(CALLS));
    loop {
        let message = match reader.receive(dead_after).await {
            Ok(message) => message,
            Err(error) => return end_of(&error, dead_after),
        };
        match (message.kind, &peer) {
            (Kind::Heartbeat, _) => {}
            (Kind::Failure, _) => {
                return match serde_json::from_slice(&message.body) {
                    Ok(cause) => End::Told(cause),
                    Err(error) => {
                        End::Wrong(format!("it failed for a reason unknown here: {error}"))
                    }
                };
            }
            (Kind::Answer, Peer::Called(awaited)) => {
                if !awaited.take(message.number, message.body) {
                    return End::Wrong(format!("it answers call {}, which it has", message.number));
                }
            }
            (Kind::Call, Peer::Caller(rank, events)) => {
                let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
                    return End::Lost("its calls are no longer taken".to_owned());
                };
                let answer = Answer {
                    outbox: outbox.clone(),
                    number: message.number,
                    _turn: turn,
                };
                let call = Event::Call {
                    rank: *rank,
                    body: message.body,
                    answer,
                };
                if events.send(call).is_err() {
                    return End::Lost("its calls are no longer taken".to_owned());
                }
            }
            (kind, _) => return End::Wrong(format!("{kind} is not its to send")),
        }
    }
}

fn end_of(error: &io::Error, dead_after: Duration) -> End {
    match error.kind() {
        io::ErrorKind::InvalidData => End::Wrong(error.to_string()),
        io::ErrorKind::UnexpectedEof => {
            End::Lost("its process ended, or closed its connection".to_owned())
        }
        io::ErrorKind::TimedOut => End::Lost(format!(
            "nothing was heard of it for {:.1} s: its process or host is frozen, or the network is cut",
            dead_after.as_secs_f64()
        )),
        _ => End::Lost(format!("its connection broke: {error}")),
    }
}

/// Sends what there is to send, and heartbeats between.
async fn write(
    mut writer: MessageWriter,
    mut outgoing: UnboundedReceiver<Option<Message>>,
    heartbeat: Duration,
) {
    loop {
        let message = match timeout(heartbeat, outgoing.recv()).await {
            Ok(Some(Some(message))) => message,
            Ok(_) => break,
            Err(_nothing) => Message::heartbeat(),
        };
        // The reader finds out why.
        if writer.send(&message).await.is_err() {
            return;
        }
    }
    writer.finish().await;
}
