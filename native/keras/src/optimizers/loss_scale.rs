//! Keras's LossScaleOptimizer: a scale of the loss that follows the range of the gradients.

use serde_json::{Map, Value, json};

use super::rule::single;
use super::variables::{OptimizerValue, OptimizerValueMut};
use crate::config::{Given, Options};
use crate::error::Result;

/// The wrapper's arguments and its state. Its own iterations and learning rate never change.
#[derive(Debug)]
pub(super) struct LossScale {
    name: String,
    initial_scale: f64,
    dynamic_growth_steps: i64,
    iteration: i64,
    learning_rate: f32,
    /// Steps since the scale last changed.
    step_counter: i64,
    /// What the loss is multiplied by.
    pub(super) dynamic_scale: f32,
}

/// Keras's defaults.
const INITIAL_SCALE: f64 = 32768.0;
const GROWTH_STEPS: i64 = 2000;

/// Arguments of the base class that mean nothing on the wrapper, with the values that Keras
/// accepts of them.
const INERT: [(&str, Value); 8] = [
    ("weight_decay", Value::Null),
    ("clipnorm", Value::Null),
    ("global_clipnorm", Value::Null),
    ("clipvalue", Value::Null),
    ("use_ema", Value::Bool(false)),
    ("ema_overwrite_frequency", Value::Null),
    ("loss_scale_factor", Value::Null),
    ("gradient_accumulation_steps", Value::Null),
];

impl LossScale {
    /// That of a wrapper without arguments.
    pub(super) fn automatic() -> Self {
        Self::new(
            "loss_scale_optimizer".to_owned(),
            INITIAL_SCALE,
            GROWTH_STEPS,
        )
    }

    fn new(name: String, initial_scale: f64, dynamic_growth_steps: i64) -> Self {
        Self {
            name,
            initial_scale,
            dynamic_growth_steps,
            iteration: 0,
            learning_rate: 0.0,
            step_counter: 0,
            dynamic_scale: single(initial_scale),
        }
    }

    /// Reads the wrapper's arguments, and returns the inner optimizer's config beside it.
    pub(super) fn from_options<'a>(options: &Options<'a>) -> Result<(Self, &'a Value)> {
        let Given::Value(inner) = options.given("inner_optimizer") else {
            return Err(options.invalid("inner_optimizer is missing"));
        };
        for (key, accepted) in INERT {
            if let Given::Value(value) = options.given(key)
                && *value != accepted
            {
                return Err(options.unsupported(key, value, "setting it on the inner_optimizer"));
            }
        }
        if options.number("ema_momentum", 0.99)? != 0.99 {
            return Err(options.invalid("ema_momentum belongs to the inner_optimizer"));
        }
        if !options.flag("dynamic", true)? {
            let reason = "dynamic = false: set loss_scale_factor on the inner_optimizer instead";
            return Err(options.invalid(reason));
        }
        let initial_scale = options.number("initial_scale", INITIAL_SCALE)?;
        let steps = options.integer_or_null("dynamic_growth_steps", Some(GROWTH_STEPS))?;
        let steps =
            steps.ok_or_else(|| options.invalid("dynamic_growth_steps must be an integer"))?;
        let name = options.str("name", "loss_scale_optimizer")?.to_owned();
        Ok((Self::new(name, initial_scale, steps), inner))
    }

    /// Keras's variables of the wrapper, in its order.
    pub(super) fn values(&self) -> [(&'static str, OptimizerValue<'_>); 4] {
        let float = |value| OptimizerValue::Float32(std::slice::from_ref(value));
        [
            ("iteration", OptimizerValue::Int64(self.iteration)),
            ("learning_rate", float(&self.learning_rate)),
            ("step_counter", OptimizerValue::Int64(self.step_counter)),
            ("dynamic_scale", float(&self.dynamic_scale)),
        ]
    }

    /// Their values, to be changed.
    pub(super) fn values_mut(&mut self) -> [OptimizerValueMut<'_>; 4] {
        let float = |value| OptimizerValueMut::Float32(std::slice::from_mut(value));
        [
            OptimizerValueMut::Int64(&mut self.iteration),
            float(&mut self.learning_rate),
            OptimizerValueMut::Int64(&mut self.step_counter),
            float(&mut self.dynamic_scale),
        ]
    }

    /// After a step whose gradients were finite.
    pub(super) fn grow(&mut self) {
        if self.step_counter == self.dynamic_growth_steps - 1 {
            self.step_counter = 0;
            self.dynamic_scale *= 2.0;
        } else {
            self.step_counter += 1;
        }
    }

    /// After a step that was skipped, as its gradients were not finite.
    pub(super) fn shrink(&mut self) {
        self.step_counter = 0;
        self.dynamic_scale *= 0.5;
    }

    /// Keras's serialization around that of the inner optimizer.
    pub(super) fn config(&self, inner: &Value) -> Map<String, Value> {
        let config = json!({
            "name": self.name,
            "inner_optimizer": inner,
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
        });
        match config {
            Value::Object(config) => config,
            _ => Map::new(),
        }
    }
}
