//! A worker: it trains on its own rows, with weights that servers hold.

use super::{Given, trainer_alone};
use crate::artifacts;
use crate::batch::Batch;
use crate::batches::Batches;
use crate::config::{self, FitSession};
use crate::dataset::{self, Cursor, Dataset};
use crate::error::Error;
use crate::event::{Event, FitResult};
use crate::fit::Intake;
use crate::resume::State;
use crate::servers::message::{
    Ended, Leave, Packed, Push, Request, Weights, Welcome, WorkerProgress, unpack,
};
use crate::servers::plan::{Stretch, plan};
use crate::servers::shard::Computed;
use crate::share::moving_spans;
use crate::step::{Position, Totals, Trainer};
use flambeau_collective::{Endpoint, Line, Secret};
use flambeau_keras::{Failure, Model, Rows};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Between two questions of a worker that has nothing to do.
const PAUSE: Duration = Duration::from_millis(100);

/// A worker that has come to all servers.
#[derive(Debug)]
pub(crate) struct Worker<'a> {
    config: &'a FitSession,
    batches: Batches<'a>,
    trainee: Trainee,
}

/// The model of a worker, and where its weights are.
#[derive(Debug)]
struct Trainee {
    trainer: Trainer,
    servers: Vec<Server>,
    moving: Vec<Range<usize>>,
    /// Moving statistics as they were pulled.
    before: Vec<f32>,
    progress: WorkerProgress,
    /// Whether the next batch may be trained with the weights that are there.
    may_go: bool,
}

#[derive(Debug)]
struct Server {
    line: Arc<Line>,
    stretches: Vec<Stretch>,
    /// Its step that the weights are of.
    pulled: u64,
}

/// What a batch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batched {
    /// There is another one in this pass.
    More,
    /// The pass is over.
    Last,
    /// No more may be trained, as all steps have been.
    Refused,
}

impl<'a> Worker<'a> {
    /// Comes to all servers.
    ///
    /// # Errors
    /// [`Error::Collective`] if one is not found.
    pub(crate) fn new(
        given: Given<'a>,
        rows: &'a mut dyn Intake,
        endpoint: &Endpoint,
        secret: &Secret,
    ) -> Result<Self, Error> {
        let (config, fit) = (given.config, &given.config.fit);
        let number = config.rank - fit.num_ps;
        let workers = config.collective.world_size - fit.num_ps;
        let mut model = given.model;
        model.set_device(given.device)?;
        let parts = (model, given.objective, given.optimizer);
        let mut trainer = trainer_alone(parts, config, secret)?;
        let plans = plan(trainer.model(), trainer.optimizer(), fit.num_ps);
        let first = endpoint.connect(0, &config.server_hosts, None)?;
        let welcome = first.call(Packed::new(&Request::Enter)?.into_bytes())?;
        let (Welcome { seats, progress }, _) = unpack(&welcome)?;
        let mut lines = vec![first];
        for (at, (host, port)) in seats.iter().enumerate() {
            let hosts = std::slice::from_ref(host);
            lines.push(endpoint.connect(at + 1, hosts, Some(*port..=*port))?);
        }
        let servers = lines.into_iter().map(Arc::new).zip(plans);
        let servers = servers.map(|(line, stretches)| Server {
            line,
            stretches,
            pulled: 0,
        });
        let servers: Vec<_> = servers.collect();
        trainer.train_as(number, Arc::new(ServedRows::of(&servers)));
        let dataset = Dataset::new(dataset::Settings {
            seed: fit.shuffle.then_some(fit.seed),
            rank: number,
            shuffle_buffer: fit.shuffle_buffer,
            batch_size: fit.batch_size_of(number, workers),
            drop_remainder: fit.drop_remainder,
            keep: fit.keeps_rows(),
            budget: config.cache_bytes,
            folder: config.local_dir.clone(),
        });
        let pass = progress.place.passes;
        given.events.send(Event::Feed { pass }).ok();
        Ok(Self {
            batches: Batches::new(dataset, rows, trainer.batch_shape())
                .on(trainer.model().device())?,
            trainee: Trainee {
                moving: moving_spans(trainer.model()),
                servers,
                trainer,
                before: Vec::new(),
                progress,
                may_go: false,
            },
            config,
        })
    }

    /// Trains from where the servers say to the last of its epochs, or until all steps are done.
    ///
    /// # Errors
    /// [`Error::Numeric`], [`Error::Collective`] if a server is lost, and those of the rows.
    pub(crate) fn run(mut self) -> Result<FitResult, Error> {
        let place = self.trainee.progress.place;
        if place != Cursor::default() && !is_over(&self.config.fit, &self.trainee.progress) {
            while !self.batches.seek(place)? {
                self.batches.check()?;
            }
        }
        let mut last = Batched::Last;
        loop {
            let progress = self.trainee.progress;
            let is_cut_short = last == Batched::Refused && progress.place.batches > 0;
            if progress.epochs < progress.place.passes || is_cut_short {
                self.end_epoch()?;
            }
            if is_over(&self.config.fit, &self.trainee.progress) || last == Batched::Refused {
                break;
            }
            let before = self.trainee.progress.steps;
            last = self.pass()?;
            // Steps without number take rows.
            if self.config.fit.epochs.is_none() && self.trainee.progress.steps == before {
                last = Batched::Refused;
            }
        }
        self.stay()?;
        let state = State {
            step: self.trainee.progress.steps,
            ..State::default()
        };
        artifacts::result(self.trainee.trainer.model(), None, &state)
    }

    /// Waits until the fit is over, or another worker needs the place.
    fn stay(&self) -> Result<(), Error> {
        let done = Packed::new(&Request::Done)?.into_bytes();
        loop {
            let answer = self.trainee.ask_first(&done)?;
            if unpack::<Leave>(&answer)?.0.may_go {
                return Ok(());
            }
            self.batches.check()?;
            std::thread::sleep(PAUSE);
        }
    }

    /// Trains what is left of a pass.
    fn pass(&mut self) -> Result<Batched, Error> {
        self.batches.enter(self.trainee.progress.place.passes)?;
        loop {
            self.batches.check()?;
            let trainee = &mut self.trainee;
            let batched = self.batches.step(|batch, more| match batch {
                Some(batch) => trainee.train(batch, more),
                None => {
                    trainee.end_pass();
                    Ok(Batched::Last)
                }
            })?;
            if batched != Batched::More {
                return Ok(batched);
            }
        }
    }

    /// Measures the worker's own rows to validate with, and tells.
    fn end_epoch(&mut self) -> Result<(), Error> {
        while !self.batches.fill_validation()? {
            self.batches.check()?;
        }
        let trainee = &mut self.trainee;
        trainee.pull(false)?;
        let batches = &self.batches;
        let check = || batches.check();
        let validation = trainee.trainer.evaluate(batches.validation(), check)?;
        let left_out = batches.left_out();
        let mut message = Packed::new(&Request::Epoch(Ended { left_out }))?;
        message.put_totals(&validation);
        trainee.ask_first(&message.into_bytes())?;
        trainee.progress.epochs += 1;
        Ok(())
    }
}

impl Trainee {
    /// One batch, behind which there is another one in the pass or not.
    fn train(&mut self, batch: &Batch, more: bool) -> Result<Batched, Error> {
        if !self.may_go {
            self.pull(true)?;
        }
        if !self.may_go {
            return Ok(Batched::Refused);
        }
        let at = Position {
            epoch: self.progress.epochs + 1,
            step: self.progress.steps + 1,
        };
        let totals = self.trainer.compute(batch, at)?;
        self.progress.steps += 1;
        self.progress.place.batches += 1;
        if !more {
            self.end_pass();
        }
        self.push(&totals, more)?;
        Ok(if more { Batched::More } else { Batched::Last })
    }

    fn end_pass(&mut self) {
        self.progress.place = Cursor {
            passes: self.progress.place.passes + 1,
            batches: 0,
        };
    }

    /// Fetches all weights, with `next` to train a batch.
    fn pull(&mut self, next: bool) -> Result<(), Error> {
        let request = Packed::new(&Request::Pull { next })?.into_bytes();
        let requests = self.servers.iter().map(|_| request.clone()).collect();
        self.ask_all(requests)
    }

    /// Sends the gradients of a batch, and fetches weights for the next.
    fn push(&mut self, totals: &Totals, next: bool) -> Result<(), Error> {
        let mut now = Vec::new();
        take_moving(self.trainer.model(), &self.moving, &mut now)?;
        let (reached, gradients, slices) = self.trainer.computed();
        let computed = Computed::new(&reached, gradients, slices);
        let mut requests = Vec::new();
        for (at, server) in self.servers.iter().enumerate() {
            let stretches = &server.stretches;
            let push = Request::Push(Push {
                next,
                place: (at == 0).then_some(self.progress.place),
                ..computed.header(stretches, server.pulled)
            });
            let mut message = Packed::new(&push)?;
            computed.put(stretches, &mut message);
            if at == 0 {
                message.put(&self.before);
                message.put(&now);
                message.put_totals(totals);
            }
            requests.push(message.into_bytes());
        }
        self.ask_all(requests)
    }

    /// Sends each server its request, and takes the weights that they answer with.
    fn ask_all(&mut self, requests: Vec<Vec<u8>>) -> Result<(), Error> {
        let asked = self.servers.iter().zip(requests);
        let replies: Vec<_> = asked
            .map(|(server, request)| server.line.start(request))
            .collect();
        let mut replies = replies.into_iter();
        for (at, server) in self.servers.iter_mut().enumerate() {
            let Some(reply) = replies.next() else { break };
            let answer = reply.wait()?;
            let (Weights { step, go }, mut numbers) = unpack(&answer)?;
            server.pulled = step;
            let (model, _) = self.trainer.parts_mut();
            model.trainable_mut().change(|store| {
                let mut whole = server.stretches.iter().filter(|one| !one.by_row);
                whole.try_for_each(|one| numbers.take_into(&mut store[one.span.clone()]))
            })??;
            if at == 0 {
                self.may_go = go;
                model.non_trainable_mut().change(|store| {
                    let mut spans = self.moving.iter();
                    spans.try_for_each(|span| numbers.take_into(&mut store[span.clone()]))
                })??;
            }
            numbers.end()?;
        }
        take_moving(self.trainer.model(), &self.moving, &mut self.before)
    }

    /// What server 0 answers.
    fn ask_first(&self, request: &[u8]) -> Result<Vec<u8>, Error> {
        let first = self.servers.first().map(|server| &server.line);
        let first = first.ok_or_else(|| Error::Panic("a worker without servers".to_owned()))?;
        Ok(first.call(request.to_vec())?)
    }
}

fn is_over(settings: &config::Fit, progress: &WorkerProgress) -> bool {
    settings
        .epochs
        .is_some_and(|epochs| progress.epochs >= epochs)
}

/// The model's moving statistics.
fn take_moving(model: &Model, moving: &[Range<usize>], into: &mut Vec<f32>) -> Result<(), Error> {
    let store = model.non_trainable().as_slice()?;
    into.clear();
    for span in moving {
        into.extend_from_slice(&store[span.clone()]);
    }
    Ok(())
}

/// Rows that servers hold, of matrices whose rows are looked up.
#[derive(Debug)]
struct ServedRows(Vec<(Arc<Line>, Stretch)>);

impl ServedRows {
    fn of(servers: &[Server]) -> Self {
        let held = servers.iter().flat_map(|server| {
            let by_row = server.stretches.iter().filter(|one| one.by_row);
            by_row.map(|stretch| (Arc::clone(&server.line), stretch.clone()))
        });
        Self(held.collect())
    }
}

impl Rows for ServedRows {
    fn fetch(&self, variable: usize, ids: &[usize]) -> Result<Option<Vec<f32>>, Failure> {
        // In the order of servers, which is that of their rows.
        let held = self.0.iter().filter(|(_, one)| one.variable == variable);
        let mut replies = Vec::new();
        let mut is_held = false;
        for (line, stretch) in held {
            is_held = true;
            let rows = stretch.rows();
            let from = ids.partition_point(|id| *id < rows.start);
            let to = ids.partition_point(|id| *id < rows.end);
            let numbers = ids[from..to]
                .iter()
                .map(|id| u32::try_from(id - rows.start));
            let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
            let count = numbers.len();
            let mut request = Packed::new(&Request::Rows { variable, count })?;
            request.put(&numbers);
            replies.push((count * stretch.width, line.start(request.into_bytes())));
        }
        let mut values = Vec::new();
        for (count, reply) in replies {
            let answer = reply.wait()?;
            let ((), mut numbers) = unpack(&answer)?;
            values.extend(numbers.take::<f32>(count)?);
        }
        Ok(is_held.then_some(values))
    }
}
