//! `Dense`: `activation(x @ kernel + bias)` on the last axis; kernel `[inputs, units]`.
//!
//! A rank of a tensor group has some columns of the kernel and the bias, or some rows of the kernel and
//! the bias as a whole.

use tch::Tensor;

use crate::activations::Activation;
use crate::context::Context;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::Split;
use crate::layer::{Built, Unary};
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};
use crate::tensor_group::TensorPart;
use crate::variables::Handle;

#[derive(Debug)]
struct Dense {
    /// Rows of the kernel that are here.
    inputs: i64,
    /// Columns that are here.
    units: i64,
    kernel: Handle,
    bias: Option<Handle>,
    /// What it computes in, integer inputs too.
    dtype: DType,
    split: Split,
    part: TensorPart,
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
    let (split, part) = (scope.place.split, scope.place.tensor);
    let all_inputs = match split {
        Split::Rows => inputs * part.ranks(),
        _ => inputs,
    };
    let kernel = scope.weight("kernel", "kernel", &[all_inputs, units], "glorot_uniform")?;
    let use_bias = options.bool("use_bias", true)?;
    let bias = scope.weight_if(use_bias, "bias", "bias", &[units], "zeros")?;
    let by_columns = matches!(split, Split::Inside | Split::Columns);
    if by_columns {
        scope.hold_part(kernel, 1);
        bias.inspect(|bias| scope.hold_part(*bias, 0));
    } else if split == Split::Rows {
        scope.hold_part(kernel, 0);
    }
    let dense = Dense {
        inputs,
        units: if by_columns {
            units / part.ranks()
        } else {
            units
        },
        kernel,
        bias,
        dtype: scope.policy.compute,
        split,
        part,
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
            *last = Some(match self.split {
                Split::Inside => self.units * self.part.ranks(),
                _ => self.units,
            });
        }
        Ok(Spec::new(dims, self.dtype))
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let bias = context.optional(self.bias)?;
        let last = x.dim().saturating_sub(1);
        match self.split {
            Split::Inside => {
                let own = self.product(&context.enter(x)?, bias, context)?;
                context.gathered(&own, last, self.part)
            }
            Split::Columns => self.product(&context.enter(x)?, bias, context),
            Split::Rows => {
                let sum = context.sum_of_group(&self.product(x, None, context)?)?;
                bias.map_or(Ok(sum.shallow_clone()), |bias| Ok(sum.f_add(&bias)?))
            }
            Split::Whole | Split::Between => self.product(x, bias, context),
        }
    }

    fn supports_masking(&self) -> bool {
        true
    }
}

impl Dense {
    /// `x @ kernel + bias`.
    fn product(&self, x: &Tensor, bias: Option<Tensor>, context: &Context<'_>) -> Result<Tensor> {
        let kernel = context.variable(self.kernel)?;
        let x = &x.f_to_kind(kernel.f_kind()?)?;
        let Some(bias) = bias else {
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
}
