//! What the collective operations compute.

mod ranks;

use flambeau_collective::{AbortHandle, AbortReason, Communicator, Error};
use proptest::prelude::*;
use ranks::{DEADLINE, job, run_ranks, secret};

/// Integers in floats: their sum is exact in any order.
fn element(rank: usize, index: usize) -> f32 {
    ((index * 7 + rank * 13) % 101) as f32
}

fn contribution(rank: usize, length: usize) -> Vec<f32> {
    (0..length).map(|index| element(rank, index)).collect()
}

fn serial_sum(world_size: usize, length: usize) -> Vec<f32> {
    let sum = |index| (0..world_size).map(|rank| element(rank, index)).sum();
    (0..length).map(sum).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn allreduce_equals_the_serial_sum(
        world_size in 1usize..=5,
        lengths in prop::collection::vec(prop_oneof![0usize..8, 1usize..5_000], 1..9),
    ) {
        let given = lengths.clone();
        let sums = run_ranks(&job(world_size), DEADLINE, move |communicator, _| {
            let mut communicator = communicator.unwrap();
            let mut sums = Vec::new();
            for length in &given {
                let mut data = contribution(communicator.rank(), *length);
                communicator.allreduce(&mut data).unwrap();
                let mut double: Vec<f64> =
                    contribution(communicator.rank(), *length).into_iter().map(f64::from).collect();
                communicator.allreduce_f64(&mut double).unwrap();
                assert!(double.iter().zip(&data).all(|(a, b)| *a == f64::from(*b)));
                sums.push(data);
            }
            communicator.close().unwrap();
            sums
        });
        for of_rank in sums {
            for (length, sum) in lengths.iter().zip(of_rank) {
                prop_assert_eq!(sum, serial_sum(world_size, *length));
            }
        }
    }
}

#[test]
fn a_vector_of_many_segments_is_summed() {
    const LENGTH: usize = 3_000_001;
    let sums = run_ranks(&job(3), DEADLINE, |communicator, _| {
        let mut communicator = communicator.unwrap();
        let mut data = contribution(communicator.rank(), LENGTH);
        communicator.allreduce(&mut data).unwrap();
        communicator.close().unwrap();
        data
    });
    let expected = serial_sum(3, LENGTH);
    assert!(sums.iter().all(|sum| *sum == expected));
}

#[test]
fn rounding_is_the_same_on_every_rank_and_in_every_run() {
    let run = || {
        run_ranks(&job(4), DEADLINE, |communicator, _| {
            let mut communicator = communicator.unwrap();
            let mut bits = u32::try_from(communicator.rank()).unwrap() * 77_777 + 1;
            let mut data: Vec<f32> = (0..10_001)
                .map(|_| {
                    bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    f32::from_bits(bits >> 9 | 0x3f00_0000) - 0.7
                })
                .collect();
            communicator.allreduce(&mut data).unwrap();
            communicator.close().unwrap();
            data.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        })
    };
    let (first, second) = (run(), run());
    assert!(first.iter().all(|bits| *bits == first[0]));
    assert_eq!(first, second);
}

#[test]
fn broadcast_gives_every_rank_the_data_of_rank_0() {
    run_ranks(&job(4), DEADLINE, |communicator, _| {
        let mut communicator = communicator.unwrap();
        let expected = contribution(0, 200_003);
        let mut data = contribution(communicator.rank(), 200_003);
        communicator.broadcast(&mut data).unwrap();
        assert_eq!(data, expected);
        for length in [0, 1, 1_000_000] {
            let mine = if communicator.rank() == 0 {
                vec![5; length]
            } else {
                vec![6; 3]
            };
            let bytes = communicator.broadcast_bytes(mine).unwrap();
            assert_eq!(bytes, vec![5; length]);
        }
        communicator.close().unwrap();
    });
}

#[test]
fn allgather_gives_every_rank_the_bytes_of_each() {
    let block = |rank: usize| vec![u8::try_from(rank).unwrap(); [0, 700_000, 5, 300_000][rank]];
    run_ranks(&job(4), DEADLINE, move |communicator, _| {
        let mut communicator = communicator.unwrap();
        let blocks = communicator.allgather(&block(communicator.rank())).unwrap();
        assert_eq!(blocks, (0..4).map(block).collect::<Vec<_>>());
        communicator.close().unwrap();
    });
}

#[test]
fn a_world_of_one_needs_no_network() {
    let config = flambeau_collective::Config {
        bind_host: "no such host".to_owned(),
        port: 0,
        ..job(1)
    };
    let abort = AbortHandle::new();
    let mut alone = Communicator::connect(&config, &secret(), &abort).unwrap();
    let mut data = [1.5, 2.5];
    alone.allreduce(&mut data).unwrap();
    alone.broadcast(&mut data).unwrap();
    assert_eq!(data, [1.5, 2.5]);
    assert_eq!(alone.allgather(&[1, 2]).unwrap(), [[1, 2]]);
    abort.abort(AbortReason {
        deterministic: true,
        message: "enough".to_owned(),
    });
    assert!(matches!(
        alone.allreduce(&mut data),
        Err(Error::Aborted {
            deterministic: true,
            ..
        })
    ));
    assert!(matches!(alone.close(), Err(Error::Aborted { .. })));
}

#[test]
fn different_calls_are_a_protocol_error_that_names_both() {
    let errors = run_ranks(&job(2), DEADLINE, |communicator, _| {
        let mut communicator = communicator.unwrap();
        let length = 10 + 2 * communicator.rank();
        communicator.allreduce(&mut vec![0.0; length]).unwrap_err()
    });
    for error in errors {
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("allreduce 1 of 40 bytes"), "{text}");
        assert!(text.contains("allreduce 1 of 48 bytes"), "{text}");
    }
}
