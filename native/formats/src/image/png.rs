//! PNG files of any color type, depth and interlacing.

use super::Pixels;
use crate::error::{Error, Result};
use png::{BitDepth, ColorType, DecodingError, Limits, Transformations};
use std::io::Cursor;

pub(super) const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";

/// What the decoder may take beside the pixels, such as two of their rows.
const SCRATCH: usize = 16 << 20;

/// The pixels of a file whose size `admit` lets pass.
pub(super) fn read(bytes: &[u8], admit: impl Fn(usize, usize) -> Result<()>) -> Result<Pixels> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: SCRATCH });
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(refused)?;
    let (height, width) = (header.height as usize, header.width as usize);
    admit(height, width)?;
    let mut reader = decoder.read_info().map_err(refused)?;
    let size = reader.output_buffer_size().unwrap_or(usize::MAX);
    let mut data = zeros(size, height, width)?;
    let frame = reader.next_frame(&mut data).map_err(refused)?;
    // The chunks behind the pixels: a file that was cut there is no whole one.
    reader.finish().map_err(refused)?;
    let channels = match frame.color_type {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
        ColorType::Indexed => 0,
    };
    let whole = frame.width as usize == width && frame.height as usize == height;
    if channels == 0 || frame.bit_depth != BitDepth::Eight || !whole {
        let reason = "its pixels are not of the size and type of its header";
        return Err(Error::corrupt("a PNG image", reason));
    }
    Ok(Pixels {
        height,
        width,
        channels,
        data,
    })
}

/// Room for pixels, or the error that there is none.
pub(super) fn zeros(size: usize, height: usize, width: usize) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    if data.try_reserve_exact(size).is_err() {
        return Err(Error::unsupported(
            format!("an image of {height} times {width} pixels"),
            format!("there are no {size} bytes for it"),
        ));
    }
    data.resize(size, 0);
    Ok(data)
}

fn refused(error: DecodingError) -> Error {
    match error {
        DecodingError::LimitsExceeded => {
            Error::unsupported("a PNG image", "its rows or chunks are too large")
        }
        error => Error::corrupt_because("a PNG image", error),
    }
}
