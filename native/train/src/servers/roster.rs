//! The workers as server 0 knows them: who is there, how far each has come, who may go on.
//!
//! A worker's clock counts the batches that it has trained since it came, from the clock of the slowest
//! one that was there then. Those that are gone, or done, hold nobody up.

use crate::servers::message::WorkerProgress;
use std::collections::BTreeMap;

/// All workers of a fit.
#[derive(Debug)]
pub(crate) struct Roster {
    workers: Vec<Worker>,
    max_staleness: Option<u64>,
    /// How many batches may yet be trained, those that were given leave for not among them.
    left: Option<u64>,
    /// How many updates were applied between a pull and the push that came of it, and how often.
    staleness: BTreeMap<u64, u64>,
}

#[derive(Debug, Default)]
struct Worker {
    progress: WorkerProgress,
    clock: u64,
    presence: Presence,
    /// Whether a batch may be trained that has not come back.
    has_leave: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Presence {
    #[default]
    Awaited,
    Here,
    Lost,
    Done,
}

impl Roster {
    /// Workers that come to where `progress` says, and may train `steps` batches more.
    pub(crate) fn new(
        progress: Vec<WorkerProgress>,
        steps: Option<u64>,
        max_staleness: Option<u64>,
    ) -> Self {
        let workers = progress.into_iter().map(|progress| Worker {
            progress,
            ..Worker::default()
        });
        Self {
            workers: workers.collect(),
            max_staleness,
            left: steps,
            staleness: BTreeMap::new(),
        }
    }

    /// A worker has come, or come again; where it goes on.
    pub(crate) fn come(&mut self, worker: usize) -> WorkerProgress {
        self.take_leave_back(worker);
        let slowest = self.slowest().unwrap_or(0);
        let worker = &mut self.workers[worker];
        worker.presence = Presence::Here;
        worker.clock = slowest.max(worker.clock);
        worker.progress
    }

    /// A worker is gone; whether that is a loss.
    pub(crate) fn lose(&mut self, worker: usize) -> bool {
        let was_here = self.workers[worker].presence == Presence::Here;
        if was_here {
            self.workers[worker].presence = Presence::Lost;
            self.take_leave_back(worker);
        }
        was_here
    }

    /// A worker trains no more.
    pub(crate) fn finish(&mut self, worker: usize) {
        self.take_leave_back(worker);
        self.workers[worker].presence = Presence::Done;
    }

    /// Whether a worker has to wait for slower ones before its next batch.
    pub(crate) fn waits(&self, worker: usize) -> bool {
        let clock = self.workers[worker].clock;
        let slowest = self.slowest().unwrap_or(clock);
        self.max_staleness
            .is_some_and(|most| clock.saturating_sub(slowest) > most)
    }

    /// Gives a worker leave for its next batch, unless all have been.
    pub(crate) fn give_leave(&mut self, worker: usize) -> bool {
        let worker = &mut self.workers[worker];
        match &mut self.left {
            _ if worker.has_leave => {}
            Some(0) => return false,
            Some(left) => *left -= 1,
            None => {}
        }
        worker.has_leave = true;
        true
    }

    /// A batch of a worker has been applied, `stale` updates after its weights, and it has come on.
    pub(crate) fn pushed(&mut self, worker: usize, progress: WorkerProgress, stale: u64) {
        let worker = &mut self.workers[worker];
        worker.progress = progress;
        worker.clock += 1;
        worker.has_leave = false;
        *self.staleness.entry(stale).or_default() += 1;
    }

    /// A worker has ended an epoch.
    pub(crate) fn ended_epoch(&mut self, worker: usize) {
        self.workers[worker].progress.epochs += 1;
    }

    pub(crate) fn progress_of(&self, worker: usize) -> WorkerProgress {
        self.workers[worker].progress
    }

    pub(crate) fn progress(&self) -> Vec<WorkerProgress> {
        self.workers.iter().map(|worker| worker.progress).collect()
    }

    /// Whether an epoch, counted from 0, is over: somebody has ended it, and all others have too, or are
    /// lost or done.
    pub(crate) fn is_over(&self, epoch: usize) -> bool {
        let ended = |worker: &&Worker| worker.progress.epochs > epoch;
        let open = |worker: &Worker| {
            !ended(&worker) && matches!(worker.presence, Presence::Awaited | Presence::Here)
        };
        self.workers.iter().any(|worker| ended(&worker)) && !self.workers.iter().any(open)
    }

    /// Whether no worker will train any more.
    pub(crate) fn all_done(&self) -> bool {
        let mut workers = self.workers.iter();
        workers.all(|worker| worker.presence == Presence::Done)
    }

    /// Whether some worker is here.
    pub(crate) fn is_manned(&self) -> bool {
        let mut workers = self.workers.iter();
        workers.any(|worker| worker.presence == Presence::Here)
    }

    /// Those that have not come, or have gone.
    pub(crate) fn missing(&self) -> Vec<usize> {
        let workers = self.workers.iter().enumerate();
        let missing = workers
            .filter(|(_, worker)| matches!(worker.presence, Presence::Awaited | Presence::Lost));
        missing.map(|(at, _)| at).collect()
    }

    /// How often so many updates were applied between a pull and the push that came of it.
    pub(crate) fn staleness(&self) -> &BTreeMap<u64, u64> {
        &self.staleness
    }

    fn take_leave_back(&mut self, worker: usize) {
        if std::mem::take(&mut self.workers[worker].has_leave)
            && let Some(left) = &mut self.left
        {
            *left += 1;
        }
    }

    /// The clock of the slowest worker that is here.
    fn slowest(&self) -> Option<u64> {
        let here = |worker: &&Worker| worker.presence == Presence::Here;
        let here = self.workers.iter().filter(here);
        here.map(|worker| worker.clock).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(steps: Option<u64>, max_staleness: Option<u64>) -> Roster {
        Roster::new(vec![WorkerProgress::default(); 3], steps, max_staleness)
    }

    fn push(roster: &mut Roster, worker: usize, stale: u64) {
        let progress = roster.progress_of(worker);
        let steps = progress.steps + 1;
        roster.pushed(worker, WorkerProgress { steps, ..progress }, stale);
    }

    #[test]
    fn nobody_is_further_ahead_of_the_slowest_than_may_be() {
        let mut roster = roster(None, Some(2));
        roster.come(0);
        roster.come(1);
        for _ in 0..3 {
            assert!(!roster.waits(0));
            push(&mut roster, 0, 0);
        }
        assert!(roster.waits(0) && !roster.waits(1));
        // One that comes late is not behind all that the others have done.
        roster.come(2);
        push(&mut roster, 1, 3);
        assert!(roster.waits(0), "worker 2 is three behind");
        push(&mut roster, 2, 3);
        assert!(!roster.waits(0));
        assert_eq!(*roster.staleness(), BTreeMap::from([(0, 3), (3, 2)]));
        // Those that are gone or done hold nobody up.
        for _ in 0..5 {
            push(&mut roster, 0, 0);
        }
        assert!(roster.lose(1) && !roster.lose(1));
        assert!(roster.waits(0));
        roster.finish(2);
        assert!(!roster.waits(0));
        assert_eq!(roster.come(1).steps, 1);
        assert!(!roster.waits(0));
        assert!(!roster.all_done() && roster.is_manned());
        assert!(roster.missing().is_empty());
    }

    #[test]
    fn no_more_batches_are_given_leave_for_than_may_be_trained() {
        let mut roster = roster(Some(3), None);
        for worker in 0..3 {
            roster.come(worker);
            assert!(roster.give_leave(worker) && roster.give_leave(worker));
        }
        push(&mut roster, 0, 0);
        assert!(!roster.give_leave(0));
        // What a lost worker had leave for, another may train.
        roster.lose(1);
        assert!(roster.give_leave(0));
        roster.come(1);
        assert!(!roster.give_leave(1));
        roster.finish(2);
        assert!(roster.give_leave(1));
        push(&mut roster, 0, 0);
        push(&mut roster, 1, 0);
        assert!(!roster.give_leave(0) && !roster.give_leave(1));
    }

    #[test]
    fn an_epoch_is_over_when_all_that_can_have_ended_it() {
        let mut roster = roster(None, None);
        roster.come(0);
        roster.come(1);
        roster.ended_epoch(0);
        roster.ended_epoch(1);
        assert!(!roster.is_over(0), "worker 2 has not come yet");
        roster.come(2);
        assert!(!roster.is_over(0));
        roster.lose(2);
        assert!(roster.is_over(0) && !roster.is_over(1));
        roster.come(2);
        roster.ended_epoch(2);
        roster.ended_epoch(0);
        roster.finish(0);
        assert!(!roster.is_over(1));
        roster.lose(1);
        roster.lose(2);
        assert!(roster.is_over(1) && !roster.is_over(2));
        assert_eq!(roster.missing(), [1, 2]);
        assert!(!roster.is_manned() && !roster.all_done());
    }
}
