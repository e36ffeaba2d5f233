//! Axes and sizes as options give them, and the shapes of reductions.

use serde_json::Value as Json;

use super::operand::Checked;
use crate::config::Options;
use crate::error::Result;
use crate::spec::{Spec, position};

/// Option `axis`: all axes, or those listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Axes {
    All,
    Listed(Vec<i64>),
}

impl Axes {
    /// Reads `key`: null for all, one axis or a list.
    pub(super) fn read(options: &Options<'_>, key: &str) -> Result<Self> {
        Ok(integers(options, key)?.map_or(Self::All, Self::Listed))
    }

    /// The positions among `rank` axes, in order.
    ///
    /// # Errors
    /// There is no such axis, or it is named twice.
    pub(super) fn positions(&self, rank: usize) -> Checked<Vec<usize>> {
        let mut found = match self {
            Self::All => (0..rank).collect(),
            Self::Listed(axes) => positions(axes, rank)?,
        };
        found.sort_unstable();
        Ok(found)
    }
}

/// The positions of several axes among `rank`.
///
/// # Errors
/// There is no such axis, or it is named twice.
pub(super) fn positions(axes: &[i64], rank: usize) -> Checked<Vec<usize>> {
    let mut found = Vec::with_capacity(axes.len());
    for &axis in axes {
        let at = position(axis, rank);
        let at = at.ok_or_else(|| format!("has no axis {axis} among its {rank} axes"))?;
        if found.contains(&at) {
            return Err(format!("names axis {axis} twice"));
        }
        found.push(at);
    }
    Ok(found)
}

/// Positions as libtorch takes them.
pub(super) fn signed(positions: &[usize]) -> Vec<i64> {
    let signed = positions.iter();
    signed
        .map(|&at| i64::try_from(at).unwrap_or(i64::MAX))
        .collect()
}

/// The axes that are left when `reduced` are, or are 1 with `keepdims`.
pub(super) fn reduced_dims(
    dims: &[Option<i64>],
    reduced: &[usize],
    keepdims: bool,
) -> Vec<Option<i64>> {
    let axes = dims.iter().enumerate();
    axes.filter_map(|(at, dim)| match reduced.contains(&at) {
        true if keepdims => Some(Some(1)),
        true => None,
        false => Some(*dim),
    })
    .collect()
}

/// The product of all axes; `None` if one is unknown.
pub(super) fn elements(spec: &Spec) -> Option<i64> {
    let mut dims = spec.dims.iter();
    dims.try_fold(1_i64, |count, dim| count.checked_mul((*dim)?))
}

/// One integer or a list of them; `None` if absent or null.
pub(super) fn integers(options: &Options<'_>, key: &str) -> Result<Option<Vec<i64>>> {
    let Some(value) = options.value(key) else {
        return Ok(None);
    };
    let list = list_of_integers(value);
    let wrong = || {
        options.invalid(format!(
            "{key} = {value} must be an integer or a list of them"
        ))
    };
    list.ok_or_else(wrong).map(Some)
}

/// As [`integers`], but it must be there.
pub(super) fn required_integers(options: &Options<'_>, key: &str) -> Result<Vec<i64>> {
    integers(options, key)?.ok_or_else(|| options.invalid(format!("{key} is missing")))
}

/// One integer or a list of them.
pub(super) fn list_of_integers(value: &Json) -> Option<Vec<i64>> {
    match value {
        Json::Array(items) => items.iter().map(Json::as_i64).collect(),
        other => other.as_i64().map(|n| vec![n]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn axes_are_sorted_and_checked() {
        let map = json!({"axis": [-1, 0], "one": 2, "none": null, "bad": "x"});
        let map = map.as_object().unwrap().clone();
        let options = Options::new("operation", &map);
        let axes = Axes::read(&options, "axis").unwrap();
        assert_eq!(axes.positions(3), Ok(vec![0, 2]));
        assert!(axes.positions(1).unwrap_err().contains("twice"));
        assert_eq!(Axes::read(&options, "none").unwrap(), Axes::All);
        let one = Axes::read(&options, "one").unwrap();
        assert!(one.positions(2).unwrap_err().contains("no axis 2"));
        assert!(Axes::read(&options, "bad").is_err());
    }

    #[test]
    fn reductions_keep_or_drop_axes() {
        let dims = [None, Some(3), Some(4)];
        assert_eq!(reduced_dims(&dims, &[1], false), [None, Some(4)]);
        assert_eq!(
            reduced_dims(&dims, &[0, 2], true),
            [Some(1), Some(3), Some(1)]
        );
    }
}
