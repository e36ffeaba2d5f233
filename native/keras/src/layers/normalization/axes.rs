//! Option `axis` of the normalizations that take one axis or several.

use serde_json::Value as Json;

use crate::config::Options;
use crate::error::Result;
use crate::spec::{Spec, position};

/// Axes as a config names them, in the order in which Keras sorts them: by number, so that those
/// counted from the end come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Axes(Vec<i64>);

impl Axes {
    /// Reads option `axis`; absent, it is the last.
    pub(super) fn read(options: &Options<'_>) -> Result<Self> {
        let value = match options.value("axis") {
            Some(value) => value,
            None if options.is_null("axis") => &Json::Null,
            None => return Ok(Self(vec![-1])),
        };
        let axes = match value {
            Json::Array(axes) => axes.iter().map(Json::as_i64).collect(),
            value => value.as_i64().map(|axis| vec![axis]),
        };
        let axes: Option<Vec<i64>> = axes;
        let mut axes = axes.filter(|axes| !axes.is_empty()).ok_or_else(|| {
            options.invalid(format!(
                "axis = {value} must be an integer or a list of them"
            ))
        })?;
        axes.sort_unstable();
        Ok(Self(axes))
    }

    /// Their sizes in an input, in Keras's order: the shape of its variables.
    ///
    /// # Errors
    /// One does not exist, is named twice or has no known size.
    pub(super) fn sizes(&self, input: &Spec) -> std::result::Result<Vec<i64>, String> {
        let mut places = self
            .0
            .iter()
            .map(|&axis| input.axis(axis))
            .collect::<Result<Vec<_>, _>>()?;
        places.sort_unstable();
        if places.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(format!(
                "axis = {:?} names an axis of {input} twice",
                self.0
            ));
        }
        self.0.iter().map(|&axis| input.size(axis)).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Where they are among `rank` axes, ascending.
    pub(super) fn places(&self, rank: usize) -> Vec<i64> {
        let places = self.0.iter().filter_map(|&axis| position(axis, rank));
        let mut places: Vec<i64> = places.filter_map(|at| i64::try_from(at).ok()).collect();
        places.sort_unstable();
        places
    }
}

/// Option `epsilon`; null is Keras's own, 1e-7.
pub(super) fn epsilon(options: &Options<'_>, default: f64) -> Result<f64> {
    if options.is_null("epsilon") {
        return Ok(1e-7);
    }
    options.f64("epsilon", default)
}
