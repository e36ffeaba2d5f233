//! Ranks that call each other: many callers at once, answers that come late, callers that come again,
//! and what becomes of the others when one fails.

mod ranks;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use flambeau_collective::{
    AbortHandle, AbortReason, Config, Endpoint, Error, Event, Line, Security,
};
use ranks::{DEADLINE, job, secret, with_rank};

const TICK: Duration = Duration::from_millis(50);

fn hosts() -> Vec<String> {
    vec!["127.0.0.1".to_owned()]
}

/// An endpoint that can be aborted.
fn endpoint(job: &Config, rank: usize, incarnation: u64) -> (Endpoint, AbortHandle) {
    let abort = AbortHandle::new();
    let config = Config {
        hosts: Vec::new(),
        ..with_rank(job, rank)
    };
    let endpoint = Endpoint::open(&config, &secret(), incarnation, &abort);
    (endpoint.expect("a thread"), abort)
}

fn caller(job: &Config, rank: usize, incarnation: u64) -> (Endpoint, AbortHandle, Line) {
    let (endpoint, abort) = endpoint(job, rank, incarnation);
    let line = endpoint.connect(0, &hosts(), None).expect("rank 0 listens");
    (endpoint, abort, line)
}

fn next(endpoint: &Endpoint) -> Event {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < DEADLINE, "nothing happens");
        if let Some(event) = endpoint.next(TICK).expect("a whole endpoint") {
            return event;
        }
    }
}

/// Answers each call with its body backwards, until `callers` have gone.
fn echo(endpoint: &Endpoint, callers: usize) {
    let mut gone = 0;
    while gone < callers {
        match next(endpoint) {
            Event::Call {
                mut body, answer, ..
            } => {
                body.reverse();
                answer.give(body);
            }
            Event::Gone { .. } => gone += 1,
            Event::Came { .. } => {}
        }
    }
}

#[test]
fn many_callers_have_their_own_answers() {
    for security in [Security::Auth, Security::Encrypt, Security::Off] {
        let mut job = job(7);
        job.security = security;
        let (server, _abort) = endpoint(&job, 0, 1);
        server.listen().expect("a port");
        let callers: Vec<_> = (1..7)
            .map(|rank| {
                let job = job.clone();
                thread::spawn(move || {
                    let (endpoint, _abort, line) = caller(&job, rank, 1);
                    for length in [0, 1, 1000, 1_000_000] {
                        let bodies: Vec<Vec<u8>> = (0..3)
                            .map(|at| (0..=250).cycle().skip(rank + at).take(length).collect())
                            .collect();
                        let replies: Vec<_> =
                            bodies.iter().map(|body| line.start(body.clone())).collect();
                        for (mut body, reply) in bodies.into_iter().zip(replies) {
                            body.reverse();
                            assert!(reply.wait().expect("an answer") == body);
                        }
                    }
                    endpoint.close();
                })
            })
            .collect();
        echo(&server, 6);
        for caller in callers {
            caller.join().expect("a good end");
        }
        server.close();
    }
}

#[test]
fn answers_may_come_late_and_in_any_order() {
    let job = job(3);
    let (server, _abort) = endpoint(&job, 0, 1);
    server.listen().expect("a port");
    let (_first, _, one) = caller(&job, 1, 1);
    let (_second, _, two) = caller(&job, 2, 1);
    let (early, late) = (one.start(vec![1]), one.start(vec![2]));
    let other = two.start(vec![3]);
    let mut answers = Vec::new();
    while answers.len() < 3 {
        if let Event::Call { body, answer, .. } = next(&server) {
            answers.push((body, answer));
        }
    }
    answers.reverse();
    for (body, answer) in answers {
        answer.give(body);
    }
    for (reply, expected) in [(late, 2), (early, 1), (other, 3)] {
        assert_eq!(reply.wait().expect("an answer"), [expected]);
    }
}

#[test]
fn a_rank_is_found_on_any_host_and_behind_others_that_listen() {
    let job = job(4);
    let servers: Vec<_> = (0..3).map(|rank| endpoint(&job, rank, 1).0).collect();
    let ports: Vec<_> = servers
        .iter()
        .map(|one| one.listen().expect("a port"))
        .collect();
    let (endpoint, _abort) = endpoint(&job, 3, 1);
    // Nobody listens on the first of the hosts.
    let hosts = ["127.0.0.2".to_owned(), "127.0.0.1".to_owned()];
    for (rank, server) in servers.iter().enumerate() {
        let near = (rank == 1).then_some(ports[1]..=ports[1]);
        let line = endpoint.connect(rank, &hosts, near).expect("it listens");
        let reply = line.start(vec![7]);
        assert!(matches!(next(server), Event::Came { rank: 3, .. }));
        let Event::Call { answer, .. } = next(server) else {
            panic!("a call is due");
        };
        answer.give(vec![u8::try_from(rank).expect("small")]);
        assert_eq!(
            reply.wait().expect("an answer"),
            [u8::try_from(line.rank()).expect("small")]
        );
    }
}

#[test]
fn nobody_there_is_an_error_in_time() {
    let mut job = job(2);
    job.rendezvous_timeout_ms = 300;
    let (endpoint, _abort) = endpoint(&job, 1, 1);
    let error = endpoint.connect(0, &hosts(), None).expect_err("nobody");
    assert!(matches!(&error, Error::RendezvousTimeout { missing, .. } if *missing == [0]));
    assert!(
        error.is_retryable() && error.to_string().contains("127.0.0.1"),
        "{error}"
    );
    assert!(endpoint.connect(1, &hosts(), None).is_err(), "itself");
}

#[test]
fn a_newer_attempt_takes_the_place_of_the_one_before_and_keeps_it() {
    let job = job(2);
    let (server, _abort) = endpoint(&job, 0, 1);
    server.listen().expect("a port");
    let (_old, old_abort, old) = caller(&job, 1, 4);
    let waits = old.start(vec![4]);
    assert!(matches!(next(&server), Event::Came { incarnation: 4, .. }));
    assert!(matches!(next(&server), Event::Call { .. }));
    let (_new, _, new) = caller(&job, 1, 9);
    let called = new.start(vec![9]);
    assert!(matches!(next(&server), Event::Gone { rank: 1, .. }));
    assert!(matches!(next(&server), Event::Came { incarnation: 9, .. }));
    let Event::Call { body, answer, .. } = next(&server) else {
        panic!("a call is due");
    };
    assert_eq!(body, [9]);
    let error = waits.wait().expect_err("replaced");
    assert!(error.is_retryable(), "{error}");
    assert!(old_abort.is_aborted());
    // An older one that comes late is turned away, and changes nothing.
    let (_stale, _, stale) = caller(&job, 1, 7);
    let error = stale.call(vec![7]).expect_err("stale");
    assert!(error.to_string().contains("newer attempt"), "{error}");
    answer.give(vec![1]);
    assert_eq!(called.wait().expect("an answer"), [1]);
    assert!(server.next(TICK).expect("a whole endpoint").is_none());
}

/// What a server that fails with `reason` is to one who waits for it.
fn failed_server(fail: impl FnOnce(Endpoint, AbortHandle)) -> (Error, Duration) {
    let job = job(2);
    let (server, abort) = endpoint(&job, 0, 1);
    server.listen().expect("a port");
    let (_caller, _, line) = caller(&job, 1, 1);
    let reply = line.start(vec![1]);
    assert!(matches!(next(&server), Event::Came { .. }));
    let call = next(&server);
    fail(server, abort);
    let failed = Instant::now();
    let error = reply.wait().expect_err("it has failed");
    drop(call);
    let again = line.call(vec![2]).expect_err("it stays failed");
    assert_eq!(again.is_retryable(), error.is_retryable());
    (error, failed.elapsed())
}

#[test]
fn a_server_that_fails_tells_its_callers_why() {
    for deterministic in [true, false] {
        let (error, within) = failed_server(|server, abort| {
            let message = "the disk is full".to_owned();
            abort.abort(AbortReason {
                deterministic,
                message,
            });
            drop(server);
        });
        assert!(
            matches!(&error, Error::PeerAborted { rank: 0, .. }),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("(127.0.0.1) failed: the disk is full"),
            "{error}"
        );
        assert_eq!(error.is_retryable(), !deterministic);
        assert!(within < Duration::from_secs(5));
    }
    let (error, _) = failed_server(|server, _| drop(server));
    assert!(
        error.to_string().contains("ended before it was done"),
        "{error}"
    );
}

#[test]
fn a_caller_that_fails_tells_why_and_one_that_vanishes_is_gone() {
    let job = job(3);
    let (server, _abort) = endpoint(&job, 0, 1);
    server.listen().expect("a port");
    let (failing, abort, _line) = caller(&job, 1, 1);
    assert!(matches!(next(&server), Event::Came { rank: 1, .. }));
    let message = "a row is bad".to_owned();
    abort.abort(AbortReason {
        deterministic: true,
        message,
    });
    let Event::Gone { rank: 1, reason } = next(&server) else {
        panic!("rank 1 has gone");
    };
    assert!(reason.deterministic && reason.message == "a row is bad");
    drop(failing);
    let (leaving, _abort, _line) = caller(&job, 2, 1);
    assert!(matches!(next(&server), Event::Came { rank: 2, .. }));
    leaving.close();
    let Event::Gone { rank: 2, reason } = next(&server) else {
        panic!("rank 2 has gone");
    };
    assert!(!reason.deterministic);
}

#[test]
fn whoever_waits_is_woken_by_its_own_end() {
    let job = job(2);
    let (server, server_abort) = endpoint(&job, 0, 1);
    server.listen().expect("a port");
    let (_caller, abort, line) = caller(&job, 1, 1);
    let reply = line.start(vec![1]);
    let reason = AbortReason {
        deterministic: false,
        message: "cancelled".to_owned(),
    };
    let (told, waits) = mpsc::channel();
    thread::spawn(move || told.send(reply.wait()));
    thread::sleep(TICK);
    abort.abort(reason.clone());
    let outcome = waits
        .recv_timeout(Duration::from_secs(5))
        .expect("it is woken");
    assert!(matches!(outcome, Err(Error::Aborted { .. })));
    server_abort.abort(reason);
    assert!(matches!(server.next(DEADLINE), Err(Error::Aborted { .. })));
}

#[test]
fn a_server_that_does_not_answer_is_named() {
    let mut job = job(2);
    job.progress_timeout_ms = 400;
    let (server, _abort) = endpoint(&job, 0, 1);
    server.listen().expect("a port");
    let (_caller, _, line) = caller(&job, 1, 1);
    let error = line.call(vec![1]).expect_err("it does not answer");
    assert!(
        matches!(&error, Error::ProgressTimeout { rank: 0, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("call 1 (1 B)"), "{error}");
}

#[test]
fn strangers_do_not_come_in() {
    let job = job(2);
    let (server, _abort) = endpoint(&job, 0, 1);
    server.listen().expect("a port");
    let mut timed = with_rank(&job, 1);
    timed.rendezvous_timeout_ms = 1000;
    timed.hosts = Vec::new();
    let other = flambeau_collective::Secret::new([1; 32]);
    let stranger = Endpoint::open(&timed, &other, 99, &AbortHandle::new()).expect("a thread");
    stranger
        .connect(0, &hosts(), None)
        .expect_err("another secret");
    let (_caller, _, line) = caller(&job, 1, 1);
    let reply = line.start(vec![1]);
    assert!(matches!(next(&server), Event::Came { incarnation: 1, .. }));
    let Event::Call { answer, .. } = next(&server) else {
        panic!("a call is due");
    };
    answer.give(Vec::new());
    assert!(reply.wait().expect("an answer").is_empty());
}
