//! The end of the JVM. When it exits, C++ takes libtorch's tables apart while other threads may still
//! use them, which is a crash. So from the moment the JVM says that it ends no call begins any more, and
//! those that run, and the threads of sessions, are waited for.

use crate::error::Error;
use crate::sessions;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A cancelled session's thread looks at that several times a second.
const PATIENCE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(5);

static ENDING: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// A native call that runs.
#[derive(Debug)]
pub(crate) struct Call(());

impl Call {
    /// One that may run at any time, as it computes nothing.
    pub(crate) fn always() -> Self {
        CALLS.fetch_add(1, Ordering::SeqCst);
        Self(())
    }

    /// One that must not begin when the JVM ends.
    pub(crate) fn begin() -> Result<Self, Error> {
        let call = Self::always();
        if ENDING.load(Ordering::SeqCst) {
            return Err(Error::Ending);
        }
        Ok(call)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        CALLS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Cancels all sessions and waits until nothing uses libtorch any more, within two seconds.
pub(crate) fn shut_down() {
    ENDING.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Again and again: a call that had begun may have opened one.
        let busy = sessions::cancel_all();
        if (CALLS.load(Ordering::SeqCst) == 0 && !busy) || Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(TICK);
    }
}
