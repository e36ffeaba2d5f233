//! One pass over gradients, parameters and slots. These loops are compiled for AVX-512, AVX2 and
//! the baseline and chosen at run time; no version contracts multiplications and additions, so all
//! give the same bits.

use multiversion::multiversion;

/// `rule(gradient, parameter)` for each element.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn sweep<F: Fn(f32, &mut f32)>(grads: &[f32], params: &mut [f32], rule: F) {
    for (&g, p) in grads.iter().zip(params) {
        rule(g, p);
    }
}

/// `rule(gradient, parameter, a)` for each element.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn sweep_1<F: Fn(f32, &mut f32, &mut f32)>(
    grads: &[f32],
    params: &mut [f32],
    a: &mut [f32],
    rule: F,
) {
    for ((&g, p), a) in grads.iter().zip(params).zip(a) {
        rule(g, p, a);
    }
}

/// `rule(gradient, parameter, a, b)` for each element.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn sweep_2<F: Fn(f32, &mut f32, &mut f32, &mut f32)>(
    grads: &[f32],
    params: &mut [f32],
    a: &mut [f32],
    b: &mut [f32],
    rule: F,
) {
    for (((&g, p), a), b) in grads.iter().zip(params).zip(a).zip(b) {
        rule(g, p, a, b);
    }
}

/// `rule(gradient, parameter, a, b, c)` for each element.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn sweep_3<F: Fn(f32, &mut f32, &mut f32, &mut f32, &mut f32)>(
    grads: &[f32],
    params: &mut [f32],
    a: &mut [f32],
    b: &mut [f32],
    c: &mut [f32],
    rule: F,
) {
    for ((((&g, p), a), b), c) in grads.iter().zip(params).zip(a).zip(b).zip(c) {
        rule(g, p, a, b, c);
    }
}

/// `rule(gradient, parameter, others)` for each element.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn sweep_4<F: Fn(f32, &mut f32, [&mut f32; 4])>(
    grads: &[f32],
    params: &mut [f32],
    others: [&mut [f32]; 4],
    rule: F,
) {
    let [a, b, c, d] = others;
    let values = grads.iter().zip(params);
    let others = a.iter_mut().zip(b).zip(c.iter_mut().zip(d));
    for ((&g, p), ((a, b), (c, d))) in values.zip(others) {
        rule(g, p, [a, b, c, d]);
    }
}

/// Replaces each value by `change(value)`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn map<F: Fn(f32) -> f32>(values: &mut [f32], change: F) {
    for value in values {
        *value = change(*value);
    }
}

/// `change(value, a)` for each element.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn map_1<F: Fn(&mut f32, &mut f32)>(values: &mut [f32], a: &mut [f32], change: F) {
    for (value, a) in values.iter_mut().zip(a) {
        change(value, a);
    }
}

/// `change(value, a, b)` for each element.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn map_2<F: Fn(&mut f32, &mut f32, &mut f32)>(
    values: &mut [f32],
    a: &mut [f32],
    b: &mut [f32],
    change: F,
) {
    for ((value, a), b) in values.iter_mut().zip(a).zip(b) {
        change(value, a, b);
    }
}

/// `change(value, a, b, c)` for each element.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn map_3<F: Fn(&mut f32, &mut f32, &mut f32, &mut f32)>(
    values: &mut [f32],
    a: &mut [f32],
    b: &mut [f32],
    c: &mut [f32],
    change: F,
) {
    for (((value, a), b), c) in values.iter_mut().zip(a).zip(b).zip(c) {
        change(value, a, b, c);
    }
}

/// Whether every value is finite.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn all_finite(values: &[f32]) -> bool {
    // Not `all`, whose early end keeps the loop scalar.
    values
        .iter()
        .fold(true, |finite, value| finite & value.is_finite())
}

/// Sum of squares, in f64 and in a fixed order.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    let mut lanes = [0_f64; 16];
    let (blocks, rest) = values.as_chunks::<16>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane += f64::from(x) * f64::from(x);
        }
    }
    let rest: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    lanes.iter().sum::<f64>() + rest
}
