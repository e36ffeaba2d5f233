//! How a rank that gives up, stays behind or ends early is seen by the others, in one process.

mod ranks;

use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use flambeau_collective::{AbortReason, Config, Error};
use ranks::{DEADLINE, TRANSPORTS, job, over, run_ranks};

#[test]
fn an_abort_wakes_every_rank_and_names_its_author() {
    for transports in TRANSPORTS {
        let outcomes = run_ranks(
            &over(transports, job(4)),
            DEADLINE,
            |communicator, abort| {
                let mut communicator = communicator.unwrap();
                communicator.allreduce(&mut [0.0; 8]).unwrap();
                let started = Instant::now();
                if communicator.rank() == 2 {
                    thread::spawn(move || {
                        thread::sleep(Duration::from_millis(300));
                        let message = "loss is NaN in step 7".to_owned();
                        abort.abort(AbortReason {
                            deterministic: true,
                            message,
                        });
                    });
                    // Blocked in the exit barrier, where the others never come.
                    return (communicator.close().unwrap_err(), started.elapsed());
                }
                let error = communicator.allreduce(&mut vec![1.0; 100_000]).unwrap_err();
                let again = communicator.allreduce(&mut [1.0]).unwrap_err();
                assert!(
                    matches!(again, Error::PeerAborted { rank: 2, .. }),
                    "{again}"
                );
                (error, started.elapsed())
            },
        );
        for (rank, (error, elapsed)) in outcomes.into_iter().enumerate() {
            assert!(
                elapsed < Duration::from_millis(1_500),
                "rank {rank} after {elapsed:?}"
            );
            assert!(!error.is_retryable());
            assert!(
                error.to_string().contains("loss is NaN in step 7"),
                "{error}"
            );
            match error {
                Error::Aborted { .. } => assert_eq!(rank, 2),
                Error::PeerAborted { rank: author, .. } => assert_eq!(author, 2),
                other => panic!("rank {rank}: {other}"),
            }
        }
    }
}

#[test]
fn a_rank_that_drops_its_communicator_is_named() {
    for transports in TRANSPORTS {
        let met = Barrier::new(3);
        let errors = run_ranks(
            &over(transports, job(3)),
            DEADLINE,
            move |communicator, _| {
                let mut communicator = communicator.unwrap();
                met.wait();
                if communicator.rank() == 1 {
                    return None;
                }
                Some(communicator.allreduce(&mut [0.0; 8]).unwrap_err())
            },
        );
        for error in errors.into_iter().flatten() {
            assert!(
                matches!(
                    error,
                    Error::PeerAborted {
                        rank: 1,
                        deterministic: false,
                        ..
                    }
                ),
                "{error}"
            );
        }
    }
}

#[test]
fn a_rank_that_stays_behind_is_named_by_all_not_just_by_its_neighbour() {
    for transports in TRANSPORTS {
        let job = Config {
            transports,
            progress_timeout_ms: 1_500,
            ..job(3)
        };
        let done = Arc::new(AtomicUsize::new(0));
        let errors = run_ranks(&job, DEADLINE, move |communicator, _| {
            let mut communicator = communicator.unwrap();
            communicator.allreduce(&mut [0.0; 8]).unwrap();
            if communicator.rank() == 2 {
                while done.load(Ordering::SeqCst) < 2 {
                    thread::sleep(Duration::from_millis(10));
                }
            }
            // What the others sent before they gave up may still make a sum for the last one.
            let errors = || communicator.allreduce(&mut [0.0; 8]).err();
            let error = iter::repeat_with(errors).flatten().next();
            done.fetch_add(1, Ordering::SeqCst);
            error.unwrap()
        });
        for error in errors {
            assert!(
                matches!(error, Error::ProgressTimeout { rank: 2, .. }),
                "{error}"
            );
            assert!(
                error.to_string().contains("in operation 2, it began 1"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_rank_that_holds_the_others_up_is_named_to_the_user() {
    // What rank 0 is in it knows by name.
    for (straggler, operation) in [
        (2, "allreduce 2 (8.0 kB), step 7"),
        (0, "operation 2, step 6"),
    ] {
        let job = Config {
            straggler_ms: 3_000,
            ..job(3)
        };
        let warnings = run_ranks(&job, DEADLINE, move |communicator, abort| {
            let mut communicator = communicator.unwrap();
            communicator.begin_step(6);
            communicator.allreduce(&mut [0.0; 8]).unwrap();
            if communicator.rank() == straggler {
                thread::sleep(Duration::from_secs(5));
            }
            communicator.begin_step(7);
            communicator.allreduce(&mut [0.0; 2_000]).unwrap();
            communicator.close().unwrap();
            abort.take_warning()
        });
        let warning = warnings[0].as_deref().unwrap_or_default();
        let what = format!(
            "s for rank {straggler} (127.0.0.1) in {operation}: it has begun operation 1 so far"
        );
        assert!(
            warning.starts_with("waiting 3") && warning.ends_with(&what),
            "{warning}"
        );
        // Rank 0 alone is asked.
        assert_eq!(&warnings[1..], &[None, None]);
    }
}

#[test]
fn a_slow_rank_is_waited_for_while_it_lives() {
    for transports in TRANSPORTS {
        let job = Config {
            transports,
            dead_after_ms: 800,
            ..job(3)
        };
        run_ranks(&job, DEADLINE, |communicator, _| {
            let mut communicator = communicator.unwrap();
            let mut data = vec![1.0; 4_000_000];
            if communicator.rank() == 2 {
                thread::sleep(Duration::from_secs(3));
            }
            communicator.broadcast(0, &mut data).unwrap();
            communicator.allreduce(&mut data).unwrap();
            assert_eq!(data[0], 3.0);
            communicator.close().unwrap();
        });
    }
}

#[test]
fn a_rank_that_is_done_early_stays_until_all_are() {
    run_ranks(&job(3), DEADLINE, |communicator, _| {
        let communicator = communicator.unwrap();
        let started = Instant::now();
        if communicator.rank() == 1 {
            thread::sleep(Duration::from_millis(700));
        }
        communicator.close().unwrap();
        assert!(started.elapsed() >= Duration::from_millis(600));
    });
}

#[test]
fn a_rank_that_never_leaves_is_named_when_the_exit_barrier_times_out() {
    let job = Config {
        progress_timeout_ms: 800,
        ..job(2)
    };
    let errors = run_ranks(&job, DEADLINE, |communicator, _| {
        let mut communicator = communicator.unwrap();
        if communicator.rank() == 1 {
            return communicator.close().unwrap_err();
        }
        thread::sleep(Duration::from_millis(1_600));
        communicator.allreduce(&mut [1.0]).unwrap_err()
    });
    for error in errors {
        assert!(
            matches!(error, Error::ProgressTimeout { rank: 0, .. }),
            "{error}"
        );
    }
}
