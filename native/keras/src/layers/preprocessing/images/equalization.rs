//! `Equalization` and `ContrastLimitedAdaptiveHistogramEqualization`: as many pixels of each value
//! as of any other, in all images of a batch together, or around each pixel.

use tch::{Device, Kind, Tensor};

use super::augmentation::{Augmentation, Images, in_training};
use super::range::ValueRange;
use crate::context::Rng;
use crate::error::{Error, Result};
use crate::layer::Built;
use crate::scope::Scope;

#[derive(Debug)]
pub(super) struct Equalization {
    pub(super) values: ValueRange,
    pub(super) bins: i64,
}

/// By histograms of tiles, linearly between the middles of the four around a pixel.
#[derive(Debug)]
struct Adaptive {
    values: ValueRange,
    /// How much more often than on average a value may count; 0 or less for any number.
    limit: f64,
    /// Tiles along height and width.
    tiles: [i64; 2],
}

/// Values that a pixel has for a tile.
const LEVELS: i64 = 256;

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    let bins = scope.options.integer("bins", LEVELS)?;
    if bins < 1 {
        let reason = format!("bins = {bins} must be positive");
        return Err(scope.options.invalid(reason));
    }
    let values = ValueRange::read(scope.options)?;
    in_training(scope, Equalization { values, bins })
}

pub(super) fn build_adaptive(scope: &mut Scope<'_>) -> Result<Built> {
    let options = scope.options;
    let adaptive = Adaptive {
        values: ValueRange::read(options)?,
        limit: options.number("clip_limit", 4.0)?,
        tiles: options.pair("tile_grid_size")?.unwrap_or([8, 8]),
    };
    Ok(Images::read(scope, adaptive)?.always().built())
}

impl Augmentation for Equalization {
    fn apply(&self, images: &Tensor, _: &mut Rng) -> Result<Tensor> {
        let bytes = linear(self.values, ValueRange::BYTES, images)?;
        let channels = bytes.size().last().copied().unwrap_or(0);
        let channels = (0..channels).map(|at| self.channel(&bytes.f_select(-1, at)?));
        let equalized = Tensor::f_stack(&channels.collect::<Result<Vec<_>>>()?, -1)?;
        let equalized = linear(ValueRange::BYTES, self.values, &equalized)?;
        Ok(equalized.f_to_kind(images.f_kind()?)?)
    }
}

impl Equalization {
    fn channel(&self, bytes: &Tensor) -> Result<Tensor> {
        let values = bytes.f_detach()?;
        let last = self.bins - 1;
        let bin = |scaled: Tensor| scaled.f_to_kind(Kind::Int64)?.f_clamp(0, last);
        let counted = values.f_to_kind(Kind::Float)?.f_mul_scalar(last)?;
        let counted = bin(counted.f_div_scalar(255.0)?)?.f_flatten(0, -1)?;
        let histogram = counted.f_bincount(None::<Tensor>, self.bins)?;
        let kinds = histogram.f_count_nonzero(0)?;
        let sums = histogram.f_cumsum(0, Kind::Double)?;
        let first = sums
            .f_masked_fill(&sums.f_eq(0.0)?, f64::INFINITY)?
            .f_min()?;
        let rest = sums.f_narrow(0, last, 1)?.f_sub(&first)?;
        // 0 where there is one value only, which then stays.
        let rest = rest.f_clamp_min(1.0)?;
        let table = sums.f_sub(&first)?.f_mul_scalar(255.0)?.f_div(&rest)?;
        let table = table.f_round()?.f_clamp(0.0, 255.0)?;
        let found = bin(values.f_div_scalar(255.0)?.f_mul_scalar(last)?)?;
        let equalized = table.f_take(&found)?;
        let bytes = bytes.f_to_kind(Kind::Double)?;
        Ok(bytes.f_where_self(&kinds.f_le(1)?, &equalized)?)
    }
}

/// Pixels of one range as those of another, by one factor and one offset.
fn linear(from: ValueRange, to: ValueRange, images: &Tensor) -> Result<Tensor> {
    let scale = to.span() / from.span();
    let scaled = images.f_mul_scalar(scale)?;
    Ok(scaled.f_add_scalar(to.low - from.low * scale)?)
}

impl Augmentation for Adaptive {
    fn apply(&self, images: &Tensor, _: &mut Rng) -> Result<Tensor> {
        let kind = images.f_kind()?;
        // Whole numbers have no gradient.
        let images = images.f_detach()?.f_to_kind(Kind::Float)?;
        let (batch, height, width, channels) = images.size4()?;
        let bytes = self.values.to(ValueRange::BYTES, &images)?;
        let axes = [
            TileAxis::new(height, self.tiles[0])?,
            TileAxis::new(width, self.tiles[1])?,
        ];
        let device = images.device();
        let padded = bytes.f_index_select(1, &axes[0].mirrored()?.f_to_device(device)?)?;
        let padded = padded.f_index_select(2, &axes[1].mirrored()?.f_to_device(device)?)?;
        let levels = padded.f_to_kind(Kind::Int64)?.f_clamp(0, LEVELS - 1)?;
        let tables = self.tables(&levels, &axes)?;
        let levels = levels.f_narrow(1, 0, height)?.f_narrow(2, 0, width)?;
        let range = |count| Tensor::f_arange(count, (Kind::Int64, device));
        let image = range(batch)?.f_view([batch, 1, 1, 1])?;
        let channel = range(channels)?.f_view([1, 1, 1, channels])?;
        let mut sum = Tensor::f_zeros_like(&bytes)?;
        for (row, row_weight) in axes[0].around(height, device)? {
            let row = image
                .f_mul_scalar(axes[0].tiles)?
                .f_add(&row.f_view([1, height, 1, 1])?)?;
            let row_weight = row_weight.f_view([1, height, 1, 1])?;
            for (column, weight) in axes[1].around(width, device)? {
                let column = column.f_view([1, 1, width, 1])?;
                let table = row.f_mul_scalar(axes[1].tiles)?.f_add(&column)?;
                let table = table.f_mul_scalar(channels)?.f_add(&channel)?;
                let found = tables.f_take(&table.f_mul_scalar(LEVELS)?.f_add(&levels)?)?;
                let weight = weight.f_view([1, 1, width, 1])?;
                sum = sum.f_add(&found.f_mul(&weight)?.f_mul(&row_weight)?)?;
            }
        }
        Ok(ValueRange::BYTES.to(self.values, &sum)?.f_to_kind(kind)?)
    }
}

impl Adaptive {
    /// What each level becomes in each tile, `[batch, rows, columns, channels, LEVELS]`.
    fn tables(&self, levels: &Tensor, [rows, columns]: &[TileAxis; 2]) -> Result<Tensor> {
        let (batch, _, _, channels) = levels.size4()?;
        let count = rows.length * columns.length;
        let tiled = [
            batch,
            rows.tiles,
            rows.length,
            columns.tiles,
            columns.length,
            channels,
        ];
        let tiled = levels.f_reshape(tiled)?.f_permute([0, 1, 3, 5, 2, 4])?;
        let tiled = tiled.f_reshape([-1, count])?;
        let options = (Kind::Float, levels.device());
        let mut histograms = Tensor::f_zeros([tiled.size()[0], LEVELS], options)?;
        let ones = Tensor::f_ones([1], options)?.f_expand_as(&tiled)?;
        histograms = histograms.f_scatter_add(1, &tiled, &ones)?;
        #[expect(clippy::cast_precision_loss, reason = "pixels of a tile")]
        let pixels = count as f64;
        if self.limit > 0.0 {
            let limit = self.limit * pixels / 256.0;
            let clipped = histograms.f_clamp_max(limit)?;
            let excess = histograms.f_sub(&clipped)?;
            let excess = excess.f_sum_dim_intlist(&[1_i64][..], true, Kind::Float)?;
            histograms = clipped.f_add(&excess.f_div_scalar(256.0)?)?;
        }
        let sums = histograms.f_cumsum(1, Kind::Float)?;
        let least = sums.f_amin(1, true)?;
        let rest = least.f_neg()?.f_add_scalar(pixels)?;
        let rest = rest.f_masked_fill(&rest.f_eq(0.0)?, 1.0)?;
        let tables = sums.f_sub(&least)?.f_mul_scalar(255.0)?.f_div(&rest)?;
        ValueRange::BYTES.clip(&tables)
    }
}

/// An axis of images divided into tiles.
#[derive(Debug)]
struct TileAxis {
    size: i64,
    tiles: i64,
    /// Of one tile.
    length: i64,
}

impl TileAxis {
    fn new(size: i64, tiles: i64) -> Result<Self> {
        let length = (size + tiles - 1) / tiles;
        if length * tiles > 2 * size {
            return Err(Error::values(format!(
                "images of {size} pixels along an axis cannot be divided into {tiles} tiles"
            )));
        }
        Ok(Self {
            size,
            tiles,
            length,
        })
    }

    /// The pixels of all tiles: where the image ends, it is mirrored.
    fn mirrored(&self) -> Result<Tensor> {
        let mirror = |at: i64| at.min(2 * self.size - 1 - at);
        let places: Vec<i64> = (0..self.length * self.tiles).map(mirror).collect();
        Ok(Tensor::f_from_slice(&places)?)
    }

    /// The tiles before and after each of `count` pixels, with their weights.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "sizes of images are small"
    )]
    fn around(&self, count: i64, device: Device) -> Result<[(Tensor, Tensor); 2]> {
        let length = self.length as f32;
        let (mut before, mut after, mut share) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..count {
            // Counted from 1, as if another tile lay before the first.
            let place = (at as f32 - length / 2.0) / length + 1.0;
            let tile = place.floor() as i64;
            before.push((tile - 1).clamp(0, self.tiles - 1));
            after.push(tile.clamp(0, self.tiles - 1));
            share.push(place - place.floor());
        }
        let share = Tensor::f_from_slice(&share)?.f_to_device(device)?;
        let tiles = |tiles: &[i64]| Tensor::f_from_slice(tiles)?.f_to_device(device);
        let rest = share.f_neg()?.f_add_scalar(1.0)?;
        Ok([(tiles(&before)?, rest), (tiles(&after)?, share)])
    }
}
