//! Vectors that all ranks have mapped: the sums of all others, without a copy.

mod ranks;

use flambeau_collective::{Communicator, Vector, Wire};
use ranks::{DEADLINE, TRANSPORTS, job, over, run_ranks};

/// Numbers whose sum depends on the order of additions.
fn fraction(rank: usize, index: usize) -> f32 {
    ((index * 31 + rank * 17) % 1009) as f32 / 7.0 + 1e-3 * rank as f32
}

fn fill(vector: &mut Vector, rank: usize) {
    for (index, value) in vector.as_mut_slice().iter_mut().enumerate() {
        *value = fraction(rank, index);
    }
}

/// The sums of a vector that lies in no window.
fn plain_sums(ranks: &mut Communicator, length: usize) -> Vec<f32> {
    let mut data: Vec<f32> = (0..length)
        .map(|index| fraction(ranks.rank(), index))
        .collect();
    ranks.allreduce(&mut data).expect("a sum");
    data
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn sums_have_the_bits_of_those_that_travel() {
    for transports in TRANSPORTS {
        for world_size in [1, 2, 3, 5] {
            run_ranks(&over(transports, job(world_size)), DEADLINE, |ranks, _| {
                let mut ranks = ranks.unwrap();
                let rank = ranks.rank();
                for length in [0, 3, 32_768, 40_000, 300_001] {
                    let expected = plain_sums(&mut ranks, length);
                    let mut vector = ranks.allocate(length).unwrap();
                    assert!(vector.as_slice().iter().all(|value| *value == 0.0));
                    for _ in 0..3 {
                        fill(&mut vector, rank);
                        ranks.allreduce(vector.as_mut_slice()).unwrap();
                        assert_eq!(bits(vector.as_slice()), bits(&expected));
                    }
                }
                ranks.close().unwrap();
            });
        }
    }
}

#[test]
fn parts_are_summed_while_others_are_written() {
    run_ranks(&job(3), DEADLINE, |ranks, _| {
        let mut ranks = ranks.unwrap();
        let (length, rank) = (200_000, ranks.rank());
        let cuts = [40_000, 100_003];
        let mut vector = ranks.allocate(length).unwrap();
        for _ in 0..5 {
            fill(&mut vector, rank);
            let before = vector.as_slice().to_vec();
            let parts = vector.cut(&cuts);
            let tickets: Vec<_> = parts
                .into_iter()
                .rev()
                .map(|part| ranks.start_allreduce(part, Wire::Float32).unwrap())
                .collect();
            let parts = tickets.into_iter().map(|ticket| ticket.wait().unwrap());
            vector = Vector::join(parts.collect()).unwrap();
            for (start, end) in [(0, cuts[0]), (cuts[0], cuts[1]), (cuts[1], length)] {
                let mut part = before[start..end].to_vec();
                ranks.allreduce(&mut part).unwrap();
                assert_eq!(bits(&vector.as_slice()[start..end]), bits(&part));
            }
        }
        ranks.close().unwrap();
    });
}

/// Where a rank's numbers lie is its own affair.
#[test]
fn numbers_that_lie_elsewhere_on_some_ranks_are_summed_all_the_same() {
    run_ranks(&job(3), DEADLINE, |ranks, _| {
        let mut ranks = ranks.unwrap();
        let (length, rank) = (50_000, ranks.rank());
        let expected = plain_sums(&mut ranks, length);
        let mut first = ranks.allocate(length).unwrap();
        let mut second = ranks.allocate(length + 100).unwrap();
        // One is in no window, two are in different ones.
        let mut own = Vector::zeros(length).unwrap();
        for turn in 0..3 {
            let data = match (rank + turn) % 3 {
                0 => &mut own,
                1 => &mut first,
                _ => &mut second,
            };
            fill(data, rank);
            let data = &mut data.as_mut_slice()[..length];
            ranks.allreduce(data).unwrap();
            assert_eq!(bits(data), bits(&expected));
        }
        // Elsewhere in the window on each rank.
        let mut large = ranks.allocate(2 * length).unwrap();
        let start = 1000 * rank;
        let data = &mut large.as_mut_slice()[start..start + length];
        for (index, value) in data.iter_mut().enumerate() {
            *value = fraction(rank, index);
        }
        ranks.allreduce(data).unwrap();
        assert_eq!(bits(data), bits(&expected));
        let rest = large.as_slice();
        assert!(rest[..start].iter().all(|value| *value == 0.0));
        assert!(rest[start + length..].iter().all(|value| *value == 0.0));
        ranks.close().unwrap();
    });
}

#[test]
fn a_rank_that_drops_its_vector_takes_it_from_nobody() {
    run_ranks(&job(2), DEADLINE, |ranks, _| {
        let mut ranks = ranks.unwrap();
        let (length, rank) = (40_000, ranks.rank());
        let expected = plain_sums(&mut ranks, length);
        let mut vector = Some(ranks.allocate(length).unwrap());
        if rank == 1 {
            vector = None;
        }
        let mut other = Vector::zeros(length).unwrap();
        let data = vector.as_mut().unwrap_or(&mut other);
        fill(data, rank);
        ranks.allreduce(data.as_mut_slice()).unwrap();
        assert_eq!(bits(data.as_slice()), bits(&expected));
        ranks.close().unwrap();
    });
}
