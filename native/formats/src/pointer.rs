//! The `checkpoint` file: which checkpoints of a directory count, and which is the newest.
//!
//! Its text is TensorFlow's `CheckpointState` message, so TensorFlow's tools read it too. It is
//! written after the checkpoint it names and replaced as a whole, so it never points at half a file.

use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Checkpoint};
use crate::{Error, Result};

/// Name of the pointer file.
pub const FILE: &str = "checkpoint";
const NEWEST: &str = "model_checkpoint_path";
const ALL: &str = "all_model_checkpoint_paths";

/// The checkpoints that count, by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// The step of the newest checkpoint.
    pub newest: u64,
    /// The steps of all checkpoints kept, in the order they were written.
    pub all: Vec<u64>,
}

/// What [`commit`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The file just written.
    pub path: PathBuf,
    /// Names of the checkpoints in the folder that the pointer does not name, by step.
    pub superseded: Vec<String>,
}

impl Pointer {
    /// Reads the pointer of `dir`, or `None` if nothing was ever committed there.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path; [`Error::Corrupt`] if a line names no `ckpt-<step>`.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Pointer::parse(&path.display().to_string(), &text).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("reading {}", path.display()), error)),
        }
    }

    /// Replaces the pointer of `dir`; the checkpoints named must be there already.
    ///
    /// # Errors
    /// [`Error::Io`] naming the path.
    pub fn write(&self, dir: &Path) -> Result<()> {
        checkpoint::replace_file(dir, FILE, self.to_text().as_bytes()).map(|_| ())
    }

    /// The path of the newest checkpoint, for [`checkpoint::read`].
    pub fn newest_path(&self, dir: &Path) -> PathBuf {
        dir.join(checkpoint::file_name(self.newest))
    }

    fn to_text(&self) -> String {
        let mut text = format!("{NEWEST}: \"ckpt-{}\"\n", self.newest);
        for step in &self.all {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{ALL}: \"ckpt-{step}\"");
        }
        text
    }

    /// Other fields of the message, such as timestamps, are skipped. No path from the file is ever
    /// opened: a name is a step or an error.
    fn parse(place: &str, text: &str) -> Result<Self> {
        let mut newest = None;
        let mut all = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let place = || format!("line {} of {place}", index + 1);
            // A comment, as protobuf's text format has them: a model directory's says of which run it is.
            if line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once(':') else {
                if line.trim().is_empty() {
                    continue;
                }
                return Err(Error::corrupt(
                    place(),
                    "it is no field of a CheckpointState",
                ));
            };
            let step = || {
                let reason = format!("{value} is not the name of a checkpoint, \"ckpt-<step>\"");
                step_of(value.trim()).ok_or_else(|| Error::corrupt(place(), reason))
            };
            match key.trim() {
                NEWEST => newest = Some(step()?),
                ALL => all.push(step()?),
                _ => {}
            }
        }
        let newest = newest.ok_or_else(|| Error::corrupt(place, format!("it has no {NEWEST}")))?;
        Ok(Pointer { newest, all })
    }
}

/// The step of a quoted name such as `"ckpt-469"`.
fn step_of(quoted: &str) -> Option<u64> {
    let digits = quoted.strip_prefix("\"ckpt-")?.strip_suffix('"')?;
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| canonical)
}

/// Writes a checkpoint into `dir` and points to it and those before it, `keep` in all (at least
/// this one). The caller removes the files that are not named, once nobody reads them; what writers
/// left that were killed half-way is removed here.
///
/// # Errors
/// As [`checkpoint::write`], [`Pointer::read`] and [`Pointer::write`]; [`Error::Io`] if the folder
/// cannot be read or cleaned.
pub fn commit(dir: &Path, checkpoint: &Checkpoint, keep: usize) -> Result<Committed> {
    let path = checkpoint::write(dir, checkpoint)?;
    point_to(dir, checkpoint.step, path, keep)
}

/// As [`commit`], of the checkpoint of `step` that has been written to `path` in `dir`.
///
/// # Errors
/// As [`commit`].
pub fn point_to(dir: &Path, step: u64, path: PathBuf, keep: usize) -> Result<Committed> {
    let mut steps = Pointer::read(dir)?
        .map(|pointer| pointer.all)
        .unwrap_or_default();
    steps.retain(|&known| known != step);
    steps.push(step);
    let pointer = Pointer {
        newest: step,
        all: steps.split_off(steps.len().saturating_sub(keep.max(1))),
    };
    pointer.write(dir)?;
    let superseded = clean(dir, &pointer.all)
        .map_err(|error| Error::io(format!("cleaning {}", dir.display()), error))?;
    Ok(Committed { path, superseded })
}

/// Removes files of `dir` that are no checkpoints yet; names those that are not of the steps `kept`.
fn clean(dir: &Path, kept: &[u64]) -> std::io::Result<Vec<String>> {
    let mut steps = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with("ckpt-")) else {
            continue;
        };
        match checkpoint::step_of(name) {
            Some(step) if !kept.contains(&step) => steps.push(step),
            None if name.ends_with(checkpoint::TEMPORARY) => fs::remove_file(dir.join(name))?,
            _ => {}
        }
    }
    steps.sort_unstable();
    Ok(steps.into_iter().map(checkpoint::file_name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(step: u64) -> Checkpoint {
        Checkpoint {
            step,
            manifest: serde_json::Value::Null,
            tensors: vec![],
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_text_is_that_of_tensorflow() {
        let pointer = Pointer {
            newest: 469,
            all: vec![352, 469],
        };
        assert_eq!(
            pointer.to_text(),
            "model_checkpoint_path: \"ckpt-469\"\n\
             all_model_checkpoint_paths: \"ckpt-352\"\n\
             all_model_checkpoint_paths: \"ckpt-469\"\n"
        );
        let stamped =
            "# run 7f3a\n".to_owned() + &pointer.to_text() + "last_preserved_timestamp: 1.5\n\n";
        assert_eq!(Pointer::parse("checkpoint", &stamped).unwrap(), pointer);
    }

    #[test]
    fn names_that_are_no_step_are_refused() {
        for name in [
            "../ckpt-1",
            "/etc/passwd",
            "ckpt-",
            "ckpt--1",
            "ckpt-+1",
            "ckpt-1/2",
        ] {
            let text = format!("model_checkpoint_path: \"{name}\"");
            let error = Pointer::parse("checkpoint", &text).unwrap_err();
            assert!(
                error.to_string().starts_with("line 1 of checkpoint"),
                "{error}"
            );
        }
        assert!(Pointer::parse("checkpoint", "").is_err());
        assert!(Pointer::parse("checkpoint", "\0\0\0").is_err());
    }

    #[test]
    fn the_newest_checkpoints_are_named_and_the_others_given_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Pointer::read(dir.path()).unwrap(), None);
        for (step, superseded) in [(10, None), (20, None), (30, Some("ckpt-10.safetensors"))] {
            let committed = commit(dir.path(), &at(step), 2).unwrap();
            assert_eq!(committed.superseded, Vec::from_iter(superseded));
        }
        assert_eq!(names(dir.path()).len(), 4);
        let pointer = Pointer::read(dir.path()).unwrap().unwrap();
        assert_eq!(
            pointer,
            Pointer {
                newest: 30,
                all: vec![20, 30]
            }
        );
        assert_eq!(
            checkpoint::read(&pointer.newest_path(dir.path())).unwrap(),
            at(30)
        );
        let committed = commit(dir.path(), &at(40), 0).unwrap();
        assert_eq!(
            committed.superseded,
            [
                "ckpt-10.safetensors",
                "ckpt-20.safetensors",
                "ckpt-30.safetensors"
            ]
        );
    }

    #[test]
    fn writing_a_step_again_replaces_it_and_supersedes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for step in [10, 20, 10] {
            let committed = commit(dir.path(), &at(step), 2).unwrap();
            assert_eq!(committed.superseded, Vec::<String>::new());
        }
        let pointer = Pointer::read(dir.path()).unwrap().unwrap();
        assert_eq!(
            pointer,
            Pointer {
                newest: 10,
                all: vec![20, 10]
            }
        );
    }

    #[test]
    fn a_leftover_of_an_interrupted_write_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        commit(dir.path(), &at(10), 2).unwrap();
        fs::write(dir.path().join("ckpt-20.safetensors.tmp"), b"half").unwrap();
        let pointer = Pointer::read(dir.path()).unwrap().unwrap();
        assert_eq!(
            checkpoint::read(&pointer.newest_path(dir.path())).unwrap(),
            at(10)
        );
        commit(dir.path(), &at(30), 2).unwrap();
        assert!(!names(dir.path()).iter().any(|name| name.ends_with(".tmp")));
    }

    proptest! {
        #[test]
        fn any_pointer_survives(newest: u64, all: Vec<u64>) {
            let pointer = Pointer { newest, all };
            prop_assert_eq!(Pointer::parse("test", &pointer.to_text()).unwrap(), pointer);
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _ = Pointer::parse("test", &text);
        }
    }
}
