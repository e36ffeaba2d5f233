//! Uniformly distributed orthogonal matrices, with the same bits on every machine.

use multiversion::multiversion;

use super::distribution::normal;
use crate::context::Rng;

/// Vectors that are made orthogonal together to all before them, while those lie in the cache.
const BLOCK: usize = 16;

/// Independent sums in a dot product.
const LANES: usize = 16;

/// `count` orthonormal vectors of `length >= count` elements, one after the other: Gram and
/// Schmidt's method on random normal vectors, as Keras's QR decomposition with a positive diagonal.
pub(super) fn orthonormal(rng: &mut Rng, count: usize, length: usize) -> Vec<f64> {
    let mut vectors: Vec<f64> = (0..count * length).map(|_| normal(rng)).collect();
    for start in (0..count).step_by(BLOCK) {
        let (known, rest) = vectors.split_at_mut(start * length);
        let block = &mut rest[..BLOCK.min(count - start) * length];
        // The second sweep removes what rounding left of the first, here and below.
        for _ in 0..2 {
            for known in known.chunks(length) {
                for vector in block.chunks_mut(length) {
                    remove(known, vector);
                }
            }
        }
        for at in 0..block.len() / length {
            let (known, rest) = block.split_at_mut(at * length);
            let vector = &mut rest[..length];
            for _ in 0..2 {
                known.chunks(length).for_each(|known| remove(known, vector));
            }
            let norm = dot(vector, vector).sqrt();
            vector.iter_mut().for_each(|value| *value /= norm);
        }
    }
    vectors
}

/// Makes `vector` orthogonal to the unit vector `known`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn remove(known: &[f64], vector: &mut [f64]) {
    let overlap = dot(known, vector);
    for (value, known) in vector.iter_mut().zip(known) {
        *value -= overlap * known;
    }
}

#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
