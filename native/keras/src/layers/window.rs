//! Sliding windows over images: output sizes and TensorFlow's padding rule, shared by convolution
//! and pooling.

use tch::Tensor;

use crate::config::Options;
use crate::error::Result;

/// Windows of `size`, moved by `strides`, with `dilation` between their elements; pairs are
/// (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) size: [i64; 2],
    pub(super) strides: [i64; 2],
    pub(super) dilation: [i64; 2],
    pub(super) same: bool,
}

/// Elements added before and after one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Padding {
    pub(super) before: i64,
    pub(super) after: i64,
}

impl Window {
    /// Reads `size_key`, `strides` (default: `strides`, or the size if that is `None`) and
    /// `padding`; there is no dilation.
    pub(super) fn read(
        options: &Options<'_>,
        size_key: &'static str,
        strides: Option<[i64; 2]>,
    ) -> Result<Self> {
        let size = options.required_pair(size_key)?;
        let strides = options.pair("strides")?.or(strides).unwrap_or(size);
        let same = options.choice("padding", "valid", &["valid", "same"])? == "same";
        Ok(Self {
            size,
            strides,
            dilation: [1, 1],
            same,
        })
    }

    fn extent(&self, axis: usize) -> i64 {
        (self.size[axis] - 1) * self.dilation[axis] + 1
    }

    /// Windows along `axis` (0 height, 1 width) of `length` elements; an error if none fits.
    pub(super) fn count(&self, axis: usize, length: i64) -> std::result::Result<i64, String> {
        let (extent, stride) = (self.extent(axis), self.strides[axis]);
        if self.same {
            return Ok((length + stride - 1) / stride);
        }
        if length < extent {
            return Err(format!(
                "a window of {extent} does not fit into an axis of {length}"
            ));
        }
        Ok((length - extent) / stride + 1)
    }

    /// TensorFlow's rule: "same" pads so that there are `ceil(length / stride)` windows, with the
    /// odd element after.
    pub(super) fn padding(&self, axis: usize, length: i64) -> Padding {
        if !self.same {
            return Padding {
                before: 0,
                after: 0,
            };
        }
        let windows = (length + self.strides[axis] - 1) / self.strides[axis];
        let covered = (windows - 1) * self.strides[axis] + self.extent(axis);
        let total = (covered - length).max(0);
        Padding {
            before: total / 2,
            after: total - total / 2,
        }
    }

    /// Prepares an NCHW tensor: either the symmetric padding that libtorch applies itself, or the
    /// tensor padded with `fill` and no padding left.
    pub(super) fn pad(&self, x: &Tensor, fill: f64) -> Result<(Tensor, [i64; 2])> {
        let size = x.size();
        let [height, width] = [self.padding(0, size[2]), self.padding(1, size[3])];
        if height.before == height.after && width.before == width.after {
            return Ok((x.shallow_clone(), [height.before, width.before]));
        }
        let amounts = [width.before, width.after, height.before, height.after];
        Ok((x.f_pad(amounts, "constant", fill)?, [0, 0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(size: i64, stride: i64, dilation: i64, same: bool) -> Window {
        Window {
            size: [size; 2],
            strides: [stride; 2],
            dilation: [dilation; 2],
            same,
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
            let window = window(size, stride, dilation, true);
            assert_eq!(
                window.count(0, length),
                Ok(windows),
                "{window:?} over {length}"
            );
            assert_eq!(
                window.padding(0, length),
                Padding { before, after },
                "{window:?}"
            );
        }
    }

    #[test]
    fn valid_windows_must_fit() {
        assert_eq!(window(3, 1, 1, false).count(0, 28), Ok(26));
        assert_eq!(window(3, 2, 2, false).count(0, 9), Ok(3));
        assert!(window(3, 1, 2, false).count(0, 4).is_err());
    }
}
