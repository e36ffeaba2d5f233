//! `RandAugment` and `AugMix`: changes chosen at random from a set, for all images of a batch.

use rand_core::{Rng as _, SeedableRng};
use tch::Tensor;

use super::affine::{Affine, Transformed};
use super::augmentation::{Augmentation, in_training};
use super::brightness::Brightness;
use super::contrast::{AutoContrast, Contrast};
use super::distributions::{below, beta_one, log_gamma};
use super::equalization::Equalization;
use super::filter::Sharpness;
use super::grayscale::Degeneration;
use super::inversion::Solarization;
use super::posterization::Posterization;
use super::range::{Range, ValueRange};
use super::warp::{Fill, Warp, bilinear};
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::layers::layout::Layout;
use crate::scope::Scope;

type Set = Vec<Box<dyn Augmentation>>;

/// Some changes, one after the other.
#[derive(Debug)]
struct RandAugment {
    count: i64,
    set: Set,
}

/// The mean, by random weights, of several chains of changes, mixed with the images themselves.
#[derive(Debug)]
struct AugMix {
    chains: i64,
    depth: i64,
    /// Of the distributions of the weights.
    alpha: f64,
    set: Set,
    values: ValueRange,
}

pub(super) fn build_rand_augment(scope: &mut Scope<'_>) -> Result<Built> {
    let count = scope.options.integer("num_ops", 2)?;
    let factor = Range::read(scope.options, "factor", [0.0, 1.0], Some(0.5))?;
    let set = set(scope, factor, true)?;
    in_training(scope, RandAugment { count, set })
}

pub(super) fn build_aug_mix(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let factor = Range::read(options, "factor", [0.0, 1.0], Some(0.3))?;
    let alpha = options.number("alpha", 1.0)?;
    if alpha <= 0.0 {
        return Err(options.invalid(format!("alpha = {alpha} must be positive")));
    }
    let mix = AugMix {
        chains: options.integer("num_chains", 3)?,
        depth: options.integer("chain_depth", 3)?,
        alpha,
        set: set(scope, factor, options.flag("all_ops", true)?)?,
        values: ValueRange::read(options)?,
    };
    in_training(scope, mix)
}

/// What is chosen from, those that look at colours only if `all` are asked for.
fn set(scope: &Scope<'_>, factor: Range, all: bool) -> Result<Set> {
    let options = scope.options;
    let values = ValueRange::read(options)?;
    let bilinear = bilinear(options)?;
    let affine = |affine| Transformed {
        affine,
        warp: Warp {
            bilinear,
            fill: Fill::Reflect,
            value: 0.0,
        },
    };
    let mut set: Set = vec![
        Box::new(affine(Affine::Shear {
            x: factor,
            y: factor,
        })),
        Box::new(affine(Affine::Translation {
            height: factor,
            width: factor,
        })),
        Box::new(affine(Affine::Rotation(factor))),
        Box::new(Posterization {
            bits: Range {
                low: 1.0,
                high: (8.0 * factor.high).floor().max(1.0),
            },
            values,
        }),
        Box::new(Solarization::new(factor, factor, values)),
        Box::new(AutoContrast::new(values, Layout::read(options)?)),
        Box::new(Equalization { values, bins: 256 }),
    ];
    if all {
        set.push(Box::new(Brightness { factor, values }));
        set.push(Box::new(Degeneration { factor, values }));
        set.push(Box::new(Contrast::new(factor, values)));
        set.push(Box::new(Sharpness { factor, values }));
    }
    Ok(set)
}

/// One of `set` or, where `at` is beyond it, none.
fn choice(set: &Set, at: i64) -> Option<&dyn Augmentation> {
    set.get(usize::try_from(at).ok()?).map(|found| &**found)
}

fn count(set: &Set) -> i64 {
    i64::try_from(set.len()).unwrap_or(0)
}

impl Augmentation for RandAugment {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        // A change that is chosen twice is twice the same.
        let seed = rng.next_u64();
        let mut images = images.shallow_clone();
        // Keras chooses between all changes, so that one without gradient gives zeros.
        let unchanged = Tensor::f_from_slice(&[false])?.f_to_device(images.device())?;
        for _ in 0..self.count {
            if let Some(change) = choice(&self.set, below(rng, count(&self.set))) {
                let changed = change.apply(&images, &mut Rng::seed_from_u64(seed))?;
                images = images.f_where_self(&unchanged, &changed)?;
            }
        }
        Ok(images)
    }

    fn channels(&self) -> &'static [i64] {
        &[1, 3]
    }
}

impl Augmentation for AugMix {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let weights = dirichlet(rng, self.alpha, self.chains);
        let own = beta_one(rng, self.alpha);
        let mut mixed = images.f_zeros_like()?;
        for weight in weights {
            let mut chain = images.shallow_clone();
            for _ in 0..self.depth {
                // One more for none.
                if let Some(change) = choice(&self.set, below(rng, count(&self.set) + 1)) {
                    chain = change.apply(&chain, rng)?;
                }
            }
            mixed = mixed.f_add(&chain.f_mul_scalar(weight)?)?;
        }
        let own_part = images.f_mul_scalar(own)?;
        self.values
            .clip(&own_part.f_add(&mixed.f_mul_scalar(1.0 - own)?)?)
    }

    fn channels(&self) -> &'static [i64] {
        if self.set.len() > 7 { &[1, 3] } else { &[] }
    }
}

/// Positive numbers that sum to 1.
fn dirichlet(rng: &mut Rng, alpha: f64, count: i64) -> Vec<f64> {
    let logs: Vec<f64> = (0..count).map(|_| log_gamma(rng, alpha)).collect();
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let parts: Vec<f64> = logs.iter().map(|log| (log - most).exp()).collect();
    let sum: f64 = parts.iter().sum();
    parts.iter().map(|part| part / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Adds a number to all pixels.
    #[derive(Debug)]
    struct Added(f64);

    impl Augmentation for Added {
        fn apply(&self, images: &Tensor, _: &mut Rng) -> Result<Tensor> {
            Ok(images.f_add_scalar(self.0)?)
        }
    }

    /// The first pixel of what `change` makes of black images, many times.
    fn pixels(change: &dyn Augmentation) -> Vec<f64> {
        let images = Tensor::zeros([2, 1, 1, 1], (Kind::Float, Device::Cpu));
        let rng = &mut Rng::seed_from_u64(3);
        let pixel = |_| {
            let changed = change.apply(&images, rng).unwrap();
            assert_eq!(changed.get(0), changed.get(1));
            changed.double_value(&[0, 0, 0, 0])
        };
        (0..3000).map(pixel).collect()
    }

    fn set() -> Set {
        vec![Box::new(Added(1.0)), Box::new(Added(10.0))]
    }

    #[test]
    fn rand_augment_chooses_each_change_as_often() {
        let found = pixels(&RandAugment {
            count: 2,
            set: set(),
        });
        for (sum, share) in [(2.0, 0.25), (11.0, 0.5), (20.0, 0.25)] {
            let count = found.iter().filter(|&&pixel| pixel == sum).count();
            #[expect(clippy::cast_precision_loss, reason = "a count of some thousands")]
            let found = count as f64 / 3000.0;
            assert!((found - share).abs() < 0.03, "{sum} {found}");
        }
    }

    #[test]
    fn aug_mix_mixes_chains_with_the_images() {
        let mix = AugMix {
            chains: 3,
            depth: 1,
            alpha: 1.0,
            set: set(),
            values: ValueRange::BYTES,
        };
        let found = pixels(&mix);
        assert!(found.iter().all(|pixel| (0.0..10.0).contains(pixel)));
        // A third of the chains adds 1, a third 10; half of the weight is the images' own.
        let mean = found.iter().sum::<f64>() / 3000.0;
        assert!((mean - 11.0 / 6.0).abs() < 0.1, "{mean}");
        assert_eq!(found, pixels(&mix));
    }

    #[test]
    fn weights_of_chains_are_positive_and_sum_to_one() {
        let rng = &mut Rng::seed_from_u64(3);
        for alpha in [0.01, 1.0, 20.0] {
            let weights = dirichlet(rng, alpha, 4);
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert!(weights.iter().all(|&weight| weight >= 0.0));
        }
    }
}
