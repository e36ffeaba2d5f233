//! Where a layer's channels lie. Keras's default is channels last; libtorch's operators take them
//! second, which is the same memory seen through a permutation.

use serde_json::Value as Json;
use tch::Tensor;

use crate::config::Options;
use crate::error::Result;
use crate::spec::Spec;

/// Keras's `data_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::layers) enum Layout {
    ChannelsLast,
    ChannelsFirst,
}

impl Layout {
    /// Reads option `data_format`; absent or null is channels last.
    pub(in crate::layers) fn read(options: &Options<'_>) -> Result<Self> {
        let known = ["channels_last", "channels_first"];
        Ok(
            match options.choice("data_format", "channels_last", &known)? {
                "channels_first" => Self::ChannelsFirst,
                _ => Self::ChannelsLast,
            },
        )
    }

    /// Axis of the channels, counted from the end if negative.
    pub(in crate::layers) fn channel_axis(self) -> i64 {
        match self {
            Self::ChannelsLast => -1,
            Self::ChannelsFirst => 1,
        }
    }

    /// The sizes of the axes between batch and channels.
    pub(in crate::layers) fn spatial(self, spec: &Spec) -> Vec<Option<i64>> {
        let axes = spec.dims.len();
        match self {
            Self::ChannelsLast => spec.dims.get(1..axes.saturating_sub(1)),
            Self::ChannelsFirst => spec.dims.get(2..),
        }
        .unwrap_or_default()
        .to_vec()
    }

    /// The axes of a batch with these spatial sizes and channels.
    pub(in crate::layers) fn join(
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
    pub(in crate::layers) fn channels_second(self, x: &Tensor) -> Result<Tensor> {
        if self == Self::ChannelsFirst {
            return Ok(x.shallow_clone());
        }
        let rank = i64::try_from(x.dim()).unwrap_or(0);
        let axes: Vec<i64> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        Ok(x.f_permute(axes)?)
    }

    /// The inverse of [`Self::channels_second`].
    pub(in crate::layers) fn restore(self, x: &Tensor) -> Result<Tensor> {
        if self == Self::ChannelsFirst {
            return Ok(x.shallow_clone());
        }
        let rank = i64::try_from(x.dim()).unwrap_or(0);
        let axes: Vec<i64> = std::iter::once(0).chain(2..rank).chain([1]).collect();
        Ok(x.f_permute(axes)?)
    }
}

/// Spatial axes of the class `Name1D`, `Name2D` or `Name3D`.
pub(in crate::layers) fn spatial_rank(class: &str) -> usize {
    let digit = class.trim_end_matches("Transpose").as_bytes();
    match digit {
        [.., b'1', b'D'] => 1,
        [.., b'3', b'D'] => 3,
        _ => 2,
    }
}

/// One positive integer for all spatial axes, or a list of one for each; `None` if absent or null.
pub(in crate::layers) fn sizes(
    options: &Options<'_>,
    key: &str,
    rank: usize,
) -> Result<Option<Vec<i64>>> {
    let Some(value) = options.value(key) else {
        return Ok(None);
    };
    let positive = |value: &Json| value.as_i64().filter(|&n| n > 0);
    let sizes = match value {
        Json::Array(items) => items.iter().map(positive).collect::<Option<Vec<_>>>(),
        value => positive(value).map(|n| vec![n; rank]),
    };
    let sizes = sizes.filter(|sizes| sizes.len() == rank);
    let wrong = || {
        options.invalid(format!(
            "{key} = {value} must be a positive integer or a list of {rank}"
        ))
    };
    sizes.ok_or_else(wrong).map(Some)
}
