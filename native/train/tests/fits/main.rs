//! Fits of several ranks in one process, each with a session of its own, as Spark tasks have.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

mod apart;
mod embeddings;
mod evaluator;
mod exactness;
mod failures;
mod hostility;
mod killed;
mod meshes;
mod passes;
mod ranks;
mod recovery;
mod servers;
mod sharded;
mod sharded_rows;
mod streams;
