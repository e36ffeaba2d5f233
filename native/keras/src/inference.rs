//! A model made ready to predict: what follows a convolution is part of it, and kernels lie as
//! oneDNN wants them. It has the model's numbers up to rounding.

use tch::{Device, Kind, Tensor};

use crate::context::Pass;
use crate::error::Result;
use crate::model::Model;
use crate::spec::Spec;
use crate::value::Value;

/// Bytes that the largest value of a part of a prediction may take: few enough for the results to
/// stay in the cache.
const MICRO_BATCH_BYTES: i64 = 4 << 20;
/// The same on a GPU: enough to keep it busy.
const MICRO_BATCH_BYTES_OF_GPU: i64 = 256 << 20;

/// Rows that a part of a prediction has at least, for which kernels are read once, and at most.
const MICRO_BATCH_ROWS: [i64; 2] = [4, 1024];

/// A model whose variables change no more.
#[derive(Debug)]
pub struct Inference {
    model: Model,
    /// Rows whose values stay in the cache.
    micro_batch: i64,
}

impl Inference {
    /// Makes a model ready. On the CPU its kernels are kept twice: as they are, and laid out for speed.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn new(mut model: Model) -> Result<Self> {
        let bytes = match model.device() {
            Device::Cpu => {
                model.fuse()?;
                MICRO_BATCH_BYTES
            }
            // What is fused is oneDNN's.
            _ => MICRO_BATCH_BYTES_OF_GPU,
        };
        let micro_batch = micro_batch(model.value_specs(), bytes);
        Ok(Self { model, micro_batch })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The outputs for `inputs` (see [`Model::forward`]) in inference mode, computed in parts that
    /// suit the cache whatever the size of the batch.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn predict(&self, inputs: &[Value]) -> Result<Vec<Tensor>> {
        let rows = inputs
            .first()
            .and_then(|value| value.size().first().copied());
        let rows = rows.unwrap_or(0);
        let outputs = self.model.outputs().iter();
        let mut parts: Vec<Vec<Tensor>> = outputs.map(|_| Vec::new()).collect();
        let mut start = 0;
        while start < rows || start == 0 {
            let count = (rows - start).min(self.micro_batch);
            let part = inputs.iter().map(|value| value.narrow(start, count));
            let part = part.collect::<Result<Vec<_>>>()?;
            let outputs = self.model.forward(&part, &mut Pass::inference())?;
            for (parts, output) in parts.iter_mut().zip(outputs) {
                parts.push(output.values()?.shallow_clone());
            }
            start += count.max(1);
        }
        let whole = parts.iter().map(|parts| match parts.as_slice() {
            [part] => Ok(part.shallow_clone()),
            parts => Ok(Tensor::f_cat(parts, 0)?),
        });
        whole.collect()
    }
}

/// Rows of whose values the largest takes no more than `most_bytes`.
fn micro_batch(values: &[Spec], most_bytes: i64) -> i64 {
    let bytes = |spec: &Spec| {
        let width = spec.dtype.kind().map_or(8, Kind::elt_size_in_bytes);
        let elements = spec.row_elements()?;
        elements.checked_mul(i64::try_from(width).ok()?)
    };
    let largest = values.iter().filter_map(bytes).max();
    let [least, most] = MICRO_BATCH_ROWS;
    (most_bytes / largest.unwrap_or(1).max(1)).clamp(least, most)
}

#[cfg(test)]
mod tests;
