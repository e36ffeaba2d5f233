//! Records as columns: what an Arrow record batch is made of, straight from encoded
//! `tf.train.Example`, `tf.train.SequenceExample` or plain bytes, without a row in between.
//!
//! | feature | column |
//! |---|---|
//! | `Int64List` | integers of any width (range checked), booleans (0 is false) |
//! | `FloatList` | float32, float64 |
//! | `BytesList` | strings (UTF-8 checked), byte strings |
//! | absent, or of no kind | null |
//! | no values | null in a scalar column, an empty list in a list column |
//!
//! Features of a sequence example's context are read as those of an example; a feature list is a
//! list of lists, or a list where each of its features holds one value.

mod column;
mod decoder;
mod elements;
mod inference;

pub use column::{Column, ColumnSpec};
pub use decoder::{Batch, RecordDecoder};
pub use elements::ElementType;
pub use inference::{FeatureSummary, SchemaInference};

use crate::Error;
use crate::protobuf::WireError;
use crate::tfrecord::Record;

/// What the bytes of a record are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordType {
    /// An encoded `tf.train.Example`.
    #[default]
    Example,
    /// An encoded `tf.train.SequenceExample`.
    SequenceExample,
    /// Whatever they are: one column holds them.
    ByteArray,
}

impl RecordType {
    fn message(self) -> &'static str {
        match self {
            RecordType::Example => "tf.train.Example",
            RecordType::SequenceExample => "tf.train.SequenceExample",
            RecordType::ByteArray => "record",
        }
    }
}

/// Why a record's bytes do not become a row.
#[derive(Debug)]
enum Refusal {
    /// They break the wire format.
    Wire(WireError),
    /// A feature is not what its column takes.
    Unfit { feature: String, reason: String },
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        Refusal::Wire(error)
    }
}

impl Refusal {
    fn at(self, record: &Record<'_>, record_type: RecordType) -> Error {
        let place = match record.index {
            Some(index) => format!("at byte {} (record {index})", record.offset),
            None => format!("at byte {}", record.offset),
        };
        let message = record_type.message();
        match self {
            Refusal::Wire(WireError { offset, reason }) => {
                Error::corrupt(format!("byte {offset} of the {message} {place}"), reason)
            }
            Refusal::Unfit { feature, reason } => Error::Unfit {
                feature,
                place: format!("the {message} {place}"),
                reason,
            },
        }
    }
}

#[cfg(test)]
mod tests;
