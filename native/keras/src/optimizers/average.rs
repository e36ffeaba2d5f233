//! The exponential moving average of the parameters that an optimizer can keep (`use_ema`).

use serde_json::{Map, Value};

use super::rule::single;
use super::sweep::map_1;
use crate::config::Options;
use crate::error::Result;

/// The arguments as Keras's config has them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Average {
    /// Whether an average is kept; without it the other two mean nothing.
    pub(super) is_kept: bool,
    momentum: f64,
    overwrite_frequency: Option<i64>,
}

/// What averaging does in one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Averaging {
    momentum: f32,
    overwrites: bool,
}

impl Average {
    pub(super) fn from_options(options: &Options<'_>) -> Result<Self> {
        let is_kept = options.flag("use_ema", false)?;
        let momentum = options.number("ema_momentum", 0.99)?;
        if is_kept && !(0.0..=1.0).contains(&momentum) {
            return Err(options.invalid(format!("ema_momentum = {momentum} must lie in [0, 1]")));
        }
        let overwrite_frequency = options.integer_or_null("ema_overwrite_frequency", None)?;
        if is_kept && overwrite_frequency.is_some_and(|steps| steps < 0) {
            let reason = "ema_overwrite_frequency must be an integer above 0 or null";
            return Err(options.invalid(reason));
        }
        Ok(Self {
            is_kept,
            momentum,
            overwrite_frequency,
        })
    }

    /// What to do after `updates` updates of the parameters were done before this step; `None`
    /// without an average. The first update's result begins the average.
    pub(super) fn averaging(self, updates: i64) -> Option<Averaging> {
        let overwrites = |steps| steps > 0 && (updates + 1) % steps == 0;
        self.is_kept.then(|| Averaging {
            momentum: if updates == 0 {
                0.0
            } else {
                single(self.momentum)
            },
            overwrites: self.overwrite_frequency.is_some_and(overwrites),
        })
    }

    /// Adds Keras's three keys to a serialized config.
    pub(super) fn describe(self, config: &mut Map<String, Value>) {
        config.insert("use_ema".into(), self.is_kept.into());
        config.insert("ema_momentum".into(), self.momentum.into());
        let frequency = self.overwrite_frequency.into();
        config.insert("ema_overwrite_frequency".into(), frequency);
    }
}

impl Averaging {
    /// Takes parameters into their average, and the average over the parameters if it is time.
    pub(super) fn apply(self, params: &mut [f32], average: &mut [f32]) {
        let (momentum, rest) = (self.momentum, 1.0 - self.momentum);
        map_1(average, params, |a, p| *a = momentum * *a + rest * *p);
        if self.overwrites {
            params.copy_from_slice(average);
        }
    }
}
