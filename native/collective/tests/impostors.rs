//! Strangers without the job's secret that speak the protocol as far as anybody can: they are walked
//! around, whatever they claim, whether they listen or call.

mod ranks;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use flambeau_collective::{AbortHandle, Communicator, Config, Error};
use ranks::{DEADLINE, job, run_all, run_ranks, secret, sum_and_close, with_rank};

const HELLO: usize = 128;
const NOISE: usize = 48;

/// What an impostor says to a rank that calls it.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Silence,
    Garbage,
    HangUp,
    /// A right hello, of an attempt so much newer, and then bytes that prove nothing.
    Hello {
        newer: u64,
    },
    /// The caller's own words.
    Echo,
    /// The right hello of another release.
    Release,
}

/// What an impostor has heard.
#[derive(Default)]
struct Heard {
    /// How often it was called.
    calls: AtomicUsize,
    /// The first words of the first caller.
    words: Mutex<Vec<u8>>,
}

/// Listens on `port` and answers every caller.
fn impostor(port: u16, answer: Answer) -> Option<Arc<Heard>> {
    let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
    let heard = Arc::new(Heard::default());
    let hears = Arc::clone(&heard);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            hears.calls.fetch_add(1, Ordering::SeqCst);
            let hears = Arc::clone(&hears);
            thread::spawn(move || reply(stream, answer, &hears.words));
        }
    });
    Some(heard)
}

fn reply(mut stream: TcpStream, answer: Answer, record: &Mutex<Vec<u8>>) -> Option<()> {
    let mut hello = [0; HELLO];
    stream.read_exact(&mut hello).ok()?;
    let mut noise = [0; NOISE];
    match answer {
        Answer::Silence => drop(stream.read(&mut noise)),
        Answer::Garbage => stream.write_all(&[b'?'; 4096]).ok()?,
        Answer::HangUp => stream.shutdown(Shutdown::Both).ok()?,
        Answer::Echo => stream.write_all(&hello).ok()?,
        Answer::Release => {
            let mut hello = turned(&hello, 0);
            hello[64..70].copy_from_slice(b"99.1.0");
            stream.write_all(&hello).ok()?;
        }
        Answer::Hello { newer } => {
            stream.write_all(&turned(&hello, newer)).ok()?;
            stream.read_exact(&mut noise).ok()?;
            let mut record = record.lock().expect("nobody panicked");
            if record.is_empty() {
                record.extend(hello);
                record.extend(noise);
            }
            drop(record);
            stream.write_all(&[0; NOISE]).ok()?;
        }
    }
    // Whoever waits for more is left waiting.
    stream.read_exact(&mut noise).ok()
}

/// The hello that answers `hello`, of an attempt so much newer.
fn turned(hello: &[u8; HELLO], newer: u64) -> [u8; HELLO] {
    let mut answer = *hello;
    answer[12..16].copy_from_slice(&hello[16..20]);
    answer[16..20].copy_from_slice(&hello[12..16]);
    let attempt = u64::from_le_bytes(hello[24..32].try_into().expect("eight bytes"));
    answer[24..32].copy_from_slice(&(attempt + newer).to_le_bytes());
    answer
}

#[test]
fn impostors_on_every_other_port_of_the_range_are_walked_around() {
    let answers = [
        Answer::Hello { newer: 1 },
        Answer::Hello { newer: 0 },
        Answer::Silence,
        Answer::Garbage,
        Answer::HangUp,
        Answer::Echo,
        Answer::Release,
    ];
    let job = job(3);
    let others = 8..=job.port_retries;
    // The ranks' own ports are amid those of the impostors.
    let below = (0..8).zip(answers.iter().cycle());
    let above = others.skip(6).zip(answers.iter().cycle());
    let taken = below
        .chain(above)
        .filter(|(at, answer)| impostor(job.port + at, **answer).is_some());
    assert!(taken.count() > 12);
    let started = Instant::now();
    run_ranks(&job, DEADLINE, |communicator, _| {
        sum_and_close(communicator)
    });
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(10), "took {elapsed:?}");
}

#[test]
fn what_an_impostor_claims_is_said_at_the_deadline_and_is_no_verdict() {
    let job = Config {
        rendezvous_timeout_ms: 1_500,
        ..job(2)
    };
    let heard = impostor(job.port, Answer::Hello { newer: 2 }).expect("the port is free");
    let started = Instant::now();
    let rank_1 = with_rank(&job, 1);
    let error = Communicator::connect(&rank_1, &secret(), &AbortHandle::new()).unwrap_err();
    assert!(started.elapsed() >= Duration::from_millis(1_400));
    assert!(
        matches!(&error, Error::RendezvousTimeout { missing, .. } if missing == &[0]),
        "{error}"
    );
    assert!(error.is_retryable());
    let hint = format!(
        "something answers on port {}: it claims to be of attempt 2 of this job, but does not hold \
         the job's secret",
        job.port
    );
    assert!(error.to_string().contains(&hint), "{error}");
    // At once, and then after 5 ms, 10 ms and so on, up to half a second: nobody is flooded.
    let calls = heard.calls.load(Ordering::SeqCst);
    assert!((5..20).contains(&calls), "{calls} calls");
}

/// Rank 0 hears recorded words of rank 1, replayed and changed, from many callers at once, while it
/// waits for the real one.
#[test]
fn callers_with_recorded_words_take_no_rank_and_end_nothing() {
    let job = Config {
        port_retries: 40,
        ..job(2)
    };
    let trap = Config {
        rendezvous_timeout_ms: 700,
        ..with_rank(&job, 1)
    };
    let recorded = impostor(job.port, Answer::Hello { newer: 0 }).expect("the port is free");
    Communicator::connect(&trap, &secret(), &AbortHandle::new()).unwrap_err();
    let words = recorded.words.lock().expect("nobody panicked").clone();
    assert_eq!(words.len(), HELLO + NOISE);

    let done = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&done);
    let callers = thread::spawn(move || replay(&trap, &words, &over));
    run_all(
        vec![with_rank(&job, 0), with_rank(&job, 1)],
        DEADLINE,
        |config| {
            if config.rank == 1 {
                thread::sleep(Duration::from_secs(2));
            }
            sum_and_close(Communicator::connect(
                &config,
                &secret(),
                &AbortHandle::new(),
            ));
        },
    );
    done.store(true, Ordering::SeqCst);
    let calls = callers.join().expect("the callers end");
    assert!(calls > 200, "{calls} calls");
}

/// Calls the ports of the range with `words` and variants of them until `over`; how often.
fn replay(job: &Config, words: &[u8], over: &AtomicBool) -> usize {
    let mut newer = words.to_vec();
    newer[24] += 1;
    let mut purpose = words.to_vec();
    purpose[10] = 3 - purpose[10];
    let mut nobody = words.to_vec();
    nobody[12..16].copy_from_slice(&7_u32.to_le_bytes());
    let mut calls = 0;
    let mut held = Vec::new();
    while !over.load(Ordering::SeqCst) {
        for (index, words) in [words, &newer, &purpose, &nobody].into_iter().enumerate() {
            // The first port is the impostor's own.
            for port in job.port + 1..job.port + 4 {
                let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                // Then a first word under no key, or an announced one of 64 KiB that never comes.
                let rest = if index % 2 == 0 {
                    [0xff; 528]
                } else {
                    [0; 528]
                };
                stream.write_all(words).ok();
                stream.write_all(&rest).ok();
                held.push(stream);
                calls += 1;
            }
        }
        if held.len() > 500 {
            held.drain(..250);
        }
    }
    calls
}

#[test]
fn nobody_listens_once_all_have_joined() {
    let job = job(3);
    let ports = job.port..=job.port + job.port_retries;
    let own = Arc::new(Mutex::new(()));
    run_ranks(&job, DEADLINE, move |communicator, _| {
        let mut communicator = communicator.expect("all ranks meet");
        communicator.allreduce(&mut [1.0]).expect("a sum");
        if communicator.rank() == 0 {
            let _alone = own.lock().expect("nobody panicked");
            // The control thread may take a moment to close what it listened on.
            let closed = (0..100).any(|_| {
                thread::sleep(Duration::from_millis(20));
                listening_ports(&ports).is_empty()
            });
            assert!(closed, "listens on {:?}", listening_ports(&ports));
        }
        communicator.close().expect("a good end");
    });
}

/// Ports of the range that a process of ours listens on, by the kernel's table.
fn listening_ports(ports: &std::ops::RangeInclusive<u16>) -> Vec<u16> {
    const LISTEN: &str = "0A";
    let own: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .expect("Linux")
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let port = u16::from_str_radix(fields[1].rsplit(':').next()?, 16).ok()?;
            let ours = own.contains(&format!("socket:[{}]", fields[9]));
            (fields[3] == LISTEN && ours && ports.contains(&port)).then_some(port)
        })
        .collect()
}

#[test]
fn addresses_of_ipv6_work_with_brackets_and_without() {
    if TcpListener::bind(("::1", 0)).is_err() {
        // A host without IPv6 has nothing to show.
        return;
    }
    let job = Config {
        hosts: vec!["[::1]".to_owned(), "::1".to_owned()],
        ..job(2)
    };
    let ranks = [("::1", 0), ("[::1]", 1)].map(|(bind_host, rank)| Config {
        bind_host: bind_host.to_owned(),
        ..with_rank(&job, rank)
    });
    run_all(ranks.to_vec(), DEADLINE, |config| {
        sum_and_close(Communicator::connect(
            &config,
            &secret(),
            &AbortHandle::new(),
        ));
    });
}
