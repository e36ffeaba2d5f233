//! `Resizing`: images in another size.

use tch::Tensor;

use super::augmentation::{Augmentation, always_sized};
use crate::config::Options;
use crate::context::Rng;
use crate::error::Result;
use crate::layer::{Built, Scope};
use crate::resize::Resize;

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let size = size(scope.options)?;
    always_sized(scope, size, Resize::read(scope.options, size)?)
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
