//! What the trainer thread does: meet the other ranks, agree on the state to start from, train.

mod staged;

use self::staged::Source;
use crate::artifacts::{self, Artifacts};
use crate::batches::Batches;
use crate::columns::{Wanted, WantedOutput, wanted_inputs};
use crate::config::{self, Columns, ExportFormat, FitSession, ModelFiles, Strategy};
use crate::dataset::{self, Dataset};
use crate::error::Error;
use crate::evaluator;
use crate::event::{Event, FitResult};
use crate::fit::FitLoop;
use crate::objective::{Asked, Objective};
use crate::resume::State;
use crate::servers::plan::LARGE;
use crate::servers::{self, Given};
use crate::session::Stop;
use crate::session::intake::Channel;
use crate::settings;
use crate::step::Trainer;
use crossbeam::channel::Sender;
use flambeau_collective::{AbortReason, Communicator, Secret};
use flambeau_formats::checkpoint::{self, Checkpoint};
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::weights::OptimizerArray;
use flambeau_keras::{Holds, InitialWeights, Model, ReadOptions, Weights};
use flambeau_libtorch::backward_in_own_thread;
use serde_json::Value;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tch::Device;

/// The caller's side of the session, as the trainer thread needs it.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) events: Sender<Event>,
    pub(crate) stop: Stop,
    pub(crate) opened: Instant,
    /// The state that this process has kept of the attempt or the micro-batch before.
    pub(crate) kept: Option<Arc<Checkpoint>>,
    /// The state to keep for the next one.
    pub(crate) reached: Arc<OnceLock<Arc<Checkpoint>>>,
}

/// A model with everything that trains it, checked before any row comes.
#[derive(Debug)]
pub(crate) struct Setup {
    model: Model,
    objective: Objective,
    optimizer: Optimizer,
    /// For a model that no rank holds as a whole: then the one above has no variables.
    source: Option<Source>,
    /// Whether no file gave any weights.
    is_initial: bool,
    /// Where passes run.
    device: Device,
}

impl Setup {
    /// For a rank that has all of the weights; or, with `rows_elsewhere`, not the rows that only servers
    /// have.
    pub(crate) fn new(
        settings: &config::Fit,
        columns: &Columns,
        files: ModelFiles<'_>,
        rows_elsewhere: bool,
    ) -> Result<Self, Error> {
        settings.check()?;
        let mut options = read_options(settings, files.weights)?;
        if settings.mesh.is_some() {
            options.holds = Holds::Nothing;
        } else if rows_elsewhere {
            options.holds = Holds::AllButRows(LARGE);
        }
        let (model, loaded) = Model::read(files.model, &options)?;
        if settings.export_formats.contains(&ExportFormat::H5) {
            model.check_legacy_file().map_err(|error| {
                let reason = "exportFormats has h5, a file that cannot hold this model: leave it \
                              out, export/model.keras is always written";
                Error::Config(format!("{reason}: {error}"))
            })?;
        }
        let compiled = loaded.compile.unwrap_or(Value::Null);
        let choose = |given: &Option<Value>, key: &str| {
            let given = given.as_ref().filter(|value| !value.is_null());
            given
                .or_else(|| compiled.get(key))
                .cloned()
                .unwrap_or_default()
        };
        let demand = |given: &Option<Value>, key: &str| match choose(given, key) {
            Value::Null => {
                let reason = format!("no {key}: set it, or compile the Keras model with one");
                Err(Error::Config(reason))
            }
            value => Ok(value),
        };
        if columns.weight.is_some() && !settings.class_weight.is_empty() {
            let reason = "weightCol and classWeight are both set, which Keras refuses: clear one, \
                          or multiply the weights yourself";
            return Err(Error::Config(reason.to_owned()));
        }
        // A loss that is given anew brings its own weights and metrics, as `compile` does.
        let own = settings.loss.is_none();
        let pick = |given: &Option<Value>, key: &str| match given {
            Some(given) => given.clone(),
            None if own => choose(given, key),
            None => Value::Null,
        };
        let asked = Asked {
            loss: demand(&settings.loss, "loss")?,
            loss_weights: pick(&settings.loss_weights, "loss_weights"),
            metrics: pick(&settings.metrics, "metrics"),
            weighted_metrics: pick(&settings.weighted_metrics, "weighted_metrics"),
            class_weight: settings.class_weight.clone(),
        };
        let objective = Objective::new(&model, &asked)?;
        let compiled_optimizer = settings.optimizer.is_none() && settings.mesh.is_none();
        let described = demand(&settings.optimizer, "optimizer")?;
        let mut optimizer = Optimizer::from_config(&described, model.trainable())?;
        if model.trains_in_float16() {
            optimizer = optimizer.scaling_loss();
        }
        // The state of a compiled model goes on with it; but not beside layers frozen anew, for
        // which it has slots too many.
        let goes_on = compiled_optimizer && settings.frozen_layers.is_empty() && !rows_elsewhere;
        if goes_on && !loaded.optimizer.is_empty() {
            let saved: Vec<_> = loaded.optimizer.iter().map(OptimizerArray::saved).collect();
            optimizer.set_keras_variables(&saved)?;
        }
        if settings.strategy == Strategy::Async {
            servers::check(settings, &model, &optimizer)?;
        }
        let source = settings.mesh.as_ref().map(|mesh| {
            staged::check(&model, mesh)?;
            let scales_loss = model.trains_in_float16();
            Ok::<_, Error>(Source::new(files, described, scales_loss))
        });
        Ok(Self {
            source: source.transpose()?,
            model,
            objective,
            optimizer,
            is_initial: !loaded.some_weights,
            device: Device::Cpu,
        })
    }

    /// Has passes run on `device`.
    pub(crate) fn compute_on(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// What a row must hold.
    pub(crate) fn wanted(&self) -> Wanted {
        let outputs = self.model.outputs().iter().zip(self.objective.labels());
        let outputs = outputs.map(|(output, label)| WantedOutput {
            name: output.name.clone(),
            label: label.clone(),
        });
        Wanted {
            inputs: wanted_inputs(&self.model),
            outputs: outputs.collect(),
        }
    }

    /// Meets the other ranks and trains to the end; `server` is for a rank that holds weights, too.
    pub(crate) fn run(
        self,
        server: Option<Self>,
        config: &FitSession,
        secret: &Secret,
        rows: Channel,
        caller: &Caller,
    ) -> Result<(), Error> {
        tch::set_num_threads(config.threads);
        backward_in_own_thread();
        let result = match config.fit.strategy {
            Strategy::Sync => self.run_in_step(config, secret, rows, caller),
            Strategy::Async => self.run_by_itself(server, config, secret, rows, caller),
        }?;
        // The caller may have closed the session already.
        caller.events.send(Event::Done { result }).ok();
        Ok(())
    }

    /// Takes part in a synchronous fit to its end.
    fn run_in_step(
        self,
        config: &FitSession,
        secret: &Secret,
        mut rows: Channel,
        caller: &Caller,
    ) -> Result<FitResult, Error> {
        let abort = &caller.stop.abort;
        let communicator = Communicator::connect(&config.collective, secret, abort)?;
        let seed = config.fit.seed;
        let (mut model, objective, mut optimizer) = (self.model, self.objective, self.optimizer);
        let source = self.source.as_ref();
        let mut trainer = match (source, &config.fit.mesh) {
            (Some(source), Some(mesh)) => {
                let whole = (model, objective, self.device);
                staged::trainer(source, config, mesh, whole, communicator)?
            }
            _ => {
                model.set_device(self.device)?;
                optimizer.set_threads(usize::try_from(config.threads).unwrap_or(1));
                Trainer::new(model, objective, optimizer, communicator, seed)?
            }
        };
        trainer.set_wire(config.fit.allreduce_dtype.into());
        // A failure is told to the other ranks while the links to them are still there.
        let train = || {
            if config.evaluator {
                return evaluator::run(&mut trainer, config, &mut rows, &caller.events);
            }
            if config.fit.local_steps > 1 {
                trainer.train_apart()?;
            }
            if config.fit.shard_optimizer_state {
                trainer.shard_optimizer_state()?;
            }
            train(&mut trainer, config, &mut rows, (caller, source))
        };
        let trained = guarded(train, &caller.stop);
        // Nobody hangs up before all are done, also with an error that all have agreed on.
        let left = trainer.close();
        let result = trained?;
        left?;
        Ok(result)
    }

    /// Takes part in an asynchronous fit to its end.
    fn run_by_itself(
        self,
        server: Option<Self>,
        config: &FitSession,
        secret: &Secret,
        mut rows: Channel,
        caller: &Caller,
    ) -> Result<FitResult, Error> {
        let beside = caller.stop.beside();
        let own = self.given(config, caller, &caller.stop);
        match server {
            None => servers::run(own, &mut rows, secret),
            Some(server) => {
                let server = server.given(config, caller, &beside);
                servers::run_both(server, own, &mut rows, secret)
            }
        }
    }

    fn given<'a>(self, config: &'a FitSession, caller: &'a Caller, stop: &'a Stop) -> Given<'a> {
        Given {
            config,
            model: self.model,
            objective: self.objective,
            optimizer: self.optimizer,
            events: &caller.events,
            stop,
            opened: caller.opened,
            is_initial: self.is_initial,
            device: self.device,
            is_both: false,
        }
    }
}

/// How the model of a fit is read.
fn read_options(settings: &config::Fit, weights: &[u8]) -> Result<ReadOptions, Error> {
    Ok(ReadOptions {
        frozen_layers: settings.frozen_layers.clone(),
        initial: initial_weights(settings, weights)?,
        seed: Some(settings.seed),
        ..ReadOptions::default()
    })
}

/// The weights that the settings name, cut out of `bytes`, which holds their files in a row.
fn initial_weights(
    settings: &config::Fit,
    mut bytes: &[u8],
) -> Result<Option<InitialWeights>, Error> {
    let Some(initial) = &settings.initial_weights else {
        return Ok(None);
    };
    let mut files = Vec::new();
    for &length in &initial.lengths {
        let Some((file, rest)) = bytes.split_at_checked(length) else {
            let reason = "the initial weights end before their lengths say";
            return Err(Error::Config(reason.to_owned()));
        };
        files.push(file);
        bytes = rest;
    }
    Ok(Some(InitialWeights {
        weights: Weights::from_files(&files)?,
        skip_mismatch: initial.skip_mismatch,
    }))
}

/// From the agreed state to the last epoch and the files.
fn train(
    trainer: &mut Trainer,
    config: &FitSession,
    rows: &mut Channel,
    (caller, source): (&Caller, Option<&Source>),
) -> Result<FitResult, Error> {
    let (settings, events) = (&config.fit, &caller.events);
    let mut state = match source {
        Some(_) => staged::agreed_state(trainer, config)?,
        None => agreed_state(trainer, config, caller.kept.as_deref())?,
    };
    let mut artifacts = if config.rank == 0 {
        let (events, stop) = (events.clone(), caller.stop.clone());
        Some(Artifacts::start(config, trainer.model(), events, stop)?)
    } else {
        None
    };
    let dataset = Dataset::new(dataset::Settings::of(config));
    let batches = Batches::new(dataset, rows, trainer.batch_shape());
    // Rows of a mesh go to the ranks that have them in the first place.
    let batches = match source {
        Some(_) => batches,
        None => batches.on(trainer.model().device())?,
    };
    let trained = FitLoop {
        trainer,
        batches,
        settings,
        events,
        artifacts: artifacts.as_mut(),
        has_model_dir: config.model_dir,
        opened: caller.opened,
        warned: false,
        validates: false,
        may_be_empty: config.micro_batch.is_some(),
    }
    .run(&mut state);
    // For the next micro-batch; or for the next attempt, which goes on from the newest state that any
    // rank has.
    let to_keep = match &trained {
        Ok(()) => config.micro_batch.is_some(),
        Err(Error::Diverged { .. }) => false,
        Err(error) => {
            !error.is_deterministic() && config.micro_batch.is_none() && trainer.has_all()
        }
    };
    if to_keep && (trainer.has_all() || config.rank == 0) {
        let checkpoint = state.checkpoint(trainer)?;
        caller.reached.set(Arc::new(checkpoint)).ok();
    } else if to_keep {
        trainer.lend_state()?;
    }
    trained?;
    trainer.finalize()?;
    if let Some(source) = source {
        return staged::finish(source, config, trainer, artifacts, &state);
    }
    match artifacts {
        Some(artifacts) => artifacts.finish(trainer.trained(), &state),
        None => artifacts::result(trainer.model(), None, &state),
    }
}

/// What all ranks start from: the newest of the checkpoint that rank 0 is given and of the states
/// that processes have kept of the attempt or the micro-batch before; else the model as it is on
/// rank 0.
fn agreed_state(
    trainer: &mut Trainer,
    config: &FitSession,
    kept: Option<&Checkpoint>,
) -> Result<State, Error> {
    let resumed = config.resume.as_ref().map(|path| {
        checkpoint::read(path).map_err(|source| Error::Storage {
            what: "cannot resume from",
            path: path.clone(),
            source: source.into(),
        })
    });
    let resumed = resumed.transpose()?;
    let newest = resumed.iter().chain(kept).max_by_key(|state| state.step);
    let settings = settings::of(config, trainer);
    if let Some(checkpoint) = newest.filter(|_| config.micro_batch.is_none()) {
        settings::check(&State::of(checkpoint)?.settings, &settings)?;
    }
    let own = match newest {
        Some(checkpoint) => State::restore(checkpoint, trainer)?,
        None => State::default(),
    };
    // Of each rank one more than the steps done in what it has, 0 if it has nothing.
    let steps = newest.map_or(0, |state| state.step + 1);
    let steps = trainer.communicator_mut().allgather(&steps.to_le_bytes())?;
    let steps = steps.iter().map(|bytes| {
        let number = <[u8; 8]>::try_from(bytes.as_slice()).unwrap_or_default();
        u64::from_le_bytes(number)
    });
    let steps: Vec<u64> = steps.collect();
    let most = steps.iter().max().copied().unwrap_or(0);
    // States of one run after as many steps are the same on every rank.
    let mut state = if most > 0 && steps.iter().all(|&held| held == most) {
        own
    } else {
        let root = steps.iter().position(|&held| held == most);
        own.broadcast(root.unwrap_or(0), trainer, newest)?
    };
    state.first_step = state.step + 1;
    let mut state = match &config.micro_batch {
        Some(micro_batch) => state.enter(micro_batch.number)?,
        None => state,
    };
    state.settings = settings;
    Ok(state)
}

/// Runs the thread's work; a failure of this rank alone is told to the others with its cause.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T, Error>, stop: &Stop) -> Result<T, Error> {
    let result = catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|payload| Err(Error::Panic(panic_message(payload))));
    let result = match result {
        // Whatever was interrupted, the cause is the cancellation.
        Err(_) if stop.is_cancelled() => Err(Error::Cancelled),
        result => result,
    };
    if let Err(error) = &result
        && !error.is_agreed()
    {
        tell(error, stop);
    }
    result
}

/// Tells the other ranks why this one fails.
pub(crate) fn tell(error: &Error, stop: &Stop) {
    let (deterministic, message) = (error.is_deterministic(), error.to_string());
    stop.abort.abort(AbortReason {
        deterministic,
        message,
    });
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
