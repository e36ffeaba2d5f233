//! Measures allreduce between processes on this host: MB/s and microseconds per call.
//!
//! `cargo run --release --example allreduce_bench -- [ranks] [bytes ...]`; the defaults are 2 ranks
//! and 4 kB, 64 kB, 1.4 MB (the gradients of a small convolutional network) and 16 MB. The rate is
//! that of the vector reduced. CPU time is user and system time of rank 0.

use std::error::Error;
use std::fs;
use std::io::{Write, stdout};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use flambeau_collective::{AbortHandle, Communicator, Config, Secret, Security};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, rank, world_size, port, sizes @ ..] = arguments.as_slice()
        && role == "rank"
    {
        return measure(rank.parse()?, world_size.parse()?, port.parse()?, sizes);
    }
    let world_size = arguments.first().map_or("2", String::as_str);
    let defaults = ["4000", "64000", "1400000", "16000000"].map(String::from);
    let sizes = if arguments.len() > 1 {
        &arguments[1..]
    } else {
        &defaults
    };
    let port = TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port()
        .to_string();
    let mut ranks = Vec::new();
    for rank in 0..world_size.parse::<usize>()? {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["rank", &rank.to_string(), world_size, &port])
            .args(sizes);
        ranks.push(command.spawn()?);
    }
    for mut rank in ranks {
        rank.wait()?;
    }
    Ok(())
}

fn measure(rank: usize, world_size: usize, port: u16, sizes: &[String]) -> Outcome {
    let config = Config {
        run_id: "allreduce_bench".to_owned(),
        stage_id: 0,
        stage_attempt: 0,
        rank,
        world_size,
        hosts: vec!["127.0.0.1".to_owned(); world_size],
        bind_host: "127.0.0.1".to_owned(),
        port,
        port_retries: 16,
        rendezvous_timeout_ms: 30_000,
        progress_timeout_ms: 30_000,
        heartbeat_ms: 1_000,
        dead_after_ms: 10_000,
        security: Security::default(),
    };
    let mut ranks = Communicator::connect(&config, &Secret::new([1; 32]), &AbortHandle::new())?;
    for size in sizes {
        let bytes: u32 = size.parse()?;
        let mut data = vec![0.0f32; bytes as usize / size_of::<f32>()];
        // About a second of work, the same number of calls on all ranks.
        let calls = (1_000_000_000 / bytes.max(100_000)).clamp(20, 5_000);
        for _ in 0..calls.div_ceil(10) {
            ranks.allreduce(&mut data)?;
        }
        let (started, cpu) = (Instant::now(), cpu_time()?);
        for _ in 0..calls {
            ranks.allreduce(&mut data)?;
        }
        let (wall, cpu) = (started.elapsed() / calls, (cpu_time()? - cpu) / calls);
        if rank == 0 {
            writeln!(
                stdout(),
                "{bytes:>10} bytes, {world_size} ranks: {:>8.0} MB/s, {:>8.1} us, {:>8.1} us CPU",
                f64::from(bytes) / wall.as_secs_f64() / 1e6,
                wall.as_secs_f64() * 1e6,
                cpu.as_secs_f64() * 1e6
            )?;
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
