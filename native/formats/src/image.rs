//! Images: PNG and JPEG files, or pixels as OpenCV lays them out, into bytes in the order height,
//! width, channel.
//!
//! What comes out is what TensorFlow's `decode_image(channels=c)` gives, and `tf.image.resize` of
//! that, rounded. The size in a file's header is checked before memory is taken for its pixels. Only
//! the first 8 bits of a channel are kept; gamma, color profiles and the orientation that a camera
//! notes are not looked at.

mod channels;
mod jpeg;
mod png;
mod resize;

use crate::error::{Error, Result};

/// Bytes that one decoded image may take, at four a pixel.
pub const MAX_BYTES: usize = 1 << 28;

/// The pixels that are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// What a pixel holds.
    pub channels: Channels,
}

/// What a pixel holds, a byte each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// Its luminance.
    Grey = 1,
    /// Red, green, blue.
    Rgb = 3,
    /// Red, green, blue, and how opaque it is; 255 where the file does not say.
    Rgba = 4,
}

/// What becomes of an image of another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resize {
    /// It is refused.
    #[default]
    Refuse,
    /// A pixel is the nearest one of the image.
    Nearest,
    /// A pixel is the mean of its four neighbours in the image, by their distance, rounded half to
    /// even; no more of them where the image is scaled down (`antialias=False`).
    Bilinear,
}

/// Decoded pixels of a byte a channel.
struct Pixels {
    height: usize,
    width: usize,
    /// 1 (grey), 2 (grey, alpha), 3 (red, green, blue) or 4 (and alpha).
    channels: usize,
    data: Vec<u8>,
}

impl Channels {
    /// The channels that are `count`.
    pub fn of(count: i64) -> Option<Self> {
        match count {
            1 => Some(Self::Grey),
            3 => Some(Self::Rgb),
            4 => Some(Self::Rgba),
            _ => None,
        }
    }
}

impl Shape {
    /// Bytes of the pixels.
    pub fn bytes(&self) -> usize {
        self.height * self.width * self.channels as usize
    }

    /// Whether an image of this size is worth decoding.
    fn admit(&self, height: usize, width: usize, resize: Resize) -> Result<()> {
        if resize == Resize::Refuse && (height, width) != (self.height, self.width) {
            return Err(Error::ImageSize {
                found: (height, width),
                expected: (self.height, self.width),
            });
        }
        let bytes = height.saturating_mul(width).saturating_mul(4);
        if bytes > MAX_BYTES {
            return Err(Error::unsupported(
                format!("an image of {height} times {width} pixels"),
                format!(
                    "at most {} pixels are decoded: scale it down",
                    MAX_BYTES / 4
                ),
            ));
        }
        Ok(())
    }
}

/// Decodes a PNG or JPEG file into `out`, which holds [`Shape::bytes`].
///
/// # Errors
/// [`Error::ImageSize`]; [`Error::Corrupt`] also for a file that ends early; [`Error::Unsupported`]
/// for other formats and for images beyond [`MAX_BYTES`].
pub fn decode(bytes: &[u8], shape: Shape, resize: Resize, out: &mut [u8]) -> Result<()> {
    let admit = |height, width| shape.admit(height, width, resize);
    let pixels = if bytes.starts_with(&png::SIGNATURE) {
        png::read(bytes, admit)?
    } else if bytes.starts_with(&jpeg::SIGNATURE) {
        jpeg::read(bytes, shape.channels, admit)?
    } else {
        return Err(Error::unsupported(
            "an image",
            format!(
                "{} begins neither as a PNG nor as a JPEG file",
                beginning(bytes)
            ),
        ));
    };
    pixels.fit(shape, resize, out);
    Ok(())
}

/// Pixels as OpenCV lays them out, a byte a channel: grey, blue-green-red, or these and alpha.
#[derive(Debug, Clone, Copy)]
pub struct Bgr<'a> {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// 1, 3 or 4.
    pub channels: usize,
    /// Row by row, channels together.
    pub data: &'a [u8],
}

impl Bgr<'_> {
    /// What [`decode`] does with a file.
    ///
    /// # Errors
    /// [`Error::ImageSize`]; [`Error::Corrupt`] for data that are not of the size they say.
    pub fn write(&self, shape: Shape, resize: Resize, out: &mut [u8]) -> Result<()> {
        let (height, width, channels) = (self.height, self.width, self.channels);
        let bytes = height.checked_mul(width);
        let bytes = bytes.and_then(|pixels| pixels.checked_mul(channels));
        if ![1, 3, 4].contains(&channels) || bytes != Some(self.data.len()) || bytes == Some(0) {
            let reason = format!(
                "{} bytes are no {height} times {width} pixels of {channels} channels",
                self.data.len()
            );
            return Err(Error::corrupt("an image", reason));
        }
        shape.admit(height, width, resize)?;
        let mut data = self.data.to_vec();
        if channels > 1 {
            for pixel in data.chunks_exact_mut(channels) {
                pixel.swap(0, 2);
            }
        }
        let pixels = Pixels {
            height,
            width,
            channels,
            data,
        };
        pixels.fit(shape, resize, out);
        Ok(())
    }
}

impl Pixels {
    /// Brings the pixels to `shape`: first the channels, then the size, as TensorFlow does.
    fn fit(self, shape: Shape, resize: Resize, out: &mut [u8]) {
        if (self.height, self.width) == (shape.height, shape.width) {
            return channels::convert(&self.data, self.channels, shape.channels, out);
        }
        let wanted = shape.channels as usize;
        let mut data = self.data;
        if self.channels != wanted {
            let mut converted = vec![0; self.height * self.width * wanted];
            channels::convert(&data, self.channels, shape.channels, &mut converted);
            data = converted;
        }
        let from = resize::Grid {
            height: self.height,
            width: self.width,
        };
        let to = resize::Grid {
            height: shape.height,
            width: shape.width,
        };
        match resize {
            Resize::Nearest => resize::nearest(&data, from, to, wanted, out),
            // An image of another size was refused.
            Resize::Bilinear | Resize::Refuse => resize::bilinear(&data, from, to, wanted, out),
        }
    }
}

/// The first bytes, for messages.
fn beginning(bytes: &[u8]) -> String {
    let first = bytes.get(..8).unwrap_or(bytes);
    let first: Vec<_> = first.iter().map(|byte| format!("{byte:02x}")).collect();
    match first.is_empty() {
        true => "no byte".to_owned(),
        false => format!("what starts with {}", first.join(" ")),
    }
}

#[cfg(test)]
mod tests;
