//! `RandomFlip`: half of the images mirrored.

use tch::Tensor;

use super::augmentation::{Augmentation, in_training};
use super::range::Range;
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

/// Mirrors along these axes, all of them or none for each image.
#[derive(Debug)]
struct Flip {
    axes: &'static [i64],
}

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let both = "horizontal_and_vertical";
    let axes: &[i64] =
        match scope
            .options
            .choice("mode", both, &["horizontal", "vertical", both])?
        {
            "horizontal" => &[2],
            "vertical" => &[1],
            _ => &[1, 2],
        };
    in_training(scope, Flip { axes })
}

impl Augmentation for Flip {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let half = Range {
            low: 0.5,
            high: 0.5,
        };
        let flips = half.happens(rng, images)?;
        Ok(images.f_flip(self.axes)?.f_where_self(&flips, images)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use tch::Kind;

    #[test]
    fn half_of_the_images_are_mirrored_along_all_axes() {
        let image = Tensor::from_slice(&[0.0_f32, 1.0, 2.0, 3.0]).view([1, 2, 2, 1]);
        let images = image.repeat([10_000, 1, 1, 1]);
        for (axes, corner) in [(&[2_i64][..], 1.0), (&[1], 2.0), (&[1, 2], 3.0)] {
            let flip = Flip { axes };
            let flipped = flip.apply(&images, &mut Rng::seed_from_u64(2)).unwrap();
            let first = flipped.select(1, 0).select(1, 0).flatten(0, -1);
            let known = first.eq(0.0).logical_or(&first.eq(corner));
            assert_eq!(known.all().int64_value(&[]), 1);
            let share = first.ne(0.0).mean(Kind::Double).double_value(&[]);
            assert!((share - 0.5).abs() < 0.02, "{share}");
            let again = flip.apply(&images, &mut Rng::seed_from_u64(2)).unwrap();
            assert_eq!(flipped, again);
        }
    }
}
