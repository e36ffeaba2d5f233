//! Who may join, and who does not disturb.

mod ranks;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use flambeau_collective::{AbortHandle, AbortReason, Communicator, Config, Error, Secret};
use ranks::{DEADLINE, job, run_all, run_ranks, secret, sum_and_close, with_rank};

fn connect(config: &Config) -> Result<Communicator, Error> {
    Communicator::connect(config, &secret(), &AbortHandle::new())
}

#[test]
fn a_rank_with_another_secret_is_never_believed_and_the_deadline_says_what_was_seen() {
    let job = Config {
        rendezvous_timeout_ms: 2_000,
        ..job(2)
    };
    let ranks = vec![with_rank(&job, 0), with_rank(&job, 1)];
    let errors = run_all(ranks, DEADLINE, |config| {
        let secret = Secret::new([if config.rank == 0 { 1 } else { 2 }; 32]);
        Communicator::connect(&config, &secret, &AbortHandle::new()).unwrap_err()
    });
    for (error, absent) in errors.iter().zip([1, 0]) {
        assert!(
            matches!(error, Error::RendezvousTimeout { missing, .. } if missing == &[absent]),
            "{error}"
        );
        // Nobody can prove that the secrets differ, so nobody may say for sure that a retry is vain.
        assert!(error.is_retryable());
    }
    let hint = ": it claims to be of attempt 0 of this job, but does not hold the job's secret";
    assert!(errors[1].to_string().contains(hint), "{}", errors[1]);
}

#[test]
fn a_rank_of_an_older_attempt_is_told_so_and_the_newer_attempt_goes_on() {
    let newer = Config {
        stage_attempt: 1,
        ..job(2)
    };
    let stale = Config {
        stage_attempt: 0,
        ..with_rank(&newer, 1)
    };
    let refused = Arc::new(AtomicBool::new(false));
    run_all(
        vec![newer.clone(), with_rank(&newer, 1), stale],
        DEADLINE,
        move |config| {
            if config.stage_attempt == 0 {
                assert_stale(&connect(&config).unwrap_err());
                refused.store(true, Ordering::SeqCst);
                return;
            }
            while config.rank == 1 && !refused.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            sum_and_close(connect(&config));
        },
    );
}

#[test]
fn a_rank_0_of_an_older_attempt_ends_when_a_rank_of_the_newer_one_calls() {
    let stale = Config {
        rendezvous_timeout_ms: 60_000,
        ..job(2)
    };
    let newer = Config {
        stage_attempt: 1,
        ..stale.clone()
    };
    let ranks = vec![stale, newer.clone(), with_rank(&newer, 1)];
    let started = Instant::now();
    let told = Arc::new(AtomicBool::new(false));
    run_all(ranks, DEADLINE, move |config| {
        if config.stage_attempt == 0 {
            assert_stale(&connect(&config).unwrap_err());
            told.store(true, Ordering::SeqCst);
            return;
        }
        thread::sleep(Duration::from_millis(300));
        let communicator = connect(&config);
        // A job that is over at once may end before its calls to other ports do.
        while !told.load(Ordering::SeqCst) && started.elapsed() < DEADLINE / 2 {
            thread::sleep(Duration::from_millis(5));
        }
        sum_and_close(communicator);
    });
    let elapsed = started.elapsed();
    assert!(elapsed < DEADLINE / 2, "took {elapsed:?}");
}

fn assert_stale(error: &Error) {
    let told = matches!(
        error,
        Error::StaleAttempt {
            own: 0,
            newest: 1,
            ..
        }
    );
    assert!(told, "{error}");
}

#[test]
fn strangers_at_the_listener_do_not_disturb() {
    let job = job(3);
    let port = job.port;
    let open = Arc::new(AtomicBool::new(true));
    let knocking = Arc::clone(&open);
    let stranger = thread::spawn(move || {
        let mut silent = Vec::new();
        while knocking.load(Ordering::SeqCst) {
            for words in [
                b"GET / HTTP/1.1\r\n\r\n".to_vec(),
                vec![0xa5; 4096],
                b"FLAMBEAU".repeat(40),
                Vec::new(),
            ] {
                let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                stream.write_all(&words).ok();
                silent.push(stream);
            }
            silent.truncate(200);
            thread::sleep(Duration::from_millis(2));
        }
    });
    run_ranks(&job, DEADLINE, |communicator, _| {
        if communicator
            .as_ref()
            .is_ok_and(|communicator| communicator.rank() == 2)
        {
            thread::sleep(Duration::from_millis(200));
        }
        sum_and_close(communicator);
    });
    open.store(false, Ordering::SeqCst);
    stranger.join().unwrap();
}

#[test]
fn strangers_that_listen_in_the_range_are_passed_over() {
    let job = job(2);
    let mut free = (job.port..).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    let (silent, babbling) = (free.next().unwrap(), free.next().unwrap());
    thread::spawn(move || {
        for mut stream in babbling.incoming().flatten() {
            stream.read_exact(&mut [0; 10]).ok();
            stream.write_all(&[b'?'; 500]).ok();
        }
    });
    let started = Instant::now();
    run_ranks(&job, DEADLINE, |communicator, _| {
        sum_and_close(communicator)
    });
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "took {:?}",
        started.elapsed()
    );
    drop(silent);
}

#[test]
fn many_jobs_share_one_range_of_ports() {
    let first = job(3);
    let jobs = (0..4).map(|index| Config {
        run_id: format!("{} {index}", first.run_id),
        ..first.clone()
    });
    let ranks = jobs
        .flat_map(|job| (0..3).map(move |rank| with_rank(&job, rank)))
        .collect();
    run_all(ranks, DEADLINE, |config| sum_and_close(connect(&config)));
}

#[test]
fn of_two_that_claim_a_rank_the_first_wins() {
    let job = job(3);
    let claims = Arc::new(Mutex::new(Vec::new()));
    let outcome = Arc::clone(&claims);
    let ranks = vec![
        with_rank(&job, 0),
        with_rank(&job, 1),
        with_rank(&job, 1),
        with_rank(&job, 2),
    ];
    run_all(ranks, DEADLINE, move |config| {
        // The last rank leaves the two time to clash.
        if config.rank == 2 {
            thread::sleep(Duration::from_millis(1_000));
        }
        match connect(&config) {
            Ok(communicator) => sum_and_close(Ok(communicator)),
            Err(error) => outcome
                .lock()
                .unwrap()
                .push((config.rank, error.to_string())),
        }
    });
    let refused = claims.lock().unwrap();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].0, 1);
    assert!(
        refused[0]
            .1
            .contains("there is a rank 1 in this job already"),
        "{refused:?}"
    );
}

#[test]
fn a_taken_range_is_an_error_that_names_it() {
    let job = Config {
        port_retries: 0,
        ..job(2)
    };
    let _taken = TcpListener::bind(("127.0.0.1", job.port)).unwrap();
    let error = connect(&job).unwrap_err();
    assert!(matches!(error, Error::Bind { .. }), "{error}");
    assert!(error.to_string().contains(&job.port.to_string()), "{error}");
}

#[test]
fn an_absent_rank_0_is_named_with_what_was_tried() {
    let job = Config {
        rendezvous_timeout_ms: 500,
        ..job(2)
    };
    let error = connect(&with_rank(&job, 1)).unwrap_err();
    assert!(
        matches!(&error, Error::RendezvousTimeout { missing, .. } if missing == &[0]),
        "{error}"
    );
    assert!(
        error.to_string().contains(&format!("ports {}", job.port)),
        "{error}"
    );
}

#[test]
fn an_abort_ends_the_rendezvous_of_all_who_came() {
    let job = job(3);
    let started = Instant::now();
    let errors = run_all(
        vec![with_rank(&job, 0), with_rank(&job, 1)],
        DEADLINE,
        |config| {
            let abort = AbortHandle::new();
            if config.rank == 1 {
                let abort = abort.clone();
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(800));
                    abort.abort(AbortReason {
                        deterministic: true,
                        message: "no label".to_owned(),
                    });
                });
            }
            Communicator::connect(&config, &secret(), &abort).unwrap_err()
        },
    );
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "took {:?}",
        started.elapsed()
    );
    assert!(
        matches!(
            &errors[0],
            Error::PeerAborted {
                rank: 1,
                deterministic: true,
                ..
            }
        ),
        "{}",
        errors[0]
    );
    assert!(matches!(&errors[1], Error::Aborted { .. }), "{}", errors[1]);
}

#[test]
fn a_wrong_configuration_is_refused_before_any_network() {
    let wrong = [
        Config { rank: 2, ..job(2) },
        Config {
            hosts: vec!["127.0.0.1".to_owned()],
            ..job(2)
        },
        Config { port: 0, ..job(2) },
        Config {
            progress_timeout_ms: 0,
            ..job(2)
        },
        Config {
            rendezvous_timeout_ms: u64::MAX,
            ..job(2)
        },
        Config {
            heartbeat_ms: 10,
            dead_after_ms: 10,
            ..job(2)
        },
    ];
    for config in wrong {
        let error = connect(&config).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
        assert!(!error.is_retryable());
    }
}
