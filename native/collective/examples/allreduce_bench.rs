//! Measures allreduce between processes on this host, as one JSON line for each size.
//!
//! `cargo run --release --example allreduce_bench -- RANKS TRANSPORTS SECURITY BYTES...`, for
//! example `2 auto auth 1000 100000000`. Every line has the microseconds per call, the median over
//! some rounds on rank 0, and the CPU time of rank 0 per call.

use std::error::Error;
use std::fs;
use std::io::{Write, stdout};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use flambeau_collective::{AbortHandle, Communicator, Config, Secret};

type Outcome = Result<(), Box<dyn Error>>;

const ROUNDS: usize = 5;
/// What a rank is told to do when it has been started by this program.
const RANK: &str = "FLAMBEAU_BENCH_RANK";

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [world_size, transports, security, sizes @ ..] = arguments.as_slice() else {
        return Err("give RANKS TRANSPORTS SECURITY BYTES...".into());
    };
    let world_size: usize = world_size.parse()?;
    if let Ok(place) = std::env::var(RANK) {
        let (rank, port) = place.split_once(' ').ok_or("rank and port")?;
        let config: Config = serde_json::from_value(serde_json::json!({
            "run_id": "allreduce_bench",
            "stage_id": 0,
            "stage_attempt": 0,
            "rank": rank.parse::<usize>()?,
            "world_size": world_size,
            "hosts": vec!["127.0.0.1"; world_size],
            "bind_host": "127.0.0.1",
            "port": port.parse::<u16>()?,
            "port_retries": 32,
            "rendezvous_timeout_ms": 30_000,
            "progress_timeout_ms": 30_000,
            "transports": transports,
            "security": security,
        }))?;
        return measure(&config, sizes);
    }
    let free = TcpListener::bind(("127.0.0.1", 0))?;
    let port = free.local_addr()?.port();
    drop(free);
    let ranks: Vec<_> = (0..world_size)
        .map(|rank| {
            Command::new(std::env::current_exe()?)
                .args(&arguments)
                .env(RANK, format!("{rank} {port}"))
                .spawn()
        })
        .collect();
    for rank in ranks {
        rank?.wait()?;
    }
    Ok(())
}

fn measure(config: &Config, sizes: &[String]) -> Outcome {
    let mut ranks = Communicator::connect(config, &Secret::new([1; 32]), &AbortHandle::new())?;
    for size in sizes {
        let bytes: usize = size.parse()?;
        // As gradients are.
        let mut data = ranks.allocate(bytes / size_of::<f32>())?;
        let mut call = || ranks.allreduce(data.as_mut_slice());
        // As many calls as take some tenths of a second, the same number on all ranks.
        let calls = (60_000_000 / bytes.max(20_000)).clamp(2, 2_000);
        for _ in 0..calls.div_ceil(4) {
            call()?;
        }
        let cpu = cpu_time()?;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let started = Instant::now();
            for _ in 0..calls {
                call()?;
            }
            rounds.push(started.elapsed().as_secs_f64() * 1e6 / calls as f64);
        }
        rounds.sort_by(f64::total_cmp);
        let cpu = (cpu_time()? - cpu).as_secs_f64() * 1e6 / (calls * ROUNDS) as f64;
        if config.rank == 0 {
            let line = serde_json::json!({
                "ranks": config.world_size,
                "bytes": bytes,
                "us": (rounds[ROUNDS / 2] * 10.0).round() / 10.0,
                "cpu_us": (cpu * 10.0).round() / 10.0,
            });
            writeln!(stdout(), "{line}")?;
        }
    }
    ranks.close()?;
    Ok(())
}

/// User and system time of this process; Linux counts them in hundredths of a second.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.split_whitespace().collect();
    let ticks = fields[13].parse::<u64>()? + fields[14].parse::<u64>()?;
    Ok(Duration::from_millis(10 * ticks))
}
