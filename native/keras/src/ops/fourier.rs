//! `keras.ops.math`, Fourier transforms along the last axes. A complex tensor is a pair of tensors,
//! its real and its imaginary part.

use tch::{Kind, TchError, Tensor};

use super::operand::{Checked, Described, Operand, checked, device};
use super::{Family, kind_of, listed, operation, shaped, single};
use crate::arguments::{Args, Tree};
use crate::error::Result;
use crate::layer::{Built, Inferred};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::stft::{Stft, count, framed};
use crate::value::Value;

pub(super) const OPS: Family = &[
    ("FFT", |_| {
        Ok(complex(1, |z| z.f_fft_fft(None, -1, "backward")))
    }),
    ("FFT2", |_| {
        Ok(complex(2, |z| z.f_fft_fft2(NO_SIZES, [-2, -1], "backward")))
    }),
    ("IFFT2", |_| {
        Ok(complex(2, |z| {
            z.f_fft_ifft2(NO_SIZES, [-2, -1], "backward")
        }))
    }),
    ("RFFT", rfft),
    ("IRFFT", irfft),
    ("ExtractSequences", extract_sequences),
    ("STFT", stft),
    ("ISTFT", istft),
];

/// Transforms keep the sizes of axes.
const NO_SIZES: Option<&[i64]> = None;

/// The two parts of the only argument.
fn parts<T>(args: &Args<T>) -> Checked<[Operand<'_, T>; 2]> {
    match args.get(0, "x") {
        Some(Tree::List(items)) => match items.as_slice() {
            [real, imaginary] => Ok([Operand::of(real)?, Operand::of(imaginary)?]),
            items => Err(format!("takes two tensors as x, got {}", items.len())),
        },
        _ => Err("takes a pair of tensors, the real and the imaginary part".to_owned()),
    }
}

/// Demands what TensorFlow has Fourier transforms for.
fn wide(kind: Kind) -> Checked<()> {
    match kind {
        Kind::Float | Kind::Double => Ok(()),
        _ => Err(format!(
            "takes float32 or float64, got {}",
            crate::dtype::DType::Tensor(kind)
        )),
    }
}

/// The spec that both parts have, of `rank` axes at least.
fn pair<T: Described>(args: &Args<T>, rank: usize) -> Checked<Spec> {
    let [real, imaginary] = parts(args)?;
    let (real, imaginary) = (real.spec()?, imaginary.spec()?);
    wide(kind_of(&real)?)?;
    if real != imaginary {
        return Err(format!(
            "takes parts of one shape and dtype, got {} {real} and {} {imaginary}",
            real.dtype, imaginary.dtype
        ));
    }
    if real.rank() < rank {
        return Err(format!("needs {rank} axes at least, got {real}"));
    }
    Ok(real)
}

/// The complex tensor that the only argument stands for.
fn joined(args: &Args<Value>) -> Result<Tensor> {
    let kind = checked(pair(args, 1).and_then(|spec| kind_of(&spec)))?;
    let device = device(args);
    let [real, imaginary] = checked(parts(args))?;
    let (real, imaginary) = (real.tensor(kind, device)?, imaginary.tensor(kind, device)?);
    Ok(Tensor::f_complex(&real, &imaginary)?)
}

/// The two parts of a complex tensor.
fn split(z: &Tensor) -> Result<Tree<Value>> {
    Ok(listed(vec![
        Value::new(z.f_real()?),
        Value::new(z.f_imag()?),
    ]))
}

/// A complex tensor of a complex one of the same shape, which has `rank` axes at least.
fn complex(rank: usize, call: fn(&Tensor) -> Result<Tensor, TchError>) -> Built {
    operation(
        move |args| Ok(listed(vec![pair(args, rank)?; 2])),
        move |args| split(&call(&joined(args)?)?),
    )
}

/// A complex tensor of a real one.
fn of_real(
    infer: impl Fn(&Spec) -> Checked<Spec> + Send + 'static,
    call: impl Fn(&Tensor) -> Result<Tensor> + Send + 'static,
) -> Built {
    let specs = move |args: &Args<Spec>| -> Inferred {
        let x = super::numeric(args)?;
        wide(kind_of(x)?)?;
        x.axis(-1)?;
        Ok(listed(vec![infer(x)?; 2]))
    };
    operation(specs, move |args| split(&call(checked(args.only())?.y()?)?))
}

/// The spec with other sizes in place of its last axes.
fn ending(x: &Spec, replaced: usize, tail: &[Option<i64>]) -> Spec {
    let head = &x.dims[..x.rank().saturating_sub(replaced)];
    x.with_dims([head, tail].concat())
}

/// Option `fft_length`: what the last axis is cut or filled with zeros to.
fn fft_length(scope: &Scope<'_>) -> Result<Option<i64>> {
    let options = scope.options;
    let given = options.value("fft_length");
    given.map(|_| options.count("fft_length")).transpose()
}

fn rfft(scope: &mut Scope<'_>) -> Result<Built> {
    let length = fft_length(scope)?;
    Ok(of_real(
        move |x| {
            let samples = length.or(x.dims[x.rank() - 1]);
            Ok(ending(x, 1, &[samples.map(|samples| samples / 2 + 1)]))
        },
        move |x| Ok(x.f_fft_rfft(length, -1, "backward")?),
    ))
}

fn irfft(scope: &mut Scope<'_>) -> Result<Built> {
    let length = fft_length(scope)?;
    Ok(single(
        move |args| {
            let z = pair(args, 1)?;
            let even = z.dims[z.rank() - 1].map(|frequencies| 2 * (frequencies - 1));
            Ok(ending(&z, 1, &[length.or(even)]))
        },
        move |args| Ok(joined(args)?.f_fft_irfft(length, -1, "backward")?),
    ))
}

/// `ExtractSequences`: windows of the last axis along a new last axis.
fn extract_sequences(scope: &mut Scope<'_>) -> Result<Built> {
    let length = scope.options.count("sequence_length")?;
    let stride = scope.options.count("sequence_stride")?;
    Ok(shaped(
        move |x| {
            let samples = x.dims[x.axis(-1)?];
            let frames = samples.map(|samples| count(samples, length, stride));
            Ok(ending(x, 1, &[frames, Some(length)]).dims)
        },
        move |x| framed(x, length, stride),
    ))
}

fn read_stft(scope: &Scope<'_>) -> Result<Stft> {
    let options = scope.options;
    let sizes = [
        options.count("sequence_length")?,
        options.count("sequence_stride")?,
        options.count("fft_length")?,
    ];
    Stft::read(options, sizes, options.bool("center", true)?)
}

fn stft(scope: &mut Scope<'_>) -> Result<Built> {
    let stft = read_stft(scope)?;
    let of_call = stft.clone();
    Ok(of_real(
        move |x| {
            let frames = x.dims[x.rank() - 1].map(|samples| stft.frames(samples));
            Ok(ending(x, 1, &[frames, Some(stft.frequencies())]))
        },
        move |x| of_call.forward(x),
    ))
}

fn istft(scope: &mut Scope<'_>) -> Result<Built> {
    let stft = read_stft(scope)?;
    let given = scope.options.value("length");
    let length = given.map(|_| scope.options.count("length")).transpose()?;
    let of_call = stft.clone();
    Ok(single(
        move |args| {
            let z = pair(args, 2)?;
            let frames = z.dims[z.rank() - 2];
            let samples = frames.map(|frames| stft.samples(frames, length));
            Ok(ending(&z, 2, &[samples]))
        },
        move |args| of_call.inverse(&joined(args)?, length),
    ))
}
