//! Keras's initializers: distributions, scales and fan rules of Keras 3, drawn with our own
//! generator, so that a variable's values depend on the seed and its path only.

mod constant;
mod distribution;
mod orthogonal;
mod scaling;
mod stft;

use std::ops::Range;

use rand_core::SeedableRng;
use serde_json::Value;

use self::constant::Constant;
use self::distribution::Distribution;
use self::scaling::{Fan, Shape, VarianceScaling};
use self::stft::Stft;
use crate::config::{Given, Named, Options};
use crate::context::Rng;
use crate::error::{Error, Result};

const MODULE: &str = "keras.initializers";

const NAMES: &str = "Zeros, Ones, Constant, Identity, RandomUniform, RandomNormal, TruncatedNormal, \
                     VarianceScaling, GlorotUniform, GlorotNormal, HeUniform, HeNormal, \
                     LecunUniform, LecunNormal, Orthogonal, STFT";

/// What Keras gives a variable of floating-point numbers if its initializer is null.
const OF_NULL: &str = "GlorotUniform";

/// An initializer with the seed that its config may fix.
#[derive(Debug, Clone, PartialEq)]
pub struct Initializer {
    rule: Rule,
    seed: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
enum Rule {
    Constant(Constant),
    Identity(f64),
    Random(Distribution),
    VarianceScaling(VarianceScaling),
    Orthogonal(f64),
    Stft(Stft),
    /// For the biases of four gates: ones for the second gate, the initializer for the others.
    UnitForget(Box<Initializer>),
}

impl Initializer {
    /// Reads option `key` of a layer. Absent gives Keras's `default`, named as in Keras; null is
    /// not the same: Keras then gives a variable of floating-point numbers GlorotUniform.
    ///
    /// # Errors
    /// It is no initializer of Keras, or has arguments that Keras's does not take.
    pub fn read(options: &Options<'_>, key: &str, default: &str) -> Result<Self> {
        let place = format!("{}, {key}", options.place());
        let value = match options.given(key) {
            Given::Absent => return Self::from_config(&default.into(), &place),
            Given::Null => return Self::from_config(&OF_NULL.into(), &place),
            Given::Value(value) => value,
        };
        Self::from_config(value, &place)
    }

    /// Every element is `value`.
    pub(crate) fn constant(value: f64) -> Self {
        Self {
            rule: Rule::Constant(Constant::number(value)),
            seed: None,
        }
    }

    /// Keras's STFT, real or imaginary, by the options `window`, `scaling` and `periodic`.
    pub(crate) fn stft(options: &Options<'_>, imaginary: bool) -> Result<Self> {
        Ok(Self {
            rule: Rule::Stft(Stft::read(options, imaginary)?),
            seed: None,
        })
    }

    /// Reads a name or Keras's serialization. `place` names its owner in errors.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_config(value: &Value, place: &str) -> Result<Self> {
        let named = Named::builtin(value, MODULE, place)?;
        let options = Options::new(format!("{place} {}", named.class), &named.config);
        // Keras 2 wrote it; a variable has its own.
        options.ignore(&["dtype"]);
        let mut seed = None;
        let mut random = |rule| {
            seed = read_seed(&options)?;
            Ok::<_, Error>(rule)
        };
        let rule = match named.class.as_str() {
            "Zeros" | "zeros" | "zero" => Rule::Constant(Constant::number(0.0)),
            "Ones" | "ones" | "one" => Rule::Constant(Constant::number(1.0)),
            "Constant" | "constant" => Rule::Constant(Constant::from_options(&options)?),
            "Identity" | "identity" | "IdentityInitializer" => {
                Rule::Identity(options.number("gain", 1.0)?)
            }
            "RandomUniform" | "random_uniform" | "uniform" => {
                random(Rule::Random(Distribution::Uniform {
                    low: options.number("minval", -0.05)?,
                    high: options.number("maxval", 0.05)?,
                }))?
            }
            "RandomNormal" | "random_normal" | "normal" => {
                random(Rule::Random(Distribution::Normal {
                    mean: options.number("mean", 0.0)?,
                    stddev: options.number("stddev", 0.05)?,
                }))?
            }
            "TruncatedNormal" | "truncated_normal" => {
                random(Rule::Random(Distribution::TruncatedNormal {
                    mean: options.number("mean", 0.0)?,
                    stddev: options.number("stddev", 0.05)?,
                }))?
            }
            "VarianceScaling" | "variance_scaling" => random(Rule::VarianceScaling(
                VarianceScaling::from_options(&options)?,
            ))?,
            "Orthogonal" | "orthogonal" | "OrthogonalInitializer" => {
                random(Rule::Orthogonal(options.number("gain", 1.0)?))?
            }
            "STFT" | "stft" | "STFTInitializer" => {
                let side = options.choice("side", "real", &["real", "imag"])?;
                Rule::Stft(Stft::read(&options, side == "imag")?)
            }
            other => {
                let (scale, fan, shape) =
                    named_scaling(other).ok_or_else(|| Error::Unsupported {
                        place: place.to_owned(),
                        what: format!("initializer {other}"),
                        supported: NAMES.to_owned(),
                    })?;
                let scaling = VarianceScaling::new(scale, fan, shape, &options)?;
                random(Rule::VarianceScaling(scaling))?
            }
        };
        options.finish()?;
        Ok(Self { rule, seed })
    }

    /// The same rule for a variable whose axes `inputs` and `outputs` are its fans, unless its
    /// config says which are; a rule without fans stays as it is.
    pub(crate) fn with_axes(mut self, inputs: Vec<usize>, outputs: Vec<usize>) -> Self {
        if let Rule::VarianceScaling(scaling) = &mut self.rule {
            scaling.set_axes(inputs, outputs);
        }
        self
    }

    /// The initializer that gives the square roots of this one's values; `None` if those are not
    /// known before they are drawn.
    pub(crate) fn square_root(&self) -> Option<Self> {
        match &self.rule {
            Rule::Constant(constant) => Some(Self {
                rule: Rule::Constant(constant.map(f64::sqrt)),
                seed: None,
            }),
            _ => None,
        }
    }

    /// Keras's `unit_forget_bias`: the same for the biases of an LSTM's gates, but ones for the
    /// second, the forget gate.
    pub(crate) fn with_unit_forget(self) -> Self {
        Self {
            seed: self.seed,
            rule: Rule::UnitForget(Box::new(self)),
        }
    }

    /// What [`Self::fill`] gives the elements `range` of a variable, into `out`; what it draws for those
    /// before them is drawn and forgotten. A rule whose elements depend on each other makes all of them.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub fn fill_part(
        &self,
        shape: &[i64],
        path: &str,
        seed: u64,
        range: Range<usize>,
        out: &mut [f32],
    ) -> Result<()> {
        let distribution = match &self.rule {
            Rule::Random(distribution) => Some(*distribution),
            Rule::VarianceScaling(scaling) => scaling.of(shape),
            _ => None,
        };
        if let Some(distribution) = distribution {
            let mut rng = self.rng(path, seed);
            for _ in 0..range.start {
                distribution.draw(&mut rng);
            }
            for value in out {
                *value = single(distribution.draw(&mut rng));
            }
            return Ok(());
        }
        let sizes = shape.iter().map(|&size| usize::try_from(size).unwrap_or(0));
        let mut whole = vec![0.0; sizes.product()];
        self.fill(shape, path, seed, &mut whole)?;
        let part = whole.get(range).unwrap_or_default();
        out.iter_mut()
            .zip(part)
            .for_each(|(out, value)| *out = *value);
        Ok(())
    }

    fn rng(&self, path: &str, seed: u64) -> Rng {
        Rng::seed_from_u64(self.seed.unwrap_or_else(|| mix(seed, path)))
    }

    /// Fills `out`, a variable of `shape` at `path`. Values depend on `(seed, path)`, or only on
    /// the initializer's own seed if its config has one, as in Keras.
    ///
    /// # Errors
    /// Keras does not make values of this shape either.
    pub fn fill(&self, shape: &[i64], path: &str, seed: u64, out: &mut [f32]) -> Result<()> {
        let mut rng = self.rng(path, seed);
        let invalid = |reason: &str| Error::InvalidConfig {
            place: format!("initializer of {path}"),
            reason: format!("{reason}, but the variable's shape is {shape:?}"),
        };
        let mut draw = |distribution: Distribution| {
            out.iter_mut()
                .for_each(|value| *value = single(distribution.draw(&mut rng)));
        };
        match &self.rule {
            Rule::Random(distribution) => draw(*distribution),
            Rule::VarianceScaling(scaling) => {
                let distribution = scaling.of(shape);
                draw(distribution.ok_or_else(|| invalid("input_axes and output_axes are others"))?);
            }
            Rule::UnitForget(others) => {
                let units = out.len() / 4;
                let size = |values: &[f32]| [values.len() as i64];
                let (input, rest) = out.split_at_mut(units);
                let (forget, rest) = rest.split_at_mut(units);
                others.fill(&size(input), path, seed, input)?;
                forget.fill(1.0);
                others.fill(&size(rest), &format!("{path}/after_forget"), seed, rest)?;
            }
            Rule::Constant(constant) => {
                let values = constant.broadcast(shape);
                let values = values.ok_or_else(|| invalid("the constant has another shape"))?;
                out.iter_mut()
                    .zip(values)
                    .for_each(|(out, value)| *out = single(value));
            }
            Rule::Stft(stft) => {
                let values = stft.values(shape);
                let values =
                    values.ok_or_else(|| invalid("STFT needs [samples of the window, 1, bins]"))?;
                out.iter_mut()
                    .zip(values)
                    .for_each(|(out, value)| *out = single(value));
            }
            Rule::Identity(gain) => {
                let [rows, columns] = *shape else {
                    return Err(invalid("Identity needs a matrix"));
                };
                out.fill(0.0);
                let stride = usize::try_from(columns).unwrap_or(0) + 1;
                let length = usize::try_from(rows.min(columns)).unwrap_or(0);
                let diagonal = out.iter_mut().step_by(stride).take(length);
                diagonal.for_each(|value| *value = single(*gain));
            }
            Rule::Orthogonal(gain) => {
                let Some((&columns, rows)) = shape.split_last().filter(|(_, r)| !r.is_empty())
                else {
                    return Err(invalid("Orthogonal needs at least two axes"));
                };
                let columns = usize::try_from(columns).unwrap_or(0);
                let rows = usize::try_from(rows.iter().product::<i64>()).unwrap_or(0);
                let gain = single(*gain);
                let (count, length) = (rows.min(columns), rows.max(columns));
                let vectors = orthogonal::orthonormal(&mut rng, count, length);
                for (position, value) in out.iter_mut().enumerate() {
                    // The columns are orthogonal, or the rows if there are fewer of them.
                    let at = if rows < columns {
                        position
                    } else {
                        position % columns * length + position / columns
                    };
                    *value = gain * single(vectors[at]);
                }
            }
        }
        Ok(())
    }
}

/// The named forms of VarianceScaling.
fn named_scaling(name: &str) -> Option<(f64, Fan, Shape)> {
    Some(match name {
        "GlorotUniform" | "glorot_uniform" => (1.0, Fan::Average, Shape::Uniform),
        "GlorotNormal" | "glorot_normal" => (1.0, Fan::Average, Shape::TruncatedNormal),
        "HeUniform" | "he_uniform" => (2.0, Fan::In, Shape::Uniform),
        "HeNormal" | "he_normal" => (2.0, Fan::In, Shape::TruncatedNormal),
        "LecunUniform" | "lecun_uniform" => (1.0, Fan::In, Shape::Uniform),
        "LecunNormal" | "lecun_normal" => (1.0, Fan::In, Shape::TruncatedNormal),
        _ => return None,
    })
}

/// The seed: an integer, or a SeedGenerator, whose first draw Keras seeds in the same way. Keras
/// takes the low 32 bits of it.
fn read_seed(options: &Options<'_>) -> Result<Option<u64>> {
    let Given::Value(value) = options.given("seed") else {
        return Ok(None);
    };
    let integer = |value: &Value| value.as_u64().or(value.as_i64().map(i64::cast_unsigned));
    let invalid = || options.invalid(format!("seed = {value} must be an integer"));
    if !value.is_object() {
        let seed = integer(value).ok_or_else(invalid)?;
        return Ok(Some(seed & 0xffff_ffff));
    }
    let place = format!("{}, seed", options.place());
    let Named { class, config } = Named::builtin(value, "keras.random", &place)?;
    if class != "SeedGenerator" {
        return Err(invalid());
    }
    let generator = Options::new(place, &config);
    generator.ignore(&["name"]);
    let seed = match generator.given("seed") {
        Given::Value(value) => Some(integer(value).ok_or_else(invalid)? & 0xffff_ffff),
        Given::Absent | Given::Null => None,
    };
    generator.finish()?;
    Ok(seed)
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

#[cfg(test)]
mod tests;
