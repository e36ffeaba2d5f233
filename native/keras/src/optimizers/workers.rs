//! Work spread over threads with one result, whatever the number of threads.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// Elements that are worked on at once: few enough for all arrays of a rule to stay in a core's
/// cache between two passes over them.
pub(super) const CHUNK: usize = 16 * 1024;

/// Runs `work` on every item and returns the results in the order of the items. Up to `threads`
/// threads take the next item when they are done with one; which thread takes which makes no
/// difference to the results.
pub(super) fn run<T: Send, R: Send>(
    threads: usize,
    items: Vec<T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let threads = threads.min(items.len());
    if threads < 2 {
        return items.into_iter().map(work).collect();
    }
    let count = items.len();
    let queue = Mutex::new(items.into_iter().enumerate());
    let done = Mutex::new(Vec::with_capacity(count));
    let take = || {
        let mut own = Vec::new();
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, item)) = next else { break };
            own.push((index, work(item)));
        }
        done.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(own);
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that cannot be started leaves its share to the others. A panic in one goes
            // on in this thread when the scope ends.
            let _ = thread::Builder::new().spawn_scoped(scope, take);
        }
        take();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|&(index, _)| index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// How many of `threads` are worth starting for `elements`.
pub(super) fn useful(threads: usize, elements: usize) -> usize {
    threads.min(elements / (4 * CHUNK)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_from_any_number_of_threads() {
        for threads in [0, 1, 2, 7, 200] {
            let mut buffer = vec![0_u32; 1000];
            let items: Vec<_> = buffer.chunks_mut(7).enumerate().collect();
            let results = run(threads, items, |(index, chunk)| {
                chunk.fill(u32::try_from(index).unwrap());
                chunk.len() * 1000 + index
            });
            let expected: Vec<_> = (0..143)
                .map(|index| if index == 142 { 6142 } else { 7000 + index })
                .collect();
            assert_eq!(results, expected, "{threads} threads");
            assert!(
                buffer
                    .iter()
                    .enumerate()
                    .all(|(at, &value)| value as usize == at / 7)
            );
        }
        assert!(run(4, Vec::<u8>::new(), |item| item).is_empty());
    }

    #[test]
    fn small_work_stays_on_one_thread() {
        assert_eq!(useful(8, 1000), 1);
        assert_eq!(useful(8, 12 * CHUNK), 3);
        assert_eq!(useful(2, 1 << 30), 2);
    }
}
