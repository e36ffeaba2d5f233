//! `RandomHue` and `RandomSaturation`: one of hue, saturation and value changed. TensorFlow gives
//! no gradient for the way back to red, green and blue.

use tch::Tensor;

use super::augmentation::{Augmentation, in_training};
use super::range::{Range, ValueRange};
use crate::config::Options;
use crate::context::Rng;
use crate::error::Result;
use crate::layer::Built;
use crate::scope::Scope;

/// Turns hues by up to half of the circle, either way.
#[derive(Debug)]
pub(super) struct Hue {
    factor: Range,
    values: ValueRange,
}

/// Scales saturations by `f / (1 - f)`, from 0 for no colour by 1 for no change upwards.
#[derive(Debug)]
pub(super) struct Saturation {
    factor: Range,
    values: ValueRange,
}

pub(super) fn build_hue(scope: &mut Scope<'_>) -> Result<Built> {
    let values = ValueRange::read(scope.options)?;
    in_training(scope, Hue::read(scope.options, "factor", values)?)
}

pub(super) fn build_saturation(scope: &mut Scope<'_>) -> Result<Built> {
    let values = ValueRange::read(scope.options)?;
    in_training(scope, Saturation::read(scope.options, "factor", values)?)
}

impl Hue {
    /// Reads the factor that `key` names.
    pub(super) fn read(options: &Options<'_>, key: &str, values: ValueRange) -> Result<Self> {
        Ok(Self {
            factor: Range::read(options, key, [0.0, 1.0], None)?,
            values,
        })
    }
}

impl Saturation {
    /// Reads the factor that `key` names.
    pub(super) fn read(options: &Options<'_>, key: &str, values: ValueRange) -> Result<Self> {
        Ok(Self {
            factor: Range::read(options, key, [-1.0, 1.0], None)?,
            values,
        })
    }
}

impl Augmentation for Hue {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let sign = Range {
            low: -1.0,
            high: 1.0,
        };
        let sign = sign.draw_each(rng, images)?.f_sign()?;
        let turn = self.factor.draw_each(rng, images)?.f_mul(&sign)?;
        let turn = turn.f_mul_scalar(0.5)?.f_to_kind(images.f_kind()?)?;
        let unit = self.values.to(ValueRange::UNIT, &images.f_detach()?)?;
        let [hue, saturation, value] = hsv(&unit)?;
        let hue = hue.f_add(&turn)?;
        let hue = hue.f_sub_scalar(1.0)?.f_where_self(&hue.f_gt(1.0)?, &hue)?;
        let hue = hue.f_add_scalar(1.0)?.f_where_self(&hue.f_lt(0.0)?, &hue)?;
        let unit = ValueRange::UNIT.clip(&rgb(&hue, &saturation, &value)?)?;
        ValueRange::UNIT.to(self.values, &unit)
    }

    fn channels(&self) -> &'static [i64] {
        &[3]
    }
}

impl Augmentation for Saturation {
    fn apply(&self, images: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let factor = self.factor.draw_each(rng, images)?;
        let rest = factor.f_neg()?.f_add_scalar(1.0)?.f_add_scalar(1e-7)?;
        let factor = factor.f_div(&rest)?.f_to_kind(images.f_kind()?)?;
        let [hue, saturation, value] = hsv(&images.f_detach()?)?;
        // Keras holds saturations to the range of pixels.
        let saturation = self.values.clip(&saturation.f_mul(&factor)?)?;
        rgb(&hue, &saturation, &value)
    }

    fn channels(&self) -> &'static [i64] {
        &[3]
    }
}

/// Hue, saturation and value of red, green and blue, as TensorFlow's `RGBToHSV`.
pub(crate) fn hsv(images: &Tensor) -> Result<[Tensor; 3]> {
    let channel = |at| images.f_narrow(-1, at, 1);
    let (red, green, blue) = (channel(0)?, channel(1)?, channel(2)?);
    let value = images.f_amax(-1, true)?;
    let range = value.f_sub(&images.f_amin(-1, true)?)?;
    let zero = value.f_zeros_like()?;
    let saturation = range
        .f_div(&value)?
        .f_where_self(&value.f_gt(0.0)?, &zero)?;
    let sixth = range.f_reciprocal()?.f_mul_scalar(1.0 / 6.0)?;
    let from = |start: f64, a: &Tensor, b: &Tensor| {
        let part = sixth.f_mul(&a.f_sub(b)?)?;
        part.f_add_scalar(start)
    };
    let from_red = from(0.0, &green, &blue)?;
    let from_green = from(2.0 / 6.0, &blue, &red)?;
    let from_blue = from(4.0 / 6.0, &red, &green)?;
    let hue = from_green.f_where_self(&green.f_eq_tensor(&value)?, &from_blue)?;
    let hue = from_red.f_where_self(&red.f_eq_tensor(&value)?, &hue)?;
    let hue = hue.f_where_self(&range.f_gt(0.0)?, &zero)?;
    let hue = hue.f_add_scalar(1.0)?.f_where_self(&hue.f_lt(0.0)?, &hue)?;
    Ok([hue, saturation, value])
}

/// The inverse of [`hsv`], as TensorFlow's `HSVToRGB`.
pub(crate) fn rgb(hue: &Tensor, saturation: &Tensor, value: &Tensor) -> Result<Tensor> {
    let sixths = hue.f_mul_scalar(6.0)?;
    let distance = |from: f64| sixths.f_sub_scalar(from)?.f_abs();
    let red = distance(3.0)?.f_sub_scalar(1.0)?;
    let green = distance(2.0)?.f_neg()?.f_add_scalar(2.0)?;
    let blue = distance(4.0)?.f_neg()?.f_add_scalar(2.0)?;
    let white = saturation.f_neg()?.f_add_scalar(1.0)?;
    let channel = |share: Tensor| {
        let share = share.f_clamp(0.0, 1.0)?.f_mul(saturation)?;
        share.f_add(&white)?.f_mul(value)
    };
    Ok(Tensor::f_cat(
        &[channel(red)?, channel(green)?, channel(blue)?],
        -1,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use tch::{Device, Kind};

    #[test]
    fn colours_come_back() {
        let images = Tensor::arange(60, (Kind::Float, Device::Cpu)).remainder(7.0);
        let images = images.view([1, 4, 5, 3]) / 7.0;
        let [hue, saturation, value] = hsv(&images).unwrap();
        let back = rgb(&hue, &saturation, &value).unwrap();
        assert!(back.allclose(&images, 1e-5, 1e-5, false));
    }

    #[test]
    fn hues_turn_both_ways() {
        let images = Tensor::from_slice(&[255.0_f32, 0.0, 0.0]).view([1, 1, 1, 3]);
        let images = images.repeat([4000, 1, 1, 1]);
        let factor = Range {
            low: 0.2,
            high: 0.6,
        };
        let hue = Hue {
            factor,
            values: ValueRange::BYTES,
        };
        let turned = hue.apply(&images, &mut Rng::seed_from_u64(4)).unwrap();
        let [turned, ..] = hsv(&turned).unwrap();
        let back = turned.gt(0.5);
        let share = back.mean(Kind::Double).double_value(&[]);
        assert!((share - 0.5).abs() < 0.03, "{share}");
        let distance = (turned.ones_like() - &turned).where_self(&back, &turned);
        assert!(distance.min().double_value(&[]) >= 0.1 - 1e-5);
        assert!(distance.max().double_value(&[]) <= 0.3 + 1e-5);
        let mean = distance.mean(Kind::Double).double_value(&[]);
        assert!((mean - 0.2).abs() < 0.005, "{mean}");
    }
}
