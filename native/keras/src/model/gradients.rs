//! Gradients of a model: of one pass, as a whole or in turn, or added up over several passes.

use flambeau_libtorch::backward;
use tch::{TchError, Tensor};

use super::Model;
use crate::context::Pass;
use crate::error::{Error, Result};
use crate::flat::{add_gradient, write_gradient};
use crate::indexed_slices::{Gradient, IndexedSlices, Needs};
use crate::replicas::{self, Alone, Replicas};
use crate::variables::{Handle, Slot};

impl Model {
    /// What [`Self::gradients`] knows the slices of, for an optimizer that needs so much of them: the
    /// variables whose rows are looked up, in the order of the trainable ones.
    pub fn indexed_slices(&self, needs: Needs) -> Vec<IndexedSlices> {
        let looked_up = self.declared.iter().enumerate();
        let looked_up = looked_up.filter(|(_, declared)| declared.looked_up);
        let learning = looked_up.filter_map(|(at, declared)| {
            let Slot::Trainable(variable) = self.variables.slot(Handle(at)) else {
                return None;
            };
            let span = self.variables.trainable.variables()[variable].span();
            let width = declared.shape[1..].iter().product::<i64>();
            let width = usize::try_from(width).unwrap_or(0);
            Some(IndexedSlices::new(variable, span, width, needs))
        });
        let mut slices: Vec<_> = learning.collect();
        slices.sort_by_key(IndexedSlices::variable);
        slices
    }

    /// Runs the backward pass of the scalar `loss`, which `pass` led to. Writes the gradients of all
    /// trainable variables, laid out as [`VariableStore::as_slice`], over `out`, and tells `slices`,
    /// those of [`Self::indexed_slices`], what they need to know. Gives for each variable whether
    /// the loss depends on it; one that it does not depend on gets zeros. The loss's graph is freed.
    ///
    /// Of a variable that has slices, `out` is what the call before with these left there, or zeros.
    pub fn gradients(
        &self,
        pass: &Pass,
        loss: &Tensor,
        out: &mut [f32],
        slices: &mut [IndexedSlices],
    ) -> Result<Vec<bool>> {
        self.gradients_over(&mut Alone, pass, loss, out, slices)
    }

    /// As [`Self::gradients`] after [`Self::forward_over`]: also of what the losses of other replicas
    /// owe to this one's rows. Each of them must call this or, for want of rows, [`Pass::skip`].
    pub fn gradients_over(
        &self,
        replicas: &mut dyn Replicas,
        pass: &Pass,
        loss: &Tensor,
        out: &mut [f32],
        slices: &mut [IndexedSlices],
    ) -> Result<Vec<bool>> {
        let store = &self.variables.trainable;
        if out.len() != store.len() {
            return Err(Error::LengthMismatch {
                what: "the slice for gradients".to_owned(),
                expected: store.len(),
                actual: out.len(),
            });
        }
        let variables = store.tensors().iter();
        let leaves: Vec<&Tensor> = variables
            .chain(pass.look_ups.iter().map(|look_up| &look_up.rows))
            .collect();
        let gradients = replicas::gradients(loss, &leaves, &pass.cuts, replicas)
            .map_err(|error| pass.explain(error))?;
        let (gradients, of_rows) = gradients.split_at(store.variables().len());
        let mut known = slices.iter_mut().peekable();
        for (index, (gradient, variable)) in gradients.iter().zip(store.variables()).enumerate() {
            let out = &mut out[variable.span()];
            match known.next_if(|slices| slices.variable() == index) {
                Some(slices) => slices.clear(out),
                None => write_gradient(gradient, out)?,
            }
        }
        let mut reached: Vec<bool> = gradients.iter().map(Tensor::defined).collect();
        self.add_rows(pass, of_rows, (out, slices), &mut reached)?;
        Ok(reached)
    }

    /// Adds the gradients of rows that `pass` looked up to `out` and `slices`; `reached` learns of which
    /// variables they are.
    fn add_rows(
        &self,
        pass: &Pass,
        of_rows: &[Tensor],
        (out, slices): (&mut [f32], &mut [IndexedSlices]),
        reached: &mut [bool],
    ) -> Result<()> {
        let variables = self.variables.trainable.variables();
        for (look_up, gradient) in pass.look_ups.iter().zip(of_rows) {
            let Slot::Trainable(index) = self.variables.slot(look_up.handle) else {
                continue;
            };
            if gradient.defined() {
                reached[index] = true;
                let out = &mut out[variables[index].span()];
                let slices = slices.iter_mut().find(|slices| slices.variable() == index);
                look_up.add(gradient, out, slices)?;
            }
        }
        Ok(())
    }

    /// As [`Self::gradients`] of a pass without exchanges, but hands each gradient, of the trainable
    /// variable of that index, to `take` as soon as it is known: those of the last layers while those of
    /// the first are still to be computed, and last of all what rows that were looked up add to theirs,
    /// which have been [cleared](IndexedSlices::clear).
    pub fn gradients_in_turn<E: From<TchError> + From<Error> + Send>(
        &self,
        pass: &Pass,
        loss: &Tensor,
        slices: &mut [IndexedSlices],
        take: &mut (dyn FnMut(usize, Gradient<'_>) -> std::result::Result<(), E> + Send),
    ) -> std::result::Result<Vec<bool>, E> {
        let variables = self.variables.trainable.tensors();
        let leaves: Vec<&Tensor> = variables
            .iter()
            .chain(pass.look_ups.iter().map(|look_up| &look_up.rows))
            .collect();
        let mut reached = vec![false; variables.len()];
        let mut of_rows: Vec<Option<Tensor>> = pass.look_ups.iter().map(|_| None).collect();
        if loss.requires_grad() && !leaves.is_empty() {
            let count = variables.len();
            let passed = backward(loss, &leaves, &mut |leaf, gradient| {
                match leaf.checked_sub(count) {
                    Some(look_up) => of_rows[look_up] = Some(gradient.shallow_clone()),
                    None => {
                        reached[leaf] = true;
                        take(leaf, Gradient::whole(gradient))?;
                    }
                }
                Ok::<(), E>(())
            });
            passed.map_err(|error| match pass.failure() {
                Some(failure) => Error::Group(failure).into(),
                None => error,
            })?;
        }
        for (look_up, gradient) in pass.look_ups.iter().zip(of_rows) {
            if let (Slot::Trainable(index), Some(gradient)) =
                (self.variables.slot(look_up.handle), gradient)
            {
                reached[index] = true;
                let slices = slices.iter_mut().find(|slices| slices.variable() == index);
                take(index, Gradient::of_rows(look_up, gradient, slices))?;
            }
        }
        Ok(reached)
    }

    /// As [`Self::gradients`] of one of several passes, whose gradients are added up in `out` and `slices`;
    /// `reached` learns which variables the loss reaches. Also gives the gradients of `leaves`, undefined
    /// where the loss does not depend on them: of the values that a stage was given.
    pub fn add_gradients(
        &self,
        pass: &Pass,
        loss: &Tensor,
        leaves: &[&Tensor],
        (out, slices): (&mut [f32], &mut [IndexedSlices]),
        reached: &mut [bool],
    ) -> Result<Vec<Tensor>> {
        let store = &self.variables.trainable;
        let all = store.tensors().iter();
        let all = all.chain(pass.look_ups.iter().map(|look_up| &look_up.rows));
        let all: Vec<&Tensor> = all.chain(leaves.iter().copied()).collect();
        let gradients = replicas::gradients(loss, &all, &[], &mut Alone);
        let mut gradients = gradients.map_err(|error| pass.explain(error))?;
        let of_leaves = gradients.split_off(gradients.len() - leaves.len());
        let (gradients, of_rows) = gradients.split_at(store.variables().len());
        for ((gradient, variable), reached) in
            gradients.iter().zip(store.variables()).zip(&mut *reached)
        {
            if gradient.defined() {
                *reached = true;
                add_gradient(gradient, &mut out[variable.span()])?;
            }
        }
        self.add_rows(pass, of_rows, (out, slices), reached)?;
        Ok(of_leaves)
    }

    /// The numbers of the rows that `pass` looked up of each of `slices`' variables, in no order, as
    /// often as it did.
    pub fn looked_up(&self, pass: &Pass, slices: &[IndexedSlices]) -> Result<Vec<Vec<usize>>> {
        let mut rows = vec![Vec::new(); slices.len()];
        for look_up in &pass.look_ups {
            let Slot::Trainable(index) = self.variables.slot(look_up.handle) else {
                continue;
            };
            if let Some(at) = slices.iter().position(|slices| slices.variable() == index) {
                rows[at].extend(look_up.numbers()?);
            }
        }
        Ok(rows)
    }
}
