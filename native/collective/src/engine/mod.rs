//! One rank's end of the operations, as the rest of the program sees it.

pub(crate) mod communicator;
