//! Pixels at places between the pixels of a batch of images, as sums over the ones around.

use tch::{Kind, Tensor};

use crate::error::Result;

/// Where something lies along one axis, `[batch, height, width]` or what extends to it.
#[derive(Debug)]
pub(super) struct Step {
    /// The number of the row or column, which is in the image.
    at: Tensor,
    /// How much of it; `None` is all.
    weight: Option<Tensor>,
}

impl Step {
    /// The row or column that whole coordinates name.
    pub(super) fn nearest(coordinates: &Tensor) -> Result<Vec<Self>> {
        Ok(vec![Self {
            at: coordinates.f_to_kind(Kind::Int64)?,
            weight: None,
        }])
    }

    /// The two rows or columns around, each the more the nearer it is.
    pub(super) fn around(coordinates: &Tensor) -> Result<Vec<Self>> {
        let floor = coordinates.f_floor()?;
        let after = coordinates.f_sub(&floor)?;
        let at = floor.f_to_kind(Kind::Int64)?;
        Ok(vec![
            Self {
                at: at.shallow_clone(),
                weight: Some(after.f_neg()?.f_add_scalar(1.0)?),
            },
            Self {
                at: at.f_add_scalar(1)?,
                weight: Some(after),
            },
        ])
    }

    /// The same with another number.
    pub(super) fn moved(self, change: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self {
            at: change(&self.at)?,
            ..self
        })
    }

    /// The nearest in `0..length`.
    pub(super) fn clamped(self, length: i64) -> Result<Self> {
        self.moved(|at| Ok(at.f_clamp(0, length - 1)?))
    }

    /// As [`Self::clamped`], with no weight if that is another.
    pub(super) fn or_none(self, length: i64) -> Result<Self> {
        let clamped = self.at.f_clamp(0, length - 1)?;
        let inside = self.at.f_eq_tensor(&clamped)?;
        Self {
            at: clamped,
            ..self
        }
        .only(&inside)
    }

    /// The same with no weight where `inside` is false.
    pub(super) fn only(self, inside: &Tensor) -> Result<Self> {
        let inside = inside.f_to_kind(Kind::Float)?;
        let weight = match &self.weight {
            Some(weight) => weight.f_mul(&inside)?,
            None => inside,
        };
        Ok(Self {
            weight: Some(weight),
            ..self
        })
    }
}

/// One pixel for each place, of all images.
#[derive(Debug)]
pub(super) struct Tap {
    /// Its number among the pixels of all images.
    place: Tensor,
    /// Its share in the result; `None` is all of it.
    weight: Option<Tensor>,
}

impl Tap {
    /// A tap for each pair of rows and columns.
    pub(super) fn grid(images: &Tensor, rows: Vec<Step>, columns: &[Step]) -> Result<Vec<Self>> {
        let (batch, height, width, _) = images.size4()?;
        let first = Tensor::f_arange(batch, (Kind::Int64, images.device()))?;
        let first = first.f_mul_scalar(height * width)?.f_view([batch, 1, 1])?;
        let mut taps = Vec::new();
        for row in rows {
            let row = row.moved(|at| Ok(at.f_mul_scalar(width)?.f_add(&first)?))?;
            for column in columns {
                let weight = match (&row.weight, &column.weight) {
                    (Some(row), Some(column)) => Some(row.f_mul(column)?.f_reshape([-1, 1])?),
                    _ => None,
                };
                taps.push(Self {
                    place: row.at.f_add(&column.at)?.f_flatten(0, -1)?,
                    weight,
                });
            }
        }
        Ok(taps)
    }
}

/// The sums over the taps in float32, in which `fill` has what is left of the weights.
pub(super) fn sample(images: &Tensor, taps: &[Tap], fill: f64) -> Result<Tensor> {
    let kind = images.f_kind()?;
    let pixels = images.f_reshape([-1, channels(images)])?;
    let mut sum: Option<Tensor> = None;
    let mut rest = Tensor::f_ones([1], (Kind::Float, images.device()))?;
    for tap in taps {
        let mut part = pixels.f_index_select(0, &tap.place)?;
        if let Some(weight) = &tap.weight {
            part = part.f_to_kind(Kind::Float)?.f_mul_(weight)?;
            if fill != 0.0 {
                rest = rest.f_sub(weight)?;
            }
        }
        sum = Some(match sum {
            Some(mut sum) => sum.f_add_(&part)?,
            None => part,
        });
    }
    let mut sum = sum.unwrap_or(pixels);
    if fill != 0.0 && rest.dim() > 1 {
        sum = sum.f_add_(&rest.f_mul_scalar(fill)?)?;
    }
    Ok(sum.f_to_kind(kind)?.f_reshape(images.size())?)
}

/// The transpose of [`sample`] with nothing to fill: each pixel is added to those that its taps
/// name.
pub(super) fn scatter(images: &Tensor, taps: &[Tap]) -> Result<Tensor> {
    let kind = images.f_kind()?;
    let pixels = images.f_reshape([-1, channels(images)])?;
    let pixels = pixels.f_to_kind(Kind::Float)?;
    let mut sum = pixels.f_zeros_like()?;
    for tap in taps {
        let part = match &tap.weight {
            Some(weight) => &pixels.f_mul(weight)?,
            None => &pixels,
        };
        sum = sum.f_index_add(0, &tap.place, part)?;
    }
    Ok(sum.f_to_kind(kind)?.f_reshape(images.size())?)
}

fn channels(images: &Tensor) -> i64 {
    images.size().last().copied().unwrap_or(1).max(1)
}

/// The numbers of the columns `[1, 1, width]` and rows `[1, height, 1]` of images.
pub(super) fn grid(images: &Tensor, kind: Kind) -> Result<(Tensor, Tensor)> {
    let (_, height, width, _) = images.size4()?;
    let options = (kind, images.device());
    let x = Tensor::f_arange(width, options)?.f_view([1, 1, width])?;
    let y = Tensor::f_arange(height, options)?.f_view([1, height, 1])?;
    Ok((x, y))
}
