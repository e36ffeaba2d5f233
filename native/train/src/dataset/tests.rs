//! Every row once in every epoch, in the same order and with the same values whatever the budget.
#![expect(clippy::cast_possible_truncation, reason = "made-up values")]

use super::record::Layout;
use super::*;
use crate::block::{Part, Ragged, Side, Values};
use proptest::prelude::*;
use std::collections::{HashSet, VecDeque};

/// Blocks that have all arrived.
struct Arrived(VecDeque<(Stream, Block)>);

impl Arrived {
    /// Of so many rows to train on each.
    fn sizes(sizes: &[usize]) -> Self {
        let sizes: Vec<_> = sizes.iter().map(|&rows| (Stream::Training, rows)).collect();
        Self(blocks(&sizes, [1, 0, 0, 0, 0]).into())
    }
}

impl Blocks for Arrived {
    fn next_block(&mut self, _deadline: Option<Instant>) -> Result<Arrival, Error> {
        Ok(match self.0.pop_front() {
            Some((stream, block)) => Arrival::Block(stream, block),
            None => Arrival::End(Stream::Training),
        })
    }
}

const PARTS: [Part; 11] = [
    Part::Input(0),
    Part::Input(1),
    Part::Input(2),
    Part::Input(3),
    Part::Input(4),
    Part::Label(0),
    Part::Label(1),
    Part::Label(2),
    Part::Weights,
    Part::Input(5),
    Part::Input(6),
];

/// Blocks of made-up rows, with an input of each type in these widths, two whose rows hold up to three
/// values more or fewer, labels of the second of
/// three outputs, which number the rows, and weights.
fn blocks(sizes: &[(Stream, usize)], widths: [usize; 5]) -> Vec<(Stream, Block)> {
    let mut first = 0;
    let made = sizes.iter().map(|&(stream, rows)| {
        first += rows;
        (stream, block(first - rows, rows, widths))
    });
    made.collect()
}

fn block(first: usize, rows: usize, widths: [usize; 5]) -> Block {
    let values = |width: usize| first * width..(first + rows) * width;
    let string = |at: usize| vec![b'a' + (at % 26) as u8; at * 7 % 11].into_boxed_slice();
    let lengths = |most: usize| (first..first + rows).map(move |row| row * 5 % 4 * most);
    let ragged = |values: fn(std::ops::Range<usize>) -> Values, most: usize, padding: Side| {
        let mut offsets = vec![0];
        offsets.extend(lengths(most).scan(0, |end, length| {
            *end += length;
            Some(*end)
        }));
        let count = offsets.last().copied().unwrap_or(0);
        Values::Ragged(Ragged::new(values(first..first + count), offsets, padding))
    };
    Block {
        rows,
        inputs: vec![
            Values::U8(values(widths[0]).map(|at| at as u8).collect()),
            Values::Strings(values(widths[1]).map(string).collect()),
            Values::F32(values(widths[2]).map(|at| at as f32 / 3.0).collect()),
            Values::I32(values(widths[3]).map(|at| -(at as i32)).collect()),
            Values::Strings(values(widths[4]).map(string).collect()),
            ragged(
                |at| Values::I64(at.map(|at| at as i64).collect()),
                widths[2].min(1),
                Side::Pre,
            ),
            ragged(
                |at| Values::Strings(at.map(|at| vec![b'x'; at % 5].into()).collect()),
                widths[4].min(1),
                Side::Post,
            ),
        ],
        labels: vec![
            None,
            Some(Values::I64(values(1).map(|at| at as i64).collect())),
            None,
        ],
        weights: Some(Values::F32(values(1).map(|at| at as f32).collect())),
    }
}

fn settings(seed: Option<u64>, rank: usize, keep: bool) -> Settings {
    Settings {
        seed,
        rank,
        shuffle_buffer: SHUFFLE_BUFFER,
        batch_size: 64,
        drop_remainder: false,
        keep,
        budget: u64::MAX,
        folder: PathBuf::from("/nowhere"),
    }
}

fn epoch(dataset: &mut Dataset, stream: &mut Arrived, index: usize) -> Vec<(u32, u32)> {
    dataset.start_pass(index);
    let mut drawn = Vec::new();
    loop {
        let rows = dataset.draw(stream).unwrap();
        if rows.is_empty() {
            return drawn;
        }
        dataset.release(&rows);
        drawn.extend(rows.iter().map(|row| (row.block, row.row)));
    }
}

#[test]
fn every_row_is_drawn_once_in_every_epoch() {
    let mut stream = Arrived::sizes(&[1000, 0, 5000, 1, 313]);
    let mut dataset = Dataset::new(settings(Some(7), 0, true));
    for index in 0..3 {
        let rows = epoch(&mut dataset, &mut stream, index);
        assert_eq!(rows.len(), 6314);
        assert_eq!(rows.iter().collect::<HashSet<_>>().len(), 6314);
    }
}

#[test]
fn the_same_seed_gives_the_same_order_and_another_rank_another() {
    let draw = |seed, rank| {
        let mut stream = Arrived::sizes(&[1000, 4000, 2000]);
        let mut dataset = Dataset::new(settings(Some(seed), rank, true));
        let first = epoch(&mut dataset, &mut stream, 0);
        (first, epoch(&mut dataset, &mut stream, 1))
    };
    assert_eq!(draw(7, 0), draw(7, 0));
    assert_ne!(draw(7, 0), draw(8, 0));
    assert_ne!(draw(7, 0), draw(7, 1));
    let (first, second) = draw(7, 0);
    assert_ne!(first, second);
}

#[test]
fn without_a_seed_rows_keep_their_order() {
    let mut stream = Arrived::sizes(&[3, 2]);
    let mut dataset = Dataset::new(settings(None, 0, true));
    let order = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)];
    assert_eq!(epoch(&mut dataset, &mut stream, 0), order);
    assert_eq!(epoch(&mut dataset, &mut stream, 1), order);
}

#[test]
fn a_dataset_for_one_epoch_frees_used_blocks() {
    let mut stream = Arrived::sizes(&[64, 64]);
    let mut dataset = Dataset::new(settings(None, 0, false));
    dataset.start_pass(0);
    let drawn = dataset.draw(&mut stream).unwrap();
    assert!(dataset.rows(&drawn, &mut Vec::new()).is_ok());
    assert!(dataset.held() > 0);
    dataset.release(&drawn);
    assert!(dataset.rows(&drawn, &mut Vec::new()).is_err());
    assert_eq!(dataset.held(), 0);
}

#[test]
fn an_epoch_can_start_with_the_stream_already_received() {
    let mut stream = Arrived::sizes(&[100, 200]);
    let mut resumed = Dataset::new(settings(Some(7), 0, true));
    assert!(!resumed.fill(&mut stream, Instant::now()).unwrap());
    let minute = std::time::Duration::from_secs(60);
    assert!(resumed.fill(&mut stream, Instant::now() + minute).unwrap());
    let after_resume = epoch(&mut resumed, &mut stream, 1);
    let mut stream = Arrived::sizes(&[100, 200]);
    let mut whole = Dataset::new(settings(Some(7), 0, true));
    epoch(&mut whole, &mut stream, 0);
    assert_eq!(after_resume, epoch(&mut whole, &mut stream, 1));
}

/// Blocks that arrive anew in each pass, with an end after each.
struct Passes {
    blocks: Vec<(Stream, Block)>,
    next: usize,
}

impl Blocks for Passes {
    fn next_block(&mut self, _deadline: Option<Instant>) -> Result<Arrival, Error> {
        let Some((stream, block)) = self.blocks.get(self.next) else {
            self.next = 0;
            return Ok(Arrival::End(Stream::Training));
        };
        self.next += 1;
        Ok(Arrival::Block(*stream, block.clone()))
    }
}

/// The numbers of the rows of the next batch.
fn draw_numbers(dataset: &mut Dataset, source: &mut dyn Blocks) -> Vec<i64> {
    let drawn = dataset.draw(source).unwrap();
    let mut records = Vec::new();
    let rows = dataset.rows(&drawn, &mut records).unwrap();
    let numbers = match gather(&rows, Part::Label(1)).unwrap() {
        Some((Values::I64(numbers), _)) => numbers,
        _ => Vec::new(),
    };
    dataset.release(&drawn);
    numbers
}

#[test]
fn rows_that_come_anew_in_each_pass_are_drawn_once_in_each_and_take_no_more_memory() {
    let sizes = [(Stream::Training, 64); 50];
    let mut source = Passes {
        blocks: blocks(&sizes, [1, 0, 0, 0, 0]),
        next: 0,
    };
    let mut dataset = Dataset::new(Settings {
        shuffle_buffer: 200,
        ..settings(Some(7), 0, false)
    });
    let mut orders = HashSet::new();
    let mut slots = 0;
    for pass in 0..20 {
        if pass > 0 {
            dataset.start_pass(pass);
        }
        let mut order = Vec::new();
        loop {
            let numbers = draw_numbers(&mut dataset, &mut source);
            if numbers.is_empty() {
                break;
            }
            order.extend(numbers);
        }
        assert_eq!(dataset.held(), 0);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..3200).collect::<Vec<i64>>());
        orders.insert(order);
        slots = dataset.unused.len();
    }
    assert_eq!(orders.len(), 20, "each pass has an order of its own");
    assert!(slots < 50, "{slots} places for blocks, of 50 in a pass");
}

#[test]
fn a_remainder_is_left_out_where_that_is_asked_for() {
    for keep in [true, false] {
        let mut dataset = Dataset::new(Settings {
            batch_size: 32,
            drop_remainder: true,
            ..settings(None, 0, keep)
        });
        let mut source = Passes {
            blocks: blocks(&[(Stream::Training, 70)], [1, 0, 0, 0, 0]),
            next: 0,
        };
        for pass in 0..2 {
            if pass > 0 {
                dataset.start_pass(pass);
            }
            assert_eq!(draw_numbers(&mut dataset, &mut source).len(), 32);
            assert_eq!(draw_numbers(&mut dataset, &mut source).len(), 32);
            assert!(draw_numbers(&mut dataset, &mut source).is_empty());
        }
    }
}

/// A dataset for one epoch leaves its places in the file to the blocks after.
#[test]
fn a_dataset_for_one_epoch_needs_no_more_disk_than_its_window() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = Dataset::new(Settings {
        budget: 0,
        folder: folder.path().to_owned(),
        ..settings(None, 0, false)
    });
    let mut stream = Arrived::sizes(&[64; 100]);
    assert_eq!(epoch(&mut dataset, &mut stream, 0).len(), 6400);
    let one = Layout::of(&block(0, 64, [1, 0, 0, 0, 0]));
    let one = one.write(&block(0, 64, [1, 0, 0, 0, 0])).unwrap().len();
    assert_eq!(dataset.store.spilled(), one as u64);
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let mut dataset = Dataset::new(Settings {
        budget: 0,
        ..settings(None, 0, true)
    });
    let error = dataset.draw(&mut Arrived::sizes(&[1])).unwrap_err();
    assert!(!error.is_deterministic());
    let message = error.to_string();
    assert!(
        message.starts_with("cannot keep rows beyond spark.flambeau.cache.memory in /nowhere/"),
        "{message}"
    );
    assert!(
        message.ends_with("Check space and permissions of spark.local.dir"),
        "{message}"
    );
}

/// What is seen of a dataset: the rows of each batch of each epoch, part by part, and the blocks
/// to validate with.
#[derive(Debug, PartialEq)]
struct Seen {
    batches: Vec<(Vec<RowRef>, Vec<Option<Values>>)>,
    validation: Vec<Block>,
}

fn see(blocks: &[(Stream, Block)], settings: Settings) -> Seen {
    let budget = settings.budget;
    let folder = settings.folder.clone();
    let epochs = if settings.keep { 3 } else { 1 };
    let mut dataset = Dataset::new(settings);
    let mut stream = Arrived(blocks.to_vec().into());
    let mut batches = Vec::new();
    for index in 0..epochs {
        dataset.start_pass(index);
        loop {
            let drawn = dataset.draw(&mut stream).unwrap();
            assert!(dataset.held() <= budget);
            if drawn.is_empty() {
                break;
            }
            let mut records = Vec::new();
            let rows = dataset.rows(&drawn, &mut records).unwrap();
            let parts = PARTS.map(|part| gather(&rows, part).unwrap().map(|(values, _)| values));
            let parts = parts.to_vec();
            dataset.release(&drawn);
            batches.push((drawn, parts));
        }
    }
    assert!(
        folder
            .read_dir()
            .is_ok_and(|mut files| files.next().is_none())
    );
    let validation = dataset.validation();
    let validation = validation.map(|block| block.unwrap().into_owned());
    Seen {
        batches,
        validation: validation.collect(),
    }
}

fn streams() -> impl Strategy<Value = Vec<(Stream, usize)>> {
    let stream = prop_oneof![3 => Just(Stream::Training), 1 => Just(Stream::Validation)];
    proptest::collection::vec((stream, 0..60_usize), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// What a fit that was interrupted draws next is what it would have drawn.
    #[test]
    fn a_new_dataset_comes_to_where_another_stood(
        sizes in streams(),
        keep in any::<bool>(),
        seed in proptest::option::of(any::<u64>()),
        shuffle_buffer in 1..100_usize,
        batch_size in 1..50_usize,
        drop_remainder in any::<bool>(),
        passes in 0..3_usize,
        batches in 0..8_u64,
        budget in 0..5_000_u64,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let made = blocks(&sizes, [1, 0, 1, 0, 0]);
        let source = || Passes { blocks: made.clone(), next: 0 };
        let settings = Settings {
            budget, shuffle_buffer, batch_size, drop_remainder,
            folder: folder.path().to_owned(),
            ..settings(seed, 1, keep)
        };
        let to = Cursor { passes, batches };
        let mut whole = (Dataset::new(settings.clone()), source());
        for pass in 0..passes {
            while !draw_numbers(&mut whole.0, &mut whole.1).is_empty() {}
            whole.0.start_pass(pass + 1);
        }
        for _ in 0..batches {
            draw_numbers(&mut whole.0, &mut whole.1);
        }
        prop_assert_eq!(whole.0.cursor(), to);

        let mut resumed = (Dataset::new(settings), source());
        let now = Instant::now();
        let mut calls = 0;
        while !resumed.0.seek(to, &mut resumed.1, now + std::time::Duration::from_secs(calls)).unwrap() {
            calls += 60;
        }
        prop_assert_eq!(resumed.0.cursor(), to);
        for _ in 0..5 {
            let expected = draw_numbers(&mut whole.0, &mut whole.1);
            prop_assert_eq!(draw_numbers(&mut resumed.0, &mut resumed.1), expected);
        }
    }

    #[test]
    fn the_budget_changes_nothing_but_where_rows_are(
        sizes in streams(),
        widths in [0..5_usize, 0..3_usize, 0..4_usize, 0..4_usize, 0..3_usize],
        share in prop_oneof![Just(0.0), 0.0..1.0, Just(1.0)],
        seed in proptest::option::of(any::<u64>()),
        keep in any::<bool>(),
        batch_size in 1..100_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let blocks = blocks(&sizes, widths);
        let total: usize = blocks.iter().map(|(_, block)| block.bytes()).sum();
        let settings = |budget| Settings {
            budget,
            batch_size,
            folder: folder.path().to_owned(),
            ..settings(seed, 1, keep)
        };
        let all = see(&blocks, settings(u64::MAX));
        let part = see(&blocks, settings((total as f64 * share) as u64));
        prop_assert_eq!(&part, &all);

        let of = |wanted| blocks.iter().filter(move |(stream, _)| *stream == wanted);
        let validation = of(Stream::Validation).map(|(_, block)| block);
        let validation: Vec<_> = validation.filter(|block| block.rows > 0).collect();
        prop_assert_eq!(part.validation.iter().collect::<Vec<_>>(), validation);

        let numbers = of(Stream::Training).flat_map(|(_, block)| match &block.labels[1] {
            Some(Values::I64(numbers)) => numbers.clone(),
            _ => Vec::new(),
        });
        let mut expected: Vec<_> = numbers.collect();
        expected = expected.repeat(if keep { 3 } else { 1 });
        expected.sort_unstable();
        let drawn = part.batches.iter().flat_map(|(_, parts)| match &parts[6] {
            Some(Values::I64(numbers)) => numbers.clone(),
            _ => Vec::new(),
        });
        let mut drawn: Vec<_> = drawn.collect();
        drawn.sort_unstable();
        prop_assert_eq!(drawn, expected);
    }

    /// Also while rows still arrive, and whatever has been read back.
    #[test]
    fn rows_of_a_batch_are_those_of_their_blocks(
        sizes in streams(),
        budget in 0..20_000_u64,
        seed in any::<u64>(),
        batch_size in 1..100_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let made = blocks(&sizes, [3, 1, 2, 1, 2]);
        let kept: Vec<_> = made.iter().filter(|(_, block)| block.rows > 0).collect();
        let settings = Settings {
            budget,
            batch_size,
            folder: folder.path().to_owned(),
            ..settings(Some(seed), 0, true)
        };
        let seen = see(&made, settings);
        for (drawn, parts) in &seen.batches {
            let rows = drawn.iter();
            let rows: Vec<_> = rows
                .map(|at| Row::Held(&kept[at.block as usize].1, at.row as usize))
                .collect();
            for (part, values) in PARTS.into_iter().zip(parts) {
                let expected = gather(&rows, part).unwrap().map(|(values, _)| values);
                prop_assert_eq!(values, &expected);
            }
        }
    }
}
