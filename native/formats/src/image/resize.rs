//! Pixels of another grid. Pixels are squares whose centres lie at halves; the order of operations
//! in float32 is that of TensorFlow's kernels.

/// Pixels of an image.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) height: usize,
    pub(super) width: usize,
}

/// Where a new pixel lies between two old ones.
struct Between {
    lower: usize,
    upper: usize,
    /// Its distance from the lower one.
    share: f32,
}

/// Each new pixel is the mean of four old ones.
pub(super) fn bilinear(data: &[u8], from: Grid, to: Grid, channels: usize, out: &mut [u8]) {
    let columns = between(from.width, to.width);
    let stride = from.width * channels;
    let rows = out.chunks_exact_mut((to.width * channels).max(1));
    for (row, out) in between(from.height, to.height).iter().zip(rows) {
        let top = &data[row.lower * stride..][..stride];
        let bottom = &data[row.upper * stride..][..stride];
        for (column, out) in columns.iter().zip(out.chunks_exact_mut(channels)) {
            let (left, right) = (column.lower * channels, column.upper * channels);
            for (channel, value) in out.iter_mut().enumerate() {
                let at = |row: &[u8], pixel: usize| f32::from(row[pixel + channel]);
                let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
                let above = mix(at(top, left), at(top, right), column.share);
                let below = mix(at(bottom, left), at(bottom, right), column.share);
                *value = rounded(mix(above, below, row.share));
            }
        }
    }
}

/// Each new pixel is the old one that its centre lies in.
pub(super) fn nearest(data: &[u8], from: Grid, to: Grid, channels: usize, out: &mut [u8]) {
    let columns = closest(from.width, to.width);
    let stride = from.width * channels;
    let rows = out.chunks_exact_mut((to.width * channels).max(1));
    for (row, out) in closest(from.height, to.height).iter().zip(rows) {
        let line = &data[row * stride..][..stride];
        for (column, out) in columns.iter().zip(out.chunks_exact_mut(channels)) {
            out.copy_from_slice(&line[column * channels..][..channels]);
        }
    }
}

fn between(from: usize, to: usize) -> Vec<Between> {
    let last = from.saturating_sub(1);
    let place = |at: usize| {
        let center = (at as f32 + 0.5) * scale(from, to) - 0.5;
        let floor = center.floor();
        Between {
            lower: index(floor).min(last),
            upper: index(center.ceil()).min(last),
            share: center - floor,
        }
    };
    (0..to).map(place).collect()
}

fn closest(from: usize, to: usize) -> Vec<usize> {
    let place = |at: usize| {
        let center = (at as f32 + 0.5) * scale(from, to);
        index(center.floor()).min(from.saturating_sub(1))
    };
    (0..to).map(place).collect()
}

/// Old pixels per new one.
fn scale(from: usize, to: usize) -> f32 {
    from as f32 / to as f32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "below 0 it is 0, and an image has at most 2^28 pixels"
)]
fn index(place: f32) -> usize {
    place as usize
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of bytes"
)]
fn rounded(value: f32) -> u8 {
    value.round_ties_even() as u8
}
