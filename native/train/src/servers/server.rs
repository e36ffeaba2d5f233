//! A server but the first: it holds a shard, and does as it is asked.

use crate::error::Error;
use crate::event::FitResult;
use crate::servers::Given;
use crate::servers::message::{Packed, Request, Weights, strange, unpack};
use crate::servers::parts;
use crate::servers::plan::{Stretch, plan};
use crate::servers::shard::Shard;
use flambeau_collective::{Answer, Endpoint, Event};
use std::time::{Duration, Instant};

/// How long a wait lasts before cancellation is looked at again.
const TICK: Duration = Duration::from_millis(50);

/// How long server 0 waits for pushes that it has and this server has not. Of a worker that was lost
/// between the two they never come.
const LATE: Duration = Duration::from_secs(1);

/// Serves until server 0 says that the fit is over.
///
/// # Errors
/// [`Error::Collective`] if server 0 is lost, [`Error::Config`] for pushes of another model.
pub(crate) fn run(given: Given<'_>, endpoint: &Endpoint) -> Result<FitResult, Error> {
    let config = given.config;
    let threads = usize::try_from(config.threads).unwrap_or(1);
    let mut plans = plan(&given.model, &given.optimizer, config.fit.num_ps);
    let stretches = plans.swap_remove(config.rank);
    let mut shard = Shard::zeros(&given.model, &given.optimizer, stretches, threads)?;
    shard.initialize(&given.model, config.fit.seed)?;
    // What all of the model takes is free again.
    drop((given.model, given.optimizer));
    let port = endpoint.listen()?;
    let chief = endpoint.connect(0, &config.server_hosts, None)?;
    let host = config.collective.bind_host.clone();
    let seat = Packed::new(&Request::Seat { host, port })?;
    // What is not as the model begins.
    let step = parts::store(&chief.call(seat.into_bytes())?, &mut shard.held())?;
    shard.set_step(step);
    let mut gather: Option<(u64, Stretch, Answer, Instant)> = None;
    loop {
        given.stop.check("waiting for calls")?;
        if let Some((step, piece, answer, until)) = gather.take() {
            if shard.step() >= step || Instant::now() >= until {
                shard.set_step(shard.step().max(step));
                answer.give(shard.pack(&piece)?);
            } else {
                gather = Some((step, piece, answer, until));
            }
        }
        let Some(Event::Call { rank, body, answer }) = endpoint.next(TICK)? else {
            // Server 0 knows what it means that a worker has come or gone.
            continue;
        };
        let (request, mut numbers) = unpack(&body)?;
        match request {
            Request::Pull { .. } => answer_weights(&shard, answer)?,
            Request::Rows { variable, count } => {
                answer.give(shard.rows(variable, count, &mut numbers)?);
            }
            Request::Push(push) => {
                shard.update(&push, &mut numbers)?;
                numbers.end()?;
                answer_weights(&shard, answer)?;
            }
            Request::Gather {
                step,
                variable,
                elements,
            } if rank == 0 => {
                let piece = shard.piece(variable, elements)?;
                gather = Some((step, piece, answer, Instant::now() + LATE));
            }
            Request::End if rank == 0 => {
                answer.give(Vec::new());
                outlast(endpoint);
                return Ok(FitResult::of_another(shard.step()));
            }
            other => return Err(strange(&format!("rank {rank} asks for {other:?}"))),
        }
    }
}

/// Stays until server 0 has hung up, for which the end of a server before that is a loss.
fn outlast(endpoint: &Endpoint) {
    loop {
        match endpoint.next(TICK) {
            Ok(Some(Event::Gone { rank: 0, .. })) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

fn answer_weights(shard: &Shard, answer: Answer) -> Result<(), Error> {
    let weights = Weights {
        step: shard.step(),
        go: true,
    };
    let mut message = Packed::new(&weights)?;
    shard.put_weights(&mut message)?;
    answer.give(message.into_bytes());
    Ok(())
}
