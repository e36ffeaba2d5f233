//! Columns of images: encoded files, or the structs of Spark's data source `image`.

use super::{Column, Nulls, downcast};
use crate::config::ImageResize;
use crate::error::DataError;
use arrow_array::types::Int32Type;
use arrow_array::{Array, BinaryArray, PrimitiveArray, StructArray};
use flambeau_formats::Error;
use flambeau_formats::image::{self, Bgr, Resize, Shape};

/// The fields of Spark's image struct.
pub(crate) const IMAGE_FIELDS: [&str; 6] =
    ["origin", "height", "width", "nChannels", "mode", "data"];

/// OpenCV's types of a byte a channel are these bits of zero.
const DEPTH: i32 = 7;

impl Column<'_> {
    /// The pixels of every row in `shape`, a byte a channel. With `drops` a row whose image is damaged
    /// counts as null.
    ///
    /// # Errors
    /// [`DataError::Image`] and [`DataError::ImageSize`] for a row that is no such image;
    /// [`DataError::Type`] for other columns.
    pub(crate) fn images(
        &self,
        shape: Shape,
        resize: ImageResize,
        drops: bool,
        nulls: &mut Nulls,
    ) -> Result<Vec<u8>, DataError> {
        let resize = match resize {
            ImageResize::Error => Resize::Refuse,
            ImageResize::Nearest => Resize::Nearest,
            ImageResize::Bilinear => Resize::Bilinear,
        };
        let mut out = self.reserve(shape.bytes())?;
        out.resize(self.array.len() * shape.bytes(), 0);
        let files = downcast::<BinaryArray>(self.array);
        let structs = Structs::of(self.array);
        if files.is_none() && structs.is_none() {
            return Err(self.wrong_type());
        }
        for (row, slot) in out.chunks_exact_mut(shape.bytes().max(1)).enumerate() {
            if self.array.is_null(row) {
                nulls.add(self.name, row);
                continue;
            }
            let decoded = match (files, &structs) {
                (Some(files), _) => Ok(image::decode(files.value(row), shape, resize, slot)),
                (None, Some(structs)) => structs
                    .image(row)
                    .map(|image| image.write(shape, resize, slot)),
                (None, None) => Ok(Ok(())),
            };
            let damage = match decoded {
                Ok(Ok(())) => continue,
                Ok(Err(Error::ImageSize { found, expected })) => {
                    return Err(DataError::ImageSize {
                        column: self.name.to_owned(),
                        row: self.first_row + row as u64,
                        found,
                        expected,
                    });
                }
                Ok(Err(error)) => error.to_string(),
                Err(reason) => reason,
            };
            if !drops {
                return Err(self.no_image(row, damage));
            }
            nulls.add(self.name, row);
        }
        Ok(out)
    }

    fn no_image(&self, row: usize, reason: String) -> DataError {
        DataError::Image {
            column: self.name.to_owned(),
            row: self.first_row + row as u64,
            reason,
        }
    }
}

/// What Spark's image structs hold.
struct Structs<'a> {
    height: &'a PrimitiveArray<Int32Type>,
    width: &'a PrimitiveArray<Int32Type>,
    channels: &'a PrimitiveArray<Int32Type>,
    mode: &'a PrimitiveArray<Int32Type>,
    data: &'a BinaryArray,
}

impl<'a> Structs<'a> {
    fn of(array: &'a dyn Array) -> Option<Self> {
        let fields = downcast::<StructArray>(array)?;
        let field = |name: &str| {
            let field = fields.column_by_name(name);
            field.map(|field| field.as_ref())
        };
        Some(Self {
            height: downcast(field("height")?)?,
            width: downcast(field("width")?)?,
            channels: downcast(field("nChannels")?)?,
            mode: downcast(field("mode")?)?,
            data: downcast(field("data")?)?,
        })
    }

    /// The image of a row; else what is wrong with it.
    fn image(&self, row: usize) -> Result<Bgr<'a>, String> {
        let mode = self.mode.value(row);
        if mode < 0 {
            return Err("Spark could not decode it: set dropInvalid where it is read".to_owned());
        }
        if mode & DEPTH != 0 {
            return Err(format!(
                "its mode {mode} says that a channel is no byte: only bytes are taken"
            ));
        }
        let size =
            |numbers: &PrimitiveArray<Int32Type>| usize::try_from(numbers.value(row)).unwrap_or(0);
        Ok(Bgr {
            height: size(self.height),
            width: size(self.width),
            channels: size(self.channels),
            data: self.data.value(row),
        })
    }
}
