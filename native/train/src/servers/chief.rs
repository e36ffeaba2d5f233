//! The first server: besides its shard it has the workers, the epochs and the files of the fit.

mod epochs;

use super::tally::Tally;
use super::{Given, trainer_alone};
use crate::artifacts::Artifacts;
use crate::config::FitSession;
use crate::error::Error;
use crate::event::{Event, FitResult};
use crate::progress::Progress;
use crate::resume::State;
use crate::servers::message::{
    Ended, Leave, Numbers, Packed, Push, Request, Weights, Welcome, WorkerProgress, strange, unpack,
};
use crate::servers::parts::{self, Held};
use crate::servers::plan::{Stretch, plan};
use crate::servers::roster::Roster;
use crate::servers::shard::Shard;
use crate::session::Stop;
use crate::settings;
use crate::share::moving_spans;
use crate::step::Trainer;
use crossbeam::channel::Sender;
use flambeau_collective::{self as collective, Answer, Endpoint, Line, Scene, Secret};
use flambeau_formats::checkpoint;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long a wait lasts before cancellation and deadlines are looked at again.
const TICK: Duration = Duration::from_millis(50);

/// Without a worker for so long there is something to tell.
const LONELY: Duration = Duration::from_secs(30);

/// Server 0 of a fit.
#[derive(Debug)]
pub(crate) struct Chief<'a> {
    config: &'a FitSession,
    events: &'a Sender<Event>,
    stop: &'a Stop,
    endpoint: &'a Endpoint,
    opened: Instant,
    is_both: bool,
    /// Where shards are gathered.
    trainer: Trainer,
    shard: Shard,
    /// What each server holds.
    plans: Vec<Vec<Stretch>>,
    /// Whether rows are as the model begins that only servers have.
    is_initial: bool,
    /// Where moving statistics lie.
    moving: Vec<Range<usize>>,
    /// Host, port and line of each other server that has come.
    seats: BTreeMap<usize, ((String, u16), Line)>,
    roster: Roster,
    state: State,
    tally: Tally,
    artifacts: Artifacts,
    progress: Progress,
    /// Workers that wait for all servers.
    entering: Vec<(usize, Answer)>,
    /// Workers that wait for slower ones.
    held: BTreeMap<usize, Answer>,
    /// Workers that train no more and have not ended.
    staying: BTreeSet<usize>,
    /// Since when no worker is here, and whether that was told.
    alone: Instant,
    told_alone: bool,
}

impl<'a> Chief<'a> {
    /// Listens, with the weights of the checkpoint that it is given or else of the model.
    ///
    /// # Errors
    /// [`Error::Config`] for the checkpoint of another fit, [`Error::Storage`], [`Error::Collective`].
    pub(crate) fn new(
        given: Given<'a>,
        endpoint: &'a Endpoint,
        secret: &Secret,
    ) -> Result<Self, Error> {
        let Given { config, stop, .. } = given;
        let fit = &config.fit;
        let parts = (given.model, given.objective, given.optimizer);
        let mut trainer = trainer_alone(parts, config, secret)?;
        let mut state = restored(config, &mut trainer)?;
        let is_initial = config.resume.is_none() && given.is_initial;
        let (model, optimizer) = (trainer.model(), trainer.optimizer());
        let plans = plan(model, optimizer, fit.num_ps);
        let threads = usize::try_from(config.threads).unwrap_or(1);
        let mut shard = Shard::zeros(model, optimizer, plans[0].clone(), threads)?;
        let whole = pack(&mut trainer, &plans[0], state.step)?;
        let step = parts::store(&whole, &mut shard.held())?;
        shard.set_step(step);
        let workers = config.collective.world_size.saturating_sub(fit.num_ps);
        let mut tally = state.tally.take().unwrap_or_default();
        tally.workers.resize(workers, WorkerProgress::default());
        let steps = fit.max_steps.map(|most| most.saturating_sub(state.step));
        let events = given.events;
        let artifacts = Artifacts::start(config, trainer.model(), events.clone(), stop.clone())?;
        let mut progress = Progress::new(fit);
        progress.start_epoch(state.epochs + 1, 0);
        endpoint.listen()?;
        Ok(Self {
            moving: moving_spans(trainer.model()),
            roster: Roster::new(tally.workers.clone(), steps, fit.max_staleness),
            opened: given.opened,
            is_both: given.is_both,
            config,
            events,
            stop,
            endpoint,
            trainer,
            shard,
            plans,
            is_initial,
            seats: BTreeMap::new(),
            state,
            tally,
            artifacts,
            progress,
            entering: Vec::new(),
            held: BTreeMap::new(),
            staying: BTreeSet::new(),
            alone: Instant::now(),
            told_alone: false,
        })
    }

    /// Serves until no worker will train any more, and leaves the files.
    ///
    /// # Errors
    /// The failure of a worker that would fail again, [`Error::Collective`] if a server is lost or no
    /// worker comes, and what ends the writing of files.
    pub(crate) fn run(mut self) -> Result<FitResult, Error> {
        while !self.roster.all_done() {
            self.stop.check("waiting for calls")?;
            if let Some(event) = self.endpoint.next(TICK)? {
                self.on_event(event)?;
            }
            while self.roster.is_over(self.state.epochs) {
                self.end_epoch()?;
            }
            self.answer_held()?;
            self.look_around()?;
        }
        self.finish()
    }

    fn servers(&self) -> usize {
        self.plans.len()
    }

    fn on_event(&mut self, event: collective::Event) -> Result<(), Error> {
        let servers = self.servers();
        match event {
            collective::Event::Came { rank, incarnation } => {
                log::debug!("rank {rank} has come, attempt {incarnation} of its task");
            }
            // Of a server the line to it says more.
            collective::Event::Gone { rank, .. } if rank < servers => {}
            collective::Event::Gone { rank, reason } => {
                let worker = rank - servers;
                self.entering.retain(|(entering, _)| *entering != worker);
                self.held.remove(&worker);
                self.staying.remove(&worker);
                let was_here = self.roster.lose(worker);
                if reason.deterministic {
                    return Err(self.endpoint.fail_as(rank, reason).into());
                }
                // With its server, without which nobody trains on, where that is of the same task.
                if was_here && !self.is_both {
                    let message = format!(
                        "worker {worker} (rank {rank}) is lost: {}. The others train on, and it goes on \
                         behind its last batch when Spark has started its task again",
                        reason.message
                    );
                    log::warn!("{message}");
                    self.tell(Event::Warning { message });
                }
            }
            collective::Event::Call { rank, body, answer } => {
                let (request, numbers) = unpack(&body)?;
                match rank.checked_sub(servers) {
                    Some(worker) => self.on_worker(worker, request, numbers, answer)?,
                    None => self.on_server(rank, request, answer)?,
                }
            }
        }
        Ok(())
    }

    fn on_server(&mut self, rank: usize, request: Request, answer: Answer) -> Result<(), Error> {
        let Request::Seat { host, port } = request else {
            return Err(strange(&format!("server {rank} asks for {request:?}")));
        };
        let hosts = std::slice::from_ref(&host);
        let line = self.endpoint.connect(rank, hosts, Some(port..=port))?;
        self.seats.insert(rank, ((host, port), line));
        let unlike = self.plans[rank]
            .iter()
            .filter(|one| !(one.by_row && self.is_initial));
        let unlike: Vec<_> = unlike.cloned().collect();
        answer.give(pack(&mut self.trainer, &unlike, self.state.step)?);
        self.admit()
    }

    fn on_worker(
        &mut self,
        worker: usize,
        request: Request,
        mut numbers: Numbers<'_>,
        answer: Answer,
    ) -> Result<(), Error> {
        match request {
            Request::Enter => {
                self.entering.push((worker, answer));
                self.admit()?;
            }
            Request::Pull { next } => self.on_wish(worker, next, answer)?,
            Request::Rows { variable, count } => {
                answer.give(self.shard.rows(variable, count, &mut numbers)?);
            }
            Request::Push(push) => {
                self.on_push(worker, &push, &mut numbers)?;
                self.on_wish(worker, push.next, answer)?;
            }
            Request::Epoch(Ended { left_out }) => {
                let nothing = || self.trainer.no_totals();
                let validation = numbers.take_totals(&nothing())?;
                let epoch = self.roster.progress_of(worker).epochs;
                let sums = self.tally.epoch(epoch, nothing);
                sums.validation.add(&validation);
                sums.left_out += left_out;
                self.roster.ended_epoch(worker);
                answer.give(Vec::new());
            }
            Request::Done => {
                self.roster.finish(worker);
                // One that waits for a place to train gets this one's.
                self.let_go(worker, !self.roster.missing().is_empty(), answer)?;
            }
            other => return Err(strange(&format!("worker {worker} asks for {other:?}"))),
        }
        Ok(())
    }

    /// Tells a worker that trains no more whether it may end.
    fn let_go(&mut self, worker: usize, may_go: bool, answer: Answer) -> Result<(), Error> {
        if may_go {
            self.staying.remove(&worker);
        } else {
            self.staying.insert(worker);
        }
        answer.give(Packed::new(&Leave { may_go })?.into_bytes());
        Ok(())
    }

    /// Lets workers begin once all servers have come.
    fn admit(&mut self) -> Result<(), Error> {
        if self.seats.len() + 1 < self.servers() {
            return Ok(());
        }
        for (worker, answer) in std::mem::take(&mut self.entering) {
            let seats = self.seats.values().map(|(seat, _)| seat.clone());
            let welcome = Welcome {
                seats: seats.collect(),
                progress: self.roster.come(worker),
            };
            answer.give(Packed::new(&welcome)?.into_bytes());
        }
        Ok(())
    }

    fn on_push(
        &mut self,
        worker: usize,
        push: &Push,
        numbers: &mut Numbers<'_>,
    ) -> Result<(), Error> {
        let stale = self.state.step.saturating_sub(push.pulled);
        self.shard.update(push, numbers)?;
        self.take_moving(stale, numbers)?;
        let nothing = || self.trainer.no_totals();
        let totals = numbers.take_totals(&nothing())?;
        let place = push.place.ok_or_else(|| strange("it says no place"))?;
        let progress = self.roster.progress_of(worker);
        let sums = self.tally.epoch(progress.epochs, nothing);
        sums.training.steps += 1;
        sums.training.totals.add(&totals);
        let progress = WorkerProgress {
            place,
            steps: progress.steps + 1,
            ..progress
        };
        self.roster.pushed(worker, progress, stale);
        self.state.step += 1;
        if self.state.step == self.state.first_step {
            self.tell(Event::Started {
                seconds: self.opened.elapsed().as_secs_f64(),
            });
        }
        self.report()?;
        let every = self.config.fit.checkpoint_every_steps;
        if every > 0 && self.state.step.is_multiple_of(every) {
            self.gather()?;
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Takes moving statistics over: as they are if nobody has changed them since they were pulled, so
    /// that one worker has what it would have alone; else by how much they have moved.
    fn take_moving(&mut self, stale: u64, numbers: &mut Numbers<'_>) -> Result<(), Error> {
        let count = self.moving.iter().map(Range::len).sum();
        let (before, now) = (numbers.take::<f32>(count)?, numbers.take::<f32>(count)?);
        let places = self.moving.iter().flat_map(Clone::clone);
        let taken = self
            .trainer
            .model_mut()
            .non_trainable_mut()
            .change(|store| {
                for (place, (before, now)) in places.zip(before.into_iter().zip(now)) {
                    match stale {
                        0 => store[place] = now,
                        _ => store[place] += now - before,
                    }
                }
            });
        Ok(taken?)
    }

    /// A worker wants weights: with `next`, to train its next batch.
    fn on_wish(&mut self, worker: usize, next: bool, answer: Answer) -> Result<(), Error> {
        if next && self.roster.waits(worker) {
            self.held.insert(worker, answer);
            return Ok(());
        }
        let go = next && self.roster.give_leave(worker);
        let step = self.state.step;
        let mut message = Packed::new(&Weights { step, go })?;
        self.shard.put_weights(&mut message)?;
        let store = self.trainer.model().non_trainable().as_slice()?;
        for span in &self.moving {
            message.put(&store[span.clone()]);
        }
        answer.give(message.into_bytes());
        Ok(())
    }

    fn answer_held(&mut self) -> Result<(), Error> {
        for (worker, answer) in std::mem::take(&mut self.held) {
            self.on_wish(worker, true, answer)?;
        }
        Ok(())
    }

    /// Gives up on servers that do not come. Of workers whoever starts their tasks knows more: a task may
    /// wait for a place, or for its rows, as long as it takes.
    fn look_around(&mut self) -> Result<(), Error> {
        let patience = Duration::from_millis(self.config.collective.rendezvous_timeout_ms);
        let servers = self.servers();
        if self.seats.len() + 1 < servers && self.opened.elapsed() > patience {
            let absent = (1..servers).filter(|rank| !self.seats.contains_key(rank));
            let scene = Scene {
                rank: 0,
                operation: "waiting for the other servers".to_owned(),
                elapsed: self.opened.elapsed(),
            };
            let missing = collective::Error::RendezvousTimeout {
                missing: absent.collect(),
                detail: "they hold parts of the weights".to_owned(),
                scene: Box::new(scene),
            };
            return Err(missing.into());
        }
        if self.roster.is_manned() {
            (self.alone, self.told_alone) = (Instant::now(), false);
        } else if !self.told_alone && self.alone.elapsed() > LONELY {
            self.told_alone = true;
            let names = self.roster.missing().into_iter().map(|at| at.to_string());
            let names: Vec<_> = names.collect();
            let message = format!(
                "no worker trains: servers wait for workers {}, whose tasks may want for a free slot",
                names.join(", ")
            );
            self.tell(Event::Warning { message });
        }
        Ok(())
    }

    fn tell(&self, event: Event) {
        // The caller that would listen may have closed the session: then nobody needs it.
        self.events.send(event).ok();
    }
}

/// The state of the checkpoint that the rank is given, if it is, with its weights in the trainer.
fn restored(config: &FitSession, trainer: &mut Trainer) -> Result<State, Error> {
    let own = settings::of(config, trainer);
    let mut state = State::default();
    if let Some(path) = &config.resume {
        let read = checkpoint::read(path).map_err(|source| Error::Storage {
            what: "cannot resume from",
            path: path.clone(),
            source: source.into(),
        })?;
        settings::check(&State::of(&read)?.settings, &own)?;
        state = State::restore(&read, trainer)?;
    }
    state.first_step = state.step + 1;
    state.settings = own;
    Ok(state)
}

/// What the trainer has of some stretches.
fn pack(trainer: &mut Trainer, wanted: &[Stretch], step: u64) -> Result<Vec<u8>, Error> {
    let (model, optimizer) = trainer.parts_mut();
    let store = model.trainable_mut();
    let stretches = Stretch::whole(store.variables());
    let whole = Held {
        stretches: &stretches,
        store,
        optimizer,
    };
    parts::pack(&whole, wanted, step)
}
