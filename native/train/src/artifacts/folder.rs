//! The local folder that files are written to before the caller moves them to the model directory.

use crate::error::Error;
use crate::event::Event;
use crossbeam::channel::Sender;
use std::fs::File;
use std::os::unix::fs::FileExt;
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

    /// Begins a file that comes in pieces.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(super) fn begin(&self, name: String) -> Result<Begun, Error> {
        let path = self.path.join(&name);
        let fresh = fresh(&path);
        let parent = path.parent().unwrap_or(&self.path);
        let file = std::fs::create_dir_all(parent).and_then(|()| File::create(&fresh));
        let file = file.map_err(|error| cannot_write(&path, error))?;
        Ok(Begun { name, fresh, file })
    }

    /// Puts a file that is whole in its place, and shows it.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(super) fn end(&self, begun: Begun) -> Result<(), Error> {
        let path = self.path.join(&begun.name);
        std::fs::rename(&begun.fresh, &path).map_err(|error| cannot_write(&path, error))?;
        self.show(begun.name);
        Ok(())
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
        let fresh = fresh(path);
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

/// A file that is not whole yet.
#[derive(Debug)]
pub(super) struct Begun {
    name: String,
    /// Where it is until then.
    fresh: PathBuf,
    file: File,
}

impl Begun {
    /// Writes what the file has from byte `at` on.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(super) fn put(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let written = self.file.write_all_at(bytes, at);
        written.map_err(|error| cannot_write(&self.fresh, error))
    }
}

/// Where a file is while it is written.
fn fresh(path: &Path) -> PathBuf {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    fresh.into()
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
