//! Sums over the rows of all replicas, for layers that look at the whole batch in training.
//!
//! libtorch's graph cannot lead to another replica, so a pass is cut where replicas exchange: layers
//! go on from the joined sum as a new leaf, and [`Model::gradients_over`] carries gradients across
//! the cuts, from the last to the first. What depends on a joined sum depends on every replica's own
//! sum, so the gradients of the leaves are summed over the replicas too.
//!
//! Such a pass is also cut behind every layer. Else the way back from each sum would lead through
//! all layers before it; so it ends at the layer's inputs, and every layer is passed once.
//!
//! [`Model::gradients_over`]: crate::Model::gradients_over

use std::error::Error as StdError;
use std::fmt::Debug;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};

/// Why replicas could not exchange.
pub type Failure = Box<dyn StdError + Send + Sync>;

/// All replicas of a training pass, this one among them. Each of them runs the same model, and so
/// asks for the same sums in the same order.
pub trait Replicas: Debug {
    /// Replaces `values` by their sums over all replicas.
    ///
    /// # Errors
    /// Another replica is lost.
    fn sum(&mut self, values: &mut [f64]) -> Result<(), Failure>;
}

/// The replicas of a pass over rows that do not count, for a replica that has none left: it takes
/// part in every sum with zeros.
#[derive(Debug)]
pub struct WithoutRows<'a>(pub &'a mut dyn Replicas);

impl Replicas for WithoutRows<'_> {
    fn sum(&mut self, values: &mut [f64]) -> Result<(), Failure> {
        values.fill(0.0);
        self.0.sum(values)
    }
}

/// A replica that has the whole batch.
#[derive(Debug)]
pub(crate) struct Alone;

impl Replicas for Alone {
    fn sum(&mut self, _values: &mut [f64]) -> Result<(), Failure> {
        Ok(())
    }
}

/// Where the graph of a pass is cut.
#[derive(Debug)]
pub(crate) struct Cut {
    /// Ends of a graph.
    own: Vec<Tensor>,
    /// What takes their places: leaves of the graph that goes on.
    leaves: Vec<Tensor>,
    /// Whether the leaves are sums over all replicas of the own ones, which are float64.
    joined: bool,
}

impl Cut {
    /// Cuts the graph of tensors that have one.
    pub(crate) fn new(own: Vec<Tensor>) -> Result<Self> {
        let leaf = |tensor: &Tensor| Ok(tensor.f_detach()?.set_requires_grad(true));
        Ok(Self {
            leaves: own.iter().map(leaf).collect::<Result<_>>()?,
            own,
            joined: false,
        })
    }

    /// Takes part in the exchange of the backward pass for a replica without rows; the cuts of a
    /// pass are skipped from the last to the first.
    pub(crate) fn skip(&self, replicas: &mut dyn Replicas) -> Result<()> {
        if self.joined {
            self.carry(&[Tensor::new()], replicas)?;
        }
        Ok(())
    }

    /// What takes the places of the ends.
    pub(crate) fn leaves(&self) -> &[Tensor] {
        &self.leaves
    }

    /// A scalar whose gradients are those that the ends hand on, given what this replica has of the
    /// leaves' gradients; none if they hand on nothing.
    fn carry(&self, gradients: &[Tensor], replicas: &mut dyn Replicas) -> Result<Option<Tensor>> {
        let mut carried: Option<Tensor> = None;
        for ((own, leaf), gradient) in self.own.iter().zip(&self.leaves).zip(gradients) {
            let gradient = gradient.defined().then(|| gradient.shallow_clone());
            let gradient = if self.joined {
                all_gradients(leaf, gradient, replicas)?
            } else {
                gradient
            };
            let Some(gradient) = gradient else {
                continue;
            };
            let product = own.f_mul(&gradient)?.f_sum(own.kind())?;
            let product = product.f_to_kind(Kind::Double)?;
            carried = Some(match carried {
                Some(sum) => sum.f_add(&product)?,
                None => product,
            });
        }
        Ok(carried)
    }
}

/// The gradient of a leaf over all replicas; none if the loss of none depends on it.
fn all_gradients(
    leaf: &Tensor,
    own: Option<Tensor>,
    replicas: &mut dyn Replicas,
) -> Result<Option<Tensor>> {
    let depends = if own.is_some() { 1.0 } else { 0.0 };
    let depends = Tensor::f_from_slice(&[depends])?.f_to_device(leaf.device())?;
    let own = match own {
        Some(own) => own,
        None => leaf.f_detach()?.f_zeros_like()?,
    };
    let all = over(
        &Tensor::f_cat(&[own.f_flatten(0, -1)?, depends], 0)?,
        replicas,
    )?;
    let count = all.size()[0] - 1;
    if all.f_double_value(&[count])? == 0.0 {
        return Ok(None);
    }
    let gradient = all.f_narrow(0, 0, count)?;
    Ok(Some(gradient.f_view(leaf.size().as_slice())?))
}

/// The gradients of a scalar `loss` for `variables`, undefined where it does not depend on one,
/// across the cuts of a pass.
pub(crate) fn gradients(
    loss: &Tensor,
    variables: &[&Tensor],
    cuts: &[Cut],
    replicas: &mut dyn Replicas,
) -> Result<Vec<Tensor>> {
    let leaves = cuts.iter().flat_map(Cut::leaves);
    let leaves: Vec<&Tensor> = variables.iter().copied().chain(leaves).collect();
    let mut gradients: Vec<Tensor> = leaves.iter().map(|_| Tensor::new()).collect();
    add_gradients(loss, &leaves, &mut gradients, !cuts.is_empty())?;
    // The leaves of a cut have their whole gradients once all later cuts are carried over.
    let mut end = leaves.len();
    for cut in cuts.iter().rev() {
        let start = end - cut.leaves.len();
        if let Some(carried) = cut.carry(&gradients[start..end], replicas)? {
            add_gradients(&carried, &leaves[..start], &mut gradients[..start], true)?;
        }
        end = start;
    }
    gradients.truncate(variables.len());
    Ok(gradients)
}

fn add_gradients(
    scalar: &Tensor,
    leaves: &[&Tensor],
    gradients: &mut [Tensor],
    keep_graph: bool,
) -> Result<()> {
    if !scalar.requires_grad() || leaves.is_empty() {
        return Ok(());
    }
    let found = Tensor::f_run_backward(&[scalar], leaves, keep_graph, false)?;
    for (gradient, found) in gradients.iter_mut().zip(found) {
        if !gradient.defined() {
            *gradient = found;
        } else if found.defined() {
            *gradient = gradient.f_add(&found)?;
        }
    }
    Ok(())
}

/// Joins what all replicas' rows add. Only a sum that depends on variables cuts the graph.
pub(crate) fn joined(own: &Tensor, replicas: &mut dyn Replicas) -> Result<(Tensor, Option<Cut>)> {
    let joined = over(&own.f_detach()?, replicas)?;
    if !own.requires_grad() {
        return Ok((joined, None));
    }
    let joined = joined.set_requires_grad(true);
    let cut = Cut {
        own: vec![own.shallow_clone()],
        leaves: vec![joined.shallow_clone()],
        joined: true,
    };
    Ok((joined, Some(cut)))
}

/// The sum of a float64 tensor over all replicas.
fn over(own: &Tensor, replicas: &mut dyn Replicas) -> Result<Tensor> {
    let mut values: Vec<f64> = Vec::try_from(own.f_flatten(0, -1)?)?;
    replicas.sum(&mut values).map_err(Error::Replicas)?;
    Ok(Tensor::f_from_slice(&values)?
        .f_view(own.size().as_slice())?
        .f_to_device(own.device())?)
}

#[cfg(test)]
mod tests;
