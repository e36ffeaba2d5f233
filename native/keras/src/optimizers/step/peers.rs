//! What an optimizer learns of gradients that it does not have: from others that update the same
//! variables, and from those that have other parts of them.

use super::super::Optimizer;
use super::Given;
use crate::error::{Error, Result};
use crate::indexed_slices::IndexedSlices;
use crate::replicas::Replicas;

/// Who knows more of the gradients than this optimizer: all of them take the same step.
#[derive(Debug, Default)]
pub struct Peers<'a> {
    /// Those who update other elements of what is here.
    pub replicas: Option<&'a mut dyn Replicas>,
    /// The ranks of a tensor group, this one among them, where variables are split.
    pub group: Option<&'a mut dyn Replicas>,
    /// The stages of a model, this one among them, where the optimizer has the variables of one only: a
    /// step that reaches none of these is one, too.
    pub stages: Option<&'a mut dyn Replicas>,
}

impl Peers<'_> {
    pub(super) fn sum(&mut self, values: &mut [f64]) -> Result<()> {
        match &mut self.replicas {
            Some(replicas) => replicas.sum(values).map_err(Error::Replicas),
            None => Ok(()),
        }
    }

    pub(super) fn sum_in_group(&mut self, values: &mut [f64]) -> Result<()> {
        match &mut self.group {
            Some(group) => group.sum(values).map_err(Error::Group),
            None => Ok(()),
        }
    }

    pub(super) fn sum_over_stages(&mut self, values: &mut [f64]) -> Result<()> {
        match &mut self.stages {
            Some(stages) => stages.sum(values).map_err(Error::Replicas),
            None => Ok(()),
        }
    }

    /// Adds to the squares of this stage's gradients those of all others, as of one variable.
    pub(super) fn add_other_stages(&mut self, squares: &mut Vec<f64>) -> Result<()> {
        let own: f64 = squares.iter().sum();
        let mut all = [own];
        self.sum_over_stages(&mut all)?;
        if self.stages.is_some() {
            squares.push(all[0] - own);
        }
        Ok(())
    }
}

impl Optimizer {
    /// As [`Self::apply_over`], with gradients `factor` times those given, on a rank of a tensor group or
    /// for a stage of a model. Of variables that are split the squares of
    /// all parts are in a norm; others, whose gradients are the same on all ranks, are so once.
    ///
    /// # Errors
    /// Those of [`Self::apply_over`], and [`Error::Group`].
    pub fn apply_among(
        &mut self,
        peers: Peers<'_>,
        params: &mut [f32],
        grads: &mut [f32],
        slices: &mut [IndexedSlices],
        reached: &[bool],
        factor: f32,
    ) -> Result<bool> {
        let given = Given {
            params,
            grads,
            slices,
            reached,
            factor,
        };
        self.step(peers, given)
    }

    /// Whoever has parts of variables must know those who have the others, where they are looked at
    /// together.
    pub(super) fn check_group(&self, peers: &Peers<'_>) -> Result<()> {
        let looks = self.clip.needs_norms() || self.loss_scale.is_some();
        let mut variables = self.variables.iter();
        match variables.find(|variable| variable.held.is_some()) {
            Some(part) if looks && peers.group.is_none() => Err(Error::InvalidConfig {
                place: format!("optimizer {}", self.class.name),
                reason: format!(
                    "its norms and LossScaleOptimizer need the tensor group, as a part of {} is here",
                    part.path
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Brings the sums of squares of gradients, by variable, from what is here of variables to all of
    /// them.
    pub(super) fn complete_squares(
        &self,
        squares: &mut [f64],
        peers: &mut Peers<'_>,
    ) -> Result<()> {
        let mut held = self.variables.iter().filter_map(|one| one.held.as_ref());
        let Some(held) = held.next() else {
            return Ok(());
        };
        // What all ranks have is counted by the one that has the beginnings of what is split.
        if held.range.start > 0 {
            let variables = self.variables.iter().zip(&mut *squares);
            let others = variables.filter(|(one, _)| one.held.is_none());
            others.for_each(|(_, square)| *square = 0.0);
        }
        peers.sum_in_group(squares)
    }
}
