//! What is drilled, and what counts as survived.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::hostile::{Callers, Impostor};
use crate::job::{Job, Plan};
use crate::namespaces::{ADDRESSES, Cut, Namespaces};
use crate::proxy::{Harm, Proxy};

/// A crash is seen by its closed connections, silence by heartbeats that do not come.
const CRASH: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(12);
const STEPS: usize = 300;

/// How one try ended: survived, with the time from the fault until the last survivor knew of it where
/// there was something to know.
type Try = Result<Option<Duration>, String>;

pub(crate) struct Drill {
    pub(crate) name: &'static str,
    tries: usize,
    short_tries: usize,
    bound: Option<Duration>,
    attempt: fn(&mut Random, bool) -> Try,
}

/// Every drill, the quick ones first.
pub(crate) fn all() -> Vec<Drill> {
    let drill = |name, tries, short_tries, bound, attempt| Drill {
        name,
        tries,
        short_tries,
        bound,
        attempt,
    };
    vec![
        drill("kill -9 of a rank", 200, 6, Some(CRASH), kill_one),
        drill(
            "kill -9 of two ranks within 0.2 s",
            40,
            2,
            Some(CRASH),
            kill_two,
        ),
        drill(
            "kill -9 while the ranks meet",
            20,
            2,
            None,
            kill_in_rendezvous,
        ),
        drill("damaged: one bit flipped", 20, 2, None, |r, _| {
            harmed(r, Harm::Flip)
        }),
        drill("damaged: bytes left out", 10, 1, None, |r, _| {
            harmed(r, Harm::Truncate)
        }),
        drill("damaged: bytes twice", 10, 1, None, |r, _| {
            harmed(r, Harm::Replay)
        }),
        drill("connection cut", 10, 1, Some(CRASH), |r, _| {
            harmed(r, Harm::Cut)
        }),
        drill("connection half closed", 10, 1, Some(SILENCE), |r, _| {
            harmed(r, Harm::HalfClose)
        }),
        drill("connection gone silent", 5, 1, Some(SILENCE), |r, _| {
            harmed(r, Harm::Drop)
        }),
        drill("slow link: 20 ms later", 3, 1, None, |_, _| {
            slow(Harm::Delay(Duration::from_millis(20)))
        }),
        drill("slow link: 1 MB/s", 3, 1, None, |_, _| {
            slow(Harm::Throttle(1_000_000))
        }),
        drill("impostors on every other port", 10, 1, None, |_, _| {
            impostors()
        }),
        drill(
            "hostile callers while the ranks meet",
            1,
            1,
            None,
            |_, short| hostile(if short { 1_000 } else { 10_000 }),
        ),
        drill("SIGSTOP and SIGCONT of a rank", 5, 1, Some(SILENCE), freeze),
        drill("partition, both ways", 3, 1, Some(SILENCE), |_, _| {
            partition(Cut::BothWays, false)
        }),
        drill("partition, one way", 3, 1, Some(SILENCE), |_, _| {
            partition(Cut::OneWay, false)
        }),
        drill(
            "half-open: host gone without a word",
            3,
            1,
            Some(SILENCE),
            |_, _| partition(Cut::BothWays, true),
        ),
    ]
}

/// What came of all tries of a drill.
pub(crate) struct Report {
    name: &'static str,
    tried: usize,
    survived: usize,
    detection: Vec<Duration>,
    bound: Option<Duration>,
    skipped: Option<String>,
    failures: Vec<String>,
    seconds: f64,
}

impl Drill {
    pub(crate) fn run(&self, short: bool) -> Report {
        let started = Instant::now();
        let mut random = Random::new();
        let tries = if short { self.short_tries } else { self.tries };
        let mut report = Report {
            name: self.name,
            tried: 0,
            survived: 0,
            detection: Vec::new(),
            bound: self.bound,
            skipped: None,
            failures: Vec::new(),
            seconds: 0.0,
        };
        for _ in 0..tries {
            let seed = random.0;
            match (self.attempt)(&mut random, short) {
                Err(reason) if reason.starts_with(SKIP) => {
                    report.skipped = Some(reason);
                    break;
                }
                Err(reason) => report.failures.push(format!("{reason} (seed {seed})")),
                Ok(Some(detection)) if self.bound.is_some_and(|bound| detection > bound) => {
                    let reason = format!("seen after {detection:.1?} (seed {seed})");
                    report.failures.push(reason);
                    report.detection.push(detection);
                }
                Ok(detection) => {
                    report.survived += 1;
                    report.detection.extend(detection);
                }
            }
            report.tried += 1;
        }
        report.seconds = started.elapsed().as_secs_f64();
        report
    }
}

impl Report {
    pub(crate) fn is_well(&self) -> bool {
        self.failures.is_empty()
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut times: Vec<f64> = self.detection.iter().map(Duration::as_secs_f64).collect();
        times.sort_by(f64::total_cmp);
        json!({
            "drill": self.name, "tried": self.tried, "survived": self.survived,
            "detection_median_s": times.get(times.len() / 2), "detection_worst_s": times.last(),
            "bound_s": self.bound.map(|bound| bound.as_secs_f64()), "skipped": self.skipped,
            "failures": self.failures, "seconds": self.seconds,
        })
    }
}

const SKIP: &str = "skipped: ";

/// Reproducible by its seed, which is the environment's `FLAMBEAU_SEED` or the time.
pub(crate) struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("FLAMBEAU_SEED").ok();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(1, |now| now.subsec_nanos().into());
        Self(given.and_then(|seed| seed.parse().ok()).unwrap_or(now) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        // Xorshift: nothing here needs more.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn rank(&mut self, ranks: usize) -> usize {
        usize::try_from(self.below(ranks as u64)).unwrap_or(0)
    }

    fn millis(&mut self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit))
    }
}

/// The weights of a run that nothing happens to.
fn undisturbed(ranks: usize, steps: usize) -> Result<String, String> {
    static KNOWN: Mutex<BTreeMap<(usize, usize), String>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().map_err(|_| "a drill panicked".to_owned())?;
    if let Some(digest) = known.get(&(ranks, steps)) {
        return Ok(digest.clone());
    }
    let plan = Plan::new(ranks, steps);
    let digest = plan.finish(0)?;
    plan.clean();
    known.insert((ranks, steps), digest.clone());
    Ok(digest)
}

/// Goes on in the next attempt, which must end as if nothing had happened.
fn recovered(plan: &Plan) -> Result<(), String> {
    let digest = plan.finish(1)?;
    plan.clean();
    if digest == undisturbed(plan.ranks, plan.steps)? {
        Ok(())
    } else {
        Err("other weights than those of the undisturbed run".to_owned())
    }
}

/// Waits until every rank but the `victims` has failed, naming one of the `culprits`; how long after
/// `since` the last one has.
fn all_fail(
    job: &Job,
    victims: &[usize],
    culprits: &[usize],
    plan: &Plan,
    since: Instant,
    patience: Duration,
) -> Result<Duration, String> {
    let mut open: Vec<usize> = (0..plan.ranks)
        .filter(|rank| !victims.contains(rank))
        .collect();
    let mut last = Duration::ZERO;
    while !open.is_empty() {
        let said = job
            .next(Instant::now() + patience)
            .ok_or_else(|| format!("a hang: ranks {open:?} have not noticed"))?;
        if said.line.starts_with("wrong") || said.line.starts_with("done") {
            return Err(format!("rank {} says: {}", said.rank, said.line));
        }
        if !said.line.starts_with("failed") || !open.contains(&said.rank) {
            continue;
        }
        let names = |culprit: &usize| {
            let host = &plan.hosts[*culprit];
            said.line.contains(&format!("rank {culprit} ({host})"))
                || said.line.contains(&format!("no sign of rank {culprit}"))
        };
        if !culprits.iter().any(names) {
            return Err(format!("rank {} blames another: {}", said.rank, said.line));
        }
        open.retain(|rank| *rank != said.rank);
        last = last.max(said.at.duration_since(since));
    }
    Ok(last)
}

fn started(plan: &Plan) -> Result<Job, String> {
    let job = plan.start(0).map_err(|error| error.to_string())?;
    job.await_all("joined", Duration::from_secs(30))?;
    Ok(job)
}

fn kill_one(random: &mut Random, _: bool) -> Try {
    let plan = Plan::new(3, STEPS);
    let victim = random.rank(3);
    let mut job = started(&plan)?;
    thread::sleep(random.millis(250));
    if job.has_ended(victim) {
        // The run was over before its time: another one.
        plan.clean();
        return kill_one(random, false);
    }
    let killed = Instant::now();
    job.signal(victim, "-KILL")?;
    let seen = all_fail(&job, &[victim], &[victim], &plan, killed, SILENCE)?;
    drop(job);
    recovered(&plan)?;
    Ok(Some(seen))
}

fn kill_two(random: &mut Random, _: bool) -> Try {
    let plan = Plan::new(4, 2 * STEPS);
    let first = random.rank(4);
    let second = (first + 1 + random.rank(3)) % 4;
    let job = started(&plan)?;
    thread::sleep(random.millis(150));
    let killed = Instant::now();
    job.signal(first, "-KILL")?;
    thread::sleep(random.millis(200));
    job.signal(second, "-KILL")?;
    let victims = [first, second];
    let seen = all_fail(&job, &victims, &victims, &plan, killed, SILENCE)?;
    drop(job);
    recovered(&plan)?;
    Ok(Some(seen))
}

fn kill_in_rendezvous(random: &mut Random, _: bool) -> Try {
    let mut plan = Plan::new(3, STEPS);
    plan.settings = json!({"rendezvous_timeout_ms": 3_000});
    let victim = random.rank(3);
    let pause = random.millis(30);
    let job = plan.start_last_after(0, || thread::sleep(pause));
    let job = job.map_err(|error| error.to_string())?;
    let killed = Instant::now();
    job.signal(victim, "-KILL")?;
    let patience = Duration::from_secs(8);
    // Rank 0 may have given up for that before a rank came that then finds no rank 0.
    let seen = all_fail(&job, &[victim], &[victim, 0], &plan, killed, patience)?;
    drop(job);
    recovered(&plan)?;
    Ok(Some(seen))
}

fn freeze(random: &mut Random, _: bool) -> Try {
    let plan = Plan::new(3, 1_000_000);
    let victim = random.rank(3);
    let job = started(&plan)?;
    thread::sleep(random.millis(300));
    let frozen = Instant::now();
    job.signal(victim, "-STOP")?;
    let seen = all_fail(&job, &[victim], &[victim], &plan, frozen, 2 * SILENCE)?;
    let woken = Instant::now();
    job.signal(victim, "-CONT")?;
    let others: Vec<usize> = (0..3).filter(|rank| *rank != victim).collect();
    let end = all_fail(&job, &others, &[0, 1, 2], &plan, woken, SILENCE)?;
    if end > CRASH {
        return Err(format!("the woken rank ended after {end:.1?}"));
    }
    drop(job);
    shortened(plan)?;
    Ok(Some(seen))
}

/// A run that would not end by itself, gone on with in the next attempt as far as others go.
fn shortened(mut plan: Plan) -> Result<(), String> {
    plan.clean();
    plan.steps = STEPS;
    recovered(&plan)
}

/// Ranks whose links go through a proxy; without it, those of the next attempt.
fn proxied(steps: usize) -> Plan {
    let mut plan = Plan::new(3, steps);
    plan.binds = (1..=3).map(|rank| format!("127.0.0.{rank}")).collect();
    plan.hosts = (1..=3).map(|rank| format!("127.0.1.{rank}")).collect();
    plan.settings = json!({"progress_timeout_ms": 8_000});
    only_tcp(&mut plan);
    plan
}

/// Ranks on one host might not use the network otherwise.
fn only_tcp(plan: &mut Plan) {
    plan.set("transports", "tcp");
}

fn proxy(plan: &Plan, harm: Harm, after: u64) -> Result<Proxy, String> {
    let range = plan.port..=plan.port + 8;
    Proxy::start(plan.ranks, &range, harm, after).map_err(|error| error.to_string())
}

fn harmed(random: &mut Random, harm: Harm) -> Try {
    let plan = proxied(1_000_000);
    // In the handshake, where the rank tries again, or in the midst of the data.
    let early = random.below(4) == 0;
    let after = if early {
        random.below(700)
    } else {
        10_000 + random.below(2_000_000)
    };
    let proxy = proxy(&plan, harm, after)?;
    if early {
        proxy.arm();
        match started(&plan) {
            // They met all the same, or gave up with an error that a retry mends: after the last word of
            // a handshake each side may believe for itself that it is linked.
            Ok(job) => drop(job),
            Err(reason) if reason.contains(": failed true ") => {}
            Err(reason) => return Err(reason),
        }
        shortened(undamaged(plan, proxy))?;
        return Ok(None);
    }
    let job = started(&plan)?;
    proxy.arm();
    let armed = Instant::now();
    while !proxy.has_harmed() {
        if armed.elapsed() > SILENCE {
            return Err("nothing came through the proxy".to_owned());
        }
        thread::sleep(Duration::from_millis(1));
    }
    let harmed = Instant::now();
    let seen = all_fail(&job, &[], &[0, 1, 2], &plan, harmed, 2 * SILENCE)?;
    drop(job);
    shortened(undamaged(plan, proxy))?;
    Ok(Some(seen))
}

/// The same job without the proxy.
fn undamaged(mut plan: Plan, proxy: Proxy) -> Plan {
    drop(proxy);
    plan.hosts.clone_from(&plan.binds);
    plan
}

fn slow(harm: Harm) -> Try {
    let plan = proxied(30);
    let proxy = proxy(&plan, harm, 0)?;
    let mut job = plan.start(0).map_err(|error| error.to_string())?;
    let digest = job.digest(3, Duration::from_secs(120))?;
    drop(proxy);
    plan.clean();
    if digest == undisturbed(3, 30)? {
        Ok(None)
    } else {
        Err("other weights than those of the undisturbed run".to_owned())
    }
}

fn impostors() -> Try {
    let plan = Plan::new(3, STEPS);
    let taken: Vec<Impostor> = (0..32_u16)
        .step_by(2)
        .filter_map(|above| Impostor::listen(plan.port + above, usize::from(above) / 2))
        .collect();
    if taken.len() < 12 {
        return Err(format!("only {} ports are free for impostors", taken.len()));
    }
    recovered(&plan)?;
    Ok(None)
}

fn hostile(wanted: usize) -> Try {
    let plan = Plan::new(3, STEPS);
    // What rank 1 says to anyone who listens there.
    let trap = Impostor::listen(plan.port, 0).ok_or("the first port is taken")?;
    let hello = {
        let mut alone = plan.clone();
        alone.settings = json!({"rendezvous_timeout_ms": 500});
        let _job = alone.start(0).map_err(|error| error.to_string())?;
        thread::sleep(Duration::from_millis(400));
        trap.heard.lock().ok().and_then(|heard| heard.clone())
    };
    drop(trap);
    let callers = Callers::start(plan.port, Some(hello.ok_or("no hello was heard")?));
    let begun = Instant::now();
    let wait = || {
        while callers.calls() < wanted && begun.elapsed() < Duration::from_secs(15) {
            thread::sleep(Duration::from_millis(5));
        }
    };
    let job = plan.start_last_after(1, wait);
    let digest = job
        .map_err(|error| error.to_string())?
        .digest(3, Duration::from_secs(60))?;
    let calls = callers.stop();
    plan.clean();
    if calls < wanted {
        return Err(format!("only {calls} of {wanted} calls came through"));
    }
    if digest == undisturbed(3, STEPS)? {
        Ok(None)
    } else {
        Err("other weights than those of the undisturbed run".to_owned())
    }
}

fn partition(cut: Cut, kill: bool) -> Try {
    let namespaces = Namespaces::create().map_err(|why| format!("{SKIP}needs root: {why}"))?;
    let side = |rank: usize| rank % 2;
    let mut plan = Plan::new(3, 1_000_000);
    plan.namespaces = (0..3)
        .map(|rank| Some(namespaces.names[side(rank)].clone()))
        .collect();
    plan.binds = (0..3)
        .map(|rank| ADDRESSES[side(rank)].to_owned())
        .collect();
    plan.hosts.clone_from(&plan.binds);
    only_tcp(&mut plan);
    let job = started(&plan)?;
    thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    namespaces.cut(cut)?;
    // Of the two sides, each can only say that it lost the other; rank 1 is alone on its side.
    let victims: &[usize] = if kill { &[1] } else { &[] };
    if kill {
        job.signal(1, "-KILL")?;
    }
    let seen = all_fail(&job, victims, &[0, 1, 2], &plan, begun, 2 * SILENCE)?;
    drop(job);
    namespaces.heal(cut)?;
    shortened(plan)?;
    Ok(Some(seen))
}
