//! A constant learning rate, or one of Keras's schedules over the optimizer's iterations.
//! Schedules compute in float32, as Keras on TensorFlow does.

use serde_json::{Value, json};

use super::rule::single;
use crate::config::{Named, Options};
use crate::error::{Error, Result};

const SUPPORTED: &str =
    "a number, ExponentialDecay, CosineDecay, PiecewiseConstantDecay (keras.optimizers.schedules)";

#[derive(Debug)]
pub(super) struct LearningRate {
    curve: Curve,
    serialized: Value,
}

#[derive(Debug)]
enum Curve {
    Constant(f32),
    ExponentialDecay {
        initial: f32,
        decay_steps: f32,
        decay_rate: f32,
        staircase: bool,
    },
    CosineDecay {
        initial: f32,
        decay_steps: f32,
        alpha: f64,
        warmup: Option<Warmup>,
    },
    PiecewiseConstantDecay {
        boundaries: Vec<i64>,
        values: Vec<f32>,
    },
}

#[derive(Debug, Clone, Copy)]
struct Warmup {
    target: f32,
    steps: f32,
}

impl LearningRate {
    /// Reads `learning_rate` of an optimizer: a number or a serialized schedule.
    pub(super) fn from_options(options: &Options<'_>, default: f64) -> Result<Self> {
        let Some(value @ Value::Object(_)) = options.value("learning_rate") else {
            let rate = single(options.f64("learning_rate", default)?);
            return Ok(Self {
                curve: Curve::Constant(rate),
                serialized: f64::from(rate).into(),
            });
        };
        let place = format!("learning_rate of {}", options.place());
        let named = Named::from_value(value, &place)?;
        let schedule = Options::new(format!("{place} ({})", named.class), &named.config);
        let curve = match named.class.as_str() {
            "ExponentialDecay" => Curve::exponential_decay(&schedule)?,
            "CosineDecay" => Curve::cosine_decay(&schedule)?,
            "PiecewiseConstantDecay" => Curve::piecewise_constant_decay(&schedule)?,
            _ => {
                return Err(Error::Unsupported {
                    place,
                    what: named.class,
                    supported: SUPPORTED.into(),
                });
            }
        };
        schedule.ignore(&["name"]);
        schedule.finish()?;
        let serialized = json!({
            "module": "keras.optimizers.schedules",
            "class_name": named.class,
            "config": named.config,
            "registered_name": null,
        });
        Ok(Self { curve, serialized })
    }

    /// The rate after `iterations` steps.
    pub(super) fn at(&self, iterations: u64) -> f32 {
        self.curve.at(iterations)
    }

    /// The constant rate, which Keras keeps in a variable; `None` for a schedule.
    pub(super) fn constant(&self) -> Option<&f32> {
        match &self.curve {
            Curve::Constant(rate) => Some(rate),
            _ => None,
        }
    }

    /// Keras's serialization.
    pub(super) fn serialized(&self) -> &Value {
        &self.serialized
    }
}

impl Curve {
    fn exponential_decay(options: &Options<'_>) -> Result<Self> {
        Ok(Self::ExponentialDecay {
            initial: required(options, "initial_learning_rate")?,
            decay_steps: positive(options, "decay_steps")?,
            decay_rate: required(options, "decay_rate")?,
            staircase: options.bool("staircase", false)?,
        })
    }

    fn cosine_decay(options: &Options<'_>) -> Result<Self> {
        let steps = single(options.f64("warmup_steps", 0.0)?);
        let target = options.optional_f64("warmup_target")?.map(single);
        Ok(Self::CosineDecay {
            initial: required(options, "initial_learning_rate")?,
            decay_steps: positive(options, "decay_steps")?,
            alpha: options.f64("alpha", 0.0)?,
            warmup: target.map(|target| Warmup { target, steps }),
        })
    }

    fn piecewise_constant_decay(options: &Options<'_>) -> Result<Self> {
        let numbers = |key| {
            let value = options.value(key).and_then(Value::as_array);
            value.ok_or_else(|| options.invalid(format!("{key} must be a list of numbers")))
        };
        let boundary = |value: &Value| {
            value.as_i64().ok_or_else(|| {
                options.invalid(format!("boundaries holds {value}; steps must be integers"))
            })
        };
        let rate = |value: &Value| {
            let rate = value.as_f64().map(single);
            rate.ok_or_else(|| options.invalid(format!("values holds {value}, not a number")))
        };
        let boundaries: Vec<i64> = numbers("boundaries")?
            .iter()
            .map(boundary)
            .collect::<Result<_>>()?;
        let values: Vec<f32> = numbers("values")?.iter().map(rate).collect::<Result<_>>()?;
        if values.len() != boundaries.len() + 1 {
            return Err(options.invalid(format!(
                "values has {} entries for {} boundaries; it needs one more than boundaries",
                values.len(),
                boundaries.len()
            )));
        }
        Ok(Self::PiecewiseConstantDecay { boundaries, values })
    }

    fn at(&self, iterations: u64) -> f32 {
        let step = iterations as f32;
        match self {
            Self::Constant(rate) => *rate,
            Self::ExponentialDecay {
                initial,
                decay_steps,
                decay_rate,
                staircase,
            } => {
                let power = step / decay_steps;
                initial * decay_rate.powf(if *staircase { power.floor() } else { power })
            }
            Self::CosineDecay {
                initial,
                decay_steps,
                alpha,
                warmup,
            } => {
                let cosine = |from: f32, step: f32| {
                    let fraction = step.min(*decay_steps) / decay_steps;
                    let decay = 0.5 * (1.0 + (std::f32::consts::PI * fraction).cos());
                    from * (single(1.0 - alpha) * decay + single(*alpha))
                };
                match warmup {
                    None => cosine(*initial, step),
                    Some(Warmup { target, steps }) if step < *steps => {
                        (target - initial) * (step / steps) + initial
                    }
                    Some(Warmup { target, steps }) => cosine(*target, step - steps),
                }
            }
            Self::PiecewiseConstantDecay { boundaries, values } => {
                let step = i64::try_from(iterations).unwrap_or(i64::MAX);
                values[boundaries
                    .iter()
                    .filter(|&&boundary| step > boundary)
                    .count()]
            }
        }
    }
}

fn required(options: &Options<'_>, key: &'static str) -> Result<f32> {
    let value = options.optional_f64(key)?.map(single);
    value.ok_or_else(|| options.invalid(format!("{key} is missing; it must be a number")))
}

fn positive(options: &Options<'_>, key: &'static str) -> Result<f32> {
    let value = required(options, key)?;
    if value > 0.0 {
        return Ok(value);
    }
    Err(options.invalid(format!("{key} = {value} must be above 0")))
}
