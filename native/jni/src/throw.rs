//! Errors and panics as Java exceptions.

use crate::error::Error;
use flambeau_train::Error as TrainError;
use jni::errors::ErrorPolicy;
use jni::strings::{JNIStr, JNIString};
use jni::{Env, jni_str};
use std::any::Any;

/// Throws the Java exception that belongs to an [`Error`] and returns the default value.
#[derive(Debug)]
pub(crate) struct ThrowFlambeau;

impl<T: Default> ErrorPolicy<T, Error> for ThrowFlambeau {
    type Captures<'unowned_env_local: 'native_method, 'native_method> = ();

    fn on_error<'unowned_env_local: 'native_method, 'native_method>(
        env: &mut Env<'unowned_env_local>,
        _captures: &mut (),
        error: Error,
    ) -> jni::errors::Result<T> {
        throw(env, exception_class(&error), &with_causes(&error));
        Ok(T::default())
    }

    fn on_panic<'unowned_env_local: 'native_method, 'native_method>(
        env: &mut Env<'unowned_env_local>,
        _captures: &mut (),
        payload: Box<dyn Any + Send + 'static>,
    ) -> jni::errors::Result<T> {
        let message = flambeau_train::session::panic_message(payload);
        let error = TrainError::Panic(message);
        throw(
            env,
            jni_str!("io/flambeau/NativePanicException"),
            &error.to_string(),
        );
        Ok(T::default())
    }
}

/// No `_` arm: a new variant has to be given its exception.
fn exception_class(error: &Error) -> &'static JNIStr {
    match error {
        Error::NotOpen(_) | Error::WrongKind { .. } => jni_str!("java/lang/IllegalStateException"),
        Error::Config(_) => jni_str!("io/flambeau/ConfigException"),
        Error::Batch(_) | Error::Records { .. } => jni_str!("io/flambeau/DataException"),
        Error::Train(error) => train_exception_class(error),
        Error::Ending => jni_str!("io/flambeau/CancelledException"),
        Error::Jni(_) => jni_str!("io/flambeau/FlambeauException"),
    }
}

fn train_exception_class(error: &TrainError) -> &'static JNIStr {
    match error {
        TrainError::Config(_) | TrainError::Keras(_) | TrainError::NoGpu(_) => {
            jni_str!("io/flambeau/ConfigException")
        }
        TrainError::Data(_) => jni_str!("io/flambeau/DataException"),
        TrainError::Numeric { .. } | TrainError::NotFinite { .. } => {
            jni_str!("io/flambeau/NumericException")
        }
        TrainError::Collective(flambeau_collective::Error::Aborted { .. })
        | TrainError::Cancelled => jni_str!("io/flambeau/CancelledException"),
        TrainError::Diverged { .. } => jni_str!("io/flambeau/CollectiveException"),
        TrainError::Collective(error) if error.is_retryable() => {
            jni_str!("io/flambeau/CollectiveException")
        }
        TrainError::Collective(_) => jni_str!("io/flambeau/PeerFailedException"),
        TrainError::Storage { .. } => jni_str!("io/flambeau/StorageException"),
        TrainError::Memory { .. } => jni_str!("io/flambeau/MemoryException"),
        TrainError::Torch(_) => jni_str!("io/flambeau/FlambeauException"),
        TrainError::Panic(_) => jni_str!("io/flambeau/NativePanicException"),
    }
}

/// The error and what caused it, one after the other.
fn with_causes(error: &Error) -> String {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        // A transparent variant repeats its source's text.
        if !message.ends_with(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        cause = error.source();
    }
    message
}

fn throw(env: &mut Env<'_>, class: &'static JNIStr, message: &str) {
    if env.exception_check() {
        return; // A pending Java exception is the first cause.
    }
    let message = JNIString::from(message);
    // `throw_new` answers `JavaException` once it has thrown.
    if !matches!(
        env.throw_new(class, &message),
        Err(jni::errors::Error::JavaException)
    ) {
        env.exception_clear();
        drop(env.throw_new(jni_str!("java/lang/RuntimeException"), &message));
    }
}
