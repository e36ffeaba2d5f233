//! Which rank is where in a mesh, and which ranks meet: index arithmetic.
//!
//! ```text
//! rank = (replica x stages + stage) x parts + part
//! ```

use crate::config;
use crate::error::Error;

/// The extents of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Copies of the model, each with rows of its own.
    pub(crate) replicas: usize,
    /// Stages of the model.
    pub(crate) stages: usize,
    /// Ranks that share the weights of a stage.
    pub(crate) parts: usize,
}

/// A rank's place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) replica: usize,
    pub(crate) stage: usize,
    pub(crate) part: usize,
}

impl Grid {
    /// That of `ranks` ranks.
    ///
    /// # Errors
    /// [`Error::Config`] if they do not fill it.
    pub(crate) fn new(mesh: &config::Mesh, ranks: usize) -> Result<Self, Error> {
        let (stages, parts) = (mesh.pipeline, mesh.tensor);
        let of_replica = stages.saturating_mul(parts);
        if of_replica == 0 || ranks == 0 || !ranks.is_multiple_of(of_replica) {
            return Err(Error::Config(format!(
                "numWorkers is {ranks}, but a replica of the model takes {of_replica} workers \
                 (pipelineStages {stages} x tensorParallel {parts}): give a multiple of that"
            )));
        }
        Ok(Self {
            replicas: ranks / of_replica,
            stages,
            parts,
        })
    }

    pub(crate) fn place(self, rank: usize) -> Place {
        Place {
            replica: rank / self.parts / self.stages,
            stage: rank / self.parts % self.stages,
            part: rank % self.parts,
        }
    }

    pub(crate) fn rank(self, place: Place) -> usize {
        (place.replica * self.stages + place.stage) * self.parts + place.part
    }

    /// The ranks with the same variables: whose gradients are added up.
    pub(crate) fn alike(self, place: Place) -> Vec<usize> {
        let replicas = 0..self.replicas;
        let all = replicas.map(|replica| self.rank(Place { replica, ..place }));
        all.collect()
    }

    /// The ranks of a replica, its first stage first.
    pub(crate) fn replica(self, replica: usize) -> Vec<usize> {
        let size = self.stages * self.parts;
        (replica * size..(replica + 1) * size).collect()
    }

    /// The ranks that share the weights of a stage.
    pub(crate) fn parts(self, place: Place) -> Vec<usize> {
        let first = self.rank(Place { part: 0, ..place });
        (first..first + self.parts).collect()
    }

    /// The ranks on both sides of the end of stage `stage`, where `place` is on one of them.
    pub(crate) fn across(self, place: Place, stage: usize) -> Vec<usize> {
        let at = |stage| self.rank(Place { stage, ..place });
        vec![at(stage), at(stage + 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(pipeline: usize, tensor: usize, ranks: usize) -> Result<Grid, Error> {
        let mesh = config::Mesh {
            pipeline,
            tensor,
            micro_batches: 1,
            schedule: config::Schedule::Gpipe,
            stages: std::collections::BTreeMap::new(),
        };
        Grid::new(&mesh, ranks)
    }

    #[test]
    fn every_rank_has_a_place_and_meets_those_in_line_with_it() {
        let grid = grid(3, 2, 12).unwrap();
        for rank in 0..12 {
            let place = grid.place(rank);
            assert_eq!(grid.rank(place), rank);
            assert_eq!(grid.alike(place).len(), 2);
            assert!(grid.alike(place).contains(&rank));
            assert!(grid.replica(place.replica).contains(&rank));
            assert!(grid.parts(place).contains(&rank));
        }
        let place = grid.place(9);
        let (replica, stage, part) = (1, 1, 1);
        assert_eq!(
            place,
            Place {
                replica,
                stage,
                part
            }
        );
        assert_eq!(grid.alike(place), [3, 9]);
        assert_eq!(grid.replica(1), [6, 7, 8, 9, 10, 11]);
        assert_eq!(grid.parts(place), [8, 9]);
        assert_eq!(grid.across(place, 0), [7, 9]);
        assert_eq!(grid.across(place, 1), [9, 11]);
    }

    #[test]
    fn workers_that_do_not_fill_it_are_refused() {
        let message = grid(2, 2, 6).unwrap_err().to_string();
        for part in ["numWorkers is 6", "takes 4 workers", "pipelineStages 2"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
