//! Keras's learning rate schedules, in the float32 arithmetic that TensorFlow computes them in.

use std::f32::consts::PI;

use serde_json::{Map, Value, json};

use super::rule::single;
use crate::config::{Given, Named, Options};
use crate::error::{Error, Result};

const MODULE: &str = "keras.optimizers.schedules";

const SUPPORTED: &str = "a number, ExponentialDecay, PiecewiseConstantDecay, PolynomialDecay, \
                         InverseTimeDecay, CosineDecay, CosineDecayRestarts \
                         (keras.optimizers.schedules)";

/// A schedule with its serialization.
#[derive(Debug)]
pub(super) struct Schedule {
    class: String,
    name: Value,
    curve: Curve,
}

/// The arguments, as Keras writes them.
#[derive(Debug)]
enum Curve {
    ExponentialDecay {
        initial: f64,
        steps: f64,
        rate: f64,
        staircase: bool,
    },
    InverseTimeDecay {
        initial: f64,
        steps: f64,
        rate: f64,
        staircase: bool,
    },
    PiecewiseConstantDecay {
        boundaries: Vec<f64>,
        values: Vec<f64>,
    },
    PolynomialDecay {
        initial: f64,
        steps: f64,
        end: f64,
        power: f64,
        cycle: bool,
    },
    CosineDecay {
        initial: f64,
        steps: f64,
        alpha: f64,
        warmup_target: Option<f64>,
        warmup_steps: f64,
    },
    CosineDecayRestarts {
        initial: f64,
        steps: f64,
        t_mul: f64,
        m_mul: f64,
        alpha: f64,
    },
}

impl Schedule {
    /// Reads Keras's serialization; `place` names its owner in errors.
    pub(super) fn from_config(value: &Value, place: &str) -> Result<Self> {
        let Named { class, config } = Named::builtin(value, MODULE, place)?;
        let options = Options::new(format!("{place} ({class})"), &config);
        let initial = || required(&options, "initial_learning_rate");
        let mut default_name = class.as_str();
        let curve = match class.as_str() {
            "ExponentialDecay" => Curve::ExponentialDecay {
                initial: initial()?,
                steps: positive(&options, "decay_steps")?,
                rate: required(&options, "decay_rate")?,
                staircase: options.flag("staircase", false)?,
            },
            "InverseTimeDecay" => Curve::InverseTimeDecay {
                initial: initial()?,
                steps: positive(&options, "decay_steps")?,
                rate: required(&options, "decay_rate")?,
                staircase: options.flag("staircase", false)?,
            },
            "PiecewiseConstantDecay" => {
                default_name = "PiecewiseConstant";
                piecewise_constant_decay(&options)?
            }
            "PolynomialDecay" => Curve::PolynomialDecay {
                initial: initial()?,
                steps: positive(&options, "decay_steps")?,
                end: options.number("end_learning_rate", 0.0001)?,
                power: options.number("power", 1.0)?,
                cycle: options.flag("cycle", false)?,
            },
            "CosineDecay" => Curve::CosineDecay {
                initial: initial()?,
                steps: positive(&options, "decay_steps")?,
                alpha: options.number("alpha", 0.0)?,
                warmup_target: options.number_or_null("warmup_target", None)?,
                warmup_steps: options.number("warmup_steps", 0.0)?,
            },
            "CosineDecayRestarts" => {
                default_name = "SGDRDecay";
                Curve::CosineDecayRestarts {
                    initial: initial()?,
                    steps: positive(&options, "first_decay_steps")?,
                    t_mul: options.number("t_mul", 2.0)?,
                    m_mul: options.number("m_mul", 1.0)?,
                    alpha: options.number("alpha", 0.0)?,
                }
            }
            _ => {
                return Err(Error::Unsupported {
                    place: place.into(),
                    what: class,
                    supported: SUPPORTED.into(),
                });
            }
        };
        let name = match options.given("name") {
            Given::Absent => default_name.into(),
            Given::Null => Value::Null,
            Given::Value(name) => name.clone(),
        };
        options.finish()?;
        Ok(Self { class, name, curve })
    }

    /// The rate after `iterations` steps.
    pub(super) fn at(&self, iterations: i64) -> f32 {
        self.curve.at(iterations)
    }

    /// Keras's serialization.
    pub(super) fn config(&self) -> Value {
        let mut config = self.curve.arguments();
        config.insert("name".into(), self.name.clone());
        json!({
            "module": MODULE,
            "class_name": self.class,
            "config": config,
            "registered_name": null,
        })
    }
}

impl Curve {
    fn at(&self, iterations: i64) -> f32 {
        let step = iterations as f32;
        match *self {
            Self::ExponentialDecay {
                initial,
                steps,
                rate,
                staircase,
            } => single(initial) * single(rate).powf(periods(step, steps, staircase)),
            Self::InverseTimeDecay {
                initial,
                steps,
                rate,
                staircase,
            } => single(initial) / (1.0 + single(rate) * periods(step, steps, staircase)),
            Self::PiecewiseConstantDecay {
                ref boundaries,
                ref values,
            } => piecewise_constant(iterations, boundaries, values),
            Self::PolynomialDecay {
                initial,
                steps,
                end,
                power,
                cycle,
            } => {
                let (initial, steps, end) = (single(initial), single(steps), single(end));
                let fraction = if cycle {
                    let cycles = if step == 0.0 {
                        1.0
                    } else {
                        (step / steps).ceil()
                    };
                    step / (steps * cycles)
                } else {
                    step.min(steps) / steps
                };
                (initial - end) * (1.0 - fraction).powf(single(power)) + end
            }
            Self::CosineDecay {
                initial,
                steps,
                alpha,
                warmup_target,
                warmup_steps,
            } => {
                let (initial, steps) = (single(initial), single(steps));
                let cosine = |from: f32, step: f32| {
                    let decay = 0.5 * (1.0 + (PI * (step / steps)).cos());
                    from * (single(1.0 - alpha) * decay + single(alpha))
                };
                let Some(target) = warmup_target.map(single) else {
                    return cosine(initial, step.min(steps));
                };
                let warmup_steps = single(warmup_steps);
                let step = step.min(steps + warmup_steps);
                if step < warmup_steps {
                    (target - initial) * (step / warmup_steps) + initial
                } else {
                    cosine(target, step - warmup_steps)
                }
            }
            Self::CosineDecayRestarts {
                initial,
                steps,
                t_mul,
                m_mul,
                alpha,
            } => {
                let (t_mul, alpha) = (single(t_mul), single(alpha));
                let (restarts, fraction) = restarts(step / single(steps), t_mul);
                let height = 0.5 * single(m_mul).powf(restarts);
                let decay = height * (1.0 + (PI * fraction).cos());
                single(initial) * ((1.0 - alpha) * decay + alpha)
            }
        }
    }

    /// Keras's arguments but for the name, in its order.
    fn arguments(&self) -> Map<String, Value> {
        let arguments = match self {
            Self::ExponentialDecay {
                initial,
                steps,
                rate,
                staircase,
            }
            | Self::InverseTimeDecay {
                initial,
                steps,
                rate,
                staircase,
            } => json!({
                "initial_learning_rate": initial,
                "decay_steps": count(*steps),
                "decay_rate": rate,
                "staircase": staircase,
            }),
            Self::PiecewiseConstantDecay { boundaries, values } => json!({
                "boundaries": boundaries.iter().map(|&step| count(step)).collect::<Vec<_>>(),
                "values": values,
            }),
            Self::PolynomialDecay {
                initial,
                steps,
                end,
                power,
                cycle,
            } => json!({
                "initial_learning_rate": initial,
                "decay_steps": count(*steps),
                "end_learning_rate": end,
                "power": power,
                "cycle": cycle,
            }),
            Self::CosineDecay {
                initial,
                steps,
                alpha,
                warmup_target,
                warmup_steps,
            } => json!({
                "initial_learning_rate": initial,
                "decay_steps": count(*steps),
                "alpha": alpha,
                "warmup_target": warmup_target,
                "warmup_steps": count(*warmup_steps),
            }),
            Self::CosineDecayRestarts {
                initial,
                steps,
                t_mul,
                m_mul,
                alpha,
            } => json!({
                "initial_learning_rate": initial,
                "first_decay_steps": count(*steps),
                "t_mul": t_mul,
                "m_mul": m_mul,
                "alpha": alpha,
            }),
        };
        match arguments {
            Value::Object(arguments) => arguments,
            _ => Map::new(),
        }
    }
}

/// Decay periods that `step` has seen, in whole ones if `staircase`.
fn periods(step: f32, steps: f64, staircase: bool) -> f32 {
    let periods = step / single(steps);
    if staircase { periods.floor() } else { periods }
}

/// Keras's sum of all values, each times whether the step lies in its interval.
fn piecewise_constant(iterations: i64, boundaries: &[f64], values: &[f64]) -> f32 {
    // Keras casts boundaries to the type of the step.
    #[expect(clippy::cast_possible_truncation, reason = "as TensorFlow truncates")]
    let boundary = |index: usize| boundaries[index] as i64;
    let last = boundaries.len() - 1;
    let within = |is_within: bool, value: f64| if is_within { single(value) } else { 0.0 };
    let ends = within(iterations <= boundary(0), values[0])
        + within(iterations > boundary(last), values[last + 1]);
    (0..last).fold(ends, |sum, index| {
        let is_within = iterations > boundary(index) && iterations <= boundary(index + 1);
        sum + within(is_within, values[index + 1])
    })
}

/// Restarts done and the fraction done of the period since, where `periods` counts in periods as
/// long as the first and each is `t_mul` times as long as the one before.
fn restarts(periods: f32, t_mul: f32) -> (f32, f32) {
    if t_mul == 1.0 {
        let restarts = periods.floor();
        return (restarts, periods - restarts);
    }
    let restarts = ((1.0 - periods * (1.0 - t_mul)).ln() / t_mul.ln()).floor();
    let length = t_mul.powf(restarts);
    let before = (1.0 - length) / (1.0 - t_mul);
    (restarts, (periods - before) / length)
}

fn piecewise_constant_decay(options: &Options<'_>) -> Result<Curve> {
    let numbers = |key| {
        let Given::Value(Value::Array(items)) = options.given(key) else {
            return Err(options.invalid(format!("{key} must be a list of numbers")));
        };
        let number = |item: &Value| {
            let number = item.as_f64();
            number.ok_or_else(|| options.invalid(format!("{key} holds {item}, not a number")))
        };
        items.iter().map(number).collect::<Result<Vec<_>>>()
    };
    let (boundaries, values) = (numbers("boundaries")?, numbers("values")?);
    if boundaries.is_empty() || values.len() != boundaries.len() + 1 {
        return Err(options.invalid(format!(
            "values has {} entries for {} boundaries; it needs one more than boundaries, of which \
             there must be one at least",
            values.len(),
            boundaries.len()
        )));
    }
    Ok(Curve::PiecewiseConstantDecay { boundaries, values })
}

fn required(options: &Options<'_>, key: &'static str) -> Result<f64> {
    options
        .number_or_null(key, None)?
        .ok_or_else(|| options.invalid(format!("{key} is missing; it must be a number")))
}

fn positive(options: &Options<'_>, key: &'static str) -> Result<f64> {
    let value = required(options, key)?;
    if value > 0.0 {
        return Ok(value);
    }
    Err(options.invalid(format!("{key} = {value} must be above 0")))
}

/// A number of steps, which Keras writes as an integer where it is one.
fn count(steps: f64) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is integral and within i64's exact range"
    )]
    if steps.fract() == 0.0 && steps.abs() < 9e15 {
        (steps as i64).into()
    } else {
        steps.into()
    }
}
