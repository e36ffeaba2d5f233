//! Checkpoints whose writer is killed: a reader finds the last one that was acknowledged, or a newer
//! one, and each whole. The test binary runs itself again as the writer.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::io::{Read, Write, stdout};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flambeau_formats::array::Array;
use flambeau_formats::checkpoint::{self, Checkpoint};
use flambeau_formats::pointer::{self, Pointer};
use serde_json::json;

const FOLDER: &str = "FLAMBEAU_CHECKPOINT_TEST_FOLDER";
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
        let committed = pointer::commit(folder, &at(step), KEPT).unwrap();
        stdout()
            .write_all(format!("\n+{step}\n").as_bytes())
            .unwrap();
        for name in committed.superseded {
            std::fs::remove_file(folder.join(name)).unwrap();
        }
    }
}

/// The last step that the writer said it had committed before it was killed.
fn killed_after(folder: &Path, time: Duration) -> Option<u64> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_process_commits_checkpoints_until_it_is_killed",
            "--nocapture",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
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
    let steps = said
        .lines()
        .filter_map(|line| line.strip_prefix('+')?.parse().ok());
    steps.max()
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
        let files = std::fs::read_dir(folder).unwrap();
        let mut names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        in_the_middle += u32::from(names.any(|name| name.contains("tmp")));
        let Some(pointer) = Pointer::read(folder).unwrap() else {
            assert_eq!(acknowledged, 0, "after {turn} kills");
            continue;
        };
        assert!(
            pointer.newest >= acknowledged,
            "{pointer:?}, {acknowledged}"
        );
        let found = checkpoint::read(&pointer.newest_path(folder)).unwrap();
        let expected = at(pointer.newest);
        assert_eq!(
            (found.step, &found.manifest),
            (expected.step, &expected.manifest)
        );
        assert!(
            found.tensors == expected.tensors,
            "the content of step {}",
            found.step
        );
    }
    assert!(acknowledged > KILLS / 10, "{acknowledged} checkpoints");
    assert!(in_the_middle > 0, "no kill came in the middle of a commit");
}
