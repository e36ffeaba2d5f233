//! Rank 0's checkpoints and models, written by a thread of their own while training goes on.
//!
//! ```text
//! trainer thread: copies the state --> [one at a time] --> writes, syncs, points to it, tells
//! ```
//! The trainer waits only where it has the next one before the last one is written, so that at most
//! two copies of the state are in memory; and not for a disk that does not answer where nobody waits
//! for the fit any more.

use super::folder::{Folder, cannot_write};
use crate::error::Error;
use crate::session::Stop;
use crossbeam::channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};
use flambeau_formats::checkpoint::{self, Checkpoint};
use flambeau_formats::dtype::DType;
use flambeau_formats::pointer::{self, Committed};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a wait lasts before cancellation is looked at again.
const TICK: Duration = Duration::from_millis(50);

/// What is to be written.
pub(super) enum Work {
    Checkpoint(Checkpoint),
    /// A checkpoint that is there already, after so many steps.
    Written {
        step: u64,
        path: PathBuf,
    },
    File {
        name: String,
        bytes: Vec<u8>,
    },
    /// A file comes in pieces.
    Begin {
        name: String,
    },
    /// What it has from byte `at` on.
    Piece {
        at: u64,
        bytes: Vec<u8>,
    },
    /// It is whole.
    End,
}

/// Writes into a folder in the order in which things are given.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<Sender<Work>>,
    /// Ends with its first failure.
    thread: Option<JoinHandle<Result<(), Error>>>,
    /// Closed when the thread has ended.
    ended: Receiver<()>,
    stop: Stop,
}

impl Writer {
    /// Starts the thread; the newest `keep` checkpoints stay. Waits for it end with `stop`.
    ///
    /// # Errors
    /// [`Error::Storage`] if there can be no thread.
    pub(super) fn start(folder: Folder, keep: usize, stop: Stop) -> Result<Self, Error> {
        let (queue, given) = bounded(0);
        let (ending, ended) = bounded::<()>(0);
        let place = folder.path().to_owned();
        let thread = std::thread::Builder::new()
            .name("flambeau-writer".to_owned())
            .spawn(move || {
                let _ending = ending;
                write_all(&folder, &given, keep)
            })
            .map_err(|error| cannot_write(&place, error))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            ended,
            stop,
        })
    }

    /// Hands something to the thread, as soon as it is done with what came before.
    ///
    /// # Errors
    /// [`Error::Storage`], why something earlier could not be written; [`Error::Cancelled`], or why the
    /// job has failed meanwhile.
    pub(super) fn give(&mut self, mut work: Work) -> Result<(), Error> {
        while let Some(queue) = &self.queue {
            match queue.send_timeout(work, TICK) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(unsent)) => {
                    self.check()?;
                    work = unsent;
                }
                Err(SendTimeoutError::Disconnected(_)) => break,
            }
        }
        // The thread ends early only with a failure.
        self.finish()
    }

    /// Waits until all that was given is written.
    ///
    /// # Errors
    /// As [`give`](Self::give).
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.queue = None;
        while self.ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            self.check()?;
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            Some(Err(panic)) => Err(Error::Panic(crate::session::panic_message(panic))),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), Error> {
        self.stop.check("the writing of its files")
    }
}

impl Drop for Writer {
    /// The thread is left to itself: nobody will hear of what it still writes.
    fn drop(&mut self) {
        self.queue = None;
    }
}

fn write_all(folder: &Folder, given: &Receiver<Work>, keep: usize) -> Result<(), Error> {
    let mut begun = None;
    for work in given {
        match work {
            Work::File { name, bytes } => folder.write(&name, &bytes)?,
            Work::Begin { name } => begun = Some(folder.begin(name)?),
            Work::Piece { at, bytes } => begun.iter().try_for_each(|file| file.put(at, &bytes))?,
            Work::End => begun.take().map_or(Ok(()), |file| folder.end(file))?,
            Work::Written { step, path } => {
                show(
                    folder,
                    step,
                    pointer::point_to(folder.path(), step, path, keep),
                )?;
            }
            Work::Checkpoint(checkpoint) => match not_a_number(&checkpoint) {
                // The next step, or the end of the fit, will find it too, and say so.
                Some(variable) => log::warn!(
                    "no checkpoint after step {}: {variable} holds NaN",
                    checkpoint.step
                ),
                None => {
                    let committed = pointer::commit(folder.path(), &checkpoint, keep);
                    show(folder, checkpoint.step, committed)?;
                }
            },
        }
    }
    Ok(())
}

/// A variable or a slot of the optimizer that a fit could not go on from.
fn not_a_number(checkpoint: &Checkpoint) -> Option<&str> {
    let mut tensors = checkpoint.tensors.iter();
    let bad = tensors.find(|(_, array)| {
        let (values, _) = array.bytes().as_chunks();
        let mut values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
        array.dtype() == DType::Float32 && values.any(f32::is_nan)
    });
    bad.map(|(name, _)| name.as_str())
}

/// Shows the checkpoint of `step`, which the pointer has been moved to, and drops the oldest beyond the
/// number kept.
fn show(
    folder: &Folder,
    step: u64,
    committed: flambeau_formats::Result<Committed>,
) -> Result<(), Error> {
    let committed = committed.map_err(|error| cannot_write(folder.path(), error))?;
    folder.show(checkpoint::file_name(step));
    // A copy, since the caller may look only after the pointer has moved on.
    let pointer = folder.path().join(pointer::FILE);
    let path = pointer.with_extension(step.to_string());
    let text = std::fs::read(&pointer).map_err(|error| cannot_write(&path, error))?;
    folder.replace(&path, &text)?;
    folder.show_as(path, pointer::FILE.to_owned());
    committed
        .superseded
        .into_iter()
        .for_each(|name| folder.drop_file(name));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crossbeam::channel::unbounded;
    use flambeau_formats::array::Array;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::process::Command;
    use std::time::Instant;

    fn at(step: u64, value: f32) -> Work {
        Work::Checkpoint(Checkpoint {
            step,
            manifest: serde_json::Value::Null,
            tensors: vec![("weights".to_owned(), Array::scalar(value))],
        })
    }

    fn start(folder: &Path, tell: Sender<Event>, keep: usize, stop: &Stop) -> Writer {
        Writer::start(Folder::new(folder.to_owned(), tell), keep, stop.clone()).unwrap()
    }

    /// An asynchronous fit closes several epochs after one step.
    #[test]
    fn a_second_checkpoint_of_a_step_leaves_what_is_being_read_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (tell, told) = unbounded();
        let mut writer = start(directory.path(), tell, 2, &Stop::default());
        writer.give(at(7, 1.0)).unwrap();
        let mut open = Vec::new();
        for _ in 0..2 {
            let event = told.recv_timeout(Duration::from_secs(20)).unwrap();
            let Event::File { path, .. } = event else {
                panic!("{event:?}");
            };
            open.push((
                std::fs::read(&path).unwrap(),
                std::fs::File::open(path).unwrap(),
            ));
        }
        writer.give(at(7, 2.0)).unwrap();
        writer.finish().unwrap();
        for (before, mut file) in open {
            let links = file.metadata().unwrap().nlink();
            assert_eq!(links, 0, "it was replaced, not written to");
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, before);
        }
    }

    #[test]
    fn each_is_told_with_its_pointer_behind_it_and_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        let (tell, told) = unbounded();
        let mut writer = start(directory.path(), tell, 2, &Stop::default());
        for (step, value) in [(1, 1.0), (2, f32::NAN), (3, 3.0), (4, 4.0)] {
            writer.give(at(step, value)).unwrap();
        }
        let (name, bytes) = ("export/model".to_owned(), b"all".to_vec());
        writer.give(Work::File { name, bytes }).unwrap();
        writer.finish().unwrap();
        let told = told.try_iter().map(|event| match event {
            Event::File { name, .. } => name,
            Event::Remove { name, .. } => format!("no {name}"),
            other => panic!("{other:?}"),
        });
        let expected = [
            "ckpt-1.safetensors",
            "checkpoint",
            "ckpt-3.safetensors",
            "checkpoint",
            "ckpt-4.safetensors",
            "checkpoint",
            "no ckpt-1.safetensors",
            "export/model",
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        let newest = pointer::Pointer::read(directory.path()).unwrap().unwrap();
        assert_eq!((newest.newest, newest.all), (4, vec![3, 4]));
    }

    #[test]
    fn one_that_cannot_be_written_fails_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let (tell, told) = unbounded();
        let gone = directory.path().join("gone");
        let mut writer = start(&gone, tell, 1, &Stop::default());
        writer.give(at(1, 1.0)).unwrap();
        let error = writer.give(at(2, 2.0)).unwrap_err().to_string();
        assert!(error.contains(gone.to_str().unwrap()), "{error}");
        assert_eq!(told.try_iter().count(), 0);
    }

    /// The disk is a pipe that nobody reads from: to open it takes for ever.
    #[test]
    fn nobody_who_is_cancelled_waits_for_a_disk_that_does_not_answer() {
        for waits_for_the_end in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let pipe = directory.path().join("ckpt-1.safetensors.tmp");
            let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
            assert!(made.success());
            let (tell, _told) = unbounded();
            let stop = Stop::default();
            let mut writer = start(directory.path(), tell, 1, &stop);
            writer.give(at(1, 1.0)).unwrap();
            let canceller = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                stop.cancel();
                Instant::now()
            });
            let outcome = if waits_for_the_end {
                writer.finish()
            } else {
                writer.give(at(2, 2.0))
            };
            let noticed = Instant::now();
            assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
            let cancelled = canceller.join().unwrap();
            assert!(noticed.saturating_duration_since(cancelled) < Duration::from_secs(1));
            drop(writer);
            // Lets the thread go on to its end.
            std::fs::read(&pipe).unwrap();
        }
    }
}
