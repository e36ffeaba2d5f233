//! JPEG files, baseline and progressive.
//!
//! The decoder is strict: a file that ends early is an error, not an image with a grey end.

use super::png::zeros;
use super::{Channels, Pixels};
use crate::error::{Error, Result};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

pub(super) const SIGNATURE: [u8; 3] = *b"\xff\xd8\xff";

/// The marker that ends a file; in coded pixels no such bytes occur.
const END: [u8; 2] = [0xff, 0xd9];

/// The pixels of a file whose size `admit` lets pass; grey where that is wanted and the file holds
/// luminances.
pub(super) fn read(
    bytes: &[u8],
    wanted: Channels,
    admit: impl Fn(usize, usize) -> Result<()>,
) -> Result<Pixels> {
    let corrupt = |reason: String| Error::corrupt("a JPEG image", reason);
    let side = usize::from(u16::MAX);
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(side)
        .set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let headers = decoder.decode_headers();
    headers.map_err(|error| corrupt(error.to_string()))?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    if width == 0 || height == 0 {
        return Err(corrupt("it says that it has no pixels".to_owned()));
    }
    admit(height, width)?;
    if bytes.windows(2).rev().all(|pair| pair != END) {
        return Err(corrupt("it ends early".to_owned()));
    }
    let luminance = matches!(
        decoder.input_colorspace(),
        Some(ColorSpace::YCbCr | ColorSpace::Luma)
    );
    let (space, channels) = match wanted {
        Channels::Grey if luminance => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let mut data = zeros(height * width * channels, height, width)?;
    let decoded = decoder.decode_into(&mut data);
    decoded.map_err(|error| corrupt(error.to_string()))?;
    Ok(Pixels {
        height,
        width,
        channels,
        data,
    })
}
