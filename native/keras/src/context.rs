//! What a layer sees while it runs: its variables, the mode, randomness, and where it leaves new
//! states and losses.

use std::sync::{Arc, Mutex};

use flambeau_libtorch::is_same;
use tch::{Device, Kind, Tensor};

use crate::arguments::Tree;
use crate::dtype::{DType, Policy};
use crate::error::{Error, Result};
use crate::indexed_slices::LookUp;
use crate::replicas::{Cut, Failure, Replicas, joined};
use crate::rows::{Rows, fetch};
use crate::tensor_group::{Group, TensorGroup, TensorPart};
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
    /// Who has the other parts of variables.
    pub(crate) group: Option<Group>,
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
            group: None,
        }
    }

    /// Fetches rows from elsewhere when it looks them up.
    #[must_use]
    pub fn with_rows(self, rows: Option<Arc<dyn Rows>>) -> Self {
        Self { rows, ..self }
    }

    /// Exchanges with the ranks of the tensor group that the model was built for. The backward pass
    /// does so too, so that the group is used until [`crate::Model::gradients`] ends. All ranks of the
    /// group run the same batch, with generators in the same state.
    #[must_use]
    pub fn with_group(self, group: Option<Arc<Mutex<dyn TensorGroup>>>) -> Self {
        Self {
            group: group.map(Group::new),
            ..self
        }
    }

    /// What an exchange of the tensor group in the backward pass failed with.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.group.as_ref().and_then(Group::failure)
    }

    /// The reason why the backward pass ended with `error`.
    pub(crate) fn explain(&self, error: Error) -> Error {
        self.failure().map_or(error, Error::Group)
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
    /// What last entered layers that are split, and as what: several layers of one value share it, and
    /// its exchange in the backward pass.
    entered: Option<(Tensor, Tensor)>,
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
            entered: None,
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

    /// Where the pass runs.
    pub(crate) fn device(&self) -> Device {
        self.variables.device()
    }

    /// A layer's outputs, where the pass runs.
    pub(crate) fn bring(&self, outputs: Tree<Value>) -> Result<Tree<Value>> {
        match self.device() {
            Device::Cpu => Ok(outputs),
            gpu => outputs.try_map(&mut |value| value.to_device(gpu)),
        }
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

    /// `x`, which all ranks of the tensor group have, on its way into weights of which each has a part.
    pub(crate) fn enter(&mut self, x: &Tensor) -> Result<Tensor> {
        if let Some((known, entered)) = &self.entered
            && is_same(known, x)
        {
            return Ok(entered.shallow_clone());
        }
        let entered = self.group()?.enter(x)?;
        self.entered = Some((x.shallow_clone(), entered.shallow_clone()));
        Ok(entered)
    }

    /// The sum of what the ranks of the tensor group have.
    pub(crate) fn sum_of_group(&self, x: &Tensor) -> Result<Tensor> {
        self.group()?.sum_of_group(x)
    }

    /// The parts of the ranks of the tensor group side by side along `axis`; this one's is `x`.
    pub(crate) fn gathered(&self, x: &Tensor, axis: usize, part: TensorPart) -> Result<Tensor> {
        self.group()?.gathered(x, axis, part)
    }

    fn group(&self) -> Result<&Group> {
        let group = self.pass.group.as_ref();
        group.ok_or_else(|| Error::values("a pass over a part of a model needs its tensor group"))
    }

    /// Adds a scalar to the loss.
    pub(crate) fn add_loss(&mut self, loss: Tensor) {
        self.pass.losses.push(loss);
    }
}
