//! Keras's optimizers on flat buffers, in the order and in the float32 arithmetic of Keras 3 on
//! TensorFlow.
//!
//! A step scales and clips the gradients, then decays, updates and averages the parameters.
//! Variables are cut into chunks that fit a core's cache, so that each chunk goes through all of
//! this while memory is read and written once, and the chunks are spread over threads; the result
//! does not depend on their number.

mod adadelta;
mod adafactor;
mod adagrad;
mod adam;
mod adamax;
mod average;
mod class;
mod clip;
mod ftrl;
mod lamb;
mod learning_rate;
mod lion;
mod loss_scale;
mod muon;
mod nadam;
mod part;
mod rmsprop;
mod rule;
mod schedule;
mod schedule_free;
mod sgd;
mod shard;
mod slot;
mod step;
mod sweep;
#[cfg(test)]
mod tests;
mod variables;
mod workers;

use serde_json::{Map, Value, json};

use self::average::Average;
use self::class::{Class, LOSS_SCALE};
use self::clip::Clip;
use self::learning_rate::LearningRate;
use self::loss_scale::LossScale;
use self::part::State;
use self::rule::{Rule, single};
use self::slot::Slot;
pub use self::step::peers::Peers;
pub use self::variables::{OptimizerValue, OptimizerValueMut, OptimizerVariable, SavedVariable};
use crate::config::{Named, Options};
use crate::error::{Error, Result};
use crate::variables::{Variable, VariableStore};

const MODULE: &str = "keras.optimizers";

/// A Keras optimizer with its state for one model.
#[derive(Debug)]
pub struct Optimizer {
    class: &'static Class,
    name: String,
    learning_rate: LearningRate,
    weight_decay: Option<f64>,
    clip: Clip,
    average: Average,
    loss_scale_factor: Option<f64>,
    /// Steps whose gradients make one update; `None` if each step is one.
    accumulation_steps: Option<i64>,
    rule: Box<dyn Rule>,
    /// What the rule keeps for all variables together.
    shared: f32,
    /// Keras's LossScaleOptimizer around all this.
    loss_scale: Option<LossScale>,
    iterations: i64,
    variables: Vec<Variable>,
    states: Vec<State>,
    threads: usize,
}

impl Optimizer {
    /// An optimizer for the variables of `trainable`, from a name such as `"adam"` or from Keras's
    /// serialization of it (Keras 3 or 2). Options of Keras that are not implemented are errors.
    pub fn from_config(value: &Value, trainable: &VariableStore) -> Result<Self> {
        let named = Named::builtin(value, MODULE, "optimizer")?;
        if !named.class.eq_ignore_ascii_case(LOSS_SCALE) {
            return Self::from_named(&named, trainable, "optimizer");
        }
        let options = Options::new(format!("optimizer {LOSS_SCALE}"), &named.config);
        let (loss_scale, inner) = LossScale::from_options(&options)?;
        options.finish()?;
        let place = format!("inner_optimizer of {LOSS_SCALE}");
        let inner = Named::builtin(inner, MODULE, &place)?;
        Ok(Self {
            loss_scale: Some(loss_scale),
            // Else gradients would be scaled twice.
            loss_scale_factor: None,
            ..Self::from_named(&inner, trainable, &place)?
        })
    }

    fn from_named(named: &Named, trainable: &VariableStore, place: &str) -> Result<Self> {
        let class = Class::find(&named.class, place)?;
        let options = Options::new(format!("{place} {}", class.name), &named.config);
        let weight_decay = options.number_or_null("weight_decay", class.weight_decay)?;
        if weight_decay.is_none() && class.needs_weight_decay() {
            return Err(options.invalid("weight_decay = null must be a number"));
        }
        let accumulation_steps = options.integer_or_null("gradient_accumulation_steps", None)?;
        let accumulation_steps = accumulation_steps.filter(|&steps| steps != 0);
        if accumulation_steps.is_some_and(|steps| steps < 2) {
            let reason = "gradient_accumulation_steps must be an integer of 2 or above, or null";
            return Err(options.invalid(reason));
        }
        let average = Average::from_options(&options)?;
        let rule = (class.build)(&options)?;
        let mut parts = trainable.variables().iter();
        if let (true, Some(part)) = (rule.is_whole(), parts.find(|one| one.held.is_some())) {
            return Err(Error::Unsupported {
                place: format!("{place} {}", class.name),
                what: format!("looking at all of {}, of which a part is here", part.path),
                supported: "optimizers that update each element by itself, such as Adam".to_owned(),
            });
        }
        let state = |variable: &Variable| State {
            own: 0..variable.len(),
            slots: rule.slots(variable),
            average: average.is_kept.then(|| Slot::zeros("average", 0, variable)),
            accumulator: accumulation_steps
                .map(|_| Slot::zeros("gradient_accumulator", 0, variable)),
        };
        let mut states: Vec<State> = trainable.variables().iter().map(state).collect();
        for state in &mut states {
            let kept = state.average.iter_mut().chain(&mut state.accumulator);
            for slot in state.slots.iter_mut().chain(kept) {
                slot.allocate()?;
            }
        }
        let optimizer = Self {
            class,
            name: options.str("name", class.instance)?.into(),
            learning_rate: LearningRate::from_options(&options, class.learning_rate)?,
            weight_decay,
            clip: Clip::from_options(&options)?,
            average,
            loss_scale_factor: options.number_or_null("loss_scale_factor", None)?,
            accumulation_steps,
            states,
            shared: rule.shared().map_or(0.0, |shared| shared.initial),
            rule,
            loss_scale: None,
            iterations: 0,
            variables: trainable.variables().to_vec(),
            threads: 1,
        };
        if options.f64("decay", 0.0)? != 0.0 {
            return Err(options.invalid("decay is an argument of Keras 1; use a schedule"));
        }
        // Keras 2's; both say how its own code runs, not what it computes.
        options.ignore(&["jit_compile", "is_legacy_optimizer"]);
        options.finish()?;
        Ok(optimizer)
    }

    /// The optimizer in a LossScaleOptimizer, unless it is in one: what Keras's `compile` does for a
    /// model in `mixed_float16` (`auto_scale_loss`).
    #[must_use]
    pub fn scaling_loss(self) -> Self {
        let loss_scale = self.loss_scale.or_else(|| Some(LossScale::automatic()));
        Self {
            loss_scale,
            loss_scale_factor: None,
            ..self
        }
    }

    /// Threads that a step may use, 1 unless set. The result does not depend on it.
    pub fn set_threads(&mut self, threads: usize) {
        self.threads = threads;
    }

    /// Updates of the parameters done, of which several steps may make one.
    pub fn iterations(&self) -> i64 {
        self.iterations / self.accumulation_steps.unwrap_or(1)
    }

    /// Learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate.at(self.iterations).into()
    }

    /// Sets the learning rate, as callbacks do; an error if a schedule sets it.
    pub fn set_learning_rate(&mut self, rate: f64) -> Result<()> {
        let place = format!("optimizer {}", self.class.name);
        self.learning_rate.set(rate, &place)
    }

    /// What the loss is to be multiplied by before its gradients are taken, so that they do not
    /// underflow; [`Self::apply`] divides the gradients by it again. 1 without loss scaling.
    pub fn loss_scale(&self) -> f32 {
        match (&self.loss_scale, self.loss_scale_factor) {
            (Some(scale), _) => scale.dynamic_scale,
            (None, Some(factor)) => single(factor),
            (None, None) => 1.0,
        }
    }

    /// Keras 3's serialization, which `keras.optimizers.deserialize` opens.
    pub fn config(&self) -> Value {
        let mut config = Map::new();
        config.insert("name".into(), self.name.as_str().into());
        config.insert("learning_rate".into(), self.learning_rate.config());
        config.insert("weight_decay".into(), self.weight_decay.into());
        self.clip.describe(&mut config);
        self.average.describe(&mut config);
        config.insert("loss_scale_factor".into(), self.loss_scale_factor.into());
        let steps = self.accumulation_steps.into();
        config.insert("gradient_accumulation_steps".into(), steps);
        self.rule.describe(&mut config);
        let inner = serialized(self.class.name, config);
        match &self.loss_scale {
            None => inner,
            Some(loss_scale) => serialized(LOSS_SCALE, loss_scale.config(&inner)),
        }
    }
}

fn serialized(class: &str, config: Map<String, Value>) -> Value {
    json!({
        "module": MODULE,
        "class_name": class,
        "config": config,
        "registered_name": null,
    })
}
