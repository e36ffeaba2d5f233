//! Communicators of one process that fail together: one, and those that were split off it.
//!
//! A cause that one of them hears of is told to the others. So a rank that waits in one is woken by a
//! failure in another, and all report the same cause.

use std::sync::{Arc, Weak};

use crate::failure::abort::Shared;

/// A communicator that hears of the failures of another; nothing once it is gone.
#[derive(Clone)]
pub(crate) struct Kin(Weak<Shared>);

impl Kin {
    pub(crate) fn is_there(&self) -> bool {
        self.0.strong_count() > 0
    }

    pub(crate) fn shared(&self) -> Option<Arc<Shared>> {
        self.0.upgrade()
    }
}

/// Has two communicators hear of each other's failures.
pub(crate) fn join(one: &Arc<Shared>, other: &Arc<Shared>) {
    one.tell(Kin(Arc::downgrade(other)));
    other.tell(Kin(Arc::downgrade(one)));
}
