//! A file that is written while what goes into it is made: pieces of it travel to the writer's thread, so
//! that it need not be in memory, and nobody waits for a disk that does not answer.

use super::writer::{Work, Writer};
use crate::error::Error;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};

/// Bytes that travel at once.
const PIECE: usize = 1 << 20;

/// A file whose pieces the writer's thread puts where they belong.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    writer: &'a mut Writer,
    /// What has not travelled yet, and where it begins.
    piece: Vec<u8>,
    start: u64,
    /// How long the file is by now.
    end: u64,
    /// Why the writer took no more.
    failed: Option<Error>,
}

impl<'a> Stream<'a> {
    /// Begins a file; it is there, and shown, once it is [ended](Self::end).
    ///
    /// # Errors
    /// Those of [`Writer::give`].
    pub(super) fn begin(writer: &'a mut Writer, name: &str) -> Result<Self, Error> {
        let name = name.to_owned();
        writer.give(Work::Begin { name })?;
        Ok(Self {
            writer,
            piece: Vec::new(),
            start: 0,
            end: 0,
            failed: None,
        })
    }

    /// Ends the file, given how its making ended: what the writer failed with comes before what that
    /// led to.
    ///
    /// # Errors
    /// Those of [`Writer::give`], that of `made`.
    pub(super) fn end<T, E: Into<Error>>(mut self, made: Result<T, E>) -> Result<T, Error> {
        // What it fails with is kept.
        self.flush().ok();
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let made = made.map_err(Into::into)?;
        self.writer.give(Work::End)?;
        Ok(made)
    }

    fn at(&self) -> u64 {
        self.start + self.piece.len() as u64
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.piece.extend_from_slice(taken);
        self.end = self.end.max(self.at());
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.piece);
        if bytes.is_empty() {
            return Ok(());
        }
        let at = self.start;
        self.start += bytes.len() as u64;
        let given = self.writer.give(Work::Piece { at, bytes });
        given.map_err(|error| {
            self.failed = Some(error);
            io::Error::other("the writer of files has failed")
        })
    }
}

impl Seek for Stream<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.flush()?;
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => self.start.checked_add_signed(by),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
        };
        self.start = to.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::super::folder::Folder;
    use super::*;
    use crate::session::Stop;
    use crossbeam::channel::unbounded;
    use std::path::Path;

    fn writer(folder: &Path) -> (Writer, crossbeam::channel::Receiver<crate::event::Event>) {
        let (tell, told) = unbounded();
        let folder = Folder::new(folder.to_owned(), tell);
        (Writer::start(folder, 1, Stop::default()).unwrap(), told)
    }

    #[test]
    fn pieces_and_places_come_to_one_file_that_is_shown_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let (mut writer, told) = writer(directory.path());
        let mut stream = Stream::begin(&mut writer, "export/long").unwrap();
        let long: Vec<u8> = (0..=250).cycle().take(3 * PIECE + 5).collect();
        let write = |stream: &mut Stream<'_>| -> io::Result<()> {
            stream.write_all(b"later")?;
            stream.write_all(&long)?;
            assert_eq!(stream.stream_position()?, 5 + long.len() as u64);
            stream.rewind()?;
            stream.write_all(b"first")?;
            assert_eq!(stream.seek(SeekFrom::End(0))?, 5 + long.len() as u64);
            stream.write_all(b"last")
        };
        write(&mut stream).unwrap();
        assert_eq!(told.try_iter().count(), 0);
        stream.end(Ok::<_, Error>(())).unwrap();
        writer.finish().unwrap();
        assert_eq!(told.try_iter().count(), 1);
        let written = std::fs::read(directory.path().join("export/long")).unwrap();
        assert!(written == [b"first", long.as_slice(), b"last"].concat());
        let others = std::fs::read_dir(directory.path().join("export")).unwrap();
        assert_eq!(others.count(), 1);
    }

    #[test]
    fn a_disk_that_refuses_is_the_cause_of_what_could_not_be_made() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("file");
        std::fs::write(&place, "no folder").unwrap();
        let (mut writer, _told) = writer(&place);
        let mut stream = Stream::begin(&mut writer, "model").unwrap();
        let made = stream
            .write_all(&vec![0; 2 * PIECE])
            .and_then(|()| stream.flush());
        let made = made.map_err(|error| Error::Config(error.to_string()));
        let error = stream.end(made).unwrap_err();
        assert!(matches!(error, Error::Storage { .. }), "{error}");
    }
}
