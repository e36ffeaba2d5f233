//! Keras's initializers: distributions, scales and fan rules of Keras 3, drawn with our own
//! generator, so that a variable's values depend on the seed and its path only.

use std::f64::consts::TAU;

use rand_core::{Rng as _, SeedableRng};
use serde_json::{Map, Value};

use crate::config::{Named, Options};
use crate::context::Rng;
use crate::error::{Error, Result};

const NAMES: &str = "Zeros, Ones, Constant, Identity, RandomUniform, RandomNormal, TruncatedNormal, \
                     VarianceScaling, GlorotUniform, GlorotNormal, HeUniform, HeNormal, \
                     LecunUniform, LecunNormal, Orthogonal";

/// Standard deviation of a standard normal cut off at two, by which Keras divides.
const TRUNCATED_STDDEV: f64 = 0.879_625_661_034_239_8;

/// An initializer with the seed that its config may fix.
#[derive(Debug, Clone, PartialEq)]
pub struct Initializer {
    rule: Rule,
    seed: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    Constant(f64),
    Identity(f64),
    Uniform {
        low: f64,
        high: f64,
    },
    Normal {
        mean: f64,
        stddev: f64,
    },
    TruncatedNormal {
        mean: f64,
        stddev: f64,
    },
    VarianceScaling {
        scale: f64,
        fan: Fan,
        distribution: Distribution,
        axes: Option<FanAxes>,
    },
    Orthogonal(f64),
    /// For the biases of four gates: ones for the second gate, the rule for the others.
    UnitForget(Box<Rule>),
}

/// Which axes of a variable count inputs and outputs, where the shape alone does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FanAxes {
    inputs: Vec<usize>,
    outputs: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fan {
    In,
    Out,
    Average,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distribution {
    Uniform,
    Normal,
    TruncatedNormal,
}

impl Initializer {
    /// Reads option `key` of a layer; absent or null gives Keras's `default`, named as in Keras.
    pub fn read(options: &Options<'_>, key: &str, default: &str) -> Result<Self> {
        let named = match options.value(key) {
            Some(value) => Named::from_value(value, options.place())?,
            None => Named {
                class: default.to_owned(),
                config: Map::new(),
            },
        };
        Self::from_named(&named, &format!("{}, {key}", options.place()))
    }

    /// The same rule for a variable whose axes `inputs` and `outputs` are its fans, unless its
    /// config says which are; a rule without fans stays as it is.
    pub(crate) fn with_axes(mut self, inputs: Vec<usize>, outputs: Vec<usize>) -> Self {
        if let Rule::VarianceScaling { axes, .. } = &mut self.rule {
            axes.get_or_insert(FanAxes { inputs, outputs });
        }
        self
    }

    /// The initializer that gives the square roots of this one's values; `None` if those differ.
    pub(crate) fn square_root(&self) -> Option<Self> {
        match self.rule {
            Rule::Constant(value) => Some(Self {
                rule: Rule::Constant(value.sqrt()),
                seed: None,
            }),
            _ => None,
        }
    }

    fn from_named(named: &Named, place: &str) -> Result<Self> {
        let options = Options::new(format!("{place} {}", named.class), &named.config);
        options.ignore(&["dtype"]);
        let seed = options.value("seed").and_then(Value::as_u64);
        let axes = fan_axes(&options)?;
        let scaling = |scale, fan, distribution| Rule::VarianceScaling {
            scale,
            fan,
            distribution,
            axes: axes.clone(),
        };
        let rule = match named.class.as_str() {
            "Zeros" | "zeros" | "zero" => Rule::Constant(0.0),
            "Ones" | "ones" | "one" => Rule::Constant(1.0),
            "Constant" | "constant" => Rule::Constant(options.f64("value", 0.0)?),
            "Identity" | "identity" | "IdentityInitializer" => {
                Rule::Identity(options.f64("gain", 1.0)?)
            }
            "RandomUniform" | "random_uniform" | "uniform" => Rule::Uniform {
                low: options.f64("minval", -0.05)?,
                high: options.f64("maxval", 0.05)?,
            },
            "RandomNormal" | "random_normal" | "normal" => Rule::Normal {
                mean: options.f64("mean", 0.0)?,
                stddev: options.f64("stddev", 0.05)?,
            },
            "TruncatedNormal" | "truncated_normal" => Rule::TruncatedNormal {
                mean: options.f64("mean", 0.0)?,
                stddev: options.f64("stddev", 0.05)?,
            },
            "VarianceScaling" | "variance_scaling" => variance_scaling(&options, axes)?,
            "GlorotUniform" | "glorot_uniform" => scaling(1.0, Fan::Average, Distribution::Uniform),
            "GlorotNormal" | "glorot_normal" => {
                scaling(1.0, Fan::Average, Distribution::TruncatedNormal)
            }
            "HeUniform" | "he_uniform" => scaling(2.0, Fan::In, Distribution::Uniform),
            "HeNormal" | "he_normal" => scaling(2.0, Fan::In, Distribution::TruncatedNormal),
            "LecunUniform" | "lecun_uniform" => scaling(1.0, Fan::In, Distribution::Uniform),
            "LecunNormal" | "lecun_normal" => scaling(1.0, Fan::In, Distribution::TruncatedNormal),
            "Orthogonal" | "orthogonal" | "OrthogonalInitializer" => {
                Rule::Orthogonal(options.f64("gain", 1.0)?)
            }
            other => {
                return Err(Error::Unsupported {
                    place: place.to_owned(),
                    what: format!("initializer {other}"),
                    supported: NAMES.to_owned(),
                });
            }
        };
        options.finish()?;
        Ok(Self { rule, seed })
    }

    /// Keras's `unit_forget_bias`: the same for the biases of an LSTM's gates, but ones for the
    /// second, the forget gate.
    pub(crate) fn with_unit_forget(self) -> Self {
        Self {
            rule: Rule::UnitForget(Box::new(self.rule)),
            seed: self.seed,
        }
    }

    /// Fills `out`, a variable of `shape` at `path`. Values depend on `(seed, path)`, or only on
    /// the initializer's own seed if its config has one, as in Keras.
    pub fn fill(&self, shape: &[i64], path: &str, seed: u64, out: &mut [f32]) -> Result<()> {
        let mut rng = Rng::seed_from_u64(self.seed.unwrap_or_else(|| mix(seed, path)));
        let invalid = |reason: &str| Error::InvalidConfig {
            place: format!("initializer of {path}"),
            reason: format!("{reason}, but the variable's shape is {shape:?}"),
        };
        match self.rule {
            Rule::UnitForget(ref rule) => {
                let inner = Self {
                    rule: Rule::clone(rule),
                    seed: self.seed,
                };
                let units = out.len() / 4;
                let size = |values: &[f32]| [i64::try_from(values.len()).unwrap_or(0)];
                let (input, rest) = out.split_at_mut(units);
                let (forget, rest) = rest.split_at_mut(units);
                inner.fill(&size(input), path, seed, input)?;
                forget.fill(1.0);
                inner.fill(&size(rest), &format!("{path}/after_forget"), seed, rest)?;
            }
            Rule::Constant(value) => draw(out, || value),
            Rule::Identity(gain) => {
                let [_, columns] = *shape else {
                    return Err(invalid("Identity needs a matrix"));
                };
                out.fill(0.0);
                let stride = usize::try_from(columns).unwrap_or(0) + 1;
                let diagonal = out.iter_mut().step_by(stride);
                let length = usize::try_from(shape[0].min(columns)).unwrap_or(0);
                diagonal
                    .take(length)
                    .for_each(|value| *value = single(gain));
            }
            Rule::Uniform { low, high } => draw(out, || uniform(&mut rng, low, high)),
            Rule::Normal { mean, stddev } => draw(out, || mean + stddev * normal(&mut rng)),
            Rule::TruncatedNormal { mean, stddev } => {
                draw(out, || mean + stddev * truncated(&mut rng));
            }
            Rule::VarianceScaling {
                scale,
                fan,
                distribution,
                ref axes,
            } => {
                let (fan_in, fan_out) = match axes {
                    None => fans(shape),
                    Some(axes) => axes
                        .fans(shape)
                        .ok_or_else(|| invalid("input_axes or output_axes do not exist"))?,
                };
                let n = match fan {
                    Fan::In => fan_in,
                    Fan::Out => fan_out,
                    Fan::Average => f64::midpoint(fan_in, fan_out),
                };
                let variance = scale / n.max(1.0);
                match distribution {
                    Distribution::Uniform => {
                        let limit = (3.0 * variance).sqrt();
                        draw(out, || uniform(&mut rng, -limit, limit));
                    }
                    Distribution::Normal => draw(out, || variance.sqrt() * normal(&mut rng)),
                    Distribution::TruncatedNormal => {
                        let stddev = variance.sqrt() / TRUNCATED_STDDEV;
                        draw(out, || stddev * truncated(&mut rng));
                    }
                }
            }
            Rule::Orthogonal(gain) => {
                let Some((&columns, rows)) = shape.split_last().filter(|(_, r)| !r.is_empty())
                else {
                    return Err(invalid("Orthogonal needs at least two axes"));
                };
                let columns = usize::try_from(columns).unwrap_or(0);
                let rows = usize::try_from(rows.iter().product::<i64>()).unwrap_or(0);
                orthogonal(&mut rng, rows, columns, gain, out);
            }
        }
        Ok(())
    }
}

/// Options `input_axes` and `output_axes`, which count only if both are given.
fn fan_axes(options: &Options<'_>) -> Result<Option<FanAxes>> {
    let read = |key: &str| {
        let Some(value) = options.value(key) else {
            return Ok(None);
        };
        let axes = value.as_array().and_then(|axes| {
            let axes = axes.iter().map(|axis| usize::try_from(axis.as_u64()?).ok());
            axes.collect::<Option<Vec<_>>>()
        });
        let wrong = || options.invalid(format!("{key} = {value} must be a list of axes from 0 on"));
        axes.ok_or_else(wrong).map(Some)
    };
    let axes = read("input_axes")?.zip(read("output_axes")?);
    Ok(axes.map(|(inputs, outputs)| FanAxes { inputs, outputs }))
}

impl FanAxes {
    /// Numbers of inputs and outputs; `None` if an axis does not exist.
    fn fans(&self, shape: &[i64]) -> Option<(f64, f64)> {
        let product = |axes: &[usize]| {
            let sizes = axes.iter().map(|&axis| shape.get(axis).copied());
            let sizes = sizes.collect::<Option<Vec<i64>>>()?;
            #[expect(
                clippy::cast_precision_loss,
                reason = "sizes of axes are far below 2^52"
            )]
            Some(sizes.iter().product::<i64>() as f64)
        };
        Some((product(&self.inputs)?, product(&self.outputs)?))
    }
}

fn variance_scaling(options: &Options<'_>, axes: Option<FanAxes>) -> Result<Rule> {
    let fan = match options.choice("mode", "fan_in", &["fan_in", "fan_out", "fan_avg"])? {
        "fan_out" => Fan::Out,
        "fan_avg" => Fan::Average,
        _ => Fan::In,
    };
    let names = [
        "uniform",
        "untruncated_normal",
        "truncated_normal",
        "normal",
    ];
    let distribution = match options.choice("distribution", "truncated_normal", &names)? {
        "uniform" => Distribution::Uniform,
        "untruncated_normal" => Distribution::Normal,
        _ => Distribution::TruncatedNormal,
    };
    Ok(Rule::VarianceScaling {
        scale: options.f64("scale", 1.0)?,
        fan,
        distribution,
        axes,
    })
}

/// Keras's `compute_fans`: the last two axes are inputs and outputs, those before them a receptive
/// field.
fn fans(shape: &[i64]) -> (f64, f64) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "sizes of axes are far below 2^52"
    )]
    let product = |axes: &[i64]| axes.iter().product::<i64>() as f64;
    match shape {
        [] => (1.0, 1.0),
        [n] => (product(&[*n]), product(&[*n])),
        [field @ .., inputs, outputs] => (
            product(&[*inputs]) * product(field),
            product(&[*outputs]) * product(field),
        ),
    }
}

/// FNV-1a of the path over the seed, so that every variable has its own stream.
fn mix(seed: u64, path: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    path.bytes().fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[expect(clippy::cast_possible_truncation, reason = "variables are f32")]
fn single(value: f64) -> f32 {
    value as f32
}

fn draw(out: &mut [f32], mut next: impl FnMut() -> f64) {
    out.iter_mut().for_each(|value| *value = single(next()));
}

fn uniform(rng: &mut Rng, low: f64, high: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact in f64")]
    let unit = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    low + (high - low) * unit
}

/// Box and Muller's transform.
fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(rng, 0.0, 1.0)).ln()).sqrt();
    radius * (TAU * uniform(rng, 0.0, 1.0)).cos()
}

fn truncated(rng: &mut Rng) -> f64 {
    loop {
        let value = normal(rng);
        if value.abs() <= 2.0 {
            return value;
        }
    }
}

/// Gram and Schmidt's method on random normal vectors: uniformly distributed orthonormal columns,
/// or rows if there are fewer rows.
fn orthogonal(rng: &mut Rng, rows: usize, columns: usize, gain: f64, out: &mut [f32]) {
    let (long, short) = (rows.max(columns), rows.min(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(short);
    while basis.len() < short {
        let mut vector: Vec<f64> = (0..long).map(|_| normal(rng)).collect();
        // The second sweep removes what rounding left of the first.
        for _ in 0..2 {
            for known in &basis {
                let overlap: f64 = known.iter().zip(&vector).map(|(a, b)| a * b).sum();
                vector
                    .iter_mut()
                    .zip(known)
                    .for_each(|(v, k)| *v -= overlap * k);
            }
        }
        let norm = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|v| *v /= norm);
        basis.push(vector);
    }
    for (position, value) in out.iter_mut().enumerate() {
        let (row, column) = (position / columns, position % columns);
        let entry = if rows >= columns {
            basis[column][row]
        } else {
            basis[row][column]
        };
        *value = single(entry * gain);
    }
}

#[cfg(test)]
mod tests;
