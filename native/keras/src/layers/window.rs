//! Sliding windows over the spatial axes: output sizes and TensorFlow's padding rule, shared by
//! convolution and pooling.

use serde_json::Value as Json;
use tch::Tensor;

use super::layout::{Layout, sizes};
use crate::config::{Given, Options};
use crate::error::Result;

/// Windows of `size`, moved by `strides`, with `dilation` between their elements; each has one
/// number per spatial axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) size: Vec<i64>,
    pub(crate) strides: Vec<i64>,
    pub(crate) dilation: Vec<i64>,
    pub(crate) padding: Padding,
}

/// Keras's `padding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    /// Only whole windows.
    Valid,
    /// As many windows as strides fit, with the odd element after.
    Same,
    /// All elements before, so that no output sees a later input.
    Causal,
}

impl Padding {
    /// Reads option `padding`, one of `allowed`; absent is valid.
    pub(crate) fn read(options: &Options<'_>, allowed: &[&str]) -> Result<Self> {
        let value = match options.given("padding") {
            Given::Absent => return Ok(Self::Valid),
            Given::Null => &Json::Null,
            Given::Value(value) => value,
        };
        match value.as_str().filter(|name| allowed.contains(name)) {
            Some("valid") => Ok(Self::Valid),
            Some("same") => Ok(Self::Same),
            Some("causal") => Ok(Self::Causal),
            _ => Err(options.unsupported("padding", value, &allowed.join(", "))),
        }
    }
}

impl Window {
    /// Reads `kernel_size`, `strides`, `dilation_rate` and `padding` of a convolution.
    pub(crate) fn of_kernel(options: &Options<'_>, rank: usize, paddings: &[&str]) -> Result<Self> {
        let size = sizes(options, "kernel_size", rank)?;
        let size = size.ok_or_else(|| options.invalid("kernel_size is missing"))?;
        Self::of_size(size, options, paddings)
    }

    /// As [`Self::of_kernel`] for a kernel of a known size.
    pub(crate) fn of_size(
        size: Vec<i64>,
        options: &Options<'_>,
        paddings: &[&str],
    ) -> Result<Self> {
        let rank = size.len();
        let ones = || vec![1; rank];
        Ok(Self {
            strides: sizes(options, "strides", rank)?.unwrap_or_else(ones),
            dilation: sizes(options, "dilation_rate", rank)?.unwrap_or_else(ones),
            padding: Padding::read(options, paddings)?,
            size,
        })
    }

    /// Reads `pool_size`, `strides` (null for the size) and `padding` of a pooling.
    pub(crate) fn of_pool(options: &Options<'_>, rank: usize) -> Result<Self> {
        let size = sizes(options, "pool_size", rank)?.unwrap_or_else(|| vec![2; rank]);
        let strides = if options.is_null("strides") {
            None
        } else {
            sizes(options, "strides", rank)?
        };
        Ok(Self {
            strides: strides.unwrap_or_else(|| size.clone()),
            dilation: vec![1; rank],
            size,
            padding: Padding::read(options, &["valid", "same"])?,
        })
    }

    /// Strides and dilation both above 1, which convolutions of Keras refuse.
    pub(crate) fn require_strides_or_dilation(&self, options: &Options<'_>) -> Result<()> {
        let above_one = |sizes: &[i64]| sizes.iter().any(|&size| size > 1);
        if above_one(&self.strides) && above_one(&self.dilation) {
            return Err(options.invalid(format!(
                "strides = {:?} and dilation_rate = {:?} cannot both be above 1",
                self.strides, self.dilation
            )));
        }
        Ok(())
    }

    /// Number of spatial axes.
    pub(crate) fn rank(&self) -> usize {
        self.size.len()
    }

    /// Elements from the first to the last of a window.
    pub(crate) fn extent(&self, axis: usize) -> i64 {
        (self.size[axis] - 1) * self.dilation[axis] + 1
    }

    /// Windows along each spatial axis, `None` where a length is; an error if none fits.
    pub(crate) fn counts(
        &self,
        lengths: &[Option<i64>],
    ) -> std::result::Result<Vec<Option<i64>>, String> {
        let axes = lengths.iter().enumerate();
        axes.map(|(axis, length)| length.map(|length| self.count(axis, length)).transpose())
            .collect()
    }

    fn count(&self, axis: usize, length: i64) -> std::result::Result<i64, String> {
        let (extent, stride) = (self.extent(axis), self.strides[axis]);
        if self.padding != Padding::Valid {
            return Ok((length + stride - 1) / stride);
        }
        if length < extent {
            return Err(format!(
                "a window of {extent} does not fit into an axis of {length}"
            ));
        }
        Ok((length - extent) / stride + 1)
    }

    /// Elements added before and after `axis`. TensorFlow's rule: "same" pads so that there are
    /// `ceil(length / stride)` windows, with the odd element after.
    pub(crate) fn amounts(&self, axis: usize, length: i64) -> (i64, i64) {
        match self.padding {
            Padding::Valid => (0, 0),
            Padding::Causal => (self.extent(axis) - 1, 0),
            Padding::Same => {
                let windows = (length + self.strides[axis] - 1) / self.strides[axis];
                let covered = (windows - 1) * self.strides[axis] + self.extent(axis);
                let total = (covered - length).max(0);
                (total / 2, total - total / 2)
            }
        }
    }

    /// The tensor with its channels second, and the symmetric padding that libtorch is still to
    /// apply. What is not symmetric has been padded with `fill`, in the tensor's own layout.
    pub(crate) fn pad(&self, layout: Layout, x: &Tensor, fill: f64) -> Result<(Tensor, Vec<i64>)> {
        let size = x.size();
        let lengths = layout.between(&size).iter().enumerate();
        let amounts = lengths.map(|(axis, &length)| self.amounts(axis, length));
        let amounts: Vec<(i64, i64)> = amounts.collect();
        if amounts.iter().all(|(before, after)| before == after) {
            let symmetric = amounts.iter().map(|(before, _)| *before).collect();
            return Ok((layout.channels_second(x)?, symmetric));
        }
        let padded = layout.pad(x, &amounts, fill)?;
        Ok((layout.channels_second(&padded)?, vec![0; self.rank()]))
    }

    /// The elements of all windows of a tensor whose spatial axes begin at `first`: an axis of
    /// windows in the place of each of these, and an axis of elements for each at the end.
    pub(crate) fn elements(&self, x: &Tensor, first: i64) -> Result<Tensor> {
        let mut y = x.shallow_clone();
        for (axis, at) in (first..).take(self.rank()).enumerate() {
            let spread = y.f_unfold(at, self.extent(axis), self.strides[axis])?;
            y = spread.f_slice(-1, None, None, self.dilation[axis])?;
        }
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(size: i64, stride: i64, dilation: i64, padding: Padding) -> Window {
        Window {
            size: vec![size; 2],
            strides: vec![stride; 2],
            dilation: vec![dilation; 2],
            padding,
        }
    }

    #[test]
    fn same_padding_puts_the_odd_element_after() {
        let cases = [
            // size, stride, dilation, length, windows, before, after
            (3, 1, 1, 28, 28, 1, 1),
            (3, 2, 1, 28, 14, 0, 1),
            (3, 2, 1, 7, 4, 1, 1),
            (2, 2, 1, 7, 4, 0, 1),
            (2, 1, 1, 5, 5, 0, 1),
            (5, 3, 1, 10, 4, 2, 2),
            (3, 1, 2, 6, 6, 2, 2),
            (1, 2, 1, 5, 3, 0, 0),
            (2, 3, 1, 7, 3, 0, 1),
        ];
        for (size, stride, dilation, length, windows, before, after) in cases {
            let window = window(size, stride, dilation, Padding::Same);
            assert_eq!(window.count(0, length), Ok(windows), "{window:?} {length}");
            assert_eq!(window.amounts(0, length), (before, after), "{window:?}");
        }
    }

    #[test]
    fn valid_windows_must_fit() {
        assert_eq!(window(3, 1, 1, Padding::Valid).count(0, 28), Ok(26));
        assert_eq!(window(3, 2, 2, Padding::Valid).count(0, 9), Ok(3));
        assert!(window(3, 1, 2, Padding::Valid).count(0, 4).is_err());
        let counts = window(3, 1, 1, Padding::Valid).counts(&[None, Some(5)]);
        assert_eq!(counts, Ok(vec![None, Some(3)]));
    }
}
