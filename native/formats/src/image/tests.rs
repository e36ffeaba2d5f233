//! What TensorFlow has no word on: hostile files, and the reasons of refusals. The pixels themselves
//! are compared with TensorFlow's in `tests/formats/test_images.py`.

use super::*;

const ONE: Shape = Shape {
    height: 1,
    width: 1,
    channels: Channels::Rgb,
};

/// A PNG file of grey pixels, with this size in its header and one byte of data.
fn png(height: u32, width: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, 1, 1);
    encoder.set_color(::png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[77]).unwrap();
    drop(writer);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = crc32(&bytes[12..29]).to_be_bytes();
    bytes[29..33].swap_with_slice(&mut crc);
    bytes
}

/// CRC-32 bit by bit, for the header that was changed.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[test]
fn grey_becomes_the_channels_that_are_wanted() {
    let mut out = [0; 3];
    decode(&png(1, 1), ONE, Resize::Refuse, &mut out).unwrap();
    assert_eq!(out, [77; 3]);
    let shape = Shape {
        channels: Channels::Rgba,
        ..ONE
    };
    let mut out = [0; 4];
    decode(&png(1, 1), shape, Resize::Refuse, &mut out).unwrap();
    assert_eq!(out, [77, 77, 77, 255]);
}

#[test]
fn another_size_is_refused_before_anything_is_decoded() {
    let error = decode(&png(60_000, 60_000), ONE, Resize::Refuse, &mut [0; 3]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the image is 60000 pixels high and 60000 wide, 1 and 1 expected; resize it"
    );
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    let error = decode(&png(60_000, 60_000), ONE, Resize::Bilinear, &mut [0; 3]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "an image of 60000 times 60000 pixels cannot be read: at most 67108864 pixels are decoded: \
         scale it down"
    );
}

#[test]
fn what_is_no_image_or_ends_early_is_refused() {
    let gif = decode(b"GIF89a\x01\x00\x01", ONE, Resize::Refuse, &mut [0; 3]).unwrap_err();
    assert_eq!(
        gif.to_string(),
        "an image cannot be read: what starts with 47 49 46 38 39 61 01 00 begins neither as a PNG \
         nor as a JPEG file"
    );
    let none = decode(b"", ONE, Resize::Refuse, &mut [0; 3]).unwrap_err();
    assert!(
        none.to_string().contains("no byte begins neither"),
        "{none}"
    );
    let whole = png(1, 1);
    for end in 8..whole.len() {
        let cut = decode(&whole[..end], ONE, Resize::Refuse, &mut [0; 3]);
        assert!(cut.is_err(), "{end} of {} bytes", whole.len());
    }
}

#[test]
fn blue_comes_first_in_pixels_of_opencv() {
    let image = Bgr {
        height: 1,
        width: 2,
        channels: 4,
        data: &[1, 2, 3, 4, 5, 6, 7, 8],
    };
    let shape = Shape { width: 2, ..ONE };
    let mut out = [0; 6];
    image.write(shape, Resize::Refuse, &mut out).unwrap();
    assert_eq!(out, [3, 2, 1, 7, 6, 5]);
    let short = Bgr {
        data: &[1, 2, 3],
        ..image
    };
    assert_eq!(
        short
            .write(shape, Resize::Refuse, &mut out)
            .unwrap_err()
            .to_string(),
        "an image is damaged: 3 bytes are no 1 times 2 pixels of 4 channels; take another copy of it"
    );
}
