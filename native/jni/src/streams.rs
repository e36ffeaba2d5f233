//! What this process keeps of streams between their micro-batches: the model and its optimizer as the
//! last ones left them, so that the next one need not read the checkpoint that is in the model
//! directory. That is always there: what is not kept, or given up here, costs a read.

use flambeau_formats::checkpoint::Checkpoint;
use flambeau_train::config::MicroBatch;
use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// The states kept of a stream: the last one may be of a micro-batch that Spark repeats.
const PER_STREAM: usize = 2;

/// The streams of which states are kept: those used last.
const STREAMS: usize = 4;

/// Micro-batches of a stream with the states after them, the oldest first.
type States = VecDeque<(u64, Arc<Checkpoint>)>;

/// By stream, the one used last at the end.
static KEPT: LazyLock<Mutex<VecDeque<(String, States)>>> = LazyLock::new(Mutex::default);

/// Keeps the state after a micro-batch.
pub(crate) fn keep(micro_batch: &MicroBatch, state: Option<Arc<Checkpoint>>) {
    let Some(state) = state else {
        return;
    };
    let mut kept = table();
    let at = kept
        .iter()
        .position(|(stream, _)| *stream == micro_batch.stream);
    let (stream, mut states) = at
        .and_then(|at| kept.remove(at))
        .unwrap_or_else(|| (micro_batch.stream.clone(), States::new()));
    states.retain(|(number, _)| *number < micro_batch.number);
    states.push_back((micro_batch.number, state));
    while states.len() > PER_STREAM {
        states.pop_front();
    }
    kept.push_back((stream, states));
    while kept.len() > STREAMS {
        kept.pop_front();
    }
}

/// The state that `micro_batch` goes on from, if it is kept.
pub(crate) fn before(micro_batch: &MicroBatch) -> Option<Arc<Checkpoint>> {
    let wanted = micro_batch.number.checked_sub(1)?;
    let kept = table();
    let (_, states) = kept
        .iter()
        .find(|(stream, _)| *stream == micro_batch.stream)?;
    let (_, state) = states.iter().find(|(number, _)| *number == wanted)?;
    Some(Arc::clone(state))
}

fn table() -> MutexGuard<'static, VecDeque<(String, States)>> {
    // The table is whole between any two of its operations.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micro_batch(stream: &str, number: u64) -> MicroBatch {
        MicroBatch {
            stream: stream.to_owned(),
            number,
        }
    }

    fn keep_step(stream: &str, number: u64, step: u64) {
        let state = Checkpoint {
            step,
            manifest: serde_json::Value::Null,
            tensors: Vec::new(),
        };
        keep(&micro_batch(stream, number), Some(Arc::new(state)));
    }

    fn step_before(stream: &str, number: u64) -> Option<u64> {
        before(&micro_batch(stream, number)).map(|state| state.step)
    }

    #[test]
    fn the_last_two_states_of_the_last_four_streams_are_kept() {
        assert_eq!(step_before("a", 0), None);
        for number in 0..3 {
            keep_step("a", number, 10 * number);
        }
        let steps = [1, 2, 3, 4].map(|number| step_before("a", number));
        assert_eq!(steps, [None, Some(10), Some(20), None]);
        // A micro-batch that is repeated, and those after it that never were.
        keep_step("a", 1, 11);
        assert_eq!(
            [2, 3].map(|number| step_before("a", number)),
            [Some(11), None]
        );
        for stream in ["b", "c", "d"] {
            keep_step(stream, 0, 1);
        }
        keep_step("a", 2, 22);
        keep_step("e", 0, 1);
        assert_eq!(step_before("b", 1), None);
        assert_eq!(step_before("a", 3), Some(22));
    }
}
