//! In which order a stage works through the parts of a batch: index arithmetic.
//!
//! ```text
//! gpipe     stage 0   F0 F1 F2 F3                agree  B0 B1 B2 B3
//!           stage 1      F0 F1 F2 F3             agree  B0 B1 B2 B3
//! 1f1b      stage 0   F0 F1       B0 F2 B1 F3 B2    B3  agree
//!           stage 1      F0 B0 F1 B1 F2 B2 F3 B3        agree
//! ```

use crate::config::Schedule;

/// What a stage does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// The forward pass of a part.
    Forward(usize),
    /// Its backward pass.
    Backward(usize),
    /// What all ranks add up: losses and metrics.
    Agree,
}

/// The tasks of stage `stage` of `stages`, of a batch in `parts` parts. All stages pass the parts on in
/// the same order, forward and backward.
pub(crate) fn tasks(schedule: Schedule, stages: usize, stage: usize, parts: usize) -> Vec<Task> {
    use Task::{Agree, Backward, Forward};
    let forward = (0..parts).map(Forward);
    let backward = (0..parts).map(Backward);
    match schedule {
        Schedule::Gpipe => forward.chain([Agree]).chain(backward).collect(),
        Schedule::OneForwardOneBackward => {
            let ahead = parts.min(stages.saturating_sub(stage + 1));
            let steady = (ahead..parts).flat_map(|part| [Forward(part), Backward(part - ahead)]);
            let warm_up = (0..ahead).map(Forward);
            let rest = (parts - ahead..parts).map(Backward);
            warm_up.chain(steady).chain(rest).chain([Agree]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Runs all stages of a step as if every pass took as long, and sends waited for nobody; the most parts
    /// whose activations each stage has at a time.
    fn simulate(schedule: Schedule, stages: usize, parts: usize) -> Vec<usize> {
        let tasks: Vec<Vec<Task>> = (0..stages)
            .map(|stage| tasks(schedule, stages, stage, parts))
            .collect();
        let mut done: Vec<BTreeSet<(bool, usize)>> = vec![BTreeSet::new(); stages];
        let (mut at, mut held, mut most) = (vec![0; stages], vec![0; stages], vec![0; stages]);
        let mut moved = true;
        while moved {
            moved = false;
            for stage in 0..stages {
                let Some(task) = tasks[stage].get(at[stage]) else {
                    continue;
                };
                let ready = match *task {
                    Task::Forward(part) => stage == 0 || done[stage - 1].contains(&(true, part)),
                    Task::Backward(part) => {
                        stage + 1 == stages || done[stage + 1].contains(&(false, part))
                    }
                    Task::Agree => (0..stages).all(|other| {
                        matches!(tasks[other].get(at[other]), Some(Task::Agree) | None)
                            || tasks[other][..at[other]].contains(&Task::Agree)
                    }),
                };
                if !ready {
                    continue;
                }
                moved = true;
                at[stage] += 1;
                match *task {
                    Task::Forward(part) => {
                        assert!(done[stage].insert((true, part)));
                        held[stage] += 1;
                        most[stage] = most[stage].max(held[stage]);
                    }
                    Task::Backward(part) => {
                        assert!(done[stage].contains(&(true, part)));
                        assert!(done[stage].insert((false, part)));
                        held[stage] -= 1;
                    }
                    Task::Agree => {}
                }
            }
        }
        for stage in 0..stages {
            assert_eq!(
                at[stage],
                tasks[stage].len(),
                "stage {stage} waits for ever"
            );
            assert_eq!(done[stage].len(), 2 * parts);
        }
        most
    }

    #[test]
    fn every_part_goes_forward_and_back_and_nobody_waits_for_ever() {
        for stages in 1..6 {
            for parts in 0..9 {
                let all = simulate(Schedule::Gpipe, stages, parts);
                assert_eq!(all, vec![parts; stages]);
                let few = simulate(Schedule::OneForwardOneBackward, stages, parts);
                let expected: Vec<_> = (0..stages).map(|stage| parts.min(stages - stage)).collect();
                assert_eq!(few, expected, "{stages} stages, {parts} parts");
            }
        }
    }
}
