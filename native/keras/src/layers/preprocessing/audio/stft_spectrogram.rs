//! `STFTSpectrogram`: the short-time Fourier transform of each channel, as a convolution whose
//! kernels can be trained.

use tch::Tensor;

use crate::context::Context;
use crate::error::Result;
use crate::initializers::Initializer;
use crate::layer::{Built, Unary};
use crate::layers::layout::Layout;
use crate::layers::window::{Padding, Window};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};
use crate::variables::Handle;

/// Keras's `backend.epsilon()`, the least power and magnitude.
const EPSILON: f64 = 1e-7;

/// What is made of the complex spectrum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Log,
    Magnitude,
    PowerSpectralDensity,
    Real,
    Imaginary,
    Angle,
    /// Real parts, then imaginary parts.
    Both,
}

#[derive(Debug)]
struct StftSpectrogram {
    mode: Mode,
    /// The kernels, of which a mode may not need one.
    real: Option<Handle>,
    imaginary: Option<Handle>,
    frames: Window,
    frequencies: i64,
    /// Whether frequencies have an axis of their own, beside that of the channels.
    expand_dims: bool,
    layout: Layout,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let modes = ["log", "magnitude", "psd", "real", "imag", "angle", "stft"];
    let mode = match options.choice("mode", "log", &modes)? {
        "magnitude" => Mode::Magnitude,
        "psd" => Mode::PowerSpectralDensity,
        "real" => Mode::Real,
        "imag" => Mode::Imaginary,
        "angle" => Mode::Angle,
        "stft" => Mode::Both,
        _ => Mode::Log,
    };
    let size = |key: &str, default: i64| match options.value(key) {
        None => Ok(default),
        Some(_) => options.count(key),
    };
    let length = size("frame_length", 256)?;
    let step = size("frame_step", length / 2)?;
    if step > length || step < 1 {
        return Err(options.invalid(format!(
            "frame_step = {step} must be at least 1 and at most frame_length = {length}"
        )));
    }
    let fft_length = size("fft_length", power_of_two(length))?;
    if fft_length < length {
        return Err(options.invalid(format!(
            "fft_length = {fft_length} must be at least frame_length = {length}"
        )));
    }
    let frequencies = fft_length / 2 + 1;
    let shape = [length, 1, frequencies];
    let kernels = [("real_kernel", false), ("imag_kernel", true)].map(|(name, imaginary)| {
        let unused = if imaginary {
            Mode::Real
        } else {
            Mode::Imaginary
        };
        let initializer = Initializer::stft(options, imaginary)?;
        let wanted = (mode != unused).then_some(initializer);
        let declared =
            wanted.map(|initializer| scope.initialized_weight(name, &shape, initializer));
        declared.transpose()
    });
    let [real, imaginary] = kernels;
    let (real, imaginary) = (real?, imaginary?);
    let layer = StftSpectrogram {
        mode,
        real,
        imaginary,
        frames: Window {
            size: vec![length],
            strides: vec![step],
            dilation: vec![1],
            padding: Padding::read(options, &["valid", "same"])?,
        },
        frequencies,
        expand_dims: options.bool("expand_dims", false)?,
        layout: Layout::read(options)?,
    };
    Ok(Built::unary(layer))
}

/// The least power of two that is not below `length`.
fn power_of_two(length: i64) -> i64 {
    let powers = std::iter::successors(Some(1_i64), |power| power.checked_mul(2));
    powers
        .into_iter()
        .find(|&power| power >= length)
        .unwrap_or(length)
}

impl StftSpectrogram {
    /// Frequencies of each channel `[batch, channels, frequencies, frames]` by one kernel.
    fn spectrum(
        &self,
        x: &Tensor,
        kernel: Option<Handle>,
        context: &Context<'_>,
    ) -> Result<Tensor> {
        let Some(kernel) = context.optional(kernel)? else {
            return Ok(Tensor::new());
        };
        let (rows, padding) = self.frames.pad(self.layout, x, 0.0)?;
        let size = rows.size();
        let (batch, channels) = (size[0], size[1]);
        let rows = rows.f_reshape([batch * channels, 1, size[2]])?;
        let kernel = kernel.f_permute([2, 1, 0])?;
        let strides = self.frames.strides.as_slice();
        let y = rows.f_conv1d(&kernel, None::<Tensor>, strides, padding, [1], 1)?;
        Ok(y.f_reshape([batch, channels, self.frequencies, y.size()[2]])?)
    }

    /// The outputs of each channel, as [`Self::spectrum`].
    fn features(&self, real: &Tensor, imaginary: &Tensor) -> Result<Tensor> {
        let power = || real.f_square()?.f_add(&imaginary.f_square()?);
        let magnitude = || power()?.f_clamp_min(EPSILON)?.f_sqrt();
        Ok(match self.mode {
            Mode::Real => real.shallow_clone(),
            Mode::Imaginary => imaginary.shallow_clone(),
            Mode::Angle => imaginary.f_atan2(real)?,
            Mode::Both => Tensor::f_cat(&[real, imaginary], 2)?,
            Mode::Magnitude => magnitude()?,
            Mode::Log => magnitude()?.f_clamp_min(EPSILON)?.f_log()?,
            Mode::PowerSpectralDensity => {
                // All frequencies but the first and the last stand for two.
                let power = power()?;
                let inner = power.f_narrow(2, 1, (self.frequencies - 2).max(0))?;
                power.f_add(&inner.f_constant_pad_nd([0, 0, 1, 1])?)?
            }
        })
    }
}

impl Unary for StftSpectrogram {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(3)?;
        if input.dtype.name() == "bfloat16" || !input.dtype.is_float() {
            let dtype = input.dtype;
            return Err(format!("takes float16, float32 or float64, got {dtype}"));
        }
        let channels = input.size(self.layout.channel_axis())?;
        let frames = self.frames.counts(&self.layout.spatial(input))?;
        let features = match self.mode {
            Mode::Both => 2 * self.frequencies,
            _ => self.frequencies,
        };
        let batch = input.dims[0];
        Ok(input.with_dims(if self.expand_dims {
            let spatial = [frames.as_slice(), &[Some(features)]].concat();
            self.layout.join(batch, &spatial, Some(channels))
        } else {
            self.layout.join(batch, &frames, Some(channels * features))
        }))
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let real = self.spectrum(x, self.real, context)?;
        let imaginary = self.spectrum(x, self.imaginary, context)?;
        let y = self.features(&real, &imaginary)?;
        let y = if self.expand_dims {
            y.f_transpose(2, 3)?
        } else {
            y.f_flatten(1, 2)?
        };
        self.layout.restore(&y)
    }
}
