//! Bytes on disk: TFRecord, tf.train.Example, TensorBoard events, Keras's model and weights files,
//! TensorFlow's and our own checkpoints, images.
//!
//! Everything here is generic over `Read`/`Write` or works on byte slices, so it serves any file
//! system; only [`checkpoint`], [`mod@pointer`] and two functions of [`bundle`] touch a local
//! directory. Sizes found in a file are checked before memory is taken for them.

pub mod array;
pub mod bundle;
pub mod checkpoint;
pub mod columnar;
pub mod dtype;
mod error;
pub mod events;
pub mod example;
mod group_names;
mod h5;
mod h5_dtype;
mod h5_file;
mod h5_tree;
pub mod image;
pub mod keras_archive;
pub mod legacy_h5;
pub mod masked_crc;
pub mod pointer;
mod protobuf;
pub mod tfrecord;
pub mod weights_h5;

pub use array::{Array, ToArray};
pub use dtype::{DType, Element};
pub use error::{Damage, Error, Result};
pub use group_names::{group_names, list_group_names};
