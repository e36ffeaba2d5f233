//! `libflambeau.so`: the native methods of `io.flambeau.jni.Native`.
//!
//! A narrow door, not an API. `natives` decodes arguments and calls a session, `sessions` is the
//! table of handles, `import` reads Arrow buffers in place, `lent` keeps those that the JVM reads,
//! `streams` keeps models between micro-batches, `throw` turns errors and panics into Java exceptions,
//! `logger` keeps lines of the log until the JVM takes them.
//! Native threads never call into the JVM.

mod attempts;
mod ending;
mod error;
mod import;
mod lent;
mod logger;
mod natives;
mod records;
mod session;
mod sessions;
mod streams;
mod throw;
mod transform;
