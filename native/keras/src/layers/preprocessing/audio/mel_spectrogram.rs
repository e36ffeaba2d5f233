//! `MelSpectrogram`: a spectrogram whose frequencies are those that sound equally far apart.

use tch::{Kind, Tensor};

use crate::context::Context;
use crate::dtype::{DType, is_float};
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};
use crate::stft::Stft;

/// Mel is `Q * ln(1 + f / BREAK)` of a frequency in hertz.
const BREAK: f64 = 700.0;
const Q: f64 = 1127.0;

#[derive(Debug)]
struct MelSpectrogram {
    stft: Stft,
    /// What the spectrogram is computed in, and what it is cast to.
    compute: Kind,
    output: Kind,
    bins: i64,
    bands: Bands,
    /// Power of the magnitudes.
    exponent: f64,
    decibels: Option<Decibels>,
}

/// Frequencies in hertz.
#[derive(Debug, Clone, Copy)]
struct Bands {
    lowest: f64,
    highest: f64,
    sampling_rate: f64,
}

/// Powers as decibels over a reference.
#[derive(Debug, Clone, Copy)]
struct Decibels {
    reference: f64,
    /// The least power that counts.
    least: f64,
    /// How far below the loudest of all signals the quietest may lie: of this replica's part of the
    /// batch, if several share it.
    range: f64,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let size = |key: &str, default: i64| match options.value(key) {
        None => Ok(default),
        Some(_) => options.count(key),
    };
    let fft_length = size("fft_length", 2048)?;
    let sizes = [
        size("sequence_length", fft_length)?,
        size("sequence_stride", 512)?,
        fft_length,
    ];
    let sampling_rate = options.f64("sampling_rate", 16_000.0)?;
    let decibels = Decibels {
        reference: options.f64("ref_power", 1.0)?,
        least: options.f64("min_power", 1e-10)?,
        range: options.f64("top_db", 80.0)?,
    };
    let highest = options.f64("max_freq", 0.0)?;
    let output = scope.policy.compute.kind().filter(|&kind| is_float(kind));
    let output = output.unwrap_or(Kind::Float);
    Ok(Built::unary(MelSpectrogram {
        stft: Stft::read(options, sizes, true)?,
        compute: if output == Kind::Double {
            output
        } else {
            Kind::Float
        },
        output,
        bins: size("num_mel_bins", 128)?,
        bands: Bands {
            lowest: options.f64("min_freq", 20.0)?,
            highest: if highest == 0.0 {
                (sampling_rate / 2.0).trunc()
            } else {
                highest
            },
            sampling_rate,
        },
        exponent: options.f64("mag_exp", 2.0)?,
        decibels: options.bool("power_to_db", true)?.then_some(decibels),
    }))
}

impl Unary for MelSpectrogram {
    fn infer(&self, input: &Spec) -> SpecResult {
        let [head @ .., samples] = input.dims.as_slice() else {
            return Err("needs a signal, got a scalar".to_owned());
        };
        let frames = samples.map(|samples| self.stft.frames(samples));
        let dims = [head, &[Some(self.bins), frames]].concat();
        Ok(Spec::new(dims, DType::Tensor(self.output)))
    }

    fn call(&self, x: &Tensor, _: &mut Context<'_>) -> Result<Tensor> {
        let z = self.stft.forward(&x.f_to_kind(self.compute)?)?;
        let power = z.f_real()?.f_square()?.f_add(&z.f_imag()?.f_square()?)?;
        let magnitude = power.f_sqrt()?.f_pow_tensor_scalar(self.exponent)?;
        let weights = self.bands.weights(self.bins, self.stft.frequencies())?;
        let weights = weights.f_to_device(x.device())?.f_to_kind(self.compute)?;
        let mut y = magnitude.f_matmul(&weights)?;
        if let Some(decibels) = self.decibels {
            y = decibels.of(&y)?;
        }
        Ok(y.f_transpose(-1, -2)?.f_to_kind(self.output)?)
    }
}

impl Decibels {
    fn of(self, power: &Tensor) -> Result<Tensor> {
        let reference = 10.0 * self.reference.abs().max(self.least).log10();
        let level = power
            .f_clamp_min(self.least)?
            .f_log10()?
            .f_mul_scalar(10.0)?;
        let level = level.f_sub_scalar(reference)?;
        let least = level.f_max()?.f_sub_scalar(self.range)?;
        Ok(level.f_maximum(&least)?)
    }
}

impl Bands {
    /// How much each of `frequencies` from 0 to half the sampling rate adds to each bin: triangles
    /// that reach from the centre of the bin before to that of the bin after, all in mel. In
    /// float32, as in Keras.
    fn weights(self, bins: i64, frequencies: i64) -> Result<Tensor> {
        let options = (Kind::Float, tch::Device::Cpu);
        let mel = |hertz: &Tensor| -> Result<Tensor> {
            let ratio = hertz.f_div_scalar(BREAK)?.f_add_scalar(1.0)?;
            Ok(ratio.f_log()?.f_mul_scalar(Q)?)
        };
        let evenly = |first: &Tensor, last: &Tensor, count: i64| -> Result<Tensor> {
            let step = last.f_sub(first)?.f_div_scalar((count - 1).max(1))?;
            Ok(Tensor::f_arange(count, options)?
                .f_mul(&step)?
                .f_add(first)?)
        };
        let number = |value: f64| Tensor::f_scalar_tensor(value, options);
        let nyquist = number(self.sampling_rate / 2.0)?;
        // The first frequency, 0, belongs to no bin.
        let hertz =
            evenly(&number(0.0)?, &nyquist, frequencies)?.f_narrow(0, 1, frequencies - 1)?;
        let places = mel(&hertz)?.f_unsqueeze(1)?;
        let (lowest, highest) = (mel(&number(self.lowest)?)?, mel(&number(self.highest)?)?);
        let edges = evenly(&lowest, &highest, bins + 2)?;
        let [before, centre, after] = [0, 1, 2].map(|start| edges.f_narrow(0, start, bins));
        let (before, centre, after) = (before?, centre?, after?);
        let rising = places.f_sub(&before)?.f_div(&centre.f_sub(&before)?)?;
        let falling = after.f_sub(&places)?.f_div(&after.f_sub(&centre)?)?;
        let weights = rising.f_minimum(&falling)?.f_clamp_min(0.0)?;
        Ok(weights.f_constant_pad_nd([0, 0, 1, 0])?)
    }
}
