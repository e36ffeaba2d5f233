//! A communicator leaves nothing behind. Alone in its binary: it counts what the process holds.

mod ranks;

use std::fs;
use std::thread;
use std::time::Duration;

use flambeau_collective::{Transports, Wire};
use ranks::{DEADLINE, TRANSPORTS, job, over, run_ranks};

/// Files, threads and mapped memory of ours in this process, and names in the hosts's shared memory.
fn held() -> [usize; 4] {
    let entries = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
    let maps = fs::read_to_string("/proc/self/maps").expect("Linux");
    let mapped = maps.lines().filter(|line| line.contains("flambeau-"));
    let threads = entries("/proc/self/task");
    [
        entries("/proc/self/fd"),
        threads,
        mapped.count(),
        entries("/dev/shm"),
    ]
}

/// Bytes of memory that are this process's alone.
fn private_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kilobytes.expect("a number") * 1024
}

fn open_and_close(transports: Transports) {
    run_ranks(&over(transports, job(3)), DEADLINE, |communicator, _| {
        let mut communicator = communicator.expect("all ranks meet");
        communicator.allreduce(&mut [1.0; 64]).expect("a sum");
        let ticket = communicator.start_allreduce(vec![1.0; 20_000], Wire::Float32);
        ticket.expect("a thread").wait().expect("a sum");
        let mut vector = communicator.allocate(40_000).expect("a vector");
        let sum = communicator.allreduce(vector.as_mut_slice());
        sum.expect("a sum");
        // Two end well, one does not; nothing of either may stay.
        if communicator.rank() == 0 && communicator.allgather(&[]).is_ok() {
            return communicator.close().is_ok();
        }
        communicator.allgather(&[]).is_ok()
    });
}

fn settles_at(before: [usize; 4]) {
    // The threads that played the ranks may take a moment to be gone.
    let settled = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(20));
        held()
            .iter()
            .zip(before)
            .all(|(now, before)| *now <= before)
    });
    assert!(settled, "{before:?} became {:?}", held());
}

/// A thousand communicators: 333 worlds of three. Rendezvous take the time.
#[test]
fn nothing_is_left_after_close_and_after_failure() {
    let warm_up = || {
        for transports in TRANSPORTS {
            (0..20).for_each(|_| open_and_close(transports));
        }
    };
    warm_up();
    thread::sleep(Duration::from_millis(300));
    let (before, memory) = (held(), private_bytes());
    for round in 0..333 {
        open_and_close(TRANSPORTS[round % 2]);
    }
    settles_at(before);
    let grown = private_bytes().saturating_sub(memory);
    assert!(
        grown < 8 << 20,
        "{grown} bytes more after 999 communicators"
    );
}
