//! Asynchronous training: some ranks hold the weights (servers), the others train (workers).
//!
//! ```text
//! worker   weights -> forward, backward -> gradients        its own pace, its own rows
//!             ^                                 |
//!          pull                               push, to all servers at once
//!             |                                 v
//! server   its stretches of the weights  <-  the optimizer's rule, once for each push
//! ```
//! Ranks from 0 are servers, the others workers. `plan` says which server holds which stretch of which
//! variable, a `shard` is what it holds. The first server (`chief`) knows the workers, too (`roster`): it
//! counts steps, adds up epochs, gathers the shards (`parts`) where a file is due. It says with the weights
//! whether the batch that a worker has may be trained, and with a bound on staleness says so late.
//!
//! A worker that is lost is missed by nobody: when its task is started again it goes on behind its last
//! push. A server that is lost ends the attempt of all ranks; the next one goes on from a checkpoint. Where
//! there are no tasks of servers each task is `both`.

mod both;
mod chief;
mod message;
mod parts;
pub(crate) mod plan;
mod roster;
mod server;
mod shard;
mod tally;
mod worker;

use crate::config::{self, AllreduceDtype, FitSession};
use crate::error::Error;
use crate::event::{Event, FitResult};
use crate::fit::Intake;
use crate::objective::Objective;
use crate::session::{Stop, guarded, tell};
use crate::step::Trainer;
pub(crate) use both::run_both;
use crossbeam::channel::Sender;
use flambeau_collective::{AbortHandle, Communicator, Config, Endpoint, Secret};
use flambeau_keras::Model;
use flambeau_keras::optimizers::Optimizer;
use std::time::Instant;
pub use tally::Tally;
use tch::Device;

/// What a rank of an asynchronous fit is given.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    pub(crate) config: &'a FitSession,
    pub(crate) model: Model,
    pub(crate) objective: Objective,
    pub(crate) optimizer: Optimizer,
    pub(crate) events: &'a Sender<Event>,
    pub(crate) stop: &'a Stop,
    pub(crate) opened: Instant,
    /// Where a worker's passes run; servers compute on the CPU.
    pub(crate) device: Device,
    /// Whether all weights are those that the model's initializers draw.
    pub(crate) is_initial: bool,
    /// Whether the tasks of servers are those of workers, too.
    pub(crate) is_both: bool,
}

/// Takes part in a fit to its end, in the part that the rank has.
///
/// # Errors
/// What ends this rank, or the first cause of what has ended another that it cannot do without.
pub(crate) fn run(
    given: Given<'_>,
    rows: &mut dyn Intake,
    secret: &Secret,
) -> Result<FitResult, Error> {
    if given.config.rank < given.config.fit.num_ps {
        serve(given, secret)
    } else {
        work(given, rows, secret)
    }
}

fn serve(given: Given<'_>, secret: &Secret) -> Result<FitResult, Error> {
    let (endpoint, stop) = (open(&given, secret)?, given.stop);
    let run = || match given.config.rank {
        0 => chief::Chief::new(given, &endpoint, secret)?.run(),
        _ => server::run(given, &endpoint),
    };
    leave(guarded(run, stop), endpoint, stop)
}

fn work(given: Given<'_>, rows: &mut dyn Intake, secret: &Secret) -> Result<FitResult, Error> {
    let (endpoint, stop) = (open(&given, secret)?, given.stop);
    let run = || worker::Worker::new(given, rows, &endpoint, secret)?.run();
    leave(guarded(run, stop), endpoint, stop)
}

fn open(given: &Given<'_>, secret: &Secret) -> Result<Endpoint, Error> {
    let Given { config, stop, .. } = given;
    let (number, abort) = (config.incarnation, &stop.abort);
    Ok(Endpoint::open(&config.collective, secret, number, abort)?)
}

fn leave<T>(result: Result<T, Error>, endpoint: Endpoint, stop: &Stop) -> Result<T, Error> {
    match &result {
        Ok(_) => endpoint.close(),
        // Nobody else comes to an error by itself here.
        Err(error) => tell(error, stop),
    }
    result
}

/// Refuses what cannot be trained asynchronously.
///
/// # Errors
/// [`Error::Config`].
pub(crate) fn check(
    settings: &config::Fit,
    model: &Model,
    optimizer: &Optimizer,
) -> Result<(), Error> {
    let refuse = |what: &str| Err(Error::Config(format!("strategy is async, but {what}")));
    if settings.steps_per_epoch.is_some() || settings.repeat {
        return refuse(
            "stepsPerEpoch is set: each worker's epoch is a pass over its rows, as workers do not step \
             together; set maxSteps to bound the steps of all",
        );
    }
    if settings.local_steps > 1 {
        return refuse("localSteps is above 1: set one of them, as weights are no longer averaged");
    }
    if settings.shard_optimizer_state {
        return refuse(
            "shardOptimizerState is set, and the servers' state is in parts already: clear it",
        );
    }
    if settings.allreduce_dtype != AllreduceDtype::Float32 {
        return refuse("allreduceDtype is set, and nothing is allreduced: clear it");
    }
    if model.sums_over_replicas() {
        return refuse(
            "a synchronized BatchNormalization exchanges sums in every step: set synchronized to False",
        );
    }
    if let Some(variable) = model.constrained() {
        return refuse(&format!(
            "variable {variable} has a constraint, which servers do not apply: clear it, or set strategy \
             to sync"
        ));
    }
    match optimizer.needs_all_gradients() {
        Some("global_clipnorm") if settings.num_ps == 1 => Ok(()),
        Some(option) => refuse(&format!(
            "the optimizer's {option} looks at all gradients at once, of which each server has its own: \
             set numPs to 1 with global_clipnorm, or use clipnorm"
        )),
        None => Ok(()),
    }
}

/// A trainer that meets nobody.
///
/// # Errors
/// [`Error::Collective`].
fn trainer_alone(
    (model, objective, optimizer): (Model, Objective, Optimizer),
    config: &FitSession,
    secret: &Secret,
) -> Result<Trainer, Error> {
    let alone = Config {
        rank: 0,
        world_size: 1,
        hosts: vec![config.collective.bind_host.clone()],
        ..config.collective.clone()
    };
    let communicator = Communicator::connect(&alone, secret, &AbortHandle::new())?;
    Trainer::new(model, objective, optimizer, communicator, config.fit.seed)
}
