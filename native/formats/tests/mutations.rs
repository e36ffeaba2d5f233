//! Damaged copies of real files: reading them must end in a value or an error, soon, and without
//! taking much more memory than the file is long.
//!
//! Runs for `FLAMBEAU_FUZZ_SECONDS` (3 by default) from `FLAMBEAU_FUZZ_SEED` (0 by default); a
//! failure names the file, and the seed with which its case comes first.

#![expect(
    unsafe_code,
    reason = "the allocator is replaced by one that counts, which only an unsafe trait can do"
)]
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::env;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flambeau_formats::bundle::Index;
use flambeau_formats::checkpoint::Checkpoint;
use flambeau_formats::columnar::{
    ColumnSpec, ElementType, RecordDecoder, RecordType, SchemaInference,
};
use flambeau_formats::example::{Feature, decode_example, encode_example, encode_sequence_example};
use flambeau_formats::image::{Channels, Resize, Shape, decode};
use flambeau_formats::keras_archive::Archive;
use flambeau_formats::legacy_h5::LegacyFile;
use flambeau_formats::tfrecord::{Record, RecordFrames, RecordReader, RecordWriter};
use flambeau_formats::weights_h5::WeightsFile;

/// What reading may take: so many times the file's length, and a constant for what every reader
/// keeps, such as buffers of decompressors, and the 65,535 members that a compound type of HDF5
/// may announce, for which `hdf5-pure` reserves 4.7 MB before it reads one.
const MEMORY_PER_BYTE: usize = 32;
const MEMORY: usize = 10 << 20;
/// How long one read may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts what is allocated and the most that ever was.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(live, Ordering::Relaxed);
}

// SAFETY: every method passes its arguments on to `System` unchanged and returns what that returns.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Read = fn(&[u8]) -> Result<(), flambeau_formats::Error>;

/// A real file and who reads it.
struct Original {
    name: String,
    bytes: Vec<u8>,
    read: Read,
}

fn originals() -> Vec<Original> {
    let archive: Read = |bytes| Archive::from_bytes(bytes).map(drop);
    let weights: Read = |bytes| WeightsFile::from_bytes(bytes.to_vec()).map(drop);
    let legacy: Read = |bytes| LegacyFile::from_bytes(bytes.to_vec()).map(drop);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let mut originals: Vec<Original> = [
        ("model.keras", archive),
        ("deflated.keras", archive),
        ("model.weights.h5", weights),
        ("latest.weights.h5", weights),
        ("model.h5", legacy),
        ("model.index", read_index),
        ("model.data-00000-of-00001", read_data),
        ("alpha.png", read_image),
        ("palette.png", read_image),
        ("baseline.jpg", read_image),
        ("progressive.jpg", read_image),
    ]
    .into_iter()
    .map(|(name, read)| Original {
        name: name.into(),
        bytes: fs::read(folder.join(name)).unwrap(),
        read,
    })
    .collect();
    // The same content as our own writer lays it out.
    let ours = WeightsFile::from_bytes(fs::read(folder.join("model.weights.h5")).unwrap()).unwrap();
    let tensors = ours.groups["optimizer"].vars.iter();
    let checkpoint = Checkpoint {
        step: 3,
        manifest: serde_json::json!({"epochs": [1, 2]}),
        tensors: tensors
            .enumerate()
            .map(|(i, array)| (i.to_string(), array.clone()))
            .collect(),
    };
    originals.push(Original {
        name: "ours.weights.h5".into(),
        bytes: ours.to_bytes().unwrap(),
        read: weights,
    });
    originals.push(Original {
        name: "ours.safetensors".into(),
        bytes: checkpoint.to_bytes().unwrap(),
        read: |bytes| Checkpoint::from_bytes("ours.safetensors", bytes).map(drop),
    });
    let mut records = RecordWriter::new(Vec::new());
    let features = [
        ("x", Feature::Ints(&[1, 2])),
        ("y", Feature::Bytes(&[b"z"])),
    ];
    let mut example = Vec::new();
    encode_example(&features, &mut example);
    for _ in 0..3 {
        records.write(&example).unwrap();
    }
    // A record's own bytes: a file that is damaged is mostly refused by its checksums.
    let mut features: Vec<(&str, Feature<'_>)> =
        vec![("bytes", Feature::Bytes(&[b"", b"\xc3\xa9"]))];
    let ints: Vec<i64> = (0..40).map(|at| (at - 3) << (at % 9 * 7)).collect();
    features.push(("ints", Feature::Ints(&ints)));
    features.push(("floats", Feature::Floats(&[0.5, -1.0, f32::NAN])));
    let mut record = Vec::new();
    encode_example(&features, &mut record);
    originals.push(Original {
        name: "ours.example".into(),
        bytes: record,
        read: read_example,
    });
    let mut record = Vec::new();
    let lists = [("steps", vec![Feature::Ints(&ints), Feature::Ints(&[])])];
    encode_sequence_example(&features, &lists, &mut record);
    originals.push(Original {
        name: "ours.sequence_example".into(),
        bytes: record,
        read: |bytes| read_columns(RecordType::SequenceExample, bytes),
    });
    originals.push(Original {
        name: "ours.tfrecord".into(),
        bytes: records.into_inner(),
        read: read_records,
    });
    originals
}

/// All at once, and as pieces arrive: with the same records and the same verdict.
fn read_records(bytes: &[u8]) -> Result<(), flambeau_formats::Error> {
    let mut expected = Vec::new();
    let mut records = RecordReader::new(bytes);
    let verdict = loop {
        match records.read() {
            Ok(Some(record)) => expected.push(record.to_vec()),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let mut found = Vec::new();
    let mut frames = RecordFrames::of_split(0..u64::MAX);
    let mut pieces = bytes.chunks(1 + bytes.len() % 23);
    let in_pieces = loop {
        match frames.advance() {
            Ok(true) => found.extend(frames.record().map(|record| record.bytes.to_vec())),
            Ok(false) if frames.is_over() => break Ok(()),
            Ok(false) => match pieces.next() {
                Some(piece) => frames.push(piece),
                None => frames.end(),
            },
            Err(error) => break Err(error),
        }
    };
    assert_eq!(found, expected);
    assert_eq!(
        in_pieces.map_err(|error| error.to_string()),
        verdict.as_ref().map(|&()| ()).map_err(ToString::to_string)
    );
    for record in &expected {
        decode_example(record)?;
    }
    verdict
}

/// As columns and as features: what one of them reads the other reads, too, but for features that no
/// column asks for, which columns pass over unread.
fn read_example(bytes: &[u8]) -> Result<(), flambeau_formats::Error> {
    let features = decode_example(bytes).map(drop);
    let columns = read_columns(RecordType::Example, bytes);
    let mut seen = SchemaInference::new(RecordType::Example);
    let known = ["bytes", "ints", "floats"];
    let read = seen.add(&record(bytes)).is_ok()
        && seen
            .features()
            .keys()
            .all(|name| known.contains(&name.as_str()));
    let unfit = matches!(columns, Err(flambeau_formats::Error::Unfit { .. }));
    let alike = columns.is_ok() == features.is_ok();
    let unread = columns.is_ok() && !read;
    assert!(
        unfit || alike || unread,
        "{columns:?} of columns, {features:?} of features"
    );
    features
}

fn record(bytes: &[u8]) -> Record<'_> {
    Record {
        bytes,
        offset: 12,
        index: Some(0),
    }
}

fn read_columns(record_type: RecordType, bytes: &[u8]) -> Result<(), flambeau_formats::Error> {
    let record = record(bytes);
    SchemaInference::new(record_type).add(&record)?;
    let spec = |name: &str, element| ColumnSpec {
        name: name.to_owned(),
        element,
        depth: 1,
    };
    let mut specs = vec![
        spec("bytes", ElementType::Binary),
        spec("ints", ElementType::Int64),
        spec("floats", ElementType::Float32),
    ];
    if record_type == RecordType::SequenceExample {
        specs.push(ColumnSpec {
            depth: 2,
            ..spec("steps", ElementType::Int64)
        });
    }
    let mut decoder = RecordDecoder::new(record_type, specs);
    decoder.add(&record)?;
    assert_eq!(decoder.take(None).rows, 1);
    Ok(())
}

/// Every tensor that an index promises, of the real data.
fn read_index(bytes: &[u8]) -> Result<(), flambeau_formats::Error> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let data = fs::read(folder.join("model.data-00000-of-00001")).unwrap();
    read_checkpoint(bytes, &data)
}

/// Every tensor that the real index promises, of these data.
fn read_data(bytes: &[u8]) -> Result<(), flambeau_formats::Error> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    read_checkpoint(&fs::read(folder.join("model.index")).unwrap(), bytes)
}

/// The pixels of an image of the size that its header has to say.
fn read_image(bytes: &[u8]) -> Result<(), flambeau_formats::Error> {
    let shape = Shape {
        height: 24,
        width: 20,
        channels: Channels::Rgb,
    };
    let mut pixels = vec![0; shape.bytes()];
    decode(bytes, shape, Resize::Refuse, &mut pixels)
}

fn read_checkpoint(index: &[u8], data: &[u8]) -> Result<(), flambeau_formats::Error> {
    let index = Index::from_bytes("model.index", index)?;
    for key in index.entries().keys() {
        index.tensor(key, &[data])?;
    }
    index.object_graph(&[data]).map(drop)
}

/// Random numbers: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, or 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }
}

/// Numbers that break bounds and sums.
const EXTREMES: [u64; 10] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(8) {
        0..3 => {
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
        3 => bytes[at] = random.next().to_le_bytes()[0],
        4 => {
            let width = [1, 2, 4, 8][random.below(4)].min(bytes.len() - at);
            let number = EXTREMES[random.below(EXTREMES.len())].to_le_bytes();
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        5 => bytes.truncate(at),
        6 => {
            let length = random.below(64).min(bytes.len() - at);
            let from = random.below(bytes.len() - length);
            bytes.copy_within(from..from + length, at);
        }
        _ => {
            let length = random.below(64).min(bytes.len() - at);
            bytes.drain(at..at + length);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn damaged_files_end_in_a_value_or_an_error_within_bounds() {
    let seconds = number("FLAMBEAU_FUZZ_SECONDS", 3);
    let first_seed = number("FLAMBEAU_FUZZ_SEED", 0);
    let end = Instant::now() + Duration::from_secs(seconds);
    let originals = originals();
    for original in &originals {
        let result = (original.read)(&original.bytes);
        result.unwrap_or_else(|error| panic!("{} as it is: {error}", original.name));
    }
    let (mut cases, mut refused) = (0_u64, 0_u64);
    for seed in first_seed.. {
        for original in &originals {
            let mut random = Random(seed);
            let mut bytes = original.bytes.clone();
            for _ in 0..=random.below(3) {
                if !bytes.is_empty() {
                    damage(&mut bytes, &mut random);
                }
            }
            let case = format!("{} with FLAMBEAU_FUZZ_SEED={seed}", original.name);
            let before = LIVE.load(Ordering::Relaxed);
            MOST.store(before, Ordering::Relaxed);
            let start = Instant::now();
            let result = (original.read)(&bytes);
            let taken = MOST.load(Ordering::Relaxed) - before;
            let allowed = MEMORY + MEMORY_PER_BYTE * bytes.len();
            assert!(taken <= allowed, "{case} took {taken} bytes");
            assert!(
                start.elapsed() <= PATIENCE,
                "{case} took {:?}",
                start.elapsed()
            );
            cases += 1;
            refused += u64::from(result.is_err());
        }
        if Instant::now() >= end {
            break;
        }
    }
    println!("{cases} damaged files, {refused} refused");
    assert!(refused > cases / 2, "{refused} of {cases}");
}
