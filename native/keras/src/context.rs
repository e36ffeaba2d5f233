//! What a layer sees while it runs: its variables, the mode, randomness, and where it leaves new
//! states and losses.

use std::sync::Arc;

use tch::{Kind, Tensor};

use crate::arguments::Tree;
use crate::dtype::{DType, Policy};
use crate::error::Result;
use crate::indexed_slices::LookUp;
use crate::replicas::{Cut, Replicas, joined};
use crate::rows::{Rows, fetch};
use crate::value::Value;
use crate::variables::{Handle, Slot, Variables};

/// The crate's random number generator: seeded, reproducible on every machine.
pub type Rng = rand_xoshiro::Xoshiro256PlusPlus;

/// One run of a model, from outside: mode and randomness go in, states and losses come out.
#[derive(Debug)]
pub struct Pass {
    /// Keras's `training`: Dropout drops, BatchNormalization uses the batch, a graph is recorded.
    pub training: bool,
    /// Source of all randomness, seeded by the caller.
    pub rng: Rng,
    /// New values of states, in the order of the graph; see [`crate::Model::apply_updates`].
    pub updates: Vec<Update>,
    /// Scalars that layers add to the loss (activity regularization, `add_loss`).
    pub losses: Vec<Tensor>,
    /// Where the graph is cut for sums over all replicas, in its order.
    pub(crate) cuts: Vec<Cut>,
    /// Which rows of variables were looked up.
    pub(crate) look_ups: Vec<LookUp>,
    /// Where rows are that the model does not have.
    rows: Option<Arc<dyn Rows>>,
}

impl Pass {
    /// A training pass whose random layers draw from `rng`.
    pub fn training(rng: Rng) -> Self {
        Self {
            training: true,
            rng,
            updates: Vec::new(),
            losses: Vec::new(),
            cuts: Vec::new(),
            look_ups: Vec::new(),
            rows: None,
        }
    }

    /// Fetches rows from elsewhere when it looks them up.
    #[must_use]
    pub fn with_rows(self, rows: Option<Arc<dyn Rows>>) -> Self {
        Self { rows, ..self }
    }

    /// An inference pass: nothing random, no state changes, no gradients.
    pub fn inference() -> Self {
        use rand_core::SeedableRng;
        Self {
            training: false,
            ..Self::training(Rng::seed_from_u64(0))
        }
    }

    /// Takes part in the exchanges of the backward pass for a replica without rows.
    ///
    /// # Errors
    /// Another replica is lost.
    pub fn skip(&self, replicas: &mut dyn Replicas) -> Result<()> {
        let mut cuts = self.cuts.iter().rev();
        cuts.try_for_each(|cut| cut.skip(replicas))
    }
}

/// A new value of a variable, assigned by a layer in a pass.
#[derive(Debug)]
pub struct Update {
    /// The variable.
    pub handle: Handle,
    /// Its new value, of its shape.
    pub value: Tensor,
}

/// What a layer runs in.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    variables: &'a Variables,
    pass: &'a mut Pass,
    /// Those that share the batch; none where this replica has all of it.
    replicas: Option<&'a mut dyn Replicas>,
    /// Whether the pass trains.
    pub(crate) training: bool,
    policy: Policy,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        variables: &'a Variables,
        pass: &'a mut Pass,
        replicas: Option<&'a mut dyn Replicas>,
    ) -> Self {
        let training = pass.training;
        Self {
            variables,
            pass,
            replicas,
            training,
            policy: Policy::FLOAT32,
        }
    }

    /// Runs `run` under a layer's policy.
    pub(crate) fn under<T>(&mut self, policy: Policy, run: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.policy, policy);
        let result = run(self);
        self.policy = outer;
        result
    }

    /// A variable, cast to what the layer computes in; as this pass left it, if it was assigned.
    pub(crate) fn variable(&self, handle: Handle) -> Result<Tensor> {
        let tensor = self.latest(handle);
        Ok(match self.policy.compute {
            DType::Tensor(kind) if crate::dtype::is_float(kind) && kind != tensor.kind() => {
                tensor.f_to_kind(kind)?
            }
            _ => tensor.shallow_clone(),
        })
    }

    /// A variable that a layer may have.
    pub(crate) fn optional(&self, handle: Option<Handle>) -> Result<Option<Tensor>> {
        handle.map(|handle| self.variable(handle)).transpose()
    }

    /// A variable in the dtype it is kept in; as this pass left it, if it was assigned.
    pub(crate) fn state(&self, handle: Handle) -> Tensor {
        self.latest(handle).shallow_clone()
    }

    fn latest(&self, handle: Handle) -> &Tensor {
        let mut updates = self.pass.updates.iter().rev();
        let latest = updates.find(|update| update.handle == handle);
        latest.map_or_else(|| self.variables.tensor(handle), |update| &update.value)
    }

    /// The rows `ids` of a matrix that its layer declared to look up: the graph for gradients ends
    /// at them.
    pub(crate) fn look_up(&mut self, handle: Handle, ids: &Tensor) -> Result<Tensor> {
        let matrix = self.latest(handle);
        let rows = match self.fetched(handle, ids)? {
            Some(rows) => rows,
            None => Tensor::f_embedding(&matrix.f_detach()?, ids, -1, false, false)?,
        };
        if !(self.training && matrix.requires_grad()) {
            return Ok(rows);
        }
        let rows = rows.f_set_requires_grad(true)?;
        self.pass.look_ups.push(LookUp {
            handle,
            ids: ids.shallow_clone(),
            rows: rows.shallow_clone(),
        });
        Ok(rows)
    }

    /// The rows `ids`, if they are kept elsewhere.
    fn fetched(&self, handle: Handle, ids: &Tensor) -> Result<Option<Tensor>> {
        match (&self.pass.rows, self.variables.slot(handle)) {
            (Some(rows), Slot::Trainable(variable)) => fetch(rows.as_ref(), variable, ids),
            _ => Ok(None),
        }
    }

    /// What the layer computes in.
    pub(crate) fn compute(&self) -> Kind {
        self.policy.compute.kind().unwrap_or(Kind::Float)
    }

    /// The source of randomness.
    pub(crate) fn rng(&mut self) -> &mut Rng {
        &mut self.pass.rng
    }

    /// Gives `handle` a new value: for later reads in this pass, and after it. Gradients reach a
    /// variable that can be trained only through a value that depends on it.
    pub(crate) fn assign(&mut self, handle: Handle, value: Tensor) {
        self.pass.updates.push(Update { handle, value });
    }

    /// Whether others have rows of this batch too.
    pub(crate) fn shares_batch(&self) -> bool {
        self.replicas.is_some()
    }

    /// The sum over all replicas of what the rows of each add: float64, differentiable.
    pub(crate) fn sum(&mut self, own: &Tensor) -> Result<Tensor> {
        let Some(replicas) = &mut self.replicas else {
            return Ok(own.shallow_clone());
        };
        let (sum, cut) = joined(own, *replicas)?;
        self.pass.cuts.extend(cut);
        Ok(sum)
    }

    /// A layer's outputs, cut off where others share the batch.
    pub(crate) fn cut(&mut self, outputs: Tree<Value>) -> Result<Tree<Value>> {
        if !(self.training && self.shares_batch()) {
            return Ok(outputs);
        }
        let leaves = outputs.leaves().into_iter();
        let ends = leaves.filter_map(Value::end).map(Tensor::shallow_clone);
        let cut = Cut::new(ends.collect())?;
        let mut next = cut.leaves().iter();
        let outputs = outputs.try_map(&mut |value| {
            Ok(match value.end().and_then(|_| next.next()) {
                Some(leaf) => value.continued(leaf.shallow_clone()),
                None => value.clone(),
            })
        });
        self.pass.cuts.push(cut);
        outputs
    }

    /// Adds a scalar to the loss.
    pub(crate) fn add_loss(&mut self, loss: Tensor) {
        self.pass.losses.push(loss);
    }
}
