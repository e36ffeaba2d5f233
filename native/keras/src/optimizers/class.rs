//! The classes of `keras.optimizers` and their defaults. A further class is one file with its
//! [`Rule`] and one line here.

use super::rule::Rule;
use super::{
    adadelta, adafactor, adagrad, adam, adamax, ftrl, lamb, lion, muon, nadam, rmsprop,
    schedule_free, sgd,
};
use crate::config::Options;
use crate::error::{Error, Result};

/// The class that wraps another optimizer.
pub(super) const LOSS_SCALE: &str = "LossScaleOptimizer";

/// A class of `keras.optimizers` and its defaults.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) name: &'static str,
    /// Keras's name of an instance.
    pub(super) instance: &'static str,
    pub(super) learning_rate: f64,
    pub(super) weight_decay: Option<f64>,
    pub(super) build: fn(&Options<'_>) -> Result<Box<dyn Rule>>,
}

pub(super) const CLASSES: [Class; 14] = [
    Class::new("SGD", "sgd", 0.01, sgd::Sgd::build),
    Class::new("RMSprop", "rm_sprop", 0.001, rmsprop::Rmsprop::build),
    Class::new("Adam", "adam", 0.001, adam::Adam::build),
    Class::new("AdamW", "adam_w", 0.001, adam::Adam::build).weight_decay(0.004),
    Class::new("Adadelta", "adadelta", 0.001, adadelta::Adadelta::build),
    Class::new("Adagrad", "adagrad", 0.001, adagrad::Adagrad::build),
    Class::new("Adamax", "adamax", 0.001, adamax::Adamax::build),
    Class::new("Adafactor", "adafactor", 0.001, adafactor::Adafactor::build),
    Class::new("Nadam", "nadam", 0.001, nadam::Nadam::build),
    Class::new("Ftrl", "ftrl", 0.001, ftrl::Ftrl::build),
    Class::new("Lion", "lion", 0.001, lion::Lion::build),
    Class::new("Lamb", "lamb", 0.001, lamb::Lamb::build),
    Class::new("Muon", "muon", 0.001, muon::Muon::build).weight_decay(0.004),
    Class::new(
        "ScheduleFreeAdamW",
        "schedule_free_adam_w",
        0.0025,
        schedule_free::ScheduleFreeAdamW::build,
    ),
];

impl Class {
    const fn new(
        name: &'static str,
        instance: &'static str,
        learning_rate: f64,
        build: fn(&Options<'_>) -> Result<Box<dyn Rule>>,
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
    pub(super) fn find(name: &str, place: &str) -> Result<&'static Self> {
        CLASSES
            .iter()
            .find(|class| class.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| Error::Unsupported {
                place: place.into(),
                what: name.into(),
                supported: format!(
                    "{}, {LOSS_SCALE}",
                    CLASSES.map(|class| class.name).join(", ")
                ),
            })
    }

    /// Whether `weight_decay` must not be null, although it has a default.
    pub(super) fn needs_weight_decay(&self) -> bool {
        self.name == "AdamW"
    }
}
