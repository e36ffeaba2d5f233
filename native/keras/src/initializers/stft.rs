//! Keras's STFT: kernels by which a convolution is a short-time Fourier transform.

use std::f64::consts::TAU;

use serde_json::Value;

use crate::config::{Given, Options};
use crate::error::Result;
use crate::stft::vector;

/// Windows of `scipy.signal` that are sums of cosines, by the factors of `cos(2 pi k t / n)`, whose
/// signs alternate.
const WINDOWS: &[(&str, &[f64])] = &[
    ("boxcar", &[1.0]),
    ("hann", &[0.5, 0.5]),
    ("hamming", &[0.54, 0.46]),
    ("blackman", &[0.42, 0.5, 0.08]),
    (
        "nuttall",
        &[0.363_581_9, 0.489_177_5, 0.136_599_5, 0.010_641_1],
    ),
    ("blackmanharris", &[0.358_75, 0.488_29, 0.141_28, 0.011_68]),
    (
        "flattop",
        &[
            0.215_578_95,
            0.416_631_58,
            0.277_263_158,
            0.083_578_947,
            0.006_947_368,
        ],
    ),
];

#[derive(Debug, Clone, PartialEq)]
enum Window {
    Cosines(&'static [f64]),
    Factors(Vec<f64>),
}

/// What the window is divided by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scaling {
    /// Its length as a vector.
    Density,
    /// The sum of its magnitudes.
    Spectrum,
}

/// The real or the imaginary parts of a Fourier transform's factors, times a window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stft {
    imaginary: bool,
    window: Option<Window>,
    scaling: Option<Scaling>,
    periodic: bool,
}

impl Stft {
    /// Reads `window`, `scaling` and `periodic`.
    ///
    /// # Errors
    /// One is none that is supported.
    pub(super) fn read(options: &Options<'_>, imaginary: bool) -> Result<Self> {
        let supported = || {
            let names = WINDOWS.iter().map(|(name, _)| *name);
            format!("{}, null, numbers", names.collect::<Vec<_>>().join(", "))
        };
        let named = |name: &str| WINDOWS.iter().find(|(known, _)| *known == name);
        let default = Window::Cosines(&[0.5, 0.5]);
        let window = match options.given("window") {
            Given::Absent => Some(default),
            Given::Null => None,
            Given::Value(value) => {
                let wrong = || options.unsupported("window", value, &supported());
                Some(match value.as_str() {
                    Some(name) => Window::Cosines(named(name).ok_or_else(wrong)?.1),
                    None => Window::Factors(vector(value).ok_or_else(wrong)??),
                })
            }
        };
        let scaling = match options.given("scaling") {
            Given::Absent => Some(Scaling::Density),
            Given::Null => None,
            Given::Value(Value::String(name)) if name == "density" => Some(Scaling::Density),
            Given::Value(Value::String(name)) if name == "spectrum" => Some(Scaling::Spectrum),
            Given::Value(value) => {
                return Err(options.unsupported("scaling", value, "density, spectrum, null"));
            }
        };
        Ok(Self {
            imaginary,
            window,
            scaling,
            periodic: options.bool("periodic", false)?,
        })
    }

    /// The kernel of `shape`, `[samples, 1, frequencies]`; `None` if that is another one, or the
    /// window has another length.
    #[expect(clippy::cast_precision_loss, reason = "frames are short")]
    pub(super) fn values(&self, shape: &[i64]) -> Option<Vec<f64>> {
        let [samples, 1, frequencies] = *shape else {
            return None;
        };
        let window = self.window(usize::try_from(samples).ok()?)?;
        let scale = match self.scaling {
            _ if self.window.is_none() => 1.0,
            None => 1.0,
            Some(Scaling::Density) => window.iter().map(|w| w * w).sum::<f64>().sqrt(),
            Some(Scaling::Spectrum) => window.iter().map(|w| w.abs()).sum(),
        };
        let period = (frequencies - 1) as f64 * 2.0;
        let mut values = Vec::with_capacity(window.len() * usize::try_from(frequencies).ok()?);
        for (sample, factor) in window.iter().enumerate() {
            for frequency in 0..frequencies {
                let angle = -TAU * sample as f64 * frequency as f64 / period;
                let part = if self.imaginary {
                    angle.sin()
                } else {
                    angle.cos()
                };
                values.push(part * factor / scale);
            }
        }
        Some(values)
    }

    /// The factor of each sample.
    #[expect(clippy::cast_precision_loss, reason = "windows are short")]
    fn window(&self, samples: usize) -> Option<Vec<f64>> {
        let factors = match &self.window {
            None => return Some(vec![1.0; samples]),
            Some(Window::Factors(factors)) => {
                return (factors.len() == samples).then(|| factors.clone());
            }
            Some(Window::Cosines(_)) if samples == 1 => return Some(vec![1.0]),
            Some(Window::Cosines(factors)) => factors,
        };
        let period = if self.periodic { samples } else { samples - 1 } as f64;
        let at = |sample: usize| {
            let terms = factors.iter().enumerate().map(|(k, factor)| {
                let sign = if k % 2 == 0 { 1.0 } else { -1.0 };
                sign * factor * (TAU * k as f64 * sample as f64 / period).cos()
            });
            terms.sum()
        };
        Some((0..samples).map(at).collect())
    }
}
