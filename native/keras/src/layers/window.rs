//! Sliding windows over the spatial axes: output sizes and TensorFlow's padding rule, shared by
//! convolution and pooling.

use tch::Tensor;

use super::layout::sizes;
use crate::config::Options;
use crate::error::Result;

/// Windows of `size`, moved by `strides`, with `dilation` between their elements; each has one
/// number per spatial axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::layers) struct Window {
    pub(in crate::layers) size: Vec<i64>,
    pub(in crate::layers) strides: Vec<i64>,
    pub(in crate::layers) dilation: Vec<i64>,
    pub(in crate::layers) padding: Padding,
}

/// Keras's `padding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::layers) enum Padding {
    /// Only whole windows.
    Valid,
    /// As many windows as strides fit, with the odd element after.
    Same,
    /// All elements before, so that no output sees a later input.
    Causal,
}

impl Window {
    /// Reads `size_key`, `strides` (default: `strides`, or the size if that is `None`) and
    /// `padding`; there is no dilation.
    pub(in crate::layers) fn read(
        options: &Options<'_>,
        size_key: &str,
        rank: usize,
        strides: Option<i64>,
    ) -> Result<Self> {
        let size = sizes(options, size_key, rank)?
            .ok_or_else(|| options.invalid(format!("{size_key} is missing")))?;
        let default = strides.map_or_else(|| size.clone(), |stride| vec![stride; rank]);
        let strides = sizes(options, "strides", rank)?.unwrap_or(default);
        let padding = match options.choice("padding", "valid", &["valid", "same", "causal"])? {
            "same" => Padding::Same,
            "causal" => Padding::Causal,
            _ => Padding::Valid,
        };
        if padding == Padding::Causal && (rank != 1 || size_key == "pool_size") {
            return Err(options.invalid("padding = \"causal\" is for Conv1D only"));
        }
        Ok(Self {
            dilation: vec![1; rank],
            size,
            strides,
            padding,
        })
    }

    fn extent(&self, axis: usize) -> i64 {
        (self.size[axis] - 1) * self.dilation[axis] + 1
    }

    /// Windows along each spatial axis, `None` where a length is; an error if none fits.
    pub(in crate::layers) fn counts(
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
    pub(in crate::layers) fn amounts(&self, axis: usize, length: i64) -> (i64, i64) {
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

    /// Prepares a tensor with channels second: either the symmetric padding that libtorch applies
    /// itself, or the tensor padded with `fill` and no padding left.
    pub(in crate::layers) fn pad(&self, x: &Tensor, fill: f64) -> Result<(Tensor, Vec<i64>)> {
        let size = x.size();
        let amounts: Vec<(i64, i64)> = (0..self.size.len())
            .map(|axis| self.amounts(axis, size[axis + 2]))
            .collect();
        if amounts.iter().all(|(before, after)| before == after) {
            let symmetric = amounts.iter().map(|(before, _)| *before);
            return Ok((x.shallow_clone(), symmetric.collect()));
        }
        // libtorch takes the amounts of the last axis first.
        let reversed = amounts.iter().rev();
        let flat: Vec<i64> = reversed
            .flat_map(|(before, after)| [*before, *after])
            .collect();
        Ok((x.f_pad(flat, "constant", fill)?, vec![0; self.size.len()]))
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
