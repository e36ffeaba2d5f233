//! What native code logs, for the JVM's logger. Native threads never call into the JVM, so lines wait
//! here until it takes them: a bounded number of the newest ones, as it may never come.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::Serialize;

/// Lines that wait. A line is a few hundred bytes.
const LIMIT: usize = 512;

/// One line.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Line {
    level: &'static str,
    /// Who says it: by its name, the thread of a rank.
    thread: String,
    message: String,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Line>,
    dropped: u64,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    lines: VecDeque::new(),
    dropped: 0,
});

/// Has lines kept from now on; again is harmless.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only if something else in this process has this copy of the `log` crate, which is in
        // this library alone.
        if log::set_logger(&Waiting).is_ok() {
            log::set_max_level(LevelFilter::Info);
        }
    });
}

/// Takes what waits, of which there may be nothing, and has lines of `debug` kept too from now on, or
/// not.
pub(crate) fn take(debug: bool) -> Vec<Line> {
    let level = if debug {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    };
    log::set_max_level(level);
    queue().take()
}

fn queue() -> MutexGuard<'static, Queue> {
    // The queue is whole between any two of its operations.
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn add(&mut self, line: Line) {
        if self.lines.len() == LIMIT {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(line);
    }

    fn take(&mut self) -> Vec<Line> {
        let dropped = std::mem::take(&mut self.dropped);
        let lost = (dropped > 0).then(|| Line {
            level: name(Level::Warn),
            thread: "flambeau".to_owned(),
            message: format!("{dropped} lines before these were dropped, as nobody took them"),
        });
        lost.into_iter().chain(self.lines.drain(..)).collect()
    }
}

struct Waiting;

impl Log for Waiting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("flambeau")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = Line {
            level: name(record.level()),
            thread: std::thread::current()
                .name()
                .unwrap_or("flambeau")
                .to_owned(),
            message: record.args().to_string(),
        };
        queue().add(line);
    }

    fn flush(&self) {}
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_the_others_counted() {
        let mut queue = Queue::default();
        for number in 0..LIMIT + 3 {
            queue.add(Line {
                level: "info",
                thread: "t".to_owned(),
                message: number.to_string(),
            });
        }
        let lines = queue.take();
        assert_eq!(lines.len(), LIMIT + 1);
        assert!(lines[0].message.starts_with("3 lines"), "{:?}", lines[0]);
        assert_eq!(lines[1].message, "3");
        assert!(queue.take().is_empty());
    }

    #[test]
    fn a_line_carries_the_name_of_its_thread() {
        install();
        let work = || log::warn!(target: "flambeau_test", "waiting for rank {}", 3);
        let thread = std::thread::Builder::new().name("flambeau-1 control of run r".to_owned());
        thread
            .spawn(work)
            .expect("a thread")
            .join()
            .expect("no panic");
        let lines = take(false);
        let line = lines
            .iter()
            .find(|line| line.message == "waiting for rank 3");
        let line = line.expect("it was kept");
        assert_eq!(line.level, "warn");
        assert_eq!(line.thread, "flambeau-1 control of run r");
    }
}
