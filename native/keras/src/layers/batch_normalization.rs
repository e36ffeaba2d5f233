//! `BatchNormalization` over the last axis, with Keras's rules: the moving variance takes the
//! batch's biased variance, and a frozen layer runs in inference mode.

use serde_json::Value;
use tch::{Kind, Tensor};

use super::{
    Layer, LayerVariables, Shape, ShapeResult, VariableSpec, channels_last, channels_second, single,
};
use crate::config::Options;
use crate::error::Result;
use crate::initializers::Initializer;
use crate::pass::{Pass, StateUpdate};

#[derive(Debug)]
struct BatchNormalization {
    axis: i64,
    momentum: f64,
    epsilon: f64,
    gamma: Option<Initializer>,
    beta: Option<Initializer>,
    moving_mean: Initializer,
    moving_variance: Initializer,
    frozen: bool,
}

pub(super) fn build(options: &Options<'_>) -> Result<Box<dyn Layer>> {
    // Keras writes the momentum of renormalization even when `renorm` is off.
    options.ignore(&["renorm_momentum"]);
    let axis = match options.value("axis") {
        None => Some(-1),
        Some(Value::Array(axes)) if axes.len() == 1 => axes[0].as_i64(),
        Some(axis) => axis.as_i64(),
    };
    let gamma = Initializer::read(options, "gamma_initializer", "ones")?;
    let beta = Initializer::read(options, "beta_initializer", "zeros")?;
    Ok(Box::new(BatchNormalization {
        axis: axis.ok_or_else(|| options.invalid("axis must be one integer"))?,
        momentum: options.f64("momentum", 0.99)?,
        epsilon: options.f64("epsilon", 1e-3)?,
        gamma: options.bool("scale", true)?.then_some(gamma),
        beta: options.bool("center", true)?.then_some(beta),
        moving_mean: Initializer::read(options, "moving_mean_initializer", "zeros")?,
        moving_variance: Initializer::read(options, "moving_variance_initializer", "ones")?,
        frozen: !options.bool("trainable", true)?,
    }))
}

impl BatchNormalization {
    /// Positions of gamma, beta, moving mean and moving variance among the layer's variables.
    fn positions(&self) -> (Option<usize>, Option<usize>, usize, usize) {
        let scale = usize::from(self.gamma.is_some());
        let both = scale + usize::from(self.beta.is_some());
        (
            self.gamma.as_ref().map(|_| 0),
            self.beta.as_ref().map(|_| scale),
            both,
            both + 1,
        )
    }
}

impl Layer for BatchNormalization {
    fn output_shape(&self, inputs: &[Shape]) -> ShapeResult {
        let shape = single(inputs)?;
        let last = i64::try_from(shape.len()).unwrap_or(0);
        if last == 0 || (self.axis != -1 && self.axis != last) {
            let axis = self.axis;
            return Err(format!(
                "supports the last axis only, got axis {axis} of {shape:?}"
            ));
        }
        Ok(shape.clone())
    }

    fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
        let channels = inputs[0].last().copied().unwrap_or(1);
        let spec = |name, initializer: &Initializer, trainable| VariableSpec {
            name,
            shape: vec![channels],
            initializer: initializer.clone(),
            trainable,
        };
        let gamma = self.gamma.as_ref().map(|gamma| spec("gamma", gamma, true));
        let beta = self.beta.as_ref().map(|beta| spec("beta", beta, true));
        let mean = spec("moving_mean", &self.moving_mean, false);
        let variance = spec("moving_variance", &self.moving_variance, false);
        gamma
            .into_iter()
            .chain(beta)
            .chain([mean, variance])
            .collect()
    }

    fn forward(
        &self,
        inputs: &[&Tensor],
        variables: &LayerVariables<'_>,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let (gamma, beta, mean, variance) = self.positions();
        let (gamma, beta) = (
            gamma.map(|at| variables.get(at)),
            beta.map(|at| variables.get(at)),
        );
        let size = inputs[0].size();
        let channels = size[size.len() - 1];
        let x = match size.len() {
            4 => channels_second(inputs[0])?,
            _ => inputs[0].f_reshape([-1, channels])?,
        };
        let run = |mean: &Tensor, variance: &Tensor, training, share| {
            let (mean, variance) = (Some(mean), Some(variance));
            x.f_native_batch_norm(gamma, beta, mean, variance, training, share, self.epsilon)
        };
        let (y, _, _) = if pass.training && !self.frozen {
            // With momentum 1 libtorch leaves the batch's mean and unbiased variance here.
            let batch_mean = Tensor::f_zeros([channels], (Kind::Float, x.device()))?;
            let batch_variance = batch_mean.f_zeros_like()?;
            let result = run(&batch_mean, &batch_variance, true, 1.0)?;
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let count = (size.iter().product::<i64>() / channels.max(1)) as f64;
            let biased = if count > 1.0 {
                batch_variance.f_mul_scalar((count - 1.0) / count)?
            } else {
                batch_variance.f_zeros_like()?
            };
            for (position, value) in [(mean, batch_mean), (variance, biased)] {
                let variable = variables.slots[position].index;
                pass.updates.push(StateUpdate {
                    variable,
                    value,
                    momentum: self.momentum,
                });
            }
            result
        } else {
            run(variables.get(mean), variables.get(variance), false, 0.0)?
        };
        match size.len() {
            4 => channels_last(&y),
            _ => Ok(y.f_reshape(size.as_slice())?),
        }
    }
}
