//! The local folder that files are written to before the caller moves them to the model directory.

use crate::error::Error;
use crate::event::Event;
use crossbeam::channel::Sender;
use std::path::{Path, PathBuf};

/// A folder, and who is told when a file in it is whole.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    events: Sender<Event>,
}

impl Folder {
    pub(super) fn new(path: PathBuf, events: Sender<Event>) -> Self {
        Self { path, events }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file and shows it.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path.join(name);
        self.replace(&path, bytes)?;
        self.show(name.to_owned());
        Ok(())
    }

    /// Writes a file, in place of an earlier one that the caller may still be reading: whole.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let folder = path.parent().unwrap_or(&self.path);
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&fresh, bytes))
            .and_then(|()| std::fs::rename(&fresh, path))
            .map_err(|error| cannot_write(path, error))
    }

    /// Tells the caller of a file that is whole.
    pub(super) fn show(&self, name: String) {
        self.show_as(self.path.join(&name), name);
    }

    /// Tells the caller of a file that goes by another name in the model directory.
    pub(super) fn show_as(&self, path: PathBuf, name: String) {
        self.tell(Event::File { path, name });
    }

    /// Tells the caller that a file is no longer needed.
    pub(super) fn drop_file(&self, name: String) {
        let path = self.path.join(&name);
        self.tell(Event::Remove { path, name });
    }

    fn tell(&self, event: Event) {
        // A closed session has nobody left to move files for.
        self.events.send(event).ok();
    }
}

pub(crate) fn cannot_write(
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Storage {
        what: "cannot write",
        path: path.to_owned(),
        source: error.into(),
    }
}
