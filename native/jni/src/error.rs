//! What a native method can end with.

/// A native method's failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The handle was never given out, or its session is closed.
    #[error("native session {0} is not open: it was closed, or never opened in this process")]
    NotOpen(i64),
    /// A method was called that the session's kind does not have.
    #[error("a {kind} session has no {method}()")]
    WrongKind {
        /// The session's kind.
        kind: &'static str,
        /// The native method.
        method: &'static str,
    },
    /// The configuration document is not what this build reads.
    #[error("the session configuration cannot be read: {0}")]
    Config(#[from] serde_json::Error),
    /// Buffers or schema handed over are not a record batch.
    #[error("the record batch cannot be read: {0}")]
    Batch(String),
    /// A file's records are damaged, or not what was asked for.
    #[error("{path}")]
    Records {
        /// The file.
        path: String,
        /// What is wrong, with its byte offset.
        source: flambeau_formats::Error,
    },
    /// The session's own failure.
    #[error(transparent)]
    Train(#[from] std::sync::Arc<flambeau_train::Error>),
    /// The JVM ends, and this call came too late.
    #[error("this process is ending")]
    Ending,
    /// The JVM refused a call.
    #[error("JNI: {0}")]
    Jni(#[from] jni::errors::Error),
}

impl From<flambeau_train::Error> for Error {
    fn from(error: flambeau_train::Error) -> Self {
        Self::Train(std::sync::Arc::new(error))
    }
}
