//! Decodes image files, each to HEIGHT times WIDTH pixels of CHANNELS bytes, and writes the bytes of
//! each, or the reason why there are none, beside the file: FILE.raw or FILE.error.

use std::error::Error;
use std::fs;

use flambeau_formats::image::{Channels, Resize, Shape, decode};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [height, width, channels, resize, files @ ..] = &arguments[..] else {
        return Err("usage: decode_images HEIGHT WIDTH CHANNELS RESIZE FILE ..".into());
    };
    let shape = Shape {
        height: height.parse()?,
        width: width.parse()?,
        channels: Channels::of(channels.parse()?).ok_or("1, 3 or 4 channels")?,
    };
    let resize = match resize.as_str() {
        "nearest" => Resize::Nearest,
        "bilinear" => Resize::Bilinear,
        _ => Resize::Refuse,
    };
    for file in files {
        let mut pixels = vec![0; shape.bytes()];
        match decode(&fs::read(file)?, shape, resize, &mut pixels) {
            Ok(()) => fs::write(format!("{file}.raw"), pixels)?,
            Err(error) => fs::write(format!("{file}.error"), error.to_string())?,
        }
    }
    Ok(())
}
