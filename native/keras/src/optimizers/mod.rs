//! Keras's optimizers on flat buffers. A step clips the gradients, then decays and updates every
//! parameter in one pass over memory, in the order and in the float32 arithmetic of Keras 3.
//!
//! A further class is one file with its [`Rule`] and one line in [`CLASSES`].

mod adagrad;
mod adam;
mod clip;
mod learning_rate;
mod rmsprop;
mod rule;
mod sgd;
mod sweep;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use self::clip::Clip;
use self::learning_rate::LearningRate;
use self::rule::{Rule, Step, single};
use crate::config::{Named, Options};
use crate::error::{Error, Result};
use crate::variables::{Variable, VariableStore};

/// A class of `keras.optimizers` and its defaults.
#[derive(Debug)]
struct Class {
    name: &'static str,
    /// Keras's name of an instance.
    instance: &'static str,
    learning_rate: f64,
    weight_decay: Option<f64>,
    build: fn(&Options<'_>, usize) -> Result<Box<dyn Rule>>,
}

const CLASSES: [Class; 5] = [
    Class::new("SGD", "sgd", 0.01, sgd::Sgd::build),
    Class::new("Adam", "adam", 0.001, adam::Adam::build),
    Class::new("AdamW", "adam_w", 0.001, adam::Adam::build).weight_decay(0.004),
    Class::new("Adagrad", "adagrad", 0.001, adagrad::Adagrad::build),
    Class::new("RMSprop", "rm_sprop", 0.001, rmsprop::Rmsprop::build),
];

impl Class {
    const fn new(
        name: &'static str,
        instance: &'static str,
        learning_rate: f64,
        build: fn(&Options<'_>, usize) -> Result<Box<dyn Rule>>,
    ) -> Self {
        Self {
            name,
            instance,
            learning_rate,
            weight_decay: None,
            build,
        }
    }

    const fn weight_decay(mut self, rate: f64) -> Self {
        self.weight_decay = Some(rate);
        self
    }

    /// Finds a class by name; Keras ignores the case.
    fn find(name: &str) -> Result<&'static Self> {
        CLASSES
            .iter()
            .find(|class| class.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| Error::Unsupported {
                place: "optimizer".into(),
                what: name.into(),
                supported: CLASSES.map(|class| class.name).join(", "),
            })
    }
}

/// A Keras optimizer with its state for one model.
#[derive(Debug)]
pub struct Optimizer {
    class: &'static Class,
    name: String,
    learning_rate: LearningRate,
    weight_decay: Option<f64>,
    clip: Clip,
    rule: Box<dyn Rule>,
    iterations: u64,
    variables: Vec<Variable>,
}

/// One of Keras's `optimizer.variables`.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerVariable<'a> {
    /// Keras's name, such as `dense_kernel_momentum`.
    pub name: String,
    /// Its shape; empty for the two scalars.
    pub shape: &'a [i64],
    /// Its value.
    pub value: OptimizerValue<'a>,
}

/// Value of an [`OptimizerVariable`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerValue<'a> {
    /// The iterations, int64 in Keras.
    Integer(i64),
    /// float32 values in row-major order.
    Floats(&'a [f32]),
}

impl Optimizer {
    /// An optimizer for the variables of `trainable`, from a name such as `"adam"` or from Keras's
    /// serialization of it (Keras 3 or 2). Options of Keras that are not implemented are errors.
    pub fn from_config(value: &Value, trainable: &VariableStore) -> Result<Self> {
        let named = Named::from_value(value, "optimizer")?;
        let class = Class::find(&named.class)?;
        let options = Options::new(format!("optimizer {}", class.name), &named.config);
        let optimizer = Self {
            class,
            name: options.str("name", class.instance)?.into(),
            learning_rate: LearningRate::from_options(&options, class.learning_rate)?,
            weight_decay: options.optional_f64("weight_decay")?.or(class.weight_decay),
            clip: Clip::from_options(&options)?,
            rule: (class.build)(&options, trainable.len())?,
            iterations: 0,
            variables: trainable.variables().to_vec(),
        };
        if options.f64("decay", 0.0)? != 0.0 {
            return Err(options.invalid("decay is an argument of Keras 1; use a schedule"));
        }
        options.ignore(&["ema_momentum", "ema_overwrite_frequency", "jit_compile"]);
        options.finish()?;
        Ok(optimizer)
    }

    /// One step: changes `params`, laid out as the model's trainable store, by their gradients.
    /// Clipping changes `grads` in place. An error, before any change, if a length is wrong.
    pub fn apply(&mut self, params: &mut [f32], grads: &mut [f32]) -> Result<()> {
        let expected = self
            .variables
            .last()
            .map_or(0, |variable| variable.span().end);
        for (what, actual) in [
            ("parameter slice", params.len()),
            ("gradient slice", grads.len()),
        ] {
            if actual != expected {
                return Err(Error::LengthMismatch {
                    what: what.into(),
                    expected,
                    actual,
                });
            }
        }
        self.clip
            .apply(grads, self.variables.iter().map(Variable::span));
        let step = Step {
            number: self.iterations + 1,
            learning_rate: self.learning_rate.at(self.iterations),
            weight_decay: self.weight_decay.map_or(0.0, single),
        };
        self.rule.step(&step, params, grads);
        self.iterations += 1;
        Ok(())
    }

    /// Steps taken.
    pub fn iterations(&self) -> u64 {
        self.iterations
    }

    /// Sets the number of steps taken, when a checkpoint is restored.
    pub fn set_iterations(&mut self, iterations: u64) {
        self.iterations = iterations;
    }

    /// Learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate.at(self.iterations).into()
    }

    /// The slots by Keras's names, each laid out as the parameters: what a checkpoint holds,
    /// beside [`Self::iterations`].
    pub fn slots(&self) -> Vec<(&'static str, &[f32])> {
        let slots = self.rule.groups().into_iter().flatten();
        slots
            .map(|slot| (slot.name, slot.values.as_slice()))
            .collect()
    }

    /// The slots in the order of [`Self::slots`], to be restored.
    pub fn slots_mut(&mut self) -> Vec<(&'static str, &mut [f32])> {
        let slots = self.rule.slots_mut().into_iter();
        slots
            .map(|slot| (slot.name, slot.values.as_mut_slice()))
            .collect()
    }

    /// Keras's `optimizer.variables`, in its order: what an export holds.
    pub fn keras_variables(&self) -> Vec<OptimizerVariable<'_>> {
        let iteration = i64::try_from(self.iterations).unwrap_or(i64::MAX);
        let mut all = vec![OptimizerVariable {
            name: "iteration".into(),
            shape: &[],
            value: OptimizerValue::Integer(iteration),
        }];
        all.extend(self.learning_rate.constant().map(|rate| OptimizerVariable {
            name: "learning_rate".into(),
            shape: &[],
            value: OptimizerValue::Floats(std::slice::from_ref(rate)),
        }));
        for group in self.rule.groups() {
            for variable in &self.variables {
                all.extend(group.iter().map(|slot| OptimizerVariable {
                    name: format!("{}_{}", variable.path.replace('/', "_"), slot.name),
                    shape: &variable.shape,
                    value: OptimizerValue::Floats(&slot.values[variable.span()]),
                }));
            }
        }
        all
    }

    /// Keras 3's serialization, which `keras.optimizers.deserialize` opens.
    pub fn config(&self) -> Value {
        let mut config = Map::new();
        config.insert("name".into(), self.name.as_str().into());
        config.insert(
            "learning_rate".into(),
            self.learning_rate.serialized().clone(),
        );
        config.insert("weight_decay".into(), self.weight_decay.into());
        self.clip.describe(&mut config);
        self.rule.describe(&mut config);
        json!({
            "module": "keras.optimizers",
            "class_name": self.class.name,
            "config": config,
            "registered_name": null,
        })
    }
}
