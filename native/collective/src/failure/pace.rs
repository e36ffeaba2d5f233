//! How a rank comes forward, and when it is time to say that it holds the others up.

use tokio::time::{Duration, Instant};

use crate::failure::abort::Position;

pub(crate) struct Pace {
    pub(crate) position: Position,
    /// Since when the rank is there.
    since: Instant,
    /// A rank that is behind for so long is worth a warning; the next comes when it has been twice as
    /// long.
    patience: Duration,
    warn_after: Duration,
}

impl Pace {
    pub(crate) fn new(rank: usize, now: Instant, patience: Duration) -> Self {
        Self {
            position: Position {
                operations: 0,
                rank,
            },
            since: now,
            patience,
            warn_after: patience,
        }
    }

    pub(crate) fn moved_to(&mut self, position: Position, now: Instant) {
        if position != self.position {
            self.position = position;
            self.since = now;
            self.warn_after = self.patience;
        }
    }

    /// How long the rank has held up others that have begun `operations`, if it is time to say so.
    pub(crate) fn straggles(&mut self, operations: u64, now: Instant) -> Option<Duration> {
        let waited = now.duration_since(self.since);
        let due = self.position.operations < operations && waited >= self.warn_after;
        due.then(|| {
            self.warn_after *= 2;
            waited
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straggler_is_named_after_30_seconds_and_again_after_60_unless_it_moves() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(3, start, Duration::from_secs(30));
        let position = |operations| Position {
            operations,
            rank: 3,
        };
        pace.moved_to(position(811), at(10));
        assert_eq!(pace.straggles(812, at(39)), None);
        // Where all are, nobody waits.
        assert_eq!(pace.straggles(811, at(41)), None);
        assert_eq!(pace.straggles(812, at(41)), Some(Duration::from_secs(31)));
        assert_eq!(pace.straggles(812, at(69)), None);
        assert_eq!(pace.straggles(812, at(70)), Some(Duration::from_secs(60)));
        pace.moved_to(position(812), at(71));
        assert_eq!(pace.straggles(813, at(100)), None);
        assert_eq!(pace.straggles(813, at(101)), Some(Duration::from_secs(30)));
    }
}
