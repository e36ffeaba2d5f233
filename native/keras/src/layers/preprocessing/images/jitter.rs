//! `RandomColorJitter`: brightness, contrast, saturation and hue, one after the other.

use serde_json::json;
use tch::{Kind, Tensor};

use super::augmentation::{Augmentation, in_training};
use super::brightness::Brightness;
use super::contrast::Contrast;
use super::hue::{Hue, Saturation};
use super::range::ValueRange;
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

/// In Keras's order, those that are asked for.
#[derive(Debug)]
struct Jitter {
    steps: Vec<Box<dyn Augmentation>>,
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    // Keras's own steps take channels last in any case.
    options.require("data_format", &json!("channels_last"))?;
    let values = ValueRange::read(options)?;
    let mut steps: Vec<Box<dyn Augmentation>> = Vec::new();
    for key in ["brightness", "contrast", "saturation", "hue"] {
        let factor = format!("{key}_factor");
        if options.value(&factor).is_none() {
            continue;
        }
        steps.push(match key {
            "brightness" => Box::new(Brightness::read(options, &factor, values)?),
            "contrast" => Box::new(Contrast::read(options, &factor, values)?),
            "saturation" => Box::new(Saturation::read(options, &factor, values)?),
            _ => Box::new(Hue::read(options, &factor, values)?),
        });
    }
    in_training(scope, Jitter { steps })
}

impl Augmentation for Jitter {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let kind = images.f_kind()?;
        let mut images = images.f_to_kind(Kind::Float)?;
        for step in &self.steps {
            images = step.apply(&images, rng)?;
        }
        Ok(images.f_to_kind(kind)?)
    }

    fn channels(&self) -> &'static [i64] {
        let steps = self.steps.iter().map(|step| step.channels());
        steps.max_by_key(|channels| channels.len()).unwrap_or(&[])
    }
}
