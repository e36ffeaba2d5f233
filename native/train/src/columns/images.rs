//! Inputs whose column holds images.

use super::sources::{Source, Sources};
use super::{WantedInput, shape_text};
use crate::block::Values;
use crate::config::{Columns, ImageResize, NullPolicy};
use crate::decode::{Column, ColumnKind, Nulls};
use crate::error::DataError;
use flambeau_formats::image::{Channels, Shape};

/// An input of the shape `(height, width, channels)`.
#[derive(Debug)]
pub(super) struct ImageInput {
    shape: Shape,
    resize: ImageResize,
    /// Whether a row whose image is damaged is left out, as one without an image is.
    drops: bool,
}

/// What `imageCols` may name.
const IMAGES: &str = "binary, for encoded images, or the image struct of Spark's data source";

impl ImageInput {
    /// What the columns of an input are images of; none if they are not.
    ///
    /// # Errors
    /// [`DataError::Binding`] if the input is not one for images or has other columns too;
    /// [`DataError::Type`].
    pub(super) fn of(
        found: &Sources<'_>,
        columns: &Columns,
        input: &WantedInput,
        sources: &[Source],
    ) -> Result<Option<Self>, DataError> {
        let named = |source: &&Source| columns.images.contains(&source.name);
        let mut images = sources.iter();
        let image = images.find(|source| source.kind == ColumnKind::Image || named(source));
        let Some(source) = image else {
            return Ok(None);
        };
        if !matches!(source.kind, ColumnKind::Image | ColumnKind::Binary) {
            return Err(found.wrong_type(source, IMAGES));
        }
        let wrong = |reason: &str| {
            let (column, name, shape) = (&source.name, &input.name, shape_text(&input.shape));
            Err(DataError::Binding {
                reason: format!(
                    "column '{column}' holds images for the model's input '{name}' of shape \
                     {shape}: {reason}"
                ),
            })
        };
        if sources.len() > 1 {
            return wrong("an image needs an input of its own, name no other column for it");
        }
        let axes = match input.shape[..] {
            [Some(height), Some(width), Some(channels)] => {
                let axis = |size: i64| usize::try_from(size).ok();
                axis(height).zip(axis(width)).zip(Channels::of(channels))
            }
            _ => None,
        };
        let kind = input.dtype.kind();
        match (axes, kind) {
            (Some(((height, width), channels)), Some(_)) => Ok(Some(Self {
                shape: Shape {
                    height,
                    width,
                    channels,
                },
                resize: columns.image_resize,
                drops: columns.null_policy == NullPolicy::Drop,
            })),
            _ => wrong("it must be numbers of a known height, width, and 1, 3 or 4 channels"),
        }
    }

    /// The pixels, a byte a channel.
    ///
    /// # Errors
    /// Those of [`Column::images`].
    pub(super) fn decode(
        &self,
        column: &Column<'_>,
        nulls: &mut Nulls,
    ) -> Result<Values, DataError> {
        let images = column.images(self.shape, self.resize, self.drops, nulls)?;
        Ok(Values::U8(images))
    }
}
