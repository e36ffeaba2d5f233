//! Keras's three ways to clip gradients; an optimizer has at most one of them.

use std::ops::Range;

use serde_json::{Map, Value};

use super::rule::single;
use super::sweep::{map, sum_of_squares};
use crate::config::Options;
use crate::error::Result;

#[derive(Debug, Clone, Copy)]
pub(super) struct Clip {
    /// Limit of the L2 norm of each variable's gradient.
    clipnorm: Option<f64>,
    /// Limit of the L2 norm over all gradients.
    global_clipnorm: Option<f64>,
    /// Limit of each element's absolute value.
    clipvalue: Option<f64>,
}

impl Clip {
    /// Reads the clipping of an optimizer. A limit of 0 clips nothing, as in Keras.
    pub(super) fn from_options(options: &Options<'_>) -> Result<Self> {
        let clip = Self {
            clipnorm: options.optional_f64("clipnorm")?,
            global_clipnorm: options.optional_f64("global_clipnorm")?,
            clipvalue: options.optional_f64("clipvalue")?,
        };
        let limits = [clip.clipnorm, clip.global_clipnorm, clip.clipvalue];
        if limits.into_iter().flatten().count() > 1 {
            let reason = "only one of clipnorm, global_clipnorm and clipvalue can be set";
            return Err(options.invalid(reason));
        }
        Ok(clip)
    }

    /// Clips the gradients in place; `spans` are the variables' places.
    pub(super) fn apply(self, grads: &mut [f32], spans: impl Iterator<Item = Range<usize>>) {
        if let Some(limit) = active(self.clipnorm) {
            for span in spans {
                let grads = &mut grads[span];
                let norm = norm(grads);
                // Not `max`, which would hide a NaN.
                let divisor = if norm <= limit { limit } else { norm };
                map(grads, |g| g * limit / divisor);
            }
        } else if let Some(limit) = active(self.global_clipnorm) {
            let norm = norm(grads);
            // A norm that is not finite makes every gradient NaN, as in Keras.
            let factor = limit * (1.0 / norm).min(1.0 / limit);
            let factor = if norm.is_finite() { factor } else { f32::NAN };
            map(grads, |g| g * factor);
        } else if let Some(limit) = active(self.clipvalue) {
            map(grads, |g| g.clamp(-limit, limit));
        }
    }

    /// Adds Keras's three keys to a serialized config.
    pub(super) fn describe(self, config: &mut Map<String, Value>) {
        config.insert("clipnorm".into(), self.clipnorm.into());
        config.insert("global_clipnorm".into(), self.global_clipnorm.into());
        config.insert("clipvalue".into(), self.clipvalue.into());
    }
}

fn active(limit: Option<f64>) -> Option<f32> {
    limit.map(single).filter(|&limit| limit > 0.0)
}

fn norm(values: &[f32]) -> f32 {
    single(sum_of_squares(values).sqrt())
}
