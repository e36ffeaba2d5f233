//! The file that holds the blocks beyond the budget.
//!
//! It loses its name as soon as it is open: whatever ends the process, nothing stays on the disk.

use crate::error::Error;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

/// What a full disk keeps from being done; more memory for rows would need less of it.
const KEEP: &str = "cannot keep rows beyond spark.flambeau.cache.memory in";

/// The file, once there is something to put into it.
#[derive(Debug)]
pub(crate) struct Spill {
    path: PathBuf,
    file: Option<File>,
    end: u64,
    /// Places whose blocks are no longer needed.
    free: Vec<Extent>,
}

/// A place in the file; another block may be in it once it is given back.
#[derive(Debug)]
pub(crate) struct Extent {
    /// Its first byte.
    pub(crate) at: u64,
    size: u64,
}

impl Spill {
    /// A file in `folder`, which is not touched yet.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            path: folder.join("rows.spill"),
            file: None,
            end: 0,
            free: Vec::new(),
        }
    }

    /// Puts bytes into a place that no block holds.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<Extent, Error> {
        let size = bytes.len() as u64;
        let freed = self.free.iter().position(|extent| extent.size >= size);
        let extent = match freed {
            Some(at) => self.free.swap_remove(at),
            None => Extent { at: self.end, size },
        };
        let written = match &self.file {
            Some(file) => file.write_all_at(bytes, extent.at),
            None => self.open().and_then(|file| {
                file.write_all_at(bytes, extent.at)?;
                self.file = Some(file);
                Ok(())
            }),
        };
        written.map_err(|source| self.failed(KEEP, source))?;
        self.end = self.end.max(extent.at + extent.size);
        Ok(extent)
    }

    /// Reads the bytes from `at` on.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let read = match &self.file {
            Some(file) => file.read_exact_at(bytes, at),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        read.map_err(|source| self.failed("cannot read back the rows in", source))
    }

    /// Takes back a place.
    pub(crate) fn release(&mut self, extent: Extent) {
        self.free.push(extent);
    }

    /// Bytes of the file.
    #[cfg(test)]
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&self.path)?;
        std::fs::remove_file(&self.path)?;
        Ok(file)
    }

    fn failed(&self, what: &'static str, source: io::Error) -> Error {
        Error::Storage {
            what,
            path: self.path.clone(),
            source: source.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_the_file_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(folder.path().to_owned());
        let first = spill.write(b"first").unwrap();
        let second = spill.write(b"second").unwrap();
        let mut bytes = [0; 6];
        spill.read(second.at, &mut bytes).unwrap();
        assert_eq!(&bytes, b"second");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        spill.release(first);
        assert_eq!(spill.write(b"1st").unwrap().at, 0);
        assert_eq!(spill.end(), 11);
    }

    #[test]
    fn a_full_disk_is_an_error_that_says_so() {
        let mut spill = Spill::new(PathBuf::from("/local"));
        spill.file = OpenOptions::new().write(true).open("/dev/full").ok();
        assert_eq!(
            spill.write(b"bytes").unwrap_err().to_string(),
            "cannot keep rows beyond spark.flambeau.cache.memory in /local/rows.spill: No space \
             left on device (os error 28). Check space and permissions of spark.local.dir"
        );
    }
}
