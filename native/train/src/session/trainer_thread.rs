//! What the trainer thread does: meet the other ranks, agree on the state to start from, train.

use crate::artifacts::{self, Artifacts, cannot_write};
use crate::config::FitSession;
use crate::dataset::Dataset;
use crate::error::Error;
use crate::event::{Event, FitResult};
use crate::fit::FitLoop;
use crate::resume::State;
use crate::session::Stop;
use crate::session::intake::Channel;
use crate::step::Trainer;
use crossbeam::channel::Sender;
use flambeau_collective::{AbortReason, Communicator, Secret};
use flambeau_formats::checkpoint;
use flambeau_keras::losses::{LabelSpec, Nest, OutputSpec};
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{CompileLoss, CompileMetrics, Model};
use serde_json::{Value, json};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// The caller's side of the session, as the trainer thread needs it.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) events: Sender<Event>,
    pub(crate) stop: Stop,
    pub(crate) opened: Instant,
}

/// A model with everything that trains it, checked before any row comes.
#[derive(Debug)]
pub(crate) struct Setup {
    model: Model,
    losses: CompileLoss,
    metrics: CompileMetrics,
    optimizer: Optimizer,
    compile: Value,
}

impl Setup {
    pub(crate) fn new(config: &FitSession, model: &[u8]) -> Result<Self, Error> {
        let settings = &config.fit;
        if settings.batch_size == 0 || settings.epochs == 0 {
            let reason = "batchSize and epochs must be at least 1";
            return Err(Error::Config(reason.to_owned()));
        }
        let (mut model, loaded) = Model::from_bytes(model)?;
        if !loaded.weights {
            model.initialize(settings.seed)?;
        }
        let compiled = loaded.compile.unwrap_or(Value::Null);
        let choose = |given: &Option<Value>, key: &str| {
            let value = given.clone().or_else(|| compiled.get(key).cloned());
            value.filter(|value| !value.is_null()).ok_or_else(|| {
                let reason = format!("no {key}: set it, or compile the Keras model with one");
                Error::Config(reason)
            })
        };
        let (loss, optimizer) = (
            choose(&settings.loss, "loss")?,
            choose(&settings.optimizer, "optimizer")?,
        );
        let of_model = |key: &str, overridden: bool| match compiled.get(key) {
            Some(value) if !overridden => value.clone(),
            _ => Value::Null,
        };
        let metrics = match &settings.metrics {
            Some(metrics) => metrics.clone().into(),
            None => of_model("metrics", false),
        };
        let loss_weights = of_model("loss_weights", settings.loss.is_some());
        let weighted_metrics = of_model("weighted_metrics", settings.metrics.is_some());
        let outputs = Nest::Leaf(OutputSpec {
            name: "output".to_owned(),
            shape: model.output_shape().to_vec(),
            label: None,
        });
        let losses = CompileLoss::new(&loss, &loss_weights, &outputs)?;
        let metrics = CompileMetrics::new(&metrics, &weighted_metrics, &outputs, &losses)?;
        check(&losses, config.collective.world_size)?;
        let ([loss, loss_weights], [plain, weighted]) = (losses.config(), metrics.config());
        let compile = json!({"optimizer": optimizer, "loss": loss, "loss_weights": loss_weights,
            "metrics": plain, "weighted_metrics": weighted});
        let optimizer = Optimizer::from_config(&optimizer, model.trainable())?;
        Ok(Self {
            model,
            losses,
            metrics,
            optimizer,
            compile,
        })
    }

    pub(crate) fn input(&self) -> Vec<i64> {
        self.model.input().shape.clone()
    }

    pub(crate) fn label(&self) -> Option<LabelSpec> {
        self.losses.labels().into_iter().flatten().next()
    }

    /// Meets the other ranks and trains to the end.
    pub(crate) fn run(
        self,
        config: &FitSession,
        secret: &Secret,
        mut rows: Channel,
        caller: &Caller,
    ) -> Result<(), Error> {
        tch::set_num_threads(config.threads);
        let abort = &caller.stop.abort;
        let communicator = Communicator::connect(&config.collective, secret, abort)?;
        let losses = (self.losses, self.metrics);
        let seed = config.fit.seed;
        let mut trainer = Trainer::new(self.model, losses, self.optimizer, communicator, seed);
        // A failure is told to the other ranks while the links to them are still there.
        let train = || train(&mut trainer, config, self.compile, &mut rows, caller);
        let result = guarded(train, &caller.stop)?;
        trainer.into_communicator().close()?;
        // The caller may have closed the session already.
        caller.events.send(Event::Done { result }).ok();
        Ok(())
    }
}

/// Refuses losses that cannot be trained with here.
fn check(losses: &CompileLoss, world_size: usize) -> Result<(), Error> {
    if losses.compares_rows() && world_size > 1 {
        let reason = "this loss compares every row of a batch with all others, which lie on \
                      several workers; train with one";
        return Err(Error::Config(reason.to_owned()));
    }
    if let Some(Some(LabelSpec::Sequence { .. })) = losses.labels().first() {
        let reason = "label columns of sequences, which this loss needs, are not read yet";
        return Err(Error::Config(reason.to_owned()));
    }
    Ok(())
}

/// From the agreed state to the last epoch and the files.
fn train(
    trainer: &mut Trainer,
    config: &FitSession,
    compile: Value,
    rows: &mut Channel,
    caller: &Caller,
) -> Result<FitResult, Error> {
    let (settings, events) = (&config.fit, &caller.events);
    let state = match &config.resume {
        Some(path) => {
            let checkpoint = checkpoint::read(path).map_err(|source| Error::Storage {
                what: "cannot resume from",
                path: path.clone(),
                source: source.into(),
            })?;
            State::restore(checkpoint, trainer)?
        }
        None => State::default(),
    };
    let state = state.broadcast(trainer)?;
    let mut artifacts = if config.rank == 0 {
        let directory = config.local_dir.clone();
        std::fs::create_dir_all(&directory).map_err(|error| cannot_write(&directory, error))?;
        let keep = settings.keep_checkpoints;
        Some(Artifacts::start(directory, compile, keep, events.clone())?)
    } else {
        None
    };
    let seed = settings.shuffle.then_some(settings.seed);
    let mut dataset = Dataset::new(seed, config.rank, settings.epochs > 1);
    let opened = caller.opened;
    let state = FitLoop {
        trainer,
        settings,
        events,
        artifacts: artifacts.as_mut(),
        opened,
    }
    .run(state, &mut dataset, rows)?;
    match artifacts {
        Some(artifacts) => artifacts.finish(trainer, &state),
        None => Ok(artifacts::result(trainer, &state)),
    }
}

/// Runs the thread's work; a failure of this rank is told to the others with its cause.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T, Error>, stop: &Stop) -> Result<T, Error> {
    let result = catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|payload| Err(Error::Panic(panic_message(payload))));
    let result = match result {
        // Whatever was interrupted, the cause is the cancellation.
        Err(_) if stop.is_cancelled() => Err(Error::Cancelled),
        result => result,
    };
    if let Err(error) = &result {
        let (deterministic, message) = (error.is_deterministic(), error.to_string());
        stop.abort.abort(AbortReason {
            deterministic,
            message,
        });
    }
    result
}

/// What a panic says.
pub fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let message = match payload.downcast_ref::<&str>() {
        Some(message) => (*message).to_owned(),
        None => payload
            .downcast_ref::<String>()
            .cloned()
            .unwrap_or_else(|| "no message".into()),
    };
    // Dropping a payload may panic again.
    std::mem::forget(payload);
    message
}
