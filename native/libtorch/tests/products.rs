//! Products of matrices as they come: transposed, cut out of larger ones, repeated by strides of 0,
//! thin, in batches; forward and for gradients. Compared with products in float64.

use tch::{Device, Kind, Tensor};

fn random(size: &[i64]) -> Tensor {
    Tensor::randn(size, (Kind::Float, Device::Cpu))
}

/// How matrices of a shape can lie in memory.
fn layouts(size: &[i64]) -> Vec<Tensor> {
    let (last, before) = (size.len() - 1, size.len() - 2);
    let mut turned = size.to_vec();
    turned.swap(last, before);
    let mut larger = size.to_vec();
    larger[last] += 5;
    larger[before] += 3;
    let mut one_row = size.to_vec();
    one_row[before] = 1;
    let mut one_column = size.to_vec();
    one_column[last] = 1;
    let mut twice = size.to_vec();
    twice[last] *= 2;
    vec![
        random(size),
        random(&turned).transpose(-1, -2),
        random(&larger)
            .narrow(-1, 2, size[last])
            .narrow(-2, 1, size[before]),
        random(&one_row).expand(size, false),
        random(&one_column).expand(size, false),
        random(&twice).slice(-1, 0, None, 2),
        random(&[size, &[1]].concat()).squeeze_dim(-1),
    ]
}

/// As near as the worst of libtorch's own ways to add up to 2048 products.
fn assert_near(found: &Tensor, expected: &Tensor, what: &str) {
    let error = (found.to_kind(Kind::Double) - expected).abs().max();
    let scale = expected.abs().max().double_value(&[]).max(2048_f64.sqrt());
    let error = error.double_value(&[]) / scale;
    assert!(error < 1e-4, "{what}: {error}");
}

#[test]
fn products_are_those_of_doubles_whatever_the_strides() {
    flambeau_libtorch::set_up();
    tch::manual_seed(1);
    let shapes: [(&[i64], [i64; 3]); 6] = [
        (&[], [128, 128, 64]),
        (&[3], [64, 128, 64]),
        (&[], [1, 2048, 600]),
        (&[], [2048, 600, 1]),
        (&[2], [7, 512, 301]),
        (&[], [300, 17, 500]),
    ];
    for (batch, [rows, inner, columns]) in shapes {
        let left = [batch, &[rows, inner]].concat();
        let right = [batch, &[inner, columns]].concat();
        for a in layouts(&left) {
            for b in layouts(&right) {
                let what = format!(
                    "{:?} {:?} times {:?} {:?}",
                    a.size(),
                    a.stride(),
                    b.size(),
                    b.stride()
                );
                let (a, b) = (
                    a.detach().set_requires_grad(true),
                    b.detach().set_requires_grad(true),
                );
                let (a64, b64) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
                let (y, y64) = (a.matmul(&b), a64.matmul(&b64));
                assert_near(&y, &y64.detach(), &what);
                let slope = random(&y.size());
                let of = |y: &Tensor, slope: &Tensor| {
                    Tensor::run_backward(&[(y * slope).sum(y.kind())], &[&a, &b], true, false)
                };
                let (found, expected) = (of(&y, &slope), of(&y64, &slope.to_kind(Kind::Double)));
                for (found, expected) in found.iter().zip(&expected) {
                    assert_near(found, &expected.to_kind(Kind::Double), &what);
                }
            }
        }
    }
}

#[test]
fn sums_with_products_take_both_factors() {
    flambeau_libtorch::set_up();
    tch::manual_seed(2);
    let (a, b) = (random(&[4, 300, 200]), random(&[4, 200, 100]));
    let product = a.to_kind(Kind::Double).matmul(&b.to_kind(Kind::Double));
    for size in [&[100][..], &[300, 1], &[300, 100], &[4, 300, 100]] {
        let c = random(size);
        for (beta, alpha) in [(1.0, 1.0), (-0.5, 2.0)] {
            let y = c.baddbmm(&a, &b, beta, alpha);
            let expected = &product * alpha + c.to_kind(Kind::Double) * beta;
            assert_near(&y, &expected, "baddbmm");
        }
        if size.len() < 3 {
            let y = c.addmm(&a.get(1), &b.get(1));
            let expected = product.get(1) + c.to_kind(Kind::Double);
            assert_near(&y, &expected, "addmm");
        }
    }
    let nothing = Tensor::full([100], f64::NAN, (Kind::Float, Device::Cpu));
    assert_near(
        &nothing.baddbmm(&a, &b, 0.0, 1.0),
        &product,
        "a factor of 0",
    );
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    flambeau_libtorch::set_up();
    let (a, b) = (random(&[300, 200]), random(&[201, 100]));
    assert!(a.f_mm(&b).is_err());
    assert!(
        random(&[2, 300, 200])
            .f_bmm(&random(&[3, 200, 100]))
            .is_err()
    );
    assert!(random(&[99]).f_addmm(&a, &random(&[200, 100])).is_err());
}
