//! Damaged configs of real models: reading one must end in a model or in an error that names its
//! place, soon, and without taking much memory, whatever sizes the config asks for.
//!
//! The models' weights are read along, as they are compared with a config before it gets memory.
//! Runs for `FLAMBEAU_FUZZ_SECONDS` (3 by default) from `FLAMBEAU_FUZZ_SEED` (0 by default); a
//! failure names the file, and the seed with which its case comes first.

#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use flambeau_formats::keras_archive::Archive;
use flambeau_keras::optimizers::Optimizer;
use flambeau_keras::{Error, InitialWeights, Model, ReadOptions, Weights};
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;
use serde_json::{Value, json};

/// What reading a config may take beyond what was there before, in KiB.
const MEMORY: u64 = 64 << 10;
/// How long one read may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// A model that Keras wrote.
struct Original {
    name: &'static str,
    config: String,
    options: ReadOptions,
}

fn originals() -> Vec<Original> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let names = ["convolutional", "sequences", "nested", "preprocessing"];
    let originals = names.map(|name| {
        let bytes = fs::read(folder.join(format!("{name}.keras"))).unwrap();
        let initial = InitialWeights {
            weights: Weights::from_files(&[&bytes]).unwrap(),
            skip_mismatch: false,
        };
        Original {
            name,
            config: Archive::from_bytes(&bytes).unwrap().config,
            options: ReadOptions {
                initial: Some(initial),
                ..ReadOptions::default()
            },
        }
    });
    originals.into()
}

/// Model and optimizer of a config.
fn read(config: &[u8], options: &ReadOptions) -> Result<(), Error> {
    let (model, loaded) = Model::read(config, options)?;
    if let Some(compile) = loaded.compile {
        Optimizer::from_config(&compile["optimizer"], model.trainable())?;
    }
    Ok(())
}

struct Random(SplitMix64);

impl Random {
    /// A number below `end`, or 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.next_u64() % (end.max(1) as u64)).unwrap()
    }
}

/// What no layer expects, or few.
fn extreme(random: &mut Random) -> Value {
    let deep = (0..100).fold(json!("x"), |inner, _| json!([inner]));
    let extremes = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(2),
        json!(1_000_003),
        json!(i64::from(i32::MAX) + 1),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.5),
        json!(1e308),
        json!(-1e-320),
        json!(""),
        json!("same"),
        json!("linear"),
        json!("\u{e000}NaN"),
        json!([]),
        json!({}),
        json!([1_000_003, 1_000_003]),
        json!([null, 1_000_003, 1_000_003]),
        json!({"class_name": "Dense", "config": {"units": i64::MAX}}),
        deep,
    ];
    extremes[random.below(extremes.len())].clone()
}

/// The values below a value, itself included.
fn count(value: &Value) -> usize {
    let below: usize = match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(entries) => entries.values().map(count).sum(),
        _ => 0,
    };
    1 + below
}

/// Value `at` in the order in which [`count`] counts them.
fn value_at(value: &mut Value, at: usize) -> &mut Value {
    if at == 0 {
        return value;
    }
    let mut at = at - 1;
    let children: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(entries) => entries.values_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        let size = count(child);
        if at < size {
            return value_at(child, at);
        }
        at -= size;
    }
    unreachable!("at is below the count")
}

/// Changes the document, which stays JSON.
fn change(document: &mut Value, random: &mut Random) {
    let size = count(document);
    let other = value_at(document, random.below(size)).clone();
    let target = value_at(document, random.below(size));
    let place = random.below(8);
    match (target, random.below(3)) {
        (Value::Array(items), 0) if !items.is_empty() => {
            items.remove(place % items.len());
        }
        (Value::Array(items), 1) => items.insert(place % (items.len() + 1), other),
        (Value::Array(items), _) if items.len() > 1 => {
            let last = items.len() - 1;
            items.swap(place % last, last);
        }
        (Value::Object(entries), 0) if !entries.is_empty() => {
            let key = entries.keys().nth(place % entries.len()).unwrap().clone();
            entries.remove(&key);
        }
        (Value::Object(entries), 1) => {
            entries.insert("unexpected".to_owned(), other);
        }
        (target, 2) => *target = other,
        (target, _) => *target = extreme(random),
    }
}

/// Changes bytes of the text, which may be no JSON then.
fn damage(text: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(text.len());
    match random.below(4) {
        0 => text[at] ^= 1 << random.below(8),
        1 => text.truncate(at),
        2 => {
            let tokens: [&[u8]; 6] = [b"NaN", b"-Infinity", b"\"", b"\\", b"1e999", b"[[[[{"];
            let token = tokens[random.below(tokens.len())];
            text.splice(at..at, token.iter().copied());
        }
        _ => {
            let end = text.len().min(at + random.below(64));
            text.drain(at..end);
        }
    }
}

/// A damaged copy of the config.
fn damaged(config: &str, random: &mut Random) -> Vec<u8> {
    if random.below(4) == 0 {
        let mut text = config.as_bytes().to_vec();
        damage(&mut text, random);
        return text;
    }
    let mut document = serde_json::from_str(config).unwrap();
    for _ in 0..=random.below(3) {
        change(&mut document, random);
    }
    document.to_string().into_bytes()
}

/// Whether the message begins with where in the config something is wrong.
fn names_its_place(error: &Error) -> bool {
    let places = [
        "layer \"",
        "operation \"",
        "variable ",
        "model",
        "optimizer",
        "learning_rate of ",
    ];
    match error {
        Error::NotJson(source) => source.line() > 0,
        error => places
            .iter()
            .any(|place| error.to_string().starts_with(place)),
    }
}

/// A line of the process's status, in KiB.
fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    let number = found.and_then(|text| text.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

/// Lets the most memory that ever was count from now on.
fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn damaged_configs_end_in_a_model_or_an_error_within_bounds() {
    let seconds = number("FLAMBEAU_FUZZ_SECONDS", 3);
    let first_seed = number("FLAMBEAU_FUZZ_SEED", 0);
    let originals = originals();
    for original in &originals {
        let result = read(original.config.as_bytes(), &original.options);
        result.unwrap_or_else(|error| panic!("{} as it is: {error}", original.name));
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut cases, mut refused) = (0_u64, 0_u64);
    for seed in first_seed.. {
        for original in &originals {
            let mut random = Random(SplitMix64::seed_from_u64(seed));
            let config = damaged(&original.config, &mut random);
            let case = format!("{} with FLAMBEAU_FUZZ_SEED={seed}", original.name);
            forget_peak();
            let before = memory("VmRSS:");
            let start = Instant::now();
            let result = read(&config, &original.options);
            let taken = memory("VmHWM:").saturating_sub(before);
            assert!(taken <= MEMORY, "{case} took {taken} KiB");
            let elapsed = start.elapsed();
            assert!(elapsed <= PATIENCE, "{case} took {elapsed:?}");
            if let Err(error) = &result {
                assert!(names_its_place(error), "{case}: \"{error}\" names no place");
            }
            cases += 1;
            refused += u64::from(result.is_err());
        }
        if Instant::now() >= end {
            break;
        }
    }
    println!("{cases} damaged configs, {refused} refused");
    assert!(refused > cases / 2, "{refused} of {cases}");
}
