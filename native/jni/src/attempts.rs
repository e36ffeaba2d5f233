//! What this process keeps of fits whose attempt has failed, for the next attempt: the model and its
//! optimizer as they were then. Spark tries the stage again within seconds, most likely here; what
//! is not fetched by then is given up, and costs the steps since the last checkpoint.

use flambeau_formats::checkpoint::Checkpoint;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Fits of which a state is kept: those that failed last.
const FITS: usize = 4;

/// For how long.
const PATIENCE: Duration = Duration::from_secs(600);

struct Kept {
    run_id: String,
    state: Arc<Checkpoint>,
    until: Instant,
}

#[derive(Default)]
struct Table {
    kept: VecDeque<Kept>,
    /// Whether a thread waits to give up what nobody fetches.
    watched: bool,
}

static TABLE: Mutex<Table> = Mutex::new(Table {
    kept: VecDeque::new(),
    watched: false,
});
static CHANGED: Condvar = Condvar::new();

/// Keeps the state of a fit unless a newer one of it is kept: several of its ranks may be here.
pub(crate) fn keep(run_id: &str, state: Arc<Checkpoint>) {
    let mut table = lock();
    if table
        .kept
        .iter()
        .any(|kept| kept.run_id == run_id && kept.state.step >= state.step)
    {
        return;
    }
    table.kept.retain(|kept| kept.run_id != run_id);
    table.kept.push_back(Kept {
        run_id: run_id.to_owned(),
        state,
        until: Instant::now() + PATIENCE,
    });
    while table.kept.len() > FITS {
        table.kept.pop_front();
    }
    if !table.watched {
        let watch = std::thread::Builder::new().name("flambeau-kept".to_owned());
        // Without the thread the state stays until other fits fail.
        table.watched = watch.spawn(watch_table).is_ok();
    }
}

/// The newest state of a fit that is kept.
pub(crate) fn newest(run_id: &str) -> Option<Arc<Checkpoint>> {
    let table = lock();
    let kept = table.kept.iter().find(|kept| kept.run_id == run_id)?;
    Some(Arc::clone(&kept.state))
}

/// Gives up what is kept of a fit: it has gone on, or will not.
pub(crate) fn forget(run_id: &str) {
    lock().kept.retain(|kept| kept.run_id != run_id);
    CHANGED.notify_all();
}

/// Gives up states whose time is over, until there are none.
fn watch_table() {
    let mut table = lock();
    loop {
        let now = Instant::now();
        table.kept.retain(|kept| kept.until > now);
        let Some(next) = table.kept.iter().map(|kept| kept.until).min() else {
            table.watched = false;
            return;
        };
        let waited = CHANGED.wait_timeout(table, next - now);
        table = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn lock() -> MutexGuard<'static, Table> {
    // The table is whole between any two of its operations.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep_step(run_id: &str, step: u64) {
        let state = Checkpoint {
            step,
            manifest: serde_json::Value::Null,
            tensors: Vec::new(),
        };
        keep(run_id, Arc::new(state));
    }

    fn step_of(run_id: &str) -> Option<u64> {
        newest(run_id).map(|state| state.step)
    }

    #[test]
    fn the_newest_state_of_each_of_the_last_fits_is_kept_until_it_is_forgotten() {
        assert_eq!(step_of("a"), None);
        for step in [5, 7, 6] {
            keep_step("a", step);
        }
        assert_eq!(step_of("a"), Some(7));
        for run_id in ["b", "c", "d", "e"] {
            keep_step(run_id, 1);
        }
        assert_eq!([step_of("a"), step_of("e")], [None, Some(1)]);
        for run_id in ["b", "c", "d", "e"] {
            forget(run_id);
            assert_eq!(step_of(run_id), None);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while lock().watched {
            assert!(Instant::now() < deadline, "the thread that watches stays");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
