//! A communicator leaves nothing behind. Alone in its binary: it counts what the process holds.

mod ranks;

use std::fs;

use ranks::{DEADLINE, job, run_ranks};

fn held(what: &str) -> usize {
    fs::read_dir(format!("/proc/self/{what}"))
        .expect("Linux")
        .count()
}

fn open_and_close() {
    run_ranks(&job(3), DEADLINE, |communicator, _| {
        let mut communicator = communicator.expect("all ranks meet");
        communicator.allreduce(&mut [1.0; 64]).expect("a sum");
        // Two end well, one does not; nothing of either may stay.
        if communicator.rank() == 0 && communicator.allgather(&[]).is_ok() {
            return communicator.close().is_ok();
        }
        communicator.allgather(&[]).is_ok()
    });
}

#[test]
fn sockets_and_threads_are_gone_after_close_and_after_failure() {
    open_and_close();
    let before = (held("fd"), held("task"));
    for _ in 0..10 {
        open_and_close();
    }
    // The threads that played the ranks may take a moment to be gone.
    let settled = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        held("fd") <= before.0 && held("task") <= before.1
    });
    assert!(
        settled,
        "{before:?} became {:?}",
        (held("fd"), held("task"))
    );
}
