//! Bytes on disk: TFRecord, tf.train.Example, TensorBoard events, .keras archives, checkpoints.
//!
//! Everything here is generic over `Read`/`Write` or works on byte slices, so it serves any file
//! system; only [`checkpoint`] and [`mod@pointer`] touch a local directory. Sizes found in a file are
//! checked before memory is taken for them.

pub mod array;
pub mod checkpoint;
mod error;
pub mod events;
pub mod example;
mod group_names;
pub mod keras_archive;
pub mod masked_crc;
pub mod pointer;
mod protobuf;
pub mod tfrecord;
pub mod weights_h5;

pub use array::Array;
pub use error::{Damage, Error, Result};
pub use group_names::{group_names, list_group_names};
