//! `CenterCrop` and `RandomCrop`: rectangles cut from images.

use tch::{Kind, Tensor};

use super::augmentation::{Augmentation, Images};
use super::distributions::below;
use super::resizing::size;
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::resize::{Aspect, Interpolation, Resize};
use crate::scope::Scope;

/// The middle of images; smaller ones are resized, so that the largest rectangle of the aspect
/// ratio remains.
#[derive(Debug)]
struct CenterCrop {
    size: [i64; 2],
}

/// One rectangle of all images of a batch, anywhere if they are larger in both directions. Images
/// that are not lose their edges, as far as they have any to lose, and are stretched.
///
/// In inference Keras leaves images as they are, whatever size it declares.
#[derive(Debug)]
struct RandomCrop {
    size: [i64; 2],
}

pub(super) fn build_center(scope: &mut Scope<'_>) -> Result<Built> {
    let size = size(scope.options)?;
    let crop = CenterCrop { size };
    Ok(Images::read(scope, crop)?.sized(size).always().built())
}

pub(super) fn build_random(scope: &mut Scope<'_>) -> Result<Built> {
    let size = size(scope.options)?;
    Ok(Images::read(scope, RandomCrop { size })?
        .sized(size)
        .built())
}

impl Augmentation for CenterCrop {
    fn apply(&self, images: &Tensor, _: &mut Rng) -> Result<Tensor> {
        let (_, height, width, _) = images.size4()?;
        let [rows, columns] = self.size;
        if height >= rows && width >= columns {
            let start = [(height - rows) / 2, (width - columns) / 2];
            return cut(images, start, self.size);
        }
        let resize = Resize {
            aspect: Aspect::Cropped,
            ..Resize::stretched(self.size, Interpolation::Bilinear)
        };
        // Resized images stay in float32, whatever the layer computes in.
        resize.resized(&images.f_to_kind(Kind::Float)?)
    }
}

impl Augmentation for RandomCrop {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let (_, height, width, _) = images.size4()?;
        let [rows, columns] = self.size;
        if height > rows && width > columns {
            let start = [
                below(rng, height - rows + 1),
                below(rng, width - columns + 1),
            ];
            return cut(images, start, self.size);
        }
        // Where the largest rectangle of the aspect ratio would begin.
        let fit_rows = (width * rows / columns).min(height).max(1);
        let fit_columns = (height * columns / rows).min(width).max(1);
        let start = [(height - fit_rows) / 2, (width - fit_columns) / 2];
        let left = [rows.min(height - start[0]), columns.min(width - start[1])];
        let images = cut(images, start, left)?;
        if left == self.size {
            return Ok(images);
        }
        Resize::stretched(self.size, Interpolation::Bilinear).resized(&images)
    }
}

fn cut(images: &Tensor, start: [i64; 2], size: [i64; 2]) -> Result<Tensor> {
    let rows = images.f_narrow(1, start[0], size[0])?;
    Ok(rows.f_narrow(2, start[1], size[1])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    #[test]
    fn random_crops_lie_everywhere_and_are_those_of_all_images() {
        let column = Tensor::arange(5, (Kind::Float, tch::Device::Cpu)).view([1, 5, 1, 1]);
        let images = column.repeat([2, 1, 4, 1]);
        let mut starts = std::collections::BTreeMap::new();
        let rng = &mut Rng::seed_from_u64(1);
        for _ in 0..3000 {
            let crop = RandomCrop { size: [3, 2] }.apply(&images, rng).unwrap();
            assert_eq!(crop.size(), [2, 3, 2, 1]);
            assert_eq!(crop.get(0), crop.get(1));
            let start = crop.int64_value(&[0, 0, 0, 0]);
            *starts.entry(start).or_insert(0) += 1;
        }
        assert_eq!(starts.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
        assert!(starts.values().all(|count| (900..1100).contains(count)));
    }
}
