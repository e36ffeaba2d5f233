//! `Dense`: `activation(x @ kernel + bias)` on the last axis; kernel `[inputs, units]`.

use tch::Tensor;

use crate::activations::Activation;
use crate::context::Context;
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};
use crate::variables::Handle;

#[derive(Debug)]
struct Dense {
    inputs: i64,
    units: i64,
    kernel: Handle,
    bias: Option<Handle>,
    /// What it computes in, integer inputs too.
    dtype: DType,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    for key in ["lora_rank", "lora_alpha", "quantization_config"] {
        options.require_null(key)?;
    }
    if scope.input()?.rank() < 2 {
        let input = scope.input()?;
        return Err(scope.mismatch(format!("needs an input of at least 2 axes, got {input}")));
    }
    let units = options.count("units")?;
    let inputs = scope.input_size(-1)?;
    let kernel = scope.weight("kernel", "kernel", &[inputs, units], "glorot_uniform")?;
    let use_bias = options.bool("use_bias", true)?;
    let dense = Dense {
        inputs,
        units,
        kernel,
        bias: scope.weight_if(use_bias, "bias", "bias", &[units], "zeros")?,
        dtype: scope.policy.compute,
    };
    Ok(Built::unary(dense).then(Activation::read(options, "activation")?))
}

impl Unary for Dense {
    fn infer(&self, input: &Spec) -> SpecResult {
        let width = input.size(-1)?;
        if width != self.inputs {
            let expected = self.inputs;
            return Err(format!(
                "has a kernel for inputs of width {expected}, got {input}"
            ));
        }
        let mut dims = input.dims.clone();
        if let Some(last) = dims.last_mut() {
            *last = Some(self.units);
        }
        Ok(Spec::new(dims, self.dtype))
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let kernel = context.variable(self.kernel)?;
        let x = &x.f_to_kind(kernel.f_kind()?)?;
        let Some(bias) = context.optional(self.bias)? else {
            return Ok(x.f_matmul(&kernel)?);
        };
        if x.dim() == 2 {
            return Ok(bias.f_addmm(x, &kernel)?);
        }
        let mut size = x.size();
        if let Some(last) = size.last_mut() {
            *last = self.units;
        }
        let rows = x.f_reshape([-1, self.inputs])?;
        Ok(bias.f_addmm(&rows, &kernel)?.f_view(size.as_slice())?)
    }

    fn supports_masking(&self) -> bool {
        true
    }
}
