//! The numbers that random initializers draw.

use std::f64::consts::TAU;

use rand_core::Rng as _;

use crate::context::Rng;

/// Standard deviation of a standard normal distribution cut off at two, by which Keras divides.
pub(super) const TRUNCATED_STDDEV: f64 = 0.879_625_661_034_239_8;

/// A distribution with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Distribution {
    /// From `low` to below `high`.
    Uniform {
        low: f64,
        high: f64,
    },
    Normal {
        mean: f64,
        stddev: f64,
    },
    /// A normal distribution without what lies more than two deviations from the mean.
    TruncatedNormal {
        mean: f64,
        stddev: f64,
    },
}

impl Distribution {
    /// The next number.
    pub(super) fn draw(self, rng: &mut Rng) -> f64 {
        match self {
            Self::Uniform { low, high } => low + (high - low) * unit(rng),
            Self::Normal { mean, stddev } => mean + stddev * normal(rng),
            Self::TruncatedNormal { mean, stddev } => mean + stddev * truncated(rng),
        }
    }
}

/// From 0 to below 1.
fn unit(rng: &mut Rng) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact in f64")]
    let bits = (rng.next_u64() >> 11) as f64;
    bits / (1_u64 << 53) as f64
}

/// Box and Muller's transform.
pub(super) fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (TAU * unit(rng)).cos()
}

fn truncated(rng: &mut Rng) -> f64 {
    loop {
        let value = normal(rng);
        if value.abs() <= 2.0 {
            return value;
        }
    }
}
