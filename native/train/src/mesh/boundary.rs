//! What one stage hands on to the next, and gets back, as bytes.
//!
//! ```text
//! count, then for each value: what it is, whether it is differentiable, tensor or strings, mask
//! tensor   dtype, axes, u64 sizes, elements; all little-endian. Before one that is still to go through a
//!          softmax, the axis of that
//! ```

use crate::error::Error;
use flambeau_keras::activations::Activation;
use flambeau_keras::{Strings, Value};
use tch::{Device, Kind, Tensor};

const KINDS: [Kind; 11] = [
    Kind::Uint8,
    Kind::Int8,
    Kind::Int16,
    Kind::Int,
    Kind::Int64,
    Kind::Half,
    Kind::Float,
    Kind::Double,
    Kind::Bool,
    Kind::BFloat16,
    Kind::ComplexFloat,
];

/// What a value is.
const NOTHING: u8 = 0;
const TENSOR: u8 = 1;
const SOFTMAX: u8 = 2;
const SIGMOID: u8 = 3;
const STRINGS: u8 = 4;

/// Values as bytes. Those that depend on variables are marked: their gradients are wanted back.
///
/// # Errors
/// [`Error::Torch`] for a tensor that cannot travel.
pub(crate) fn values_to_bytes(values: &[Value]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    put(&mut out, values.len());
    for value in values {
        match (value.strings(), value.pending(), value.logits()) {
            (Ok(strings), ..) => {
                out.push(STRINGS);
                out.push(0);
                put_strings(&mut out, strings);
            }
            (_, Some(activation), Some(logits)) => {
                let axis = match activation {
                    Activation::Softmax(axis) => Some(axis),
                    _ => None,
                };
                out.push(axis.map_or(SIGMOID, |_| SOFTMAX));
                out.push(u8::from(value.end().is_some()));
                out.extend(axis.iter().flat_map(|axis| axis.to_le_bytes()));
                put_tensor(&mut out, logits)?;
            }
            _ => {
                out.push(TENSOR);
                out.push(u8::from(value.end().is_some()));
                put_tensor(&mut out, value.y()?)?;
            }
        }
        put_optional(&mut out, value.mask())?;
    }
    Ok(out)
}

/// Values of bytes on `device`, with the tensors whose gradients the sender wants back: they begin a graph.
///
/// # Errors
/// [`Error::Panic`] for bytes that hold something else.
pub(crate) fn values_of_bytes(
    bytes: &[u8],
    device: Device,
) -> Result<(Vec<Value>, Vec<Tensor>), Error> {
    let mut rest = Rest(bytes);
    let mut leaves = Vec::new();
    let count = rest.count()?;
    let mut values = Vec::new();
    for _ in 0..count {
        let (what, differentiable) = (rest.byte()?, rest.byte()? == 1);
        if what == STRINGS {
            values.push(Value::from_strings(rest.strings()?));
        } else {
            let axis = if what == SOFTMAX { rest.number()? } else { 0 };
            let mut tensor = rest.tensor()?.f_to_device(device)?;
            if differentiable {
                tensor = tensor.f_set_requires_grad(true)?;
                leaves.push(tensor.shallow_clone());
            }
            values.push(match what {
                SOFTMAX => Value::from_logits(tensor, Activation::Softmax(axis.cast_signed())),
                SIGMOID => Value::from_logits(tensor, Activation::Sigmoid),
                _ => Value::new(tensor),
            });
        }
        let mask = rest.optional()?;
        let mask = mask.map(|mask| mask.f_to_device(device)).transpose()?;
        if let Some(value) = values.pop() {
            values.push(value.with_mask(mask));
        }
    }
    Ok((values, leaves))
}

/// Tensors as bytes, some of which may be undefined.
///
/// # Errors
/// [`Error::Torch`] for a tensor that cannot travel.
pub(crate) fn tensors_to_bytes<'a>(
    tensors: impl ExactSizeIterator<Item = Option<&'a Tensor>>,
) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    put(&mut out, tensors.len());
    for tensor in tensors {
        put_optional(&mut out, tensor.filter(|tensor| tensor.defined()))?;
    }
    Ok(out)
}

/// Tensors of bytes.
///
/// # Errors
/// [`Error::Panic`] for bytes that hold something else.
pub(crate) fn tensors_of_bytes(bytes: &[u8]) -> Result<Vec<Option<Tensor>>, Error> {
    let mut rest = Rest(bytes);
    let count = rest.count()?;
    (0..count).map(|_| rest.optional()).collect()
}

fn put(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&(number as u64).to_le_bytes());
}

fn put_optional(out: &mut Vec<u8>, tensor: Option<&Tensor>) -> Result<(), Error> {
    match tensor {
        None => {
            out.push(NOTHING);
            Ok(())
        }
        Some(tensor) => {
            out.push(TENSOR);
            put_tensor(out, tensor)
        }
    }
}

fn put_tensor(out: &mut Vec<u8>, tensor: &Tensor) -> Result<(), Error> {
    let tensor = tensor.f_detach()?.f_contiguous()?;
    let kind = tensor.f_kind()?;
    let code = KINDS.iter().position(|known| *known == kind);
    let code = code.and_then(|code| u8::try_from(code).ok());
    let code = code.ok_or_else(|| {
        Error::Config(format!(
            "a stage of the pipeline hands on values of type {kind:?}, which cannot travel: cut the \
             model elsewhere"
        ))
    })?;
    let sizes = tensor.size();
    out.push(code);
    put(out, sizes.len());
    for size in &sizes {
        put(out, usize::try_from(*size).unwrap_or(0));
    }
    let start = out.len();
    let count = tensor.numel();
    out.resize(start + count * kind.elt_size_in_bytes(), 0);
    if count > 0 {
        tensor.f_copy_data_u8(&mut out[start..], count)?;
    }
    Ok(())
}

fn put_strings(out: &mut Vec<u8>, strings: &Strings) {
    put(out, strings.shape().len());
    for size in strings.shape() {
        put(out, usize::try_from(*size).unwrap_or(0));
    }
    for item in strings.items() {
        put(out, item.len());
        out.extend_from_slice(item);
    }
}

/// Bytes that are still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let Some((taken, rest)) = self.0.split_at_checked(length) else {
            let reason = "a stage was handed less than it was told";
            return Err(Error::Panic(reason.to_owned()));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u64, Error> {
        let bytes = self.take(8)?.iter().rev();
        Ok(bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn count(&mut self) -> Result<usize, Error> {
        let number = self.number()?;
        usize::try_from(number).map_err(|_| Error::Panic("a stage was handed too much".to_owned()))
    }

    fn sizes(&mut self) -> Result<Vec<i64>, Error> {
        let axes = self.count()?;
        let mut sizes = Vec::new();
        for _ in 0..axes {
            sizes.push(i64::try_from(self.count()?).unwrap_or(i64::MAX));
        }
        Ok(sizes)
    }

    fn optional(&mut self) -> Result<Option<Tensor>, Error> {
        match self.byte()? {
            NOTHING => Ok(None),
            _ => self.tensor().map(Some),
        }
    }

    fn tensor(&mut self) -> Result<Tensor, Error> {
        let code = usize::from(self.byte()?);
        let unknown = || Error::Panic(format!("a stage was handed values of type {code}"));
        let kind = *KINDS.get(code).ok_or_else(unknown)?;
        let sizes = self.sizes()?;
        let count = sizes.iter().try_fold(1_usize, |count, size| {
            count.checked_mul(usize::try_from(*size).ok()?)
        });
        let length = count.and_then(|count| count.checked_mul(kind.elt_size_in_bytes()));
        let bytes = self.take(length.unwrap_or(usize::MAX))?;
        Ok(Tensor::f_from_data_size(bytes, &sizes, kind)?)
    }

    fn strings(&mut self) -> Result<Strings, Error> {
        let sizes = self.sizes()?;
        let count = sizes.iter().product::<i64>();
        let mut items: Vec<Box<[u8]>> = Vec::new();
        for _ in 0..count {
            let length = self.count()?;
            items.push(self.take(length)?.into());
        }
        Ok(Strings::new(sizes, items)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_arrive_as_they_were_and_begin_a_graph_where_they_ended_one() {
        let weight = Tensor::from_slice(&[2.0_f32, 3.0]).set_requires_grad(true);
        let grown = &weight * 5.0;
        let mask = Tensor::from_slice(&[true, false]);
        let names: Vec<Box<[u8]>> = vec![b"ab".as_slice().into(), b"".as_slice().into()];
        let values = [
            Value::new(grown.shallow_clone()).with_mask(Some(mask)),
            Value::new(Tensor::from_slice(&[1_i64, -2]).view([2, 1])),
            Value::from_logits(grown, Activation::Softmax(-1)),
            Value::from_strings(Strings::new(vec![2], names).unwrap()),
            Value::new(Tensor::zeros([0, 3], (Kind::Half, Device::Cpu))),
        ];
        let bytes = values_to_bytes(&values).unwrap();
        let (arrived, leaves) = values_of_bytes(&bytes, Device::Cpu).unwrap();
        assert_eq!(leaves.len(), 2);
        for (value, arrived) in values.iter().zip(&arrived) {
            assert_eq!(value.size(), arrived.size());
            assert_eq!(value.dtype(), arrived.dtype());
            assert_eq!(value.end().is_some(), arrived.end().is_some());
            if let (Ok(values), Ok(others)) = (value.values(), arrived.values()) {
                assert_eq!(values, others);
            }
        }
        assert_eq!(arrived[0].mask(), values[0].mask());
        assert!(matches!(
            arrived[2].pending(),
            Some(Activation::Softmax(-1))
        ));
        assert_eq!(arrived[3].strings().unwrap().items()[0].as_ref(), b"ab");
        for length in 0..bytes.len() {
            let part = &bytes[..length];
            assert!(
                values_of_bytes(part, Device::Cpu).is_err(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn tensors_may_be_missing() {
        let tensor = Tensor::from_slice(&[1.5_f32]);
        let undefined = Tensor::new();
        let sent = [Some(&tensor), None, Some(&undefined)];
        let bytes = tensors_to_bytes(sent.into_iter()).unwrap();
        let arrived = tensors_of_bytes(&bytes).unwrap();
        assert_eq!(arrived, [Some(tensor), None, None]);
    }
}
