//! TensorFlow's `stateless_normal`: Philox 4x32-10 (Salmon et al. 2011) from a seed, by Box and
//! Muller's method in float32.

use std::f32::consts::TAU;

/// `count` normally distributed numbers, the same for the same seed.
pub(super) fn stateless_normal(seed: i64, count: usize) -> Vec<f32> {
    /// With what TensorFlow makes keys of seeds.
    const SCRAMBLE: [u32; 2] = [0x3ec8_f720, 0x0246_1e29];
    let [low, high] = halves(seed.cast_unsigned());
    let mixed = philox([low, high, 0, 0], SCRAMBLE);
    let key = [mixed[0], mixed[1]];
    let mut numbers = Vec::with_capacity(count + 3);
    let mut block: u64 = 0;
    while numbers.len() < count {
        let [low, high] = halves(block);
        let bits = philox([low, high, mixed[2], mixed[3]], key);
        numbers.extend(pair(bits[0], bits[1]));
        numbers.extend(pair(bits[2], bits[3]));
        block += 1;
    }
    numbers.truncate(count);
    numbers
}

/// Two normally distributed numbers.
fn pair(radius: u32, angle: u32) -> [f32; 2] {
    let radius = (-2.0 * unit(radius).max(1e-7).ln()).sqrt();
    let (sin, cos) = (TAU * unit(angle)).sin_cos();
    [sin * radius, cos * radius]
}

/// From 0 to 1, by the lower 23 bits.
fn unit(bits: u32) -> f32 {
    f32::from_bits((127 << 23) | (bits & 0x007f_ffff)) - 1.0
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are meant")]
fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [low0, high0] = halves(0xd251_1f53 * u64::from(counter[0]));
        let [low1, high1] = halves(0xcd9e_8d57 * u64::from(counter[2]));
        counter = [
            high1 ^ counter[1] ^ key[0],
            low1,
            high0 ^ counter[3] ^ key[1],
            low0,
        ];
        key = [
            key[0].wrapping_add(0x9e37_79b9),
            key[1].wrapping_add(0xbb67_ae85),
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `tf.random.stateless_normal` gives for the seeds `[3, 0]` and `[-5, 0]`.
    #[test]
    fn numbers_are_those_of_tensorflow() {
        let cases = [
            (
                3,
                [
                    -0.671_584_8,
                    1.676_050_4,
                    -0.944_245_46,
                    0.607_938_95,
                    1.252_785_1,
                    1.352_452_5,
                ],
            ),
            (
                -5,
                [
                    0.069_573_08,
                    -0.281_686_9,
                    1.685_667_5,
                    -2.478_031_6,
                    -1.427_050_7,
                    -1.117_059_6,
                ],
            ),
        ];
        for (seed, expected) in cases {
            let found = stateless_normal(seed, 6);
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 3e-6, "{found:?}");
            }
        }
    }
}
