//! Record batches to tensors, the dataset, the training loop, prediction and checkpoints.
//!
//! Data flows left to right: `columns` decodes a record batch into a [`block::Block`], `dataset`
//! keeps blocks in memory or on disk and draws rows from them, `batches` gathers those into a batch
//! while the one before trains, `step` turns it into one optimizer update that every rank agrees on,
//! `fit` runs steps into epochs, and `artifacts` leaves the files behind.
//! On a `mesh` ranks have stages of the model, and parts of their weights.
//! `evaluator` measures what they leave, in a session of its own.
//! `servers` trains asynchronously in their place: workers push gradients to ranks that hold the weights.
//! `session` puts a thread and two queues around it for the caller on the other side of JNI.

pub mod artifacts;
pub mod batch;
pub mod batches;
mod before;
mod binding;
pub mod block;
mod buckets;
pub mod columns;
pub mod config;
pub mod dataset;
mod decode;
mod device;
pub mod encode;
pub mod error;
mod evaluator;
pub mod event;
mod exchange;
pub mod fit;
mod mesh;
pub mod objective;
pub mod predict;
pub mod progress;
mod ranks;
pub mod resume;
mod rows;
pub mod servers;
pub mod session;
mod settings;
mod share;
mod soundness;
pub mod step;
mod summaries;
pub mod times;

pub use error::Error;
