//! What a rank knows of another one, and its way to tell it something without ever waiting for it.

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;

use crate::failure::pace::Pace;
use crate::membership::handshake::SecureWriter;
use crate::membership::message::Message;

/// Messages that may wait for a peer that does not read. One that lets so many wait, nearly all of
/// them heartbeats, is found dead by its own silence.
const OUTBOX: usize = 64;

pub(crate) struct Peer {
    /// None once there is nothing more to tell.
    outbox: Option<Sender<Message>>,
    pub(crate) heard: Instant,
    pub(crate) pace: Pace,
    pub(crate) leaving: bool,
    pub(crate) closed: bool,
}

impl Peer {
    pub(crate) fn new(pace: Pace, writer: SecureWriter) -> Self {
        let (outbox, messages) = channel(OUTBOX);
        tokio::spawn(write(writer, messages));
        Self {
            outbox: Some(outbox),
            heard: Instant::now(),
            pace,
            leaving: false,
            closed: false,
        }
    }

    /// A peer that cannot be told is found dead by its reader or by its silence.
    pub(crate) fn tell(&self, message: &Message) {
        if let Some(outbox) = &self.outbox {
            outbox.try_send(message.clone()).ok();
        }
    }

    /// Says that no more will come; what was told before still goes out.
    pub(crate) fn finish(&mut self) {
        self.outbox = None;
    }
}

async fn write(mut writer: SecureWriter, mut messages: Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        if writer.send(&message).await.is_err() {
            return;
        }
    }
    writer.finish().await;
}
