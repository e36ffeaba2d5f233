//! The handle table: never-reused ids to sessions, so that a stale handle is an error, not a
//! crash. `get` clones the `Arc`, so closing a session on one thread cannot free it under a call
//! on another.

use crate::error::Error;
use crate::session::Session;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

static SESSIONS: LazyLock<Mutex<HashMap<i64, Arc<Session>>>> = LazyLock::new(Mutex::default);
/// Zero is never a handle.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// Puts a session into the table and gives its handle.
pub(crate) fn add(session: Session) -> i64 {
    let handle = NEXT.fetch_add(1, Ordering::Relaxed);
    table().insert(handle, Arc::new(session));
    handle
}

/// The session of `handle`.
pub(crate) fn get(handle: i64) -> Result<Arc<Session>, Error> {
    table().get(&handle).cloned().ok_or(Error::NotOpen(handle))
}

/// Takes a session out of the table; none if it was closed already.
pub(crate) fn remove(handle: i64) -> Option<Arc<Session>> {
    table().remove(&handle)
}

/// Cancels every session that is open, and says whether any of them still has a thread at work.
pub(crate) fn cancel_all() -> bool {
    let sessions: Vec<_> = table().values().cloned().collect();
    sessions.iter().for_each(|session| session.cancel());
    sessions.iter().any(|session| session.is_busy())
}

/// Sessions not closed.
pub(crate) fn count() -> usize {
    table().len()
}

fn table() -> MutexGuard<'static, HashMap<i64, Arc<Session>>> {
    // The table is consistent between any two of its operations, so a panic elsewhere while it
    // was locked does not spoil it.
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}
