//! Keras's three ways to clip gradients; an optimizer has at most one of them.

use serde_json::{Map, Value};

use super::rule::single;
use super::sweep::map;
use crate::config::Options;
use crate::error::Result;

/// The limits as Keras's config has them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clip {
    /// Limit of the L2 norm of each variable's gradient.
    clipnorm: Option<f64>,
    /// Limit of the L2 norm over all gradients.
    global_clipnorm: Option<f64>,
    /// Limit of each element's absolute value.
    clipvalue: Option<f64>,
}

/// What clipping does to the gradients of one step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Clipping {
    /// Nothing.
    None,
    /// Limits the elements.
    Values(f32),
    /// Times the limit, divided by the greater of the limit and the variable's norm.
    Norms {
        /// The limit.
        limit: f32,
        /// The divisors, by variable.
        divisors: Vec<f32>,
    },
    /// Times a factor.
    Global(f32),
}

impl Clip {
    /// Reads the clipping of an optimizer. A limit of 0 or below clips nothing, as in Keras.
    pub(super) fn from_options(options: &Options<'_>) -> Result<Self> {
        let clip = Self {
            clipnorm: options.number_or_null("clipnorm", None)?,
            global_clipnorm: options.number_or_null("global_clipnorm", None)?,
            clipvalue: options.number_or_null("clipvalue", None)?,
        };
        let limits = [clip.clipnorm, clip.global_clipnorm, clip.clipvalue];
        if limits.into_iter().flatten().count() > 1 {
            let reason = "only one of clipnorm, global_clipnorm and clipvalue can be set";
            return Err(options.invalid(reason));
        }
        Ok(clip)
    }

    /// What each element's magnitude is limited to.
    pub(super) fn limit(self) -> Option<f32> {
        active(self.clipvalue).map(single)
    }

    /// Whether the norm is that over all gradients.
    pub(super) fn is_global(self) -> bool {
        active(self.global_clipnorm).is_some()
    }

    /// Whether [`Self::clipping`] looks at the norms.
    pub(super) fn needs_norms(self) -> bool {
        active(self.clipnorm)
            .or(active(self.global_clipnorm))
            .is_some()
    }

    /// What to do to gradients with these sums of squares by variable.
    pub(super) fn clipping(self, sums_of_squares: &[f64]) -> Clipping {
        let norm = |sum: f64| single(sum).sqrt();
        if let Some(limit) = active(self.clipnorm) {
            // Not `max`, which would hide a NaN.
            let divisor = |norm: f32| {
                if norm <= single(limit) {
                    single(limit)
                } else {
                    norm
                }
            };
            return Clipping::Norms {
                limit: single(limit),
                divisors: sums_of_squares
                    .iter()
                    .map(|&sum| divisor(norm(sum)))
                    .collect(),
            };
        }
        if let Some(limit) = active(self.global_clipnorm) {
            let norm = norm(sums_of_squares.iter().sum());
            let factor = single(limit) * (1.0 / norm).min(single(1.0 / limit));
            // A norm that is not finite makes every gradient NaN, as in Keras.
            return Clipping::Global(if norm.is_finite() { factor } else { f32::NAN });
        }
        self.limit().map_or(Clipping::None, Clipping::Values)
    }

    /// Adds Keras's three keys to a serialized config.
    pub(super) fn describe(self, config: &mut Map<String, Value>) {
        config.insert("clipnorm".into(), self.clipnorm.into());
        config.insert("global_clipnorm".into(), self.global_clipnorm.into());
        config.insert("clipvalue".into(), self.clipvalue.into());
    }
}

impl Clipping {
    /// Clips a piece of the gradient of `variable` in place. Gives what it is multiplied by.
    pub(super) fn apply(&self, variable: usize, grads: &mut [f32]) -> f32 {
        match *self {
            Self::None => 1.0,
            Self::Values(limit) => {
                map(grads, |g| g.clamp(-limit, limit));
                1.0
            }
            Self::Norms {
                limit,
                ref divisors,
            } => {
                let divisor = divisors[variable];
                map(grads, |g| g * limit / divisor);
                limit / divisor
            }
            Self::Global(factor) => {
                map(grads, |g| g * factor);
                factor
            }
        }
    }
}

fn active(limit: Option<f64>) -> Option<f64> {
    limit.filter(|&limit| limit > 0.0)
}
