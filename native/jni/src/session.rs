//! What a handle stands for.

use crate::attempts;
use crate::error::Error;
use crate::records::{DecodeConfig, InferConfig, Records};
use crate::streams;
use crate::transform::{Drain, Encode};
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use flambeau_collective::Secret;
use flambeau_formats::columnar::RecordType;
use flambeau_train::config::{self, Columns, FitSession, MicroBatch, ModelFiles, PredictSession};
use flambeau_train::event::Event;
use flambeau_train::predict::Predictor;
use flambeau_train::session::{Fit, Room, Stream};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a call waits for room before its caller may look for an interruption.
const PATIENCE: Duration = Duration::from_millis(100);

/// The configuration document of `Native.open`.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Config {
    Fit(Box<FitSession>),
    Predict(PredictSession),
    Drain {
        columns: Columns,
    },
    Encode {
        columns: Vec<String>,
        record_type: RecordType,
    },
    Decode(DecodeConfig),
    Infer(InferConfig),
}

/// The configuration document of `Native.check`: as far as it is known before there are ranks.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Check {
    Fit {
        columns: Columns,
        fit: Box<config::Fit>,
    },
    Predict(PredictSession),
}

/// Fails as opening a session with these columns and this model would, and leaves nothing open.
pub(crate) fn check(config: &str, schema: &[u8], files: ModelFiles<'_>) -> Result<(), Error> {
    let schema = read_schema(schema)?;
    match serde_json::from_str(config)? {
        Check::Fit { columns, fit } => Fit::check(&fit, &columns, &schema, files)?,
        Check::Predict(config) => Predictor::check(&config, &schema, files.model)?,
    }
    Ok(())
}

/// One open handle: a kind of work on record batches of one schema.
#[derive(Debug)]
pub(crate) struct Session {
    schema: Arc<Schema>,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Fit {
        fit: Box<Fit>,
        /// The same in every attempt.
        run_id: String,
        micro_batch: Option<MicroBatch>,
    },
    Predict(Box<Mutex<Predictor>>),
    Drain(Box<Mutex<Drain>>),
    Encode(Box<Mutex<Encode>>),
    Decode(Box<Mutex<Records>>),
    Infer(Box<Mutex<Records>>),
}

/// What `Native.open` is given besides the configuration.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// The Arrow schema as an encapsulated IPC message.
    pub(crate) schema: Vec<u8>,
    /// Keras JSON text or the bytes of a `.keras` or `.h5` file.
    pub(crate) model: Vec<u8>,
    /// The files of the initial weights, one after the other.
    pub(crate) weights: Vec<u8>,
    /// What the ranks of a fit share.
    pub(crate) secret: Option<Secret>,
}

impl Session {
    pub(crate) fn open(config: &str, inputs: Inputs) -> Result<Self, Error> {
        let schema = read_schema(&inputs.schema)?;
        let work = match serde_json::from_str(config)? {
            Config::Fit(config) => {
                let secret = inputs.secret.ok_or_else(|| {
                    flambeau_train::Error::Config("a fit without a secret".to_owned())
                })?;
                let files = ModelFiles {
                    model: &inputs.model,
                    weights: &inputs.weights,
                };
                let micro_batch = config.micro_batch.clone();
                let run_id = config.collective.run_id.clone();
                let kept = match &micro_batch {
                    Some(micro_batch) => streams::before(micro_batch),
                    None => attempts::newest(&run_id),
                };
                let fit = Box::new(Fit::open(*config, &schema, files, secret, kept)?);
                Work::Fit {
                    fit,
                    run_id,
                    micro_batch,
                }
            }
            Config::Predict(config) => {
                let predictor = Predictor::open(&config, &schema, &inputs.model)?;
                Work::Predict(Box::new(Mutex::new(predictor)))
            }
            Config::Drain { columns } => {
                Work::Drain(Box::new(Mutex::new(Drain::new(&schema, columns))))
            }
            Config::Encode {
                columns,
                record_type,
            } => {
                let encode = Encode::new(&schema, &columns, record_type)?;
                Work::Encode(Box::new(Mutex::new(encode)))
            }
            Config::Decode(config) => {
                Work::Decode(Box::new(Mutex::new(Records::decode(config, &schema)?)))
            }
            Config::Infer(config) => Work::Infer(Box::new(Mutex::new(Records::infer(config)))),
        };
        Ok(Self {
            schema: Arc::new(schema),
            work,
        })
    }

    /// Of the record batches that the session takes.
    pub(crate) fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Waits a moment for room for a batch.
    pub(crate) fn room(&self) -> Result<Option<Room>, Error> {
        let Work::Fit { fit, .. } = &self.work else {
            return Err(self.has_no("feed"));
        };
        Ok(fit.room(PATIENCE)?)
    }

    pub(crate) fn feed(
        &self,
        room: Room,
        stream: Stream,
        batch: &RecordBatch,
    ) -> Result<(), Error> {
        let Work::Fit { fit, .. } = &self.work else {
            return Err(self.has_no("feed"));
        };
        fit.feed(room, stream, batch);
        Ok(())
    }

    /// Whether there was room for the end of a stream.
    pub(crate) fn finish(&self, stream: Stream) -> Result<bool, Error> {
        let Work::Fit { fit, .. } = &self.work else {
            return Err(self.has_no("finish"));
        };
        let room = fit.room(PATIENCE)?;
        let taken = room.map(|room| fit.finish(room, stream)).is_some();
        Ok(taken)
    }

    /// Hands an evaluator a checkpoint.
    pub(crate) fn evaluate(&self, checkpoint: PathBuf) -> Result<(), Error> {
        let Work::Fit { fit, .. } = &self.work else {
            return Err(self.has_no("evaluate"));
        };
        fit.evaluate(checkpoint);
        Ok(())
    }

    /// The next event as JSON, or all that was inferred.
    pub(crate) fn poll(&self, timeout: Duration) -> Result<Option<String>, Error> {
        let (fit, run_id, micro_batch) = match &self.work {
            Work::Fit {
                fit,
                run_id,
                micro_batch,
            } => (fit, run_id, micro_batch),
            Work::Infer(records) => return Ok(lock(records).summary()),
            _ => return Err(self.has_no("poll")),
        };
        let event = fit.poll(timeout)?;
        match (&event, micro_batch) {
            (Some(Event::Done { .. }), Some(micro_batch)) => {
                streams::keep(micro_batch, fit.reached());
            }
            // The ranks have agreed on what to go on from, and the fit holds it now.
            (Some(Event::Feed { .. }), _) => attempts::forget(run_id),
            _ => {}
        }
        Ok(event
            .map(|event| serde_json::to_string(&event))
            .transpose()?)
    }

    pub(crate) fn transform(&self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        match &self.work {
            Work::Predict(predictor) => Ok(lock(predictor).predict(batch)?),
            Work::Drain(drain) => lock(drain).take(batch),
            Work::Encode(encode) => lock(encode).records(batch),
            _ => Err(self.has_no("transform")),
        }
    }

    /// Takes bytes of a file; what [`Records::take`] does.
    pub(crate) fn decode(
        &self,
        count: Option<usize>,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Error>,
    ) -> Result<Option<Vec<i64>>, Error> {
        match &self.work {
            Work::Decode(records) | Work::Infer(records) => lock(records).take(count, fill),
            _ => Err(self.has_no("decode")),
        }
    }

    /// Whether a thread of its own is at work.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(&self.work, Work::Fit { fit, .. } if fit.is_busy())
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(&self.work, Work::Fit { fit, .. } if fit.has_failed())
    }

    pub(crate) fn cancel(&self) {
        if let Work::Fit { fit, .. } = &self.work {
            fit.cancel();
        }
    }

    pub(crate) fn close(&self) {
        let Work::Fit {
            fit,
            run_id,
            micro_batch,
        } = &self.work
        else {
            return;
        };
        fit.close();
        if let (Some(state), None) = (fit.reached(), micro_batch) {
            attempts::keep(run_id, state);
        }
    }

    fn has_no(&self, method: &'static str) -> Error {
        let kind = match self.work {
            Work::Fit { .. } => "fit",
            Work::Predict(_) => "predict",
            Work::Drain(_) => "drain",
            Work::Encode(_) => "encode",
            Work::Decode(_) => "decode",
            Work::Infer(_) => "infer",
        };
        Error::WrongKind { kind, method }
    }
}

fn read_schema(message: &[u8]) -> Result<Schema, Error> {
    arrow_ipc::convert::try_schema_from_ipc_buffer(message)
        .map_err(|error| Error::Batch(format!("schema: {error}")))
}

/// The secret in `bytes`, which are wiped; none if there are none.
pub(crate) fn secret(mut bytes: Vec<u8>) -> Result<Option<Secret>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let secret = <[u8; 32]>::try_from(bytes.as_slice()).map(Secret::new);
    bytes.fill(0);
    // Keeps the compiler from leaving the wipe out as a store that nobody reads.
    std::hint::black_box(&bytes);
    secret.map(Some).map_err(|_| {
        let reason = format!("the job secret has {} bytes, 32 expected", bytes.len());
        flambeau_train::Error::Config(reason).into()
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // One task thread uses a transform session; after a panic its next call starts afresh on a
    // state that every call leaves whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
