//! `SpectralNormalization`: a layer whose kernel is divided by its largest singular value, as
//! estimated by power iterations, and left so, in each training call (Miyato et al., 2018).

use serde_json::{Value as Json, json};
use tch::{Kind, Tensor};

use crate::arguments::{Args, Tree};
use crate::context::Context;
use crate::dtype::DType;
use crate::error::Result;
use crate::initializers::Initializer;
use crate::layer::{Built, Inferred, Layer};
use crate::scope::Scope;
use crate::spec::Spec;
use crate::value::Value;
use crate::variables::Handle;

#[derive(Debug)]
struct SpectralNormalization {
    layer: Built,
    kernel: Handle,
    /// The kernel's last axis: it is normalized as a matrix of that many columns.
    columns: i64,
    /// The estimate of the singular vector on the side of the columns.
    vector_u: Handle,
    power_iterations: i64,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let power_iterations = match options.value("power_iterations") {
        None => 1,
        Some(_) => options.count("power_iterations")?,
    };
    let serialized = options.value("layer").unwrap_or(&Json::Null);
    let layer = scope.child("layer", serialized, scope.args)?;
    let Some((kernel, shape)) = scope.adopt("layer", &["kernel", "embeddings"]) else {
        let class = serialized["class_name"].as_str().unwrap_or("null");
        return Err(options.invalid(format!(
            "layer = {class} has neither a kernel nor embeddings to normalize"
        )));
    };
    let columns = shape.last().copied().unwrap_or(1);
    let small = json!({"class_name": "TruncatedNormal", "config": {"stddev": 0.02}});
    let small = Initializer::from_config(&small, options.place())?;
    let vector_u = scope.initialized_state("vector_u", &[1, columns], small);
    Ok(Built::layer(SpectralNormalization {
        layer,
        kernel,
        columns,
        vector_u,
        power_iterations,
    }))
}

impl Layer for SpectralNormalization {
    fn infer(&self, args: &Args<Spec>) -> Inferred {
        let outputs = self.layer.infer(args)?;
        // Keras casts the output to the input's dtype.
        let input = args.inputs().first().map(|spec| spec.dtype);
        Ok(outputs.map(|spec| spec.with_dtype(input.unwrap_or(spec.dtype))))
    }

    fn call(&self, args: &Args<Value>, context: &mut Context<'_>) -> Result<Tree<Value>> {
        if context.training {
            self.normalize(context)?;
        }
        let outputs = self.layer.call(args, context)?;
        let Some(DType::Tensor(kind)) = args.inputs().first().map(|value| value.dtype()) else {
            return Ok(outputs);
        };
        outputs.try_map(&mut |value| {
            if value.dtype() == DType::Tensor(kind) {
                return Ok(value.clone());
            }
            Ok(value.y()?.f_to_kind(kind)?.into())
        })
    }
}

impl SpectralNormalization {
    /// Assigns the normalized kernel and the new vector, unless the kernel is all zeros.
    fn normalize(&self, context: &mut Context<'_>) -> Result<()> {
        let current = context.state(self.kernel);
        let normalized = {
            let _guard = tch::no_grad_guard();
            let kernel = context.variable(self.kernel)?;
            if !kernel.f_any()?.f_is_nonzero()? {
                return Ok(());
            }
            let weights = kernel.f_reshape([-1, self.columns])?;
            let mut u = context.variable(self.vector_u)?;
            let mut v = u.shallow_clone();
            for _ in 0..self.power_iterations {
                v = unit(&u.f_mm(&weights.f_transpose(0, 1)?)?)?;
                u = unit(&v.f_mm(&weights)?)?;
            }
            let sigma = v.f_mm(&weights)?.f_mm(&u.f_transpose(0, 1)?)?;
            context.assign(self.vector_u, u.f_to_kind(Kind::Float)?);
            let normalized = kernel.f_reshape([-1, self.columns])?.f_div(&sigma)?;
            normalized
                .f_view(kernel.size().as_slice())?
                .f_to_kind(Kind::Float)?
        };
        // The variable's own value cancels out exactly; its gradient is the new kernel's.
        let kernel = if current.requires_grad() {
            current.f_sub(&current.f_detach()?)?.f_add(&normalized)?
        } else {
            normalized
        };
        context.assign(self.kernel, kernel);
        Ok(())
    }
}

/// A vector of length 1, as Keras normalizes: with lengths below 1e-7 taken for that. The largest
/// float16 is lower than the factor for them.
fn unit(x: &Tensor) -> Result<Tensor> {
    let inverse = x.f_square()?.f_sum(None::<Kind>)?.f_rsqrt()?;
    if x.f_kind()? == Kind::Half {
        return Ok(x.f_mul(&inverse)?);
    }
    Ok(x.f_mul(&inverse.f_clamp_max(1e7)?)?)
}
