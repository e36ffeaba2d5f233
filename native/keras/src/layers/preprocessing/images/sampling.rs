//! Pixels at places between the pixels of a batch of images, as sums over the ones around.

use tch::{Kind, Tensor};

use crate::error::Result;

/// One pixel for each place, of all images: which, how much of it, and whether it is in its image.
#[derive(Debug)]
pub(super) struct Tap {
    /// Its number among the pixels of all images.
    place: Tensor,
    /// Its share in the result; `None` is all of it.
    weight: Option<Tensor>,
    /// False where the value for pixels outside is taken instead.
    inside: Tensor,
}

/// Where something lies along one axis.
#[derive(Debug)]
pub(super) struct Step {
    /// The number of the row or column; it may lie outside.
    pub(super) at: Tensor,
    pub(super) weight: Option<Tensor>,
}

impl Step {
    /// The nearest row or column, for coordinates that `round` makes whole.
    pub(super) fn nearest(
        coordinates: &Tensor,
        round: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Vec<Self>> {
        Ok(vec![Self {
            at: round(coordinates)?.f_to_kind(Kind::Int64)?,
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
}

impl Tap {
    /// A tap for each pair of rows and columns, `[batch, height, width]` all of them.
    pub(super) fn grid(images: &Tensor, rows: &[Step], columns: &[Step]) -> Result<Vec<Self>> {
        let pairs = rows
            .iter()
            .flat_map(|row| columns.iter().map(move |column| (row, column)));
        pairs
            .map(|(row, column)| Self::at(images, row, column))
            .collect()
    }

    fn at(images: &Tensor, row: &Step, column: &Step) -> Result<Self> {
        let (batch, height, width, _) = images.size4()?;
        let within = |at: &Tensor, length: i64| at.f_ge(0)?.f_logical_and(&at.f_lt(length)?);
        let inside = within(&row.at, height)?.f_logical_and(&within(&column.at, width)?)?;
        let first = Tensor::f_arange(batch, (Kind::Int64, images.device()))?;
        let first = first.f_mul_scalar(height * width)?.f_view([batch, 1, 1])?;
        let row_at = row.at.f_clamp(0, height - 1)?.f_mul_scalar(width)?;
        let place = first
            .f_add(&row_at)?
            .f_add(&column.at.f_clamp(0, width - 1)?)?;
        let weight = match (&row.weight, &column.weight) {
            (Some(row), Some(column)) => Some(row.f_mul(column)?.f_reshape([-1, 1])?),
            _ => None,
        };
        Ok(Self {
            place: place.f_flatten(0, -1)?,
            weight,
            inside: inside.f_reshape([-1, 1])?,
        })
    }

    /// The same tap, outside wherever `inside` of shape `[batch, height, width]` is false.
    pub(super) fn only(self, inside: &Tensor) -> Result<Self> {
        let inside = inside.f_reshape([-1, 1])?;
        Ok(Self {
            inside: self.inside.f_logical_and(&inside)?,
            ..self
        })
    }
}

/// The sums over the taps, `fill` standing for pixels outside; in float32 if taps have weights.
pub(super) fn sample(images: &Tensor, taps: &[Tap], fill: f64) -> Result<Tensor> {
    let kind = images.f_kind()?;
    let pixels = images.f_reshape([-1, channels(images)])?;
    let mut sum: Option<Tensor> = None;
    for tap in taps {
        let found = pixels.f_index_select(0, &tap.place)?;
        let fill = Tensor::f_full([1], fill, (kind, images.device()))?;
        let found = found.f_where_self(&tap.inside, &fill)?;
        let part = match &tap.weight {
            Some(weight) => found.f_to_kind(Kind::Float)?.f_mul(weight)?,
            None => found,
        };
        sum = Some(match sum {
            Some(sum) => sum.f_add(&part)?,
            None => part,
        });
    }
    let sum = sum.unwrap_or(pixels);
    Ok(sum.f_to_kind(kind)?.f_reshape(images.size())?)
}

/// The transpose of [`sample`], with nothing outside: each pixel is added to those that its taps
/// name.
pub(super) fn scatter(images: &Tensor, taps: &[Tap]) -> Result<Tensor> {
    let kind = images.f_kind()?;
    let pixels = images.f_reshape([-1, channels(images)])?;
    let pixels = pixels.f_to_kind(Kind::Float)?;
    let mut sum = pixels.f_zeros_like()?;
    for tap in taps {
        let part = pixels.f_mul(&tap.inside.f_to_kind(Kind::Float)?)?;
        let part = match &tap.weight {
            Some(weight) => part.f_mul(weight)?,
            None => part,
        };
        sum = sum.f_index_add(0, &tap.place, &part)?;
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
