//! What the layers for images share: they take one batch of images, cast it to what they compute
//! in, and most change it only in training.
//!
//! In `fit` and `predict` Keras casts integers too, where a call outside of them may keep them; it
//! is `fit` that is followed.

use std::fmt::Debug;

use tch::{Kind, Tensor};

use crate::context::{Context, Rng};
use crate::dtype::DType;
use crate::error::Result;
use crate::layer::{Built, Unary};
use crate::layers::layout::Layout;
use crate::scope::Scope;
use crate::spec::{Spec, SpecResult};

/// A change of images `[batch, height, width, channels]`.
pub(super) trait Augmentation: Debug + Send {
    /// The images changed, drawing from `rng`.
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor>;

    /// How many channels images may have; none for any number.
    fn channels(&self) -> &'static [i64] {
        &[]
    }
}

/// A layer of one [`Augmentation`].
#[derive(Debug)]
pub(super) struct Images<A> {
    augmentation: A,
    layout: Layout,
    dtype: DType,
    /// Height and width of the results, where they are not those of the images.
    size: Option<[i64; 2]>,
    in_inference: bool,
}

/// A layer that changes images in training, and leaves them as they are in inference.
pub(super) fn in_training(
    scope: &Scope<'_>,
    augmentation: impl Augmentation + 'static,
) -> Result<Built> {
    Ok(Images::read(scope, augmentation)?.built())
}

impl<A: Augmentation + 'static> Images<A> {
    /// Reads the options that all such layers have.
    pub(super) fn read(scope: &Scope<'_>, augmentation: A) -> Result<Self> {
        // As for Dropout, what is drawn depends on the run's seed. Boxes come only with
        // dictionaries, which no graph gives to a layer of one tensor.
        scope.options.ignore(&["seed", "bounding_box_format"]);
        Ok(Self {
            augmentation,
            layout: Layout::read(scope.options)?,
            dtype: scope.policy.compute,
            size: None,
            in_inference: false,
        })
    }

    /// The same in inference too.
    pub(super) fn always(self) -> Self {
        Self {
            in_inference: true,
            ..self
        }
    }

    /// The same with results of a size.
    pub(super) fn sized(self, size: [i64; 2]) -> Self {
        Self {
            size: Some(size),
            ..self
        }
    }

    pub(super) fn built(self) -> Built {
        Built::unary(self)
    }
}

impl<A: Augmentation> Unary for Images<A> {
    fn infer(&self, input: &Spec) -> SpecResult {
        input.require_rank(4)?;
        let allowed = self.augmentation.channels();
        let channels = input.dims[input.axis(self.layout.channel_axis())?];
        if channels.is_some_and(|channels| !allowed.is_empty() && !allowed.contains(&channels)) {
            return Err(format!(
                "needs images of {allowed:?} channels, got shape {input}"
            ));
        }
        let mut output = input.with_dtype(self.dtype);
        if let Some(size) = self.size {
            let first = usize::try_from(self.layout.first_spatial_axis()).unwrap_or(1);
            output.dims[first..first + 2].copy_from_slice(&size.map(Some));
        }
        Ok(output)
    }

    fn call(&self, x: &Tensor, context: &mut Context<'_>) -> Result<Tensor> {
        let x = x.f_to_kind(self.dtype.kind().unwrap_or(Kind::Float))?;
        if !(context.training || self.in_inference) {
            return Ok(x);
        }
        if self.layout == Layout::ChannelsLast {
            return self.augmentation.apply(&x, context.rng());
        }
        let images = x.f_permute([0, 2, 3, 1])?;
        let images = self.augmentation.apply(&images, context.rng())?;
        Ok(images.f_permute([0, 3, 1, 2])?)
    }
}
