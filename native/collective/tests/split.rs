//! Groups of ranks that were split off a communicator: their sums, and how they fail together.

mod ranks;

use std::time::{Duration, Instant};

use flambeau_collective::{Communicator, Error};
use ranks::{DEADLINE, TRANSPORTS, job, over, run_ranks};

/// Rows and columns of a square of four ranks.
fn square(communicator: &Communicator) -> (Communicator, Communicator) {
    let rank = communicator.rank();
    let row = [rank / 2 * 2, rank / 2 * 2 + 1];
    let column = [rank % 2, rank % 2 + 2];
    let row = communicator.split(&format!("row {}", row[0]), &row);
    let row = row.expect("a row meets");
    let column = communicator.split(&format!("column {}", column[0]), &column);
    (row, column.expect("a column meets"))
}

#[test]
fn groups_sum_among_themselves_and_all_still_among_all() {
    for transports in TRANSPORTS {
        let sums = run_ranks(&over(transports, job(4)), DEADLINE, |communicator, _| {
            let mut all = communicator.expect("all meet");
            let (mut row, mut column) = square(&all);
            let own = 10.0_f32.powi(i32::try_from(all.rank()).expect("small"));
            let mut sums = Vec::new();
            for group in [&mut row, &mut all, &mut column] {
                let mut data = vec![own; 3000];
                group.allreduce(&mut data).expect("a sum");
                assert!(data.iter().all(|value| *value == data[0]));
                sums.push(data[0]);
            }
            let told = row.start_broadcast_bytes(1, vec![7; all.rank()]);
            let mut data = vec![own; 10];
            column.allreduce(&mut data).expect("a sum beside it");
            let told = told.expect("a thread").wait().expect("a broadcast");
            for group in [column, row, all] {
                group.close().expect("a good end");
            }
            (sums, told.len())
        });
        let expected = [
            (vec![11.0, 1111.0, 101.0], 1),
            (vec![11.0, 1111.0, 1010.0], 1),
            (vec![1100.0, 1111.0, 101.0], 3),
            (vec![1100.0, 1111.0, 1010.0], 3),
        ];
        assert_eq!(sums, expected);
    }
}

/// Rank 3 ends while 0 waits for 1, which waits for 3, and 2 waits for all.
#[test]
fn whoever_waits_in_whatever_group_hears_of_a_rank_that_ends() {
    for transports in TRANSPORTS {
        let started = Instant::now();
        let errors = run_ranks(&over(transports, job(4)), DEADLINE, |communicator, _| {
            let mut all = communicator.expect("all meet");
            let (mut row, mut column) = square(&all);
            let mut data = vec![0.0; 100];
            match all.rank() {
                0 => row.allreduce(&mut data).err(),
                1 => column.allreduce(&mut data).err(),
                2 => all.allreduce(&mut data).err(),
                _ => {
                    std::thread::sleep(Duration::from_millis(200));
                    None
                }
            }
        });
        // Ranks go by their numbers among all, whoever tells of them.
        for error in &errors[..3] {
            let named = match error {
                Some(Error::PeerAborted { rank, .. } | Error::PeerLost { rank, .. }) => Some(*rank),
                _ => None,
            };
            assert_eq!(named, Some(3), "{error:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(15));
    }
}

#[test]
fn a_rank_that_gives_up_wakes_its_own_wait_in_a_group() {
    let errors = run_ranks(&job(4), DEADLINE, |communicator, abort| {
        let all = communicator.expect("all meet");
        let (mut row, _column) = square(&all);
        if all.rank() == 0 {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                abort.abort(flambeau_collective::AbortReason {
                    deterministic: true,
                    message: "enough".to_owned(),
                });
            });
        }
        if all.rank() % 2 == 1 {
            // Its row waits for it.
            std::thread::sleep(Duration::from_secs(2));
            return None;
        }
        row.allreduce(&mut [0.0; 4]).err()
    });
    assert!(
        matches!(&errors[0], Some(Error::Aborted { message, .. }) if message == "enough"),
        "{:?}",
        errors[0]
    );
    // Another row hears of it by way of all.
    let told = matches!(
        &errors[2],
        Some(Error::PeerAborted { rank: 0, message, .. }) if message == "enough"
    );
    assert!(told, "{:?}", errors[2]);
}

#[test]
fn a_group_without_this_rank_is_refused() {
    let errors = run_ranks(&job(2), DEADLINE, |communicator, _| {
        let all = communicator.expect("all meet");
        let refused = all.split("others", &[1 - all.rank()]).err();
        all.close().expect("a good end");
        refused
    });
    for error in errors {
        assert!(matches!(error, Some(Error::Config { .. })), "{error:?}");
    }
}
