//! From the channels that an image has to those that are wanted.

use super::Channels;

/// Shares of red, green and blue in the luminance, of 2^15: libpng's, whose result is cut.
const LUMINANCE: [u32; 3] = [9797, 19_234, 3737];

/// `data` holds pixels of `channels` bytes: 1 (grey), 2 (grey, alpha), 3 (red, green, blue) or 4.
/// Alpha is dropped where it is not wanted, not blended.
pub(super) fn convert(data: &[u8], channels: usize, wanted: Channels, out: &mut [u8]) {
    if channels == wanted as usize {
        out.copy_from_slice(data);
        return;
    }
    let pixels = data.chunks_exact(channels.max(1));
    let slots = out.chunks_exact_mut(wanted as usize);
    for (pixel, slot) in pixels.zip(slots) {
        let ([red, green, blue], alpha) = match *pixel {
            [grey] => ([grey; 3], 255),
            [grey, alpha] => ([grey; 3], alpha),
            [red, green, blue] => ([red, green, blue], 255),
            [red, green, blue, alpha, ..] => ([red, green, blue], alpha),
            [] => continue,
        };
        match wanted {
            Channels::Grey => slot[0] = luminance([red, green, blue]),
            Channels::Rgb => slot.copy_from_slice(&[red, green, blue]),
            Channels::Rgba => slot.copy_from_slice(&[red, green, blue, alpha]),
        }
    }
}

fn luminance(color: [u8; 3]) -> u8 {
    let shares = color.iter().zip(LUMINANCE);
    let sum: u32 = shares.map(|(&value, share)| u32::from(value) * share).sum();
    // The shares are 2^15 together, so this is at most 255.
    (sum >> 15).to_le_bytes()[0]
}
