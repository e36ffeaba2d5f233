//! `EinsumDense`: `activation(einsum(equation, x, kernel) + bias)`.
//!
//! A rank of a tensor group has a part of the first axis that the kernel adds, or of the first that is
//! summed over.

use serde_json::Value as Json;
use tch::Tensor;

use super::contraction::Contraction;
use super::equation::{Axis, Equation};
use crate::activations::Activation;
use crate::config::Options;
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
struct EinsumDense {
    equation: Equation,
    contraction: Contraction,
    kernel: Handle,
    /// Of what is here of the kernel.
    kernel_shape: Vec<i64>,
    bias: Option<Handle>,
    /// Whether the bias is one number for each axis that the kernel adds, in its order.
    bias_by_column: bool,
    dtype: DType,
    split: Split,
    part: TensorPart,
    /// The output's axis that is gathered, if the columns are split inside the layer.
    gathered: Option<usize>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    for key in [
        "lora_rank",
        "lora_alpha",
        "gptq_unpacked_column_size",
        "quantization_config",
    ] {
        options.require_null(key)?;
    }
    let input = scope.input()?;
    let text = options.str("equation", "")?;
    let equation = Equation::read(text, input.rank()).map_err(|reason| options.invalid(reason))?;
    let sizes = equation
        .output_sizes(&input.dims, &output_shape(options)?)
        .map_err(|reason| options.invalid(reason))?;
    let size = |axis: Axis| {
        let known = sizes.iter().find(|(other, _)| *other == axis);
        let size = match known {
            Some((_, size)) => *size,
            None => equation.input_size(axis, &input.dims),
        };
        size.ok_or_else(|| {
            scope.mismatch(format!(
                "needs to know the size of {axis:?} in \"{text}\", which neither output_shape nor \
                 the input {input} says"
            ))
        })
    };
    let kernel_shape = equation.kernel.iter().map(|axis| size(*axis));
    let mut kernel_shape = kernel_shape.collect::<Result<Vec<_>>>()?;
    let bias_axes = match options.value("bias_axes") {
        None => None,
        Some(Json::String(letters)) => {
            let axes = equation.bias_axes(letters);
            Some(axes.map_err(|reason| options.invalid(reason))?)
        }
        Some(value) => {
            return Err(options.invalid(format!("bias_axes = {value} must be letters")));
        }
    };
    let bias_shape = match &bias_axes {
        Some(axes) => {
            let sizes = axes.iter().map(|axis| axis.map_or(Ok(1), size));
            sizes.collect::<Result<Vec<_>>>()?
        }
        None => Vec::new(),
    };
    let contraction = Contraction::new(&equation)
        .ok_or_else(|| options.invalid("the equation has more axes than there are letters"))?;
    let added = equation
        .kernel
        .iter()
        .filter(|axis| !equation.input.contains(axis));
    let added: Vec<Option<Axis>> = added.map(|axis| Some(*axis)).collect();
    let bias_by_column = contraction.ends_with_columns() && bias_axes.as_ref() == Some(&added);
    let (outputs, inputs): (Vec<usize>, Vec<usize>) =
        (0..equation.kernel.len()).partition(|&at| equation.output.contains(&equation.kernel[at]));
    let initializer = scope.initializer("kernel", "glorot_uniform")?;
    let initializer = initializer.with_axes(inputs.clone(), outputs.clone());
    let part = scope.place.tensor;
    let bias_axis = |axis: usize| {
        let axes = bias_axes.as_ref()?;
        axes.iter()
            .position(|of| *of == Some(equation.kernel[axis]))
    };
    // A bias that all columns share would have to be the same on all ranks.
    let separable = |axis: &usize| bias_axes.is_none() || bias_axis(*axis).is_some();
    let is_product = matches!(contraction, Contraction::Matrix { .. });
    let (split, axis) = match scope.place.split {
        Split::Rows => (Split::Rows, inputs.first()),
        split @ (Split::Inside | Split::Columns) if is_product => (split, outputs.first()),
        _ => (Split::Whole, None),
    };
    let axis = axis.copied().filter(|axis| match split {
        Split::Rows => true,
        _ => part.divides(kernel_shape[*axis]) && separable(axis),
    });
    let split = if axis.is_some() { split } else { Split::Whole };
    if let (Split::Rows, Some(axis)) = (split, axis) {
        // The input says what is here of it.
        kernel_shape[axis] *= part.ranks();
    }
    let kernel = scope.initialized_weight("kernel", &kernel_shape, initializer)?;
    let bias = scope.weight_if(bias_axes.is_some(), "bias", "bias", &bias_shape, "zeros")?;
    if let Some(axis) = axis {
        scope.hold_part(kernel, axis);
        kernel_shape[axis] /= part.ranks();
        if let (Some(bias), Some(axis), true) = (bias, bias_axis(axis), split != Split::Rows) {
            scope.hold_part(bias, axis);
        }
    }
    let output_axis = |axis: usize| {
        let mut axes = equation.output.iter();
        axes.position(|of| *of == equation.kernel[axis])
    };
    let gathered = axis
        .filter(|_| split == Split::Inside)
        .and_then(output_axis);
    let layer = EinsumDense {
        equation,
        contraction,
        kernel,
        kernel_shape,
        bias,
        bias_by_column,
        dtype: scope.policy.compute,
        split,
        part,
        gathered,
    };
    Ok(Built::unary(layer).then(Activation::read(options, "activation")?))
}

/// One size or several, without the batch; `None` for what the input says.
fn output_shape(options: &Options<'_>) -> Result<Vec<Option<i64>>> {
    let value = options.value("output_shape");
    let size = |value: &Json| match value {
        Json::Null => Some(None),
        value => value.as_i64().filter(|&n| n > 0).map(Some),
    };
    let sizes = match value {
        Some(Json::Array(items)) => items.iter().map(size).collect::<Option<Vec<_>>>(),
        Some(value) => size(value).map(|size| vec![size]),
        None => None,
    };
    sizes.ok_or_else(|| {
        let value = value.unwrap_or(&Json::Null);
        options.invalid(format!(
            "output_shape = {value} must be a positive integer or a list of them and nulls"
        ))
    })
}

impl Unary for EinsumDense {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(self.equation.input.len())?;
        let kernel_size = |axis: &Axis| {
            let at = self
                .equation
                .kernel
                .iter()
                .position(|other| other == axis)?;
            Some(self.kernel_shape[at])
        };
        for (axis, size) in self.equation.input.iter().zip(&input.dims) {
            if let (Some(wanted), Some(size)) = (kernel_size(axis), size)
                && wanted != *size
            {
                return Err(format!(
                    "has a kernel of shape {:?}, which does not fit the input {input}",
                    self.kernel_shape
                ));
            }
        }
        let dims = self.equation.output.iter().map(|axis| {
            let size = self.equation.input_size(*axis, &input.dims);
            size.or_else(|| kernel_size(axis))
        });
        let mut dims: Vec<_> = dims.collect();
        if let Some(axis) = self.gathered {
            dims[axis] = dims[axis].map(|size| size * self.part.ranks());
        }
        Ok(Spec::new(dims, self.dtype))
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        if self.split == Split::Rows {
            let kernel = context.variable(self.kernel)?;
            let x = x.f_to_kind(kernel.f_kind()?)?;
            let sum = context.sum_of_group(&self.contraction.apply(&x, &kernel, None)?)?;
            return match context.optional(self.bias)? {
                Some(bias) => Ok(sum.f_add(&bias)?),
                None => Ok(sum),
            };
        }
        if self.split == Split::Whole {
            return self.product(x, context);
        }
        let own = self.product(&context.enter(x)?, context)?;
        match self.gathered {
            Some(axis) => context.gathered(&own, axis, self.part),
            None => Ok(own),
        }
    }
}

impl EinsumDense {
    /// The product with the bias.
    fn product(&self, x: &Tensor, context: &Context<'_>) -> Result<Tensor> {
        let kernel = context.variable(self.kernel)?;
        let x = x.f_to_kind(kernel.f_kind()?)?;
        let Some(bias) = context.optional(self.bias)? else {
            return self.contraction.apply(&x, &kernel, None);
        };
        if self.bias_by_column {
            return self
                .contraction
                .apply(&x, &kernel, Some(&bias.f_reshape([-1])?));
        }
        Ok(self.contraction.apply(&x, &kernel, None)?.f_add(&bias)?)
    }
}
