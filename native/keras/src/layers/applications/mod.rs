//! The layers that `keras.applications` defines for its own models.

mod custom_scale;
mod layer_scale;
mod stochastic_depth;

use super::Family;

pub(super) const LAYERS: Family = &[
    ("CustomScaleLayer", custom_scale::build),
    ("LayerScale", layer_scale::build),
    ("StochasticDepth", stochastic_depth::build),
];
