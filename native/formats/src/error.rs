//! The one error type of this crate; a variant says what its caller can do next.

use std::fmt;
use std::io;

/// Shorthand for a result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The error of a foreign parser, kept as the cause.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong while reading or writing bytes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A TFRecord checksum does not match. After [`Damage::Data`] the next record can still be
    /// read; after [`Damage::Length`] the file is lost from here on.
    #[error(
        "corrupted record at {offset}{}: the checksum of its {damage} does not match; write the \
         file again from its source", numbered(.record)
    )]
    CorruptRecord {
        /// Index of the record in the file, from 0, where it is known.
        record: Option<u64>,
        /// Byte offset of the record's first byte.
        offset: u64,
        /// Which checksum failed.
        damage: Damage,
    },
    /// The file ends inside a record: its writer was interrupted or is still writing.
    #[error(
        "truncated record at {offset}{}: the file ends at byte {end}; finish or repeat the write",
        numbered(.record)
    )]
    TruncatedRecord {
        /// Index of the record in the file, from 0, where it is known.
        record: Option<u64>,
        /// Byte offset of the record's first byte.
        offset: u64,
        /// Length of the file in bytes.
        end: u64,
    },
    /// A size in the file is above the limit; nothing was allocated. Raise the limit to go on.
    #[error("{place} is {bytes} bytes, above the limit of {limit}; raise the limit if it is real")]
    TooLarge {
        /// The record or member, with its position.
        place: String,
        /// The size the file declares, in bytes.
        bytes: u64,
        /// The limit in force, in bytes.
        limit: u64,
    },
    /// The bytes break the format's rules: take another copy of the file.
    #[error("{place} is damaged: {reason}; take another copy of it")]
    Corrupt {
        /// File part, tensor, feature or byte offset.
        place: String,
        /// The rule that is broken.
        reason: String,
        /// The parser's own error, where there is one.
        #[source]
        source: Option<Cause>,
    },
    /// A record is sound, but a feature is not what its column takes: ask for another column type.
    #[error("feature '{feature}' of {place} does not fit: {reason}")]
    Unfit {
        /// The feature's name.
        feature: String,
        /// The record, with its byte offset.
        place: String,
        /// What it is, what is taken, and what to ask for.
        reason: String,
    },
    /// The file is sound but uses something this crate does not read: save it another way.
    #[error("{place} cannot be read: {reason}")]
    Unsupported {
        /// File part, tensor or layer.
        place: String,
        /// What is not supported, and what is.
        reason: String,
    },
    /// An image is sound but of another size than its place: resize it.
    #[error(
        "the image is {} pixels high and {} wide, {} and {} expected; resize it", .found.0,
        .found.1, .expected.0, .expected.1
    )]
    ImageSize {
        /// Height and width of the image.
        found: (usize, usize),
        /// Those wanted.
        expected: (usize, usize),
    },
    /// The value handed in cannot be written: correct the call.
    #[error("{place} cannot be written: {reason}")]
    Invalid {
        /// The tensor, layer or name at fault.
        place: String,
        /// Why it was refused.
        reason: String,
    },
    /// The operating system refused: check the disk, then try again.
    #[error("{doing} failed: {source}")]
    Io {
        /// The operation, with the path or byte offset.
        doing: String,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
}

fn numbered(record: &Option<u64>) -> String {
    record.map_or_else(String::new, |record| format!(" (record {record})"))
}

impl Error {
    pub(crate) fn corrupt(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Corrupt {
            place: place.into(),
            reason: reason.into(),
            source: None,
        }
    }

    /// Damage that a foreign parser noticed; its message becomes the reason.
    pub(crate) fn corrupt_because(place: impl Into<String>, source: impl Into<Cause>) -> Self {
        let source = source.into();
        Error::Corrupt {
            place: place.into(),
            reason: source.to_string(),
            source: Some(source),
        }
    }

    pub(crate) fn unsupported(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Unsupported {
            place: place.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn invalid(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Invalid {
            place: place.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Error::Io {
            doing: doing.into(),
            source,
        }
    }
}

/// The part of a TFRecord whose checksum failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The eight length bytes: where the next record starts is unknown.
    Length,
    /// The payload: the next record can still be read.
    Data,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::Length => "length",
            Damage::Data => "data",
        })
    }
}
