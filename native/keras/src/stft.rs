//! The short-time Fourier transform along the last axis, and its inverse: of `keras.ops.stft`,
//! `keras.ops.istft` and `MelSpectrogram`.

use std::f64::consts::PI;

use serde_json::Value as Json;
use tch::{Device, Kind, Tensor};

use crate::config::{Given, Options};
use crate::error::Result;
use crate::literals;

/// What the elements of a frame are multiplied with.
#[derive(Debug, Clone, PartialEq)]
enum Window {
    /// `a - (1 - a) cos(2 pi t / n)`.
    RaisedCosine(f64),
    /// One factor for each element.
    Factors(Vec<f64>),
}

/// How a signal is cut into frames.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stft {
    /// Samples that the window lets through, in the middle of the frame.
    length: i64,
    /// Samples from one frame to the next.
    stride: i64,
    /// Samples of a frame.
    fft_length: i64,
    window: Option<Window>,
    /// Whether frame `t` has its centre at `t * stride`, for which the signal is reflected at both
    /// ends; else it starts there.
    center: bool,
}

impl Stft {
    /// Reads the option `window` beside what is given.
    ///
    /// # Errors
    /// The window is no name of one and no array of `length`, or frames are shorter than that.
    pub(crate) fn read(
        options: &Options<'_>,
        [length, stride, fft_length]: [i64; 3],
        center: bool,
    ) -> Result<Self> {
        if fft_length < length || length < 1 || stride < 1 {
            return Err(options.invalid(format!(
                "sequence_length = {length} must be at least 1 and at most fft_length = \
                 {fft_length}, sequence_stride = {stride} at least 1"
            )));
        }
        let window = match options.given("window") {
            Given::Absent => Some(Window::RaisedCosine(0.5)),
            Given::Null => None,
            Given::Value(Json::String(name)) if name == "hann" => Some(Window::RaisedCosine(0.5)),
            Given::Value(Json::String(name)) if name == "hamming" => {
                Some(Window::RaisedCosine(0.54))
            }
            Given::Value(value) => {
                let supported = "\"hann\", \"hamming\", null or sequence_length numbers";
                let wrong = || options.unsupported("window", value, supported);
                let factors = vector(value).ok_or_else(wrong)??;
                if i64::try_from(factors.len()) != Ok(length) {
                    return Err(wrong());
                }
                Some(Window::Factors(factors))
            }
        };
        Ok(Self {
            length,
            stride,
            fft_length,
            window,
            center,
        })
    }

    /// Frames of a signal of `samples`.
    pub(crate) fn frames(&self, samples: i64) -> i64 {
        count(samples + 2 * self.margin(), self.fft_length, self.stride)
    }

    /// Frequencies of a frame.
    pub(crate) fn frequencies(&self) -> i64 {
        self.fft_length / 2 + 1
    }

    /// Samples of the signal that so many frames make, of which the caller wants `length`.
    pub(crate) fn samples(&self, frames: i64, length: Option<i64>) -> i64 {
        let (start, end) = self.kept(frames, length);
        (end - start).max(0)
    }

    /// The complex `[.., frames, frequencies]` of a signal `[.., samples]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = reflected(x, self.margin())?;
        let mut frames = framed(&x, self.fft_length, self.stride)?;
        if let Some(window) = self.window(x.kind(), x.device())? {
            frames = frames.f_mul(&window)?;
        }
        Ok(frames.f_fft_rfft(None, -1, "backward")?)
    }

    /// The signal of a complex `[.., frames, frequencies]`: frames are added where they overlap,
    /// each weighted so that windows cancel out.
    pub(crate) fn inverse(&self, z: &Tensor, length: Option<i64>) -> Result<Tensor> {
        let mut frames = z.f_fft_irfft(self.fft_length, -1, "backward")?;
        if let Some(window) = self.window(frames.kind(), frames.device())? {
            frames = frames.f_mul(&self.inverted(&window)?)?;
        }
        let size = frames.size();
        let (head, count) = match size.as_slice() {
            [head @ .., count, _] => (head, *count),
            _ => (size.as_slice(), 0),
        };
        let options = (Kind::Int64, frames.device());
        let starts = Tensor::f_arange(count, options)?.f_mul_scalar(self.stride)?;
        let places = Tensor::f_arange(self.fft_length, options)?;
        let places = starts.f_unsqueeze(1)?.f_add(&places)?.f_reshape([-1])?;
        let total = self.covered(count);
        let signal = Tensor::f_zeros([head, &[total]].concat(), (frames.kind(), frames.device()))?;
        let signal = signal.f_index_add(-1, &places, &frames.f_flatten(-2, -1)?)?;
        let (start, _) = self.kept(count, length);
        let start = start.min(total);
        Ok(signal.f_narrow(-1, start, self.samples(count, length))?)
    }

    /// Samples that the centre of the first frame lies behind its start.
    fn margin(&self) -> i64 {
        if self.center { self.fft_length / 2 } else { 0 }
    }

    /// Samples from the start of the first frame to the end of the last.
    fn covered(&self, frames: i64) -> i64 {
        (frames - 1).max(0) * self.stride + self.fft_length
    }

    /// Where the signal starts and ends in what the frames cover. As in Keras, nothing is left of
    /// centred frames of one sample.
    fn kept(&self, frames: i64, length: Option<i64>) -> (i64, i64) {
        let (start, covered) = (self.margin(), self.covered(frames));
        let end = match length {
            Some(length) => (start + length).min(covered),
            None if self.center && start == 0 => 0,
            None => covered - start,
        };
        (start, end)
    }

    /// The factors of a frame.
    fn window(&self, kind: Kind, device: Device) -> Result<Option<Tensor>> {
        let factors = match &self.window {
            None => return Ok(None),
            Some(Window::Factors(factors)) => Tensor::f_from_slice(factors)?
                .f_to_kind(kind)?
                .f_to_device(device)?,
            Some(Window::RaisedCosine(_)) if self.length == 1 => {
                Tensor::f_ones([1], (kind, device))?
            }
            Some(Window::RaisedCosine(a)) => {
                // TensorFlow makes only windows of even length periodic.
                let period = self.length - self.length % 2;
                let turns = Tensor::f_arange(self.length, (kind, device))?;
                let angles = turns.f_mul_scalar(2.0 * PI)?.f_div_scalar(period)?;
                let cosines = angles.f_cos()?;
                cosines.f_mul_scalar(a - 1.0)?.f_add_scalar(*a)?
            }
        };
        let spare = self.fft_length - self.length;
        let padding = [spare / 2, spare - spare / 2];
        Ok(Some(factors.f_constant_pad_nd(padding)?))
    }

    /// The window over the sum of squares of all windows that overlap, 0 where they are.
    fn inverted(&self, window: &Tensor) -> Result<Tensor> {
        let overlaps = (self.fft_length + self.stride - 1) / self.stride;
        let padding = [0, overlaps * self.stride - self.fft_length];
        let squares = window.f_square()?.f_constant_pad_nd(padding)?;
        let squares = squares.f_reshape([overlaps, self.stride])?;
        let sums = squares.f_sum_dim_intlist(0, false, window.kind())?;
        let sums = sums.f_repeat([overlaps])?.f_narrow(0, 0, self.fft_length)?;
        let none = sums.f_eq(0.0)?;
        Ok(window.f_div(&sums)?.f_masked_fill(&none, 0.0)?)
    }
}

/// Numbers in a list or an array that Keras serialized; `None` for anything else.
pub(crate) fn vector(value: &Json) -> Option<Result<Vec<f64>>> {
    let read = |tensor: Tensor| {
        let numbers = tensor.f_to_kind(Kind::Double)?.f_reshape([-1])?;
        Ok(Vec::<f64>::try_from(numbers)?)
    };
    let list = literals::shape(value).filter(|shape| shape.len() == 1);
    let tensor = match list {
        Some(_) => literals::tensor(value, Kind::Double, Device::Cpu),
        None => literals::array(value)?,
    };
    match &tensor {
        Ok(tensor) if tensor.dim() != 1 => None,
        _ => Some(tensor.and_then(read)),
    }
}

/// How many frames of `length` begin every `stride` of `samples` and end within them.
pub(crate) fn count(samples: i64, length: i64, stride: i64) -> i64 {
    ((samples - length).div_euclid(stride) + 1).max(0)
}

/// Frames `[.., frames, length]` of a signal `[.., samples]`.
pub(crate) fn framed(x: &Tensor, length: i64, stride: i64) -> Result<Tensor> {
    let size = x.size();
    match size.split_last() {
        Some((&samples, head)) if samples < length => Ok(x
            .f_narrow(-1, 0, 0)?
            .f_reshape([head, &[0, length]].concat())?),
        _ => Ok(x.f_unfold(-1, length, stride)?),
    }
}

/// The signal with `margin` samples at both ends, reflected at the first and the last.
fn reflected(x: &Tensor, margin: i64) -> Result<Tensor> {
    if margin == 0 {
        return Ok(x.shallow_clone());
    }
    let size = x.size();
    let (samples, head) = size.split_last().unwrap_or((&0, &[]));
    let rows = x.f_reshape([-1, *samples])?;
    let padded = rows.f_pad([margin, margin], "reflect", None)?;
    Ok(padded.f_reshape([head, &[samples + 2 * margin]].concat())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stft(length: i64, fft_length: i64, center: bool) -> Stft {
        Stft {
            length,
            stride: 2,
            fft_length,
            window: Some(Window::RaisedCosine(0.5)),
            center,
        }
    }

    #[test]
    fn windows_of_odd_length_are_symmetric() {
        let factors = |length| {
            let window = stft(length, 6, false);
            let window = window.window(Kind::Double, Device::Cpu).unwrap().unwrap();
            Vec::<f64>::try_from(window.round_decimals(6)).unwrap()
        };
        assert_eq!(factors(4), [0.0, 0.0, 0.5, 1.0, 0.5, 0.0]);
        assert_eq!(factors(5), [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn the_inverse_gives_the_signal_back() {
        let stft = stft(4, 4, true);
        let x = Tensor::arange(12, (Kind::Double, Device::Cpu)).reshape([2, 6]);
        let z = stft.forward(&x).unwrap();
        assert_eq!(z.size(), [2, stft.frames(6), stft.frequencies()]);
        let y = stft.inverse(&z, None).unwrap();
        assert_eq!(y.size(), [2, stft.samples(stft.frames(6), None)]);
        assert!(y.allclose(&x, 1e-9, 1e-9, false));
    }
}
