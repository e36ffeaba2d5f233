//! Crossentropies that weigh examples by how well they are classified already.

use tch::{Kind, Tensor};

use super::arguments::Arguments;
use super::crossentropy::{
    clipped, complement, mean, one_of_classes, scores_for_focal, smoothed, sum,
};
use super::function::{Elements, Function};
use super::label::LabelSpec;
use super::prediction::Prediction;
use crate::error::Result;

/// `BinaryFocalCrossentropy`.
#[derive(Debug)]
pub(super) struct Binary {
    apply_class_balancing: bool,
    alpha: f64,
    gamma: f64,
    from_logits: bool,
    label_smoothing: f64,
    axes: Vec<i64>,
    place: String,
}

impl Binary {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        Ok(Box::new(Self {
            apply_class_balancing: arguments.bool("apply_class_balancing")?,
            alpha: arguments.f64("alpha")?,
            gamma: arguments.f64("gamma")?,
            from_logits: arguments.bool("from_logits")?,
            label_smoothing: arguments.f64("label_smoothing")?,
            axes: arguments.axes("axis")?,
            place: arguments.place().to_owned(),
        }))
    }
}

impl Function for Binary {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let axes = y.axes(&self.axes, &self.place)?;
        let y_true = smoothed(y_true, self.label_smoothing, 0.5)?;
        let (y, crossentropy) = scores_for_focal(&y_true, y, self.from_logits)?;
        let wrong = complement(&y_true)?;
        let hit = y_true.f_mul(&y)?.f_add(&wrong.f_mul(&complement(&y)?)?)?;
        let focal = complement(&hit)?.f_pow_tensor_scalar(self.gamma)?;
        let mut values = focal.f_mul(&crossentropy)?;
        if self.apply_class_balancing {
            let alpha = y_true
                .f_mul_scalar(self.alpha)?
                .f_add(&wrong.f_mul_scalar(1.0 - self.alpha)?)?;
            values = alpha.f_mul(&values)?;
        }
        Ok(mean(&values, &axes)?.into())
    }
}

/// `CategoricalFocalCrossentropy`. It uses the probabilities also where logits are known.
#[derive(Debug)]
pub(super) struct Categorical {
    /// One for all classes, or one for each on the last axis.
    alpha: Vec<f64>,
    gamma: f64,
    from_logits: bool,
    label_smoothing: f64,
    axis: i64,
    place: String,
}

impl Categorical {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        let Some(alpha) = arguments.optional_numbers("alpha")? else {
            return Err(arguments.invalid("alpha = null must be a number or a list of numbers"));
        };
        Ok(Box::new(Self {
            alpha,
            gamma: arguments.f64("gamma")?,
            from_logits: arguments.bool("from_logits")?,
            label_smoothing: arguments.f64("label_smoothing")?,
            axis: arguments.axis("axis")?,
            place: arguments.place().to_owned(),
        }))
    }
}

impl Function for Categorical {
    fn elements(&self, y_true: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let axis = y.axes(&[self.axis], &self.place)?;
        let y_true = smoothed(y_true, self.label_smoothing, one_of_classes(y_true))?;
        let mut y = y.y()?;
        if self.from_logits {
            y = y.f_softmax(axis[0], y.kind())?;
        }
        let y = clipped(&y.f_div(&sum(&y, &axis, true)?)?)?;
        let crossentropy = y_true.f_mul(&y.f_log()?)?.f_neg()?;
        let focal = complement(&y)?.f_pow_tensor_scalar(self.gamma)?;
        let weighted = match self.alpha[..] {
            [alpha] => focal.f_mul_scalar(alpha)?,
            // Keras makes a list float32.
            _ => {
                let alpha = Tensor::f_from_slice(&self.alpha)?.f_to_kind(Kind::Float)?;
                focal.f_mul(&alpha.f_to_device(y.device())?.f_to_kind(y.kind())?)?
            }
        };
        let values = weighted.f_mul(&crossentropy)?;
        Ok(sum(&values, &axis, false)?.into())
    }
}

/// `CategoricalGeneralizedCrossEntropy`: `(1 - p^q) / q` of the probability of the class id.
#[derive(Debug)]
pub(super) struct Generalized {
    q: f64,
}

impl Generalized {
    pub(super) fn build(arguments: &Arguments<'_>) -> Result<Box<dyn Function>> {
        let q = arguments.f64("q")?;
        if !(q > 0.0 && q < 1.0) {
            return Err(arguments.invalid(format!("q = {q} must lie between 0 and 1")));
        }
        Ok(Box::new(Self { q }))
    }
}

impl Function for Generalized {
    fn label(&self, output_shape: &[i64]) -> LabelSpec {
        LabelSpec::class(output_shape)
    }

    fn elements(&self, ids: &Tensor, y: &Prediction<'_>) -> Result<Elements> {
        let p = y
            .y()?
            .f_gather(-1, &ids.f_unsqueeze(-1)?, false)?
            .f_squeeze_dim(-1)?;
        let values = complement(&p.f_pow_tensor_scalar(self.q)?)?.f_div_scalar(self.q)?;
        Ok(values.into())
    }
}
