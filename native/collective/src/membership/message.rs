//! What ranks say over encrypted links: one JSON value per frame.

use serde::{Deserialize, Serialize};

use crate::failure::abort::Position;
use crate::failure::cause::Cause;
use crate::transport::inbox::Address;
use crate::transport::keys::ConnectionKey;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// First word on a control connection: where the sender takes its data connections, and its
    /// inbox, if it has one, for ranks that can reach it.
    Join {
        data_port: u16,
        inbox: Option<Address>,
    },
    /// First word on a data connection, of which all keys of its frames derive.
    Link { key: ConnectionKey },
    /// First word on a connection for calls, with the same kind of key, and which of the sender's
    /// processes has made it: a later one has the larger number.
    Call {
        key: ConnectionKey,
        incarnation: u64,
    },
    /// The answer to a first word: the sender offers to take the connection.
    Welcome,
    /// The answer to that: both have the connection now.
    Ready,
    /// From rank 0 once all have joined: the data port and the inbox of every rank.
    Table {
        data_ports: Vec<u16>,
        inboxes: Vec<Option<Address>>,
    },
    /// The ranks in whose inboxes the sender has found their tokens.
    Reached { ranks: Vec<usize> },
    /// From rank 0 once all have said whom they reached: ranks with the same number share memory.
    Groups { ids: Vec<usize> },
    /// The rank furthest behind among those the sender knows of.
    Heartbeat(Position),
    /// From rank 0, for the log: who holds the others up.
    Warning(String),
    /// The job has failed, and why.
    Failed(Cause),
    /// The sender has nothing more to do.
    Leave,
    /// From rank 0 once all want to leave.
    Farewell,
}
