//! `Resizing`: images in another size.

use tch::Tensor;

use super::augmentation::{Augmentation, Images};
use crate::config::Options;
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::resize::Resize;
use crate::scope::Scope;

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let size = size(scope.options)?;
    let resize = Resize::read(scope.options, size)?;
    Ok(Images::read(scope, resize)?.sized(size).always().built())
}

/// Options `height` and `width`.
pub(super) fn size(options: &Options<'_>) -> Result<[i64; 2]> {
    Ok([options.count("height")?, options.count("width")?])
}

impl Augmentation for Resize {
    fn apply(&self, images: &Tensor, _: &mut Rng) -> Result<Tensor> {
        self.resized(images)
    }
}
