//! Tasks each of which is a server and a worker, where no others hold the weights.
//!
//! ```text
//! task r of n    server: rank r, with a part of the weights       a thread of its own
//!                worker: rank n + r, with rows                    the trainer thread
//! ```
//! They call each other as ranks of different tasks do. What ends one of them ends the other.

use super::{Given, serve, work};
use crate::config::FitSession;
use crate::error::Error;
use crate::event::FitResult;
use crate::fit::Intake;
use crate::session::{no_thread, panic_message, tell};
use flambeau_collective::Secret;

/// Takes part in a fit to its end as both; what each of them is given has a stop of its own.
///
/// # Errors
/// What ends one of them.
pub(crate) fn run_both(
    server: Given<'_>,
    worker: Given<'_>,
    rows: &mut dyn Intake,
    secret: &Secret,
) -> Result<FitResult, Error> {
    let (task, tasks) = (worker.config, worker.config.collective.world_size);
    let (serving, working) = (as_rank(task, task.rank), as_rank(task, tasks + task.rank));
    let (stop_server, stop_worker) = (server.stop, worker.stop);
    let server = Given {
        config: &serving,
        is_both: true,
        ..server
    };
    let worker = Given {
        config: &working,
        is_both: true,
        ..worker
    };
    let (served, worked) = std::thread::scope(|scope| {
        let serve = move || {
            tch::set_num_threads(server.config.threads);
            let served = serve(server, secret);
            if let Err(error) = &served {
                tell(error, stop_worker);
            }
            served
        };
        let name = serving.collective.thread_name("server");
        let thread = std::thread::Builder::new().name(name);
        let thread = thread.spawn_scoped(scope, serve).map_err(no_thread)?;
        let worked = work(worker, rows, secret);
        if let Err(error) = &worked {
            tell(error, stop_server);
        }
        let served = thread.join();
        let served = served.unwrap_or_else(|payload| Err(Error::Panic(panic_message(payload))));
        Ok::<_, Error>((served, worked))
    })?;
    match (served, worked) {
        // What one of them knows of others says less than what it met itself.
        (Err(served), Err(Error::Collective(_))) => Err(served),
        (_, Err(worked)) => Err(worked),
        (served, Ok(_)) => served,
    }
}

/// The session of one of a task's ranks, among as many servers as workers.
fn as_rank(task: &FitSession, rank: usize) -> FitSession {
    let tasks = task.collective.world_size;
    let mut session = task.clone();
    session.rank = rank;
    session.collective.rank = rank;
    session.collective.world_size = 2 * tasks;
    session.fit.num_ps = tasks;
    session
}
