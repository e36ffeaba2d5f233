//! Where a layer's channels lie. Keras's default is channels last; libtorch's operators take them
//! second, which is the same memory seen through a permutation.

use serde_json::Value as Json;
use tch::Tensor;

use crate::config::{Given, Options};
use crate::error::Result;
use crate::scope::Scope;
use crate::spec::Spec;

/// Keras's `data_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    ChannelsLast,
    ChannelsFirst,
}

impl Layout {
    /// Reads option `data_format`; absent or null is channels last.
    pub(crate) fn read(options: &Options<'_>) -> Result<Self> {
        let known = ["channels_last", "channels_first"];
        Ok(
            match options.choice("data_format", "channels_last", &known)? {
                "channels_first" => Self::ChannelsFirst,
                _ => Self::ChannelsLast,
            },
        )
    }

    /// Axis of the channels, counted from the end if negative.
    pub(crate) fn channel_axis(self) -> i64 {
        match self {
            Self::ChannelsLast => -1,
            Self::ChannelsFirst => 1,
        }
    }

    /// The sizes of the axes between batch and channels.
    pub(crate) fn spatial(self, spec: &Spec) -> Vec<Option<i64>> {
        self.between(&spec.dims).to_vec()
    }

    /// What belongs to the axes between batch and channels, of what belongs to all axes.
    pub(crate) fn between<T>(self, axes: &[T]) -> &[T] {
        let count = axes.len();
        match self {
            Self::ChannelsLast => axes.get(1..count.saturating_sub(1)),
            Self::ChannelsFirst => axes.get(2..),
        }
        .unwrap_or_default()
    }

    /// Position of the first axis between batch and channels.
    pub(crate) fn first_spatial_axis(self) -> i64 {
        match self {
            Self::ChannelsLast => 1,
            Self::ChannelsFirst => 2,
        }
    }

    /// The axes of a batch with these spatial sizes and channels.
    pub(crate) fn join(
        self,
        batch: Option<i64>,
        spatial: &[Option<i64>],
        channels: Option<i64>,
    ) -> Vec<Option<i64>> {
        match self {
            Self::ChannelsLast => [&[batch], spatial, &[channels]].concat(),
            Self::ChannelsFirst => [&[batch, channels], spatial].concat(),
        }
    }

    /// The tensor with its channels second, without a copy.
    pub(crate) fn channels_second(self, x: &Tensor) -> Result<Tensor> {
        if self == Self::ChannelsFirst {
            return Ok(x.shallow_clone());
        }
        let rank = i64::try_from(x.dim()).unwrap_or(0);
        let axes: Vec<i64> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        Ok(x.f_permute(axes)?)
    }

    /// The inverse of [`Self::channels_second`], without a copy.
    pub(crate) fn restore(self, x: &Tensor) -> Result<Tensor> {
        if self == Self::ChannelsFirst {
            return Ok(x.shallow_clone());
        }
        let rank = i64::try_from(x.dim()).unwrap_or(0);
        let axes: Vec<i64> = std::iter::once(0).chain(2..rank).chain([1]).collect();
        Ok(x.f_permute(axes)?)
    }

    /// The tensor with elements of value `fill` before and after each spatial axis.
    pub(crate) fn pad(self, x: &Tensor, amounts: &[(i64, i64)], fill: f64) -> Result<Tensor> {
        // libtorch takes the amounts of the last axis first.
        let channels = [0, 0];
        let reversed = amounts.iter().rev();
        let spatial = reversed.flat_map(|(before, after)| [*before, *after]);
        let flat: Vec<i64> = match self {
            Self::ChannelsLast => channels.into_iter().chain(spatial).collect(),
            Self::ChannelsFirst => spatial.collect(),
        };
        Ok(x.f_pad(flat, "constant", fill)?)
    }
}

/// Spatial axes of the class `Name1D`, `Name2D` or `Name3D`; of a class whose name does not say,
/// those of its input.
pub(crate) fn spatial_rank(scope: &Scope<'_>) -> usize {
    match scope.class.trim_end_matches("Transpose").as_bytes() {
        [.., b'1', b'D'] => 1,
        [.., b'2', b'D'] => 2,
        [.., b'3', b'D'] => 3,
        _ => scope
            .args
            .inputs()
            .first()
            .map_or(0, |input| input.rank().saturating_sub(2)),
    }
}

/// One positive integer for all spatial axes, or a list of one for each; `None` if absent.
pub(crate) fn sizes(options: &Options<'_>, key: &str, rank: usize) -> Result<Option<Vec<i64>>> {
    integers(options, key, rank, 1)
}

/// As [`sizes`] for integers from `least` on.
pub(crate) fn integers(
    options: &Options<'_>,
    key: &str,
    rank: usize,
    least: i64,
) -> Result<Option<Vec<i64>>> {
    let integer = |value: &Json| value.as_i64().filter(|&n| n >= least);
    let found = match options.given(key) {
        Given::Absent => return Ok(None),
        Given::Null => None,
        Given::Value(Json::Array(items)) => items.iter().map(integer).collect(),
        Given::Value(value) => integer(value).map(|n| vec![n; rank]),
    };
    let wrong = || {
        let value = options.value(key).unwrap_or(&Json::Null);
        options.invalid(format!(
            "{key} = {value} must be an integer from {least} on or a list of {rank}"
        ))
    };
    let found = found.filter(|sizes: &Vec<i64>| sizes.len() == rank);
    found.ok_or_else(wrong).map(Some)
}

/// Amounts before and after each spatial axis: one integer for all of them, or for each axis one
/// integer or two; with one axis its two amounts stand alone. `None` if absent.
pub(crate) fn margins(
    options: &Options<'_>,
    key: &str,
    rank: usize,
) -> Result<Option<Vec<(i64, i64)>>> {
    let integer = |value: &Json| value.as_i64().filter(|&n| n >= 0);
    let pair = |value: &Json| match value {
        Json::Array(items) => match items.as_slice() {
            [before, after] => Some((integer(before)?, integer(after)?)),
            _ => None,
        },
        value => integer(value).map(|n| (n, n)),
    };
    let found = match options.given(key) {
        Given::Absent => return Ok(None),
        Given::Null => None,
        Given::Value(value) if rank == 1 => pair(value).map(|pair| vec![pair]),
        Given::Value(Json::Array(items)) => items.iter().map(pair).collect::<Option<Vec<_>>>(),
        Given::Value(value) => pair(value).map(|pair| vec![pair; rank]),
    };
    let wrong = || {
        let value = options.value(key).unwrap_or(&Json::Null);
        options.invalid(format!(
            "{key} = {value} must be an integer from 0 on, or one or two of them for each of \
             {rank} axes"
        ))
    };
    let found = found.filter(|margins| margins.len() == rank);
    found.ok_or_else(wrong).map(Some)
}
