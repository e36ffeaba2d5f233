//! What ranks say over encrypted links: one JSON value per frame.

use serde::{Deserialize, Serialize};

use crate::failure::abort::Position;
use crate::failure::cause::Cause;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// First word on a control connection: where the sender takes its data connection.
    Join { data_port: u16 },
    /// First word on a data connection.
    Link,
    /// The answer to a first word: the sender offers to take the connection.
    Welcome,
    /// The answer to that: both have the connection now.
    Ready,
    /// From rank 0 once all have joined: the data port of every rank.
    Table { data_ports: Vec<u16> },
    /// The rank furthest behind among those the sender knows of.
    Heartbeat(Position),
    /// The job has failed, and why.
    Failed(Cause),
    /// The sender has nothing more to do.
    Leave,
    /// From rank 0 once all want to leave.
    Farewell,
}
