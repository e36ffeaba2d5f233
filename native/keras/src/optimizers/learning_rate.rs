//! An optimizer's learning rate: a constant, which can be set anew, or one of Keras's schedules
//! over the optimizer's iterations.

use serde_json::Value;

use super::rule::single;
use super::schedule::Schedule;
use crate::config::{Given, Options};
use crate::error::{Error, Result};

#[derive(Debug)]
pub(super) enum LearningRate {
    /// float32, as Keras keeps it in a variable.
    Constant(f32),
    Scheduled(Schedule),
}

impl LearningRate {
    /// Reads `learning_rate` of an optimizer: a number or a serialized schedule.
    pub(super) fn from_options(options: &Options<'_>, default: f64) -> Result<Self> {
        if let Given::Value(value @ Value::Object(_)) = options.given("learning_rate") {
            let place = format!("learning_rate of {}", options.place());
            return Ok(Self::Scheduled(Schedule::from_config(value, &place)?));
        }
        let rate = options.number("learning_rate", default)?;
        Ok(Self::Constant(single(rate)))
    }

    /// The rate after `iterations` steps.
    pub(super) fn at(&self, iterations: i64) -> f32 {
        match self {
            Self::Constant(rate) => *rate,
            Self::Scheduled(schedule) => schedule.at(iterations),
        }
    }

    /// The variable that Keras keeps a constant rate in; `None` for a schedule.
    pub(super) fn constant(&self) -> Option<&f32> {
        match self {
            Self::Constant(rate) => Some(rate),
            Self::Scheduled(_) => None,
        }
    }

    /// The same, to be restored.
    pub(super) fn constant_mut(&mut self) -> Option<&mut f32> {
        match self {
            Self::Constant(rate) => Some(rate),
            Self::Scheduled(_) => None,
        }
    }

    /// Sets a constant rate anew; an error for a schedule, as in Keras.
    pub(super) fn set(&mut self, rate: f64, place: &str) -> Result<()> {
        match self.constant_mut() {
            Some(constant) => {
                *constant = single(rate);
                Ok(())
            }
            None => Err(Error::InvalidConfig {
                place: place.into(),
                reason: "a schedule sets the learning rate, so that nothing else can; give the \
                         optimizer a number as its learning_rate"
                    .into(),
            }),
        }
    }

    /// Keras's serialization.
    pub(super) fn config(&self) -> Value {
        match self {
            Self::Constant(rate) => f64::from(*rate).into(),
            Self::Scheduled(schedule) => schedule.config(),
        }
    }
}
