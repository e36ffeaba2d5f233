//! What the collective operations compute.

mod ranks;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flambeau_collective::{AbortHandle, AbortReason, Communicator, Error, Wire};
use proptest::prelude::*;
use ranks::{DEADLINE, TRANSPORTS, job, over, run_all, run_ranks, secret, with_rank};

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
        world_size in 1usize..=8,
        lengths in prop::collection::vec(prop_oneof![0usize..8, 1usize..50_000], 1..9),
        transports in prop::collection::vec(prop::sample::select(TRANSPORTS.to_vec()), 8),
    ) {
        let given = lengths.clone();
        // Ranks with TCP only are like ranks of other hosts.
        let job = job(world_size);
        let ranks = (0..world_size).map(|rank| over(transports[rank], with_rank(&job, rank)));
        let sums = run_all(ranks.collect(), DEADLINE, move |config| {
            let communicator = Communicator::connect(&config, &secret(), &AbortHandle::new());
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
    let run = |world_size, length, wire, transports| {
        let job = over(transports, job(world_size));
        run_ranks(&job, DEADLINE, move |communicator, _| {
            let mut communicator = communicator.unwrap();
            let mut data = fractions(communicator.rank(), length);
            communicator.allreduce_as(&mut data, wire).unwrap();
            communicator.close().unwrap();
            data.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        })
    };
    for (world_size, length) in [(4, 100_001), (8, 30), (2, 7_001), (17, 20_000), (18, 900)] {
        for wire in [Wire::Float32, Wire::Bfloat16, Wire::Float16] {
            let first = run(world_size, length, wire, TRANSPORTS[0]);
            assert!(
                first.iter().all(|bits| *bits == first[0]),
                "{world_size} {wire:?}"
            );
            let second = run(world_size, length, wire, TRANSPORTS[1]);
            assert!(first == second, "{world_size} {wire:?}");
        }
    }
}

/// Numbers whose sums are rounded.
fn fractions(rank: usize, length: usize) -> Vec<f32> {
    let mut bits = u32::try_from(rank).expect("a small rank") * 77_777 + 1;
    let number = |_| {
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f32::from_bits(bits >> 9 | 0x3f00_0000) - 0.7) / (1 + bits % 13) as f32
    };
    (0..length).map(number).collect()
}

#[test]
fn sixteen_bits_on_the_way_cost_the_precision_of_sixteen_bits() {
    for (wire, precision) in [(Wire::Bfloat16, 1.0 / 128.0), (Wire::Float16, 1.0 / 1024.0)] {
        let sums = run_ranks(&job(3), DEADLINE, move |communicator, _| {
            let mut communicator = communicator.unwrap();
            let mut data: Vec<f32> = (0..50_000)
                .map(|index| 1.0 + index as f32 / 25_000.0)
                .collect();
            communicator.allreduce_as(&mut data, wire).unwrap();
            communicator.close().unwrap();
            data
        });
        for (index, sum) in sums[1].iter().enumerate() {
            let exact = 3.0 * (1.0 + index as f32 / 25_000.0);
            assert!(
                (sum - exact).abs() <= exact * precision,
                "{wire:?} {sum} {exact}"
            );
        }
    }
}

#[test]
fn started_operations_run_in_order_and_give_their_data_back() {
    for transports in TRANSPORTS {
        run_ranks(&over(transports, job(3)), DEADLINE, |communicator, _| {
            let mut communicator = communicator.unwrap();
            let rank = communicator.rank();
            let lengths = [5, 100_000, 0, 3_000, 70_001];
            let tickets = lengths.map(|length| {
                let data = contribution(rank, length);
                communicator.start_allreduce(data, Wire::Float32).unwrap()
            });
            // Comes after them, though it is called before they are waited for.
            let mut last = contribution(rank, 10);
            communicator.allreduce(&mut last).unwrap();
            assert_eq!(last, serial_sum(3, 10));
            for (length, ticket) in lengths.into_iter().zip(tickets) {
                assert_eq!(ticket.wait().unwrap(), serial_sum(3, length));
            }
            // Nobody needs to wait for a ticket for the ranks to end well.
            drop(
                communicator
                    .start_allreduce(vec![1.0; 100_000], Wire::Float32)
                    .unwrap(),
            );
            communicator.close().unwrap();
        });
    }
}

#[test]
fn a_started_operation_fails_with_the_job() {
    let errors = run_ranks(&job(3), DEADLINE, |communicator, abort| {
        let mut communicator = communicator.unwrap();
        // The first to be through may have given up before the others are.
        if let Err(error) = communicator.barrier() {
            return error.to_string();
        }
        if communicator.rank() == 1 {
            abort.abort(AbortReason {
                deterministic: true,
                message: "no rows".to_owned(),
            });
        }
        let ticket = communicator.start_allreduce(vec![0.0; 1_000_000], Wire::Float32);
        ticket.unwrap().wait().unwrap_err().to_string()
    });
    assert!(
        errors.iter().all(|error| error.contains("no rows")),
        "{errors:?}"
    );
}

#[test]
fn reduce_scatter_gives_each_rank_its_part_of_the_sum() {
    for (world_size, length) in [(1, 9), (3, 100_001), (5, 3), (18, 30_000)] {
        let parts = run_ranks(&job(world_size), DEADLINE, move |communicator, _| {
            let mut communicator = communicator.unwrap();
            let rank = communicator.rank();
            let mut data = contribution(rank, length);
            communicator.reduce_scatter(&mut data).unwrap();
            let part = communicator.parts(length).swap_remove(rank);
            communicator.close().unwrap();
            data[part].to_vec()
        });
        assert!(
            parts
                .iter()
                .all(|part| part.len() - length / world_size <= 1)
        );
        assert_eq!(parts.concat(), serial_sum(world_size, length));
    }
}

/// Over the network, in one host's memory by rings and windows, and among ranks of which some share a host:
/// what each rank keeps of a sum and gives to the others has the bits of an allreduce.
#[test]
fn parts_that_are_summed_and_gathered_are_an_allreduce() {
    let [shared, tcp] = TRANSPORTS;
    for transports in [
        vec![tcp; 3],
        vec![shared; 4],
        vec![shared, shared, tcp, tcp, tcp],
        vec![tcp; 18],
    ] {
        let job = job(transports.len());
        let ranks = transports.iter().enumerate();
        let ranks = ranks.map(|(rank, &transport)| over(transport, with_rank(&job, rank)));
        run_all(ranks.collect(), DEADLINE, |config| {
            let communicator = Communicator::connect(&config, &secret(), &AbortHandle::new());
            let mut communicator = communicator.unwrap();
            let rank = communicator.rank();
            for length in [2, 5_000, 60_001, 400_003] {
                let rounded = |index: usize| element(rank, index) / 3.0;
                let mut whole: Vec<f32> = (0..length).map(rounded).collect();
                let mut in_parts = whole.clone();
                let mut vector = communicator.allocate(length).unwrap();
                vector.as_mut_slice().copy_from_slice(&whole);
                let pieces = communicator.parts(length);

                communicator.allreduce(&mut whole).unwrap();
                communicator.reduce_scatter(&mut in_parts).unwrap();
                communicator.gather(&mut in_parts, &pieces).unwrap();
                assert!(in_parts == whole, "{length}");

                let mut again = communicator.allocate(length).unwrap();
                again.as_mut_slice().copy_from_slice(vector.as_slice());
                communicator.allreduce(again.as_mut_slice()).unwrap();
                let part = vector.cut(&[length]).swap_remove(0);
                let ticket = communicator.start_reduce_scatter(part).unwrap();
                let mut part = ticket.wait().unwrap();
                let own = pieces[rank].clone();
                let is_same = again.as_slice()[own.clone()] == part.as_mut()[own];
                assert!(is_same, "{length}");
            }
            let pieces = vec![0..2; communicator.world_size()];
            let outside = communicator.gather(&mut [0.0], &pieces);
            assert!(matches!(outside, Err(Error::Config { .. })));
            communicator.close().unwrap();
        });
    }
}

#[test]
fn nobody_passes_a_barrier_before_all_have_come() {
    for world_size in [3, 17] {
        let came = Arc::new(AtomicUsize::new(0));
        run_ranks(&job(world_size), DEADLINE, move |communicator, _| {
            let mut communicator = communicator.unwrap();
            for round in 1..4 {
                came.fetch_add(1, Ordering::SeqCst);
                communicator.barrier().unwrap();
                assert!(came.load(Ordering::SeqCst) >= round * world_size);
                communicator.barrier().unwrap();
            }
            communicator.close().unwrap();
        });
    }
}

#[test]
fn any_rank_may_be_the_root_of_a_broadcast() {
    run_ranks(&job(5), DEADLINE, |communicator, _| {
        let mut communicator = communicator.unwrap();
        for (root, length) in [(3, 200_003), (4, 10), (0, 1)] {
            let mut data = contribution(communicator.rank(), length);
            communicator.broadcast(root, &mut data).unwrap();
            assert_eq!(data, contribution(root, length));
            let own = vec![u8::try_from(communicator.rank()).unwrap(); length];
            let bytes = communicator.broadcast_bytes(root, own).unwrap();
            assert_eq!(bytes, vec![u8::try_from(root).unwrap(); length]);
        }
        assert!(matches!(
            communicator.broadcast(5, &mut []),
            Err(Error::Config { .. })
        ));
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
    alone.broadcast(0, &mut data).unwrap();
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
