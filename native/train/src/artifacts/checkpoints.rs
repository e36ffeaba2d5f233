//! Checkpoints, written by a thread of their own while training goes on.
//!
//! ```text
//! trainer thread: copies the state --> [one at a time] --> writes, syncs, points to it, tells
//! ```
//! The trainer waits only where it has the next one before the last one is written, so that at most
//! two copies of the state are in memory.

use super::folder::{Folder, cannot_write};
use crate::error::Error;
use crossbeam::channel::{Receiver, Sender, bounded};
use flambeau_formats::checkpoint::{self, Checkpoint};
use flambeau_formats::dtype::DType;
use flambeau_formats::pointer;
use std::thread::JoinHandle;

/// Writes checkpoints into a folder in the order in which they are given.
#[derive(Debug)]
pub(super) struct Checkpoints {
    queue: Option<Sender<Checkpoint>>,
    /// The writer's first failure, with which it ends.
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Checkpoints {
    /// Starts the writer; the newest `keep` checkpoints stay.
    ///
    /// # Errors
    /// [`Error::Storage`] if there can be no thread for it.
    pub(super) fn start(folder: Folder, keep: usize) -> Result<Self, Error> {
        let (queue, given) = bounded(0);
        let place = folder.path().to_owned();
        let thread = std::thread::Builder::new()
            .name("flambeau-checkpoints".to_owned())
            .spawn(move || write_all(&folder, &given, keep))
            .map_err(|error| cannot_write(&place, error))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Hands a checkpoint to the writer, as soon as it is done with the one before.
    ///
    /// # Errors
    /// [`Error::Storage`], why an earlier one could not be written.
    pub(super) fn give(&mut self, checkpoint: Checkpoint) -> Result<(), Error> {
        let given = self.queue.as_ref().map(|queue| queue.send(checkpoint));
        match given {
            Some(Ok(())) => Ok(()),
            // The writer ends early only with a failure.
            _ => self.finish(),
        }
    }

    /// Waits until all that were given are written.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.queue = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            Some(Err(panic)) => Err(Error::Panic(crate::session::panic_message(panic))),
            None => Ok(()),
        }
    }
}

impl Drop for Checkpoints {
    /// The writer is left to itself: nobody will hear of what it still writes.
    fn drop(&mut self) {
        self.queue = None;
    }
}

fn write_all(folder: &Folder, given: &Receiver<Checkpoint>, keep: usize) -> Result<(), Error> {
    for checkpoint in given {
        match not_a_number(&checkpoint) {
            // The next step, or the end of the fit, will find it too, and say so.
            Some(variable) => log::warn!(
                "no checkpoint after step {}: {variable} holds NaN",
                checkpoint.step
            ),
            None => write(folder, &checkpoint, keep)?,
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

/// Leaves the checkpoint, moves the pointer to it, and drops the oldest beyond the number kept.
fn write(folder: &Folder, checkpoint: &Checkpoint, keep: usize) -> Result<(), Error> {
    let committed = pointer::commit(folder.path(), checkpoint, keep)
        .map_err(|error| cannot_write(folder.path(), error))?;
    folder.show(checkpoint::file_name(checkpoint.step));
    // A copy, since the caller may look only after the pointer has moved on.
    let pointer = folder.path().join(pointer::FILE);
    let path = pointer.with_extension(checkpoint.step.to_string());
    std::fs::copy(&pointer, &path).map_err(|error| cannot_write(&path, error))?;
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

    fn at(step: u64, value: f32) -> Checkpoint {
        Checkpoint {
            step,
            manifest: serde_json::Value::Null,
            tensors: vec![("weights".to_owned(), Array::scalar(value))],
        }
    }

    #[test]
    fn each_is_told_with_its_pointer_behind_it_and_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        let (tell, told) = unbounded();
        let folder = Folder::new(directory.path().to_owned(), tell);
        let mut checkpoints = Checkpoints::start(folder, 2).unwrap();
        for (step, value) in [(1, 1.0), (2, f32::NAN), (3, 3.0), (4, 4.0)] {
            checkpoints.give(at(step, value)).unwrap();
        }
        checkpoints.finish().unwrap();
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
        let mut checkpoints = Checkpoints::start(Folder::new(gone.clone(), tell), 1).unwrap();
        checkpoints.give(at(1, 1.0)).unwrap();
        let error = checkpoints.give(at(2, 2.0)).unwrap_err().to_string();
        assert!(error.contains(gone.to_str().unwrap()), "{error}");
        assert_eq!(told.try_iter().count(), 0);
    }
}
