//! Many ranks at once: all meet through the real handshake, and compute over real links.
//!
//! `make simulate` has 1,024 of them meet, in processes of 128 ranks each: one rank takes some fifty
//! descriptors, two for each of its 19 links, and a process may have as many as its hard limit says.

mod ranks;

use std::io::{BufRead, BufReader, Write, stdout};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use flambeau_collective::{AbortHandle, Communicator, Config, Transports};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ranks::{DEADLINE, job, run_all, secret, with_rank};

/// First rank, ranks here, ranks in all, first port and run of a process of ranks.
const RANKS: &str = "FLAMBEAU_COLLECTIVE_TEST_RANKS";
const DESCRIPTORS_OF_A_RANK: u64 = 56;
const RANKS_OF_A_PROCESS: usize = 128;
/// On two cores.
const CROWD_DEADLINE: Duration = Duration::from_secs(300);

/// As many descriptors as `ranks` ranks of one process take.
fn make_room_for(ranks: usize) {
    let needed = 1_024 + DESCRIPTORS_OF_A_RANK * ranks as u64;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    assert!(
        hard >= needed,
        "{ranks} ranks in one process take {needed} descriptors, and the hard limit is {hard}"
    );
    if soft < needed {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a soft limit up to the hard one");
    }
}

/// A job whose ranks have addresses of their own, as if each were on a host of its own.
fn on_hosts_of_their_own(job: Config) -> Config {
    let address = |rank: usize| {
        let (high, low) = (rank / 200, rank % 200);
        let octet = |number: usize| u8::try_from(number + 1).expect("less than 50,000 ranks");
        Ipv4Addr::new(127, 0, octet(high), octet(low)).to_string()
    };
    Config {
        hosts: (0..job.world_size).map(address).collect(),
        port_retries: 4,
        rendezvous_timeout_ms: 200_000,
        progress_timeout_ms: 100_000,
        heartbeat_ms: 2_000,
        dead_after_ms: 60_000,
        transports: Transports::Tcp,
        ..job
    }
}

fn of_rank(job: &Config, rank: usize) -> Config {
    Config {
        bind_host: job.hosts[rank].clone(),
        ..with_rank(job, rank)
    }
}

/// Meets, and makes one call of each kind; when this rank had met the others.
fn take_part(config: &Config) -> Instant {
    let communicator = Communicator::connect(config, &secret(), &AbortHandle::new());
    let mut communicator = communicator.expect("all ranks meet");
    let met = Instant::now();
    let (rank, world_size) = (communicator.rank(), communicator.world_size());
    communicator.barrier().expect("a barrier");
    for length in [1, 1_000, 50_000] {
        let mut data = vec![1.0; length];
        communicator.allreduce(&mut data).expect("a sum");
        assert!(data.iter().all(|sum| *sum == world_size as f32));
    }
    for root in [0, world_size - 1, world_size / 3] {
        for length in [10, 30_000] {
            let value = |rank: usize| (0..length).map(|index| (rank + index) as f32).collect();
            let mut data: Vec<f32> = value(rank);
            communicator.broadcast(root, &mut data).expect("a copy");
            assert_eq!(data, Vec::<f32>::from_iter(value(root)), "from {root}");
        }
    }
    let block = |rank: usize| rank.to_le_bytes().repeat(1 + rank % 40);
    let all = communicator.allgather(&block(rank)).expect("all blocks");
    assert_eq!(all, (0..world_size).map(block).collect::<Vec<_>>());
    communicator.close().expect("a good end");
    met
}

#[test]
fn a_hundred_ranks_on_hosts_of_their_own_meet_and_compute() {
    make_room_for(100);
    let job = on_hosts_of_their_own(job(100));
    let configs = (0..100).map(|rank| of_rank(&job, rank)).collect();
    run_all(configs, 2 * DEADLINE, |config| take_part(&config));
}

/// Of 100 ranks that reach each other's memory 64 share it, and so do the others.
#[test]
fn a_hundred_ranks_in_two_groups_that_share_memory_meet_and_compute() {
    make_room_for(2 * 100);
    let job = Config {
        port_retries: 300,
        rendezvous_timeout_ms: 100_000,
        progress_timeout_ms: 100_000,
        heartbeat_ms: 2_000,
        dead_after_ms: 60_000,
        ..job(100)
    };
    let configs = (0..100).map(|rank| with_rank(&job, rank)).collect();
    run_all(configs, 2 * DEADLINE, |config| take_part(&config));
}

/// Does nothing in a usual run: it is what the next test starts as a process.
#[test]
fn a_process_of_many_ranks() {
    let Ok(ranks) = std::env::var(RANKS) else {
        return;
    };
    let mut words = ranks.split(' ');
    let mut next = || words.next().expect("five words");
    let mut number = || next().parse::<usize>().expect("a number");
    let (first, count, world_size, port) = (number(), number(), number(), number());
    make_room_for(count);
    let job = on_hosts_of_their_own(Config {
        run_id: next().to_owned(),
        port: u16::try_from(port).expect("a port"),
        ..job(world_size)
    });
    let configs = (first..first + count).map(|rank| of_rank(&job, rank));
    let all_met = run_all(configs.collect(), CROWD_DEADLINE, |config| {
        take_part(&config)
    });
    let last = all_met.into_iter().max().expect("a rank");
    say(&format!("had met {} ms ago", last.elapsed().as_millis()));
}

fn say(line: &str) {
    let mut out = stdout();
    let said = out.write_all(format!("\n{line}\n").as_bytes());
    said.and_then(|()| out.flush()).expect("the parent reads");
}

/// `make simulate`: how long a thousand ranks take to meet and to compute a little.
#[test]
#[ignore = "a thousand ranks, for a minute"]
fn a_thousand_ranks_meet_and_compute() {
    let world_size = 1_024;
    let job = job(world_size);
    let started = Instant::now();
    let processes: Vec<Child> = (0..world_size)
        .step_by(RANKS_OF_A_PROCESS)
        .map(|first| {
            let count = RANKS_OF_A_PROCESS.min(world_size - first);
            let (port, run) = (job.port, &job.run_id);
            Command::new(std::env::current_exe().expect("this test binary"))
                .args(["--exact", "a_process_of_many_ranks", "--nocapture"])
                .env(RANKS, format!("{first} {count} {world_size} {port} {run}"))
                .stdout(Stdio::piped())
                .spawn()
                .expect("a process")
        })
        .collect();
    let (sender, lines) = mpsc::channel();
    let mut running = Vec::new();
    for mut process in processes {
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let sender = sender.clone();
        thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| {
                sender.send((Instant::now(), line)).ok();
            });
        });
        running.push(process);
    }
    drop(sender);
    let mut met = Vec::new();
    while met.len() < running.len() {
        let left = CROWD_DEADLINE.saturating_sub(started.elapsed());
        let Ok((said, line)) = lines.recv_timeout(left) else {
            running.iter_mut().for_each(|process| drop(process.kill()));
            panic!("a process has ended early or does not end");
        };
        if let Some(ago) = line.strip_prefix("had met ") {
            let ago = ago.trim_end_matches(" ms ago").parse().expect("a number");
            met.push(said - Duration::from_millis(ago));
        }
    }
    let total = started.elapsed();
    for mut process in running {
        assert!(process.wait().expect("an end").success());
    }
    let last = met.into_iter().max().expect("a process");
    println!(
        "{world_size} ranks in {} processes on {} cores: all had met after {:.1} s, and were done after {:.1} s",
        world_size.div_ceil(RANKS_OF_A_PROCESS),
        thread::available_parallelism().map_or(0, usize::from),
        (last - started).as_secs_f64(),
        total.as_secs_f64()
    );
}
