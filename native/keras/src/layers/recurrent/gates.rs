//! What `SimpleRNNCell`, `GRUCell` and `LSTMCell` share: matrices with one block of columns per
//! gate, `kernel` `[inputs, gates * units]` and `recurrent_kernel` `[units, gates * units]`.

use tch::Tensor;

use super::dropout::Dropout;
use crate::activations::Activation;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::variables::Handle;

/// The matrices of a cell.
#[derive(Debug)]
pub(super) struct Gates {
    inputs: i64,
    pub(super) units: i64,
    pub(super) kernel: Handle,
    pub(super) recurrent: Handle,
    pub(super) bias: Option<Handle>,
    pub(super) dropout: Dropout,
}

impl Gates {
    /// Reads what the cells share and declares their variables. `bias_rows` is the number of
    /// biases if there are several (`[rows, gates * units]`).
    pub(super) fn read(
        scope: &mut Scope<'_>,
        step: &Spec,
        count: i64,
        bias_rows: Option<i64>,
    ) -> Result<Self> {
        let options = scope.options;
        let units = options.count("units")?;
        let inputs = step.size(-1).map_err(|reason| scope.mismatch(reason))?;
        let width = count * units;
        let kernel = scope.weight("kernel", "kernel", &[inputs, width], "glorot_uniform")?;
        let recurrent = scope.weight(
            "recurrent_kernel",
            "recurrent",
            &[units, width],
            "orthogonal",
        )?;
        let shape: Vec<i64> = bias_rows.into_iter().chain([width]).collect();
        let use_bias = options.bool("use_bias", true)?;
        let bias = scope.weight_if(use_bias, "bias", "bias", &shape, "zeros")?;
        // How Keras computes it: 1 gate by gate, which with dropout gives each its own mask.
        let apart = options.i64("implementation", 2)? == 1;
        Ok(Self {
            inputs,
            units,
            kernel,
            recurrent,
            bias,
            dropout: Dropout::read(options, count, apart)?,
        })
    }

    /// Why inputs of one step do not fit, if they do not.
    pub(super) fn check(&self, step: &Spec) -> std::result::Result<(), String> {
        if step.rank() != 2 {
            return Err(format!(
                "needs inputs of shape (batch, features) at each step, got {step}"
            ));
        }
        let width = step.size(-1)?;
        if width != self.inputs {
            let expected = self.inputs;
            return Err(format!("has a kernel for {expected} features, got {step}"));
        }
        Ok(())
    }

    /// `sequence @ kernel + bias` of all steps: `[steps, batch, gates * units]`.
    pub(super) fn project(
        &self,
        sequence: &Tensor,
        bias: Option<&Tensor>,
        context: &mut Context<'_>,
    ) -> Result<Tensor> {
        let kernel = context.variable(self.kernel)?;
        let Some(masks) = self.dropout.of_inputs(&sequence.size()[1..], context)? else {
            return product(sequence, &kernel, bias);
        };
        let kernels = kernel.f_chunk(masks.size()[0], 1)?;
        let biases = bias
            .map(|bias| bias.f_chunk(masks.size()[0], 0))
            .transpose()?;
        let parts = kernels
            .iter()
            .zip(0_i64..)
            .enumerate()
            .map(|(at, (kernel, mask))| {
                let kept = sequence.f_mul(&masks.f_select(0, mask)?)?;
                product(
                    &kept,
                    kernel,
                    biases.as_ref().and_then(|biases| biases.get(at)),
                )
            });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        match parts.as_slice() {
            [part] => Ok(part.shallow_clone()),
            parts => Ok(Tensor::f_cat(parts, -1)?),
        }
    }

    /// The recurrent kernel for one run over a batch of `batch` rows.
    pub(super) fn recurrence(&self, batch: i64, context: &mut Context<'_>) -> Result<Recurrence> {
        Ok(Recurrence {
            kernel: context.variable(self.recurrent)?,
            masks: self.dropout.of_states(&[batch, self.units], context)?,
            units: self.units,
        })
    }

    /// Shape of the one state of a cell that keeps its output only.
    pub(super) fn state(&self) -> Vec<i64> {
        vec![self.units]
    }
}

fn product(sequence: &Tensor, kernel: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let size = sequence.size();
    let rows = sequence.f_reshape([size[0] * size[1], size[2]])?;
    let product = match bias {
        Some(bias) => bias.f_addmm(&rows, kernel)?,
        None => rows.f_matmul(kernel)?,
    };
    let width = kernel.size().last().copied().unwrap_or(0);
    Ok(product.f_view([size[0], size[1], width])?)
}

/// Products of the state with the recurrent kernel, or with columns of it.
#[derive(Debug)]
pub(super) struct Recurrence {
    kernel: Tensor,
    /// Dropout's factors, `[1 or gates, batch, units]`.
    masks: Option<Tensor>,
    units: i64,
}

impl Recurrence {
    /// Of `count` gates from `first` on.
    pub(super) fn gates(&self, first: i64, count: i64) -> Result<Self> {
        let masks = match &self.masks {
            Some(masks) if masks.size()[0] > 1 => Some(masks.f_narrow(0, first, count)?),
            masks => masks.as_ref().map(Tensor::shallow_clone),
        };
        let kernel = self
            .kernel
            .f_narrow(1, first * self.units, count * self.units)?;
        Ok(Self {
            kernel,
            masks,
            units: self.units,
        })
    }

    /// `base + state @ kernel`; `base` is `[batch, columns]` or `[columns]`.
    pub(super) fn add(&self, state: &Tensor, base: Option<&Tensor>) -> Result<Tensor> {
        let Some(masks) = &self.masks else {
            return Ok(match base {
                Some(base) => base.f_addmm(state, &self.kernel)?,
                None => state.f_matmul(&self.kernel)?,
            });
        };
        let count = masks.size()[0];
        let product = if count == 1 {
            state
                .f_mul(&masks.f_select(0, 0)?)?
                .f_matmul(&self.kernel)?
        } else {
            let states = state.f_unsqueeze(0)?.f_mul(masks)?;
            let kernels = self.kernel.f_view([self.units, count, self.units])?;
            let products = states.f_bmm(&kernels.f_permute([1, 0, 2])?)?;
            products.f_permute([1, 0, 2])?.f_flatten(1, 2)?
        };
        match base {
            Some(base) => Ok(product.f_add(base)?),
            None => Ok(product),
        }
    }
}

/// `activation` of `count` gates beside each other along axis 1, and each gate by itself.
pub(super) fn activated<const N: usize>(activation: Activation, x: &Tensor) -> Result<[Tensor; N]> {
    let count = i64::try_from(N).unwrap_or(1);
    // A softmax sums over its own gate only.
    let gates = if along_axis(activation) {
        let gates = x.f_chunk(count, 1)?;
        let gates = gates.iter().map(|gate| activation.apply(gate));
        gates.collect::<Result<Vec<_>>>()?
    } else {
        activation.apply(x)?.f_chunk(count, 1)?
    };
    exactly(gates)
}

/// Whether an activation looks at more than one element.
pub(super) fn along_axis(activation: Activation) -> bool {
    matches!(
        activation,
        Activation::Softmax(_) | Activation::LogSoftmax(_)
    )
}

/// As many tensors as there must be.
pub(super) fn exactly<const N: usize>(tensors: Vec<Tensor>) -> Result<[Tensor; N]> {
    let found = tensors.len();
    let tensors = tensors.try_into();
    tensors.map_err(|_| Error::values(format!("found {found} tensors where {N} are needed")))
}
