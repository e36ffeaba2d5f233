//! What one run of a model carries besides the batch: mode, randomness, and new layer states.

use tch::Tensor;

/// The crate's random number generator: seeded, reproducible on every machine.
pub type Rng = rand_xoshiro::Xoshiro256PlusPlus;

/// One run of a model.
#[derive(Debug)]
pub struct Pass {
    /// Keras's `training`: Dropout drops, BatchNormalization uses the batch, a graph is recorded.
    pub training: bool,
    /// Source of Dropout's masks, seeded by the caller.
    pub rng: Rng,
    /// States that layers want changed after this pass, in the order of the graph.
    pub updates: Vec<StateUpdate>,
}

impl Pass {
    /// A training pass whose random layers draw from `rng`.
    pub fn training(rng: Rng) -> Self {
        Self {
            training: true,
            rng,
            updates: Vec::new(),
        }
    }

    /// An inference pass: nothing random, no state changes, no gradients.
    pub fn inference() -> Self {
        use rand_core::SeedableRng;
        Self {
            training: false,
            rng: Rng::seed_from_u64(0),
            updates: Vec::new(),
        }
    }
}

/// BatchNormalization's batch statistic of one pass: `new = old * momentum + value * (1 - momentum)`.
///
/// Ranks average `value` weighted by their rows before [`crate::Model::apply_updates`].
#[derive(Debug)]
pub struct StateUpdate {
    /// Index into [`crate::Model::non_trainable`].
    pub variable: usize,
    /// The batch statistic, f32, of the variable's shape.
    pub value: Tensor,
    /// Keras's momentum: the share of the old value.
    pub momentum: f64,
}
