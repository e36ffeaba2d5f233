//! The numbers in a config between which others are drawn, and the range that pixels lie in.

use serde_json::Value as Json;
use tch::Tensor;

use crate::config::Options;
use crate::context::Rng;
use crate::error::Result;
use crate::layers::noise::uniform;

/// Numbers from `low` to `high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Range {
    /// Keras's `_set_factor`: two numbers of which neither lies wholly beyond `bounds`, or one in
    /// them that stands for itself and its negative, as far as that is in them. Absent it is
    /// `default`, or else an error.
    ///
    /// # Errors
    /// The value is neither.
    pub(super) fn read(
        options: &Options<'_>,
        key: &str,
        bounds: [f64; 2],
        default: Option<f64>,
    ) -> Result<Self> {
        let [least, most] = bounds;
        let value = options.value(key);
        let around = |number: f64| Self {
            low: (-number.abs()).max(least),
            high: number.abs(),
        };
        let found = match value {
            None => default.map(around),
            Some(Json::Array(_)) => pair(options, key)?
                .filter(|[low, high]| *low <= most && *high >= least)
                .map(|[low, high]| Self {
                    low: low.min(high),
                    high: high.max(low),
                }),
            Some(value) => value
                .as_f64()
                .filter(|number| (least..=most).contains(number))
                .map(around),
        };
        found.ok_or_else(|| {
            let value = value.unwrap_or(&Json::Null);
            options.invalid(format!(
                "{key} = {value} must be a number or two, in {least}..={most}"
            ))
        })
    }

    /// Numbers equally likely in the range, in float32.
    pub(super) fn draw(self, rng: &mut Rng, shape: &[i64]) -> Result<Tensor> {
        let drawn = uniform(rng, shape)?.f_mul_scalar(self.high - self.low)?;
        Ok(drawn.f_add_scalar(self.low)?)
    }

    /// Both ends changed.
    pub(super) fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            low: change(self.low),
            high: change(self.high),
        }
    }

    /// One number for each image of a batch, `[batch, 1, 1, 1]` in float32.
    pub(super) fn draw_each(self, rng: &mut Rng, images: &Tensor) -> Result<Tensor> {
        let drawn = self.draw(rng, &[batch(images), 1, 1, 1])?;
        Ok(drawn.f_to_device(images.device())?)
    }

    /// Whether something happens to each image, `[batch, 1, 1, 1]`, where the probability itself
    /// is drawn from the range.
    pub(super) fn happens(self, rng: &mut Rng, images: &Tensor) -> Result<Tensor> {
        let shape = [batch(images), 1, 1, 1];
        let probability = self.draw(rng, &shape)?;
        let happens = uniform(rng, &shape)?.f_lt_tensor(&probability)?;
        Ok(happens.f_to_device(images.device())?)
    }
}

/// Number of images.
pub(super) fn batch(images: &Tensor) -> i64 {
    images.size().first().copied().unwrap_or(0)
}

fn pair(options: &Options<'_>, key: &str) -> Result<Option<[f64; 2]>> {
    let Some(value) = options.value(key) else {
        return Ok(None);
    };
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    match items
        .iter()
        .map(Json::as_f64)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [Some(first), Some(second)] => Ok(Some([*first, *second])),
        _ => Err(options.invalid(format!("{key} = {value} must be two numbers"))),
    }
}

/// What pixels lie between, and results are held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ValueRange {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl ValueRange {
    /// What a byte holds.
    pub(super) const BYTES: Self = Self {
        low: 0.0,
        high: 255.0,
    };
    /// From black to white as 0 to 1.
    pub(super) const UNIT: Self = Self {
        low: 0.0,
        high: 1.0,
    };

    /// Option `value_range`; absent it is that of bytes.
    ///
    /// # Errors
    /// It is not two ascending numbers.
    pub(super) fn read(options: &Options<'_>) -> Result<Self> {
        match pair(options, "value_range")? {
            None => Ok(Self::BYTES),
            Some([low, high]) if low < high => Ok(Self { low, high }),
            Some(found) => Err(options.invalid(format!(
                "value_range = {found:?} must be two ascending numbers"
            ))),
        }
    }

    /// The length of the range.
    pub(super) fn span(self) -> f64 {
        self.high - self.low
    }

    /// Values outside become its ends.
    pub(super) fn clip(self, images: &Tensor) -> Result<Tensor> {
        Ok(images.f_clamp(self.low, self.high)?)
    }

    /// Pixels of this range as those of `other`, in the order of Keras's operations.
    pub(super) fn to(self, other: Self, images: &Tensor) -> Result<Tensor> {
        if self == other {
            return Ok(images.shallow_clone());
        }
        let unit = images.f_sub_scalar(self.low)?.f_div_scalar(self.span())?;
        Ok(unit.f_mul_scalar(other.span())?.f_add_scalar(other.low)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use serde_json::json;
    use tch::Kind;

    fn read(value: Json, bounds: [f64; 2]) -> Result<Range> {
        let config = json!({ "factor": value });
        let options = Options::new("layer", config.as_object().unwrap());
        Range::read(&options, "factor", bounds, None)
    }

    #[test]
    fn one_number_stands_for_both_signs_within_the_bounds() {
        let range = |low, high| Range { low, high };
        assert_eq!(read(json!(0.3), [-1.0, 1.0]).unwrap(), range(-0.3, 0.3));
        assert_eq!(read(json!(0.3), [0.0, 1.0]).unwrap(), range(0.0, 0.3));
        assert_eq!(read(json!(3), [1.0, 8.0]).unwrap(), range(1.0, 3.0));
        assert_eq!(
            read(json!([0.5, 0.2]), [0.0, 1.0]).unwrap(),
            range(0.2, 0.5)
        );
        for wrong in [
            json!(null),
            json!(1.5),
            json!("x"),
            json!([1.0]),
            json!([2.0, 3.0]),
        ] {
            assert!(read(wrong, [0.0, 1.0]).is_err());
        }
    }

    #[test]
    fn draws_fill_the_range_and_repeat_with_the_seed() {
        let range = Range {
            low: -0.5,
            high: 1.5,
        };
        let draw = || {
            let rng = &mut Rng::seed_from_u64(3);
            range.draw(rng, &[40_000]).unwrap()
        };
        let drawn = draw();
        assert!(drawn.min().double_value(&[]) >= -0.5 && drawn.max().double_value(&[]) < 1.5);
        assert!((drawn.mean(Kind::Double).double_value(&[]) - 0.5).abs() < 0.01);
        let spread = drawn.std(true).double_value(&[]);
        assert!((spread - 2.0 / 12.0_f64.sqrt()).abs() < 0.01, "{spread}");
        assert_eq!(drawn, draw());
    }

    #[test]
    fn what_happens_has_the_mean_of_its_probabilities() {
        let images = Tensor::zeros([20_000, 1, 1, 1], (Kind::Float, tch::Device::Cpu));
        let share = |low, high| {
            let rng = &mut Rng::seed_from_u64(3);
            let happens = Range { low, high }.happens(rng, &images).unwrap();
            happens.mean(Kind::Double).double_value(&[])
        };
        assert!((share(0.0, 0.5) - 0.25).abs() < 0.01);
        assert_eq!((share(1.0, 1.0), share(0.0, 0.0)), (1.0, 0.0));
    }
}
