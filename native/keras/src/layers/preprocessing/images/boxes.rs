//! `MaxNumBoundingBoxes`: pads or cuts the boxes that come with images, and leaves images alone. It
//! has no boxes here, for they come only with dictionaries.

use tch::Tensor;

use super::augmentation::{Augmentation, Images};
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

#[derive(Debug)]
struct WithoutBoxes;

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    scope.options.count("max_number")?;
    scope.options.ignore(&["fill_value"]);
    Ok(Images::read(scope, WithoutBoxes)?.built())
}

impl Augmentation for WithoutBoxes {
    fn apply(&self, images: &Tensor, _: &mut Rng) -> Result<Tensor> {
        Ok(images.shallow_clone())
    }
}
