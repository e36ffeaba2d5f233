//! `keras.layers` for images: of other sizes, and changed at random in training.
//!
//! A layer takes one batch of images. Labels, boxes and masks that Keras takes beside them in a
//! dictionary are not supported.

mod affine;
mod augmentation;
mod boxes;
mod brightness;
mod contrast;
mod cropping;
mod distributions;
pub(crate) mod elastic;
mod equalization;
pub(crate) mod filter;
mod flip;
pub(crate) mod grayscale;
pub(crate) mod hue;
mod inversion;
mod jitter;
mod mixing;
pub(crate) mod perspective;
mod policies;
mod posterization;
mod range;
mod resizing;
mod sampling;
pub(crate) mod warp;

use crate::layers::Family;

pub(in crate::layers) const LAYERS: Family = &[
    ("Resizing", resizing::build),
    ("CenterCrop", cropping::build_center),
    ("RandomCrop", cropping::build_random),
    ("RandomFlip", flip::build),
    ("RandomRotation", affine::build),
    ("RandomZoom", affine::build),
    ("RandomTranslation", affine::build),
    ("RandomShear", affine::build),
    ("RandomBrightness", brightness::build),
    ("RandomContrast", contrast::build_random),
    ("AutoContrast", contrast::build_auto),
    ("RandomInvert", inversion::build_invert),
    ("Solarization", inversion::build_solarization),
    ("RandomPosterization", posterization::build),
    ("RandomGrayscale", grayscale::build_grayscale),
    ("RandomColorDegeneration", grayscale::build_degeneration),
    ("RandomHue", hue::build_hue),
    ("RandomSaturation", hue::build_saturation),
    ("RandomColorJitter", jitter::build),
    ("RandomSharpness", filter::build_sharpness),
    ("RandomGaussianBlur", filter::build_blur),
    ("Equalization", equalization::build),
    (
        "ContrastLimitedAdaptiveHistogramEqualization",
        equalization::build_adaptive,
    ),
    ("RandomPerspective", perspective::build),
    ("RandomElasticTransform", elastic::build),
    ("RandomErasing", mixing::build_erasing),
    ("MixUp", mixing::build_mix_up),
    ("CutMix", mixing::build_cut_mix),
    ("RandAugment", policies::build_rand_augment),
    ("AugMix", policies::build_aug_mix),
    ("MaxNumBoundingBoxes", boxes::build),
];
