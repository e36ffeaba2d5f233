//! Batches whose memory the JVM reads in place until it gives them back.

use flambeau_formats::columnar::Batch;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

static BATCHES: LazyLock<Mutex<HashMap<i64, (Batch, Spare)>>> = LazyLock::new(Mutex::default);
/// Zero is never an id.
static NEXT: AtomicI64 = AtomicI64::new(1);

/// Where a session finds the memory of a batch that came back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spare(Arc<Mutex<Option<Batch>>>);

impl Spare {
    pub(crate) fn take(&self) -> Option<Batch> {
        lock(&self.0).take()
    }
}

/// Keeps a batch until it is [released](release); gives its id.
pub(crate) fn lend(batch: Batch, spare: &Spare) -> i64 {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    lock(&BATCHES).insert(id, (batch, spare.clone()));
    id
}

/// Takes a batch back; an id that is not out any more is left alone.
pub(crate) fn release(id: i64) {
    let returned = lock(&BATCHES).remove(&id);
    if let Some((batch, spare)) = returned {
        *lock(&spare.0) = Some(batch);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the mutexes guard is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
