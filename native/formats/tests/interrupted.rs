//! Checkpoints whose writer is killed, at random moments and before and after each of its system calls:
//! a reader finds the last one that was acknowledged, or a newer one, and each whole. The test binary
//! runs itself again as the writer.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flambeau_formats::array::Array;
use flambeau_formats::checkpoint::{self, Checkpoint};
use flambeau_formats::pointer::{self, Pointer};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};
use serde_json::json;

const FOLDER: &str = "FLAMBEAU_CHECKPOINT_TEST_FOLDER";
const STEP: &str = "FLAMBEAU_CHECKPOINT_TEST_STEP";
const KILLS: u64 = 100;
const KEPT: usize = 2;

/// A checkpoint of 200 kB whose content follows from its step.
fn at(step: u64) -> Checkpoint {
    let values: Vec<f32> = (0..50_000).map(|at| (at + step) as f32).collect();
    Checkpoint {
        step,
        manifest: json!({"step": step}),
        tensors: vec![(
            "weights".to_owned(),
            Array::new(vec![50_000], values).unwrap(),
        )],
    }
}

/// Does nothing in a usual run: it is what the other test starts as a process.
#[test]
fn a_process_commits_checkpoints_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let newest = Pointer::read(folder)
        .unwrap()
        .map_or(0, |pointer| pointer.newest);
    for step in newest + 1.. {
        commit(folder, step, || say(&format!("+{step}")));
    }
}

/// Does nothing in a usual run: it is what the other test starts as a process.
#[test]
fn a_process_commits_a_checkpoint_when_it_is_told_to() {
    let (Some(folder), Ok(step)) = (std::env::var_os(FOLDER), std::env::var(STEP)) else {
        return;
    };
    say(&format!("thread {}", gettid()));
    stdin().read_exact(&mut [0]).unwrap();
    let acknowledge = || say(&format!("+{step}"));
    commit(Path::new(&folder), step.parse().unwrap(), acknowledge);
}

/// Leaves the checkpoint, has it acknowledged, and removes those that it supersedes.
fn commit(folder: &Path, step: u64, acknowledge: impl FnOnce()) {
    let committed = pointer::commit(folder, &at(step), KEPT).unwrap();
    acknowledge();
    for name in committed.superseded {
        std::fs::remove_file(folder.join(name)).unwrap();
    }
}

fn say(line: &str) {
    stdout()
        .write_all(format!("\n{line}\n").as_bytes())
        .unwrap();
}

/// This binary as a process that runs one of its tests.
fn writer(test: &str, folder: &Path) -> Command {
    let mut writer = Command::new(std::env::current_exe().unwrap());
    writer
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped());
    writer
}

/// The last step that the writer said it had committed before it was killed.
fn killed_after(folder: &Path, time: Duration) -> Option<u64> {
    let mut writer = writer("a_process_commits_checkpoints_until_it_is_killed", folder)
        .spawn()
        .unwrap();
    std::thread::sleep(time);
    writer.kill().unwrap();
    let mut said = String::new();
    writer
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    writer.wait().unwrap();
    acknowledged(&said)
}

/// The last step of which the writer said that it is there.
fn acknowledged(said: &str) -> Option<u64> {
    let steps = said
        .lines()
        .filter_map(|line| line.strip_prefix('+')?.parse().ok());
    steps.max()
}

/// Asserts that the newest checkpoint of the folder is there and whole; gives its step.
fn whole(folder: &Path) -> Option<u64> {
    let newest = Pointer::read(folder).unwrap()?;
    let found = checkpoint::read(&newest.newest_path(folder)).unwrap();
    let expected = at(newest.newest);
    assert_eq!(
        (found.step, &found.manifest),
        (expected.step, &expected.manifest)
    );
    assert!(
        found.tensors == expected.tensors,
        "the content of step {}",
        found.step
    );
    Some(found.step)
}

fn names(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn a_killed_writer_leaves_the_last_acknowledged_checkpoint_or_a_newer_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let started = Instant::now();
    let mut acknowledged = 0;
    let mut in_the_middle = 0;
    for turn in 0..KILLS {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "after {turn} kills"
        );
        // Times spread over what a commit takes, and over the start of the process.
        let time = Duration::from_micros(3_000 + turn * 7_919 % 25_000);
        acknowledged = killed_after(folder, time).unwrap_or(acknowledged);
        in_the_middle += u32::from(names(folder).iter().any(|name| name.contains("tmp")));
        let newest = whole(folder).unwrap_or(0);
        assert!(
            newest >= acknowledged,
            "{newest} after {acknowledged}, {turn} kills"
        );
    }
    assert!(acknowledged > KILLS / 10, "{acknowledged} checkpoints");
    assert!(in_the_middle > 0, "no kill came in the middle of a commit");
}

/// A process stopped before and after each system call of the thread that commits.
struct Stepped {
    writer: Child,
    said: BufReader<std::process::ChildStdout>,
    thread: Pid,
}

impl Stepped {
    /// Starts the writer, which stands before its commit.
    fn start(folder: &Path, step: u64) -> Self {
        let mut writer = writer("a_process_commits_a_checkpoint_when_it_is_told_to", folder)
            .env(STEP, step.to_string())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(writer.stdout.take().unwrap());
        let mut line = String::new();
        let thread = loop {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it said nothing");
            if let Some(thread) = line.trim_end().strip_prefix("thread ") {
                break Pid::from_raw(thread.parse().unwrap());
            }
        };
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
        // Containers let a process trace its own children, and so does Yama.
        ptrace::seize(thread, options).expect("this test needs ptrace of its own children");
        ptrace::interrupt(thread).unwrap();
        let mut stepped = Self {
            writer,
            said,
            thread,
        };
        stepped.wait();
        stepped
    }

    fn wait(&mut self) -> WaitStatus {
        waitpid(self.thread, Some(WaitPidFlag::__WALL)).unwrap()
    }

    /// Lets it go on through `stops` beginnings and ends of calls, then kills it. The step that it said
    /// is there, and whether it was stopped so often.
    fn killed_at(mut self, stops: usize) -> (Option<u64>, bool) {
        let mut left = stops;
        ptrace::syscall(self.thread, None).unwrap();
        self.writer.stdin.take().unwrap().write_all(&[1]).unwrap();
        let stopped = loop {
            let signal = match self.wait() {
                WaitStatus::PtraceSyscall(_) if left == 1 => break true,
                WaitStatus::PtraceSyscall(_) => {
                    left -= 1;
                    None
                }
                WaitStatus::Stopped(_, signal) => Some(signal),
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => break false,
                _ => None,
            };
            ptrace::syscall(self.thread, signal).unwrap();
        };
        self.writer.kill().unwrap();
        if stopped {
            // A traced thread has to be waited for, too.
            self.wait();
        }
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        self.writer.wait().unwrap();
        (acknowledged(&said), stopped)
    }
}

#[test]
fn a_writer_killed_at_any_of_its_system_calls_leaves_the_old_checkpoint_or_the_new_one() {
    let started = Instant::now();
    let (mut old, mut unacknowledged) = (0, 0);
    for stops in 1.. {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "after {stops} stops"
        );
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for step in [10, 20] {
            pointer::commit(folder, &at(step), KEPT).unwrap();
        }
        let (acknowledged, stopped) = Stepped::start(folder, 30).killed_at(stops);
        let newest = whole(folder).unwrap();
        match acknowledged {
            Some(step) => assert_eq!((step, newest), (30, 30), "after {stops} stops"),
            None => assert!([20, 30].contains(&newest), "{newest} after {stops} stops"),
        }
        old += u32::from(newest == 20);
        unacknowledged += u32::from(newest == 30 && acknowledged.is_none());
        // What it left half-way is gone after the next commit.
        commit(folder, 40, || ());
        let kept = if newest == 20 { 20 } else { 30 };
        let expected = [
            "checkpoint",
            &checkpoint::file_name(kept),
            "ckpt-40.safetensors",
        ];
        assert_eq!(names(folder), expected, "after {stops} stops");
        if !stopped {
            // Both files are created, written, synced and renamed before it counts.
            assert!(old > 16, "{old} stops before the new checkpoint counts");
            assert!(unacknowledged > 0, "no stop between commit and word of it");
            return;
        }
    }
}
