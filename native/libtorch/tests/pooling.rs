//! Max-pooling over three axes: libtorch's values and, where all elements differ, its gradient;
//! the whole gradient for each of equal maxima.

use flambeau_libtorch::max_pool3d;
use tch::{Device, Kind, Tensor};

/// What the sum of the pooled elements times `slope` says of `x`.
fn gradient(x: &Tensor, pool: impl Fn(&Tensor) -> Tensor) -> (Tensor, Tensor) {
    let x = x.detach().set_requires_grad(true);
    let y = pool(&x);
    let slope = Tensor::arange(y.numel() as i64, (x.kind(), Device::Cpu));
    (&y * slope.view_as(&y)).sum(x.kind()).backward();
    (y.detach(), x.grad())
}

#[test]
fn of_different_elements_it_is_libtorchs() {
    tch::manual_seed(1);
    let cases = [
        ([2, 2, 2], [2, 2, 2], [0, 0, 0]),
        ([3, 3, 3], [2, 1, 3], [1, 0, 1]),
        ([1, 4, 2], [1, 2, 2], [0, 2, 1]),
    ];
    let plain = Tensor::randn([3, 5, 6, 7, 8], (Kind::Float, Device::Cpu));
    let last = plain
        .permute([0, 2, 3, 4, 1])
        .contiguous()
        .permute([0, 4, 1, 2, 3]);
    for (size, strides, padding) in cases {
        for x in [&plain, &last] {
            let (y, found) = gradient(x, |x| max_pool3d(x, &size, &strides, &padding).unwrap());
            let (expected, slope) = gradient(x, |x| {
                x.max_pool3d(size, strides, padding, [1, 1, 1], false)
            });
            assert_eq!(y, expected);
            assert_eq!(found, slope);
        }
    }
}

#[test]
fn each_of_equal_maxima_gets_the_whole_gradient() {
    for kind in [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16] {
        let x = Tensor::zeros([1, 1, 1, 2, 5], (kind, Device::Cpu));
        let (_, found) = gradient(&x, |x| {
            max_pool3d(x, &[1, 2, 3], &[1, 1, 2], &[0; 3]).unwrap()
        });
        let row = Tensor::from_slice(&[0.0, 0.0, 1.0, 1.0, 1.0]).to_kind(kind);
        assert_eq!(found, row.expand([1, 1, 1, 2, 5], false), "{kind:?}");
    }
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let x = Tensor::zeros([1, 1, 4, 4, 4], (Kind::Float, Device::Cpu));
    assert!(max_pool3d(&x, &[5; 3], &[1; 3], &[0; 3]).is_err());
    assert!(max_pool3d(&x, &[2; 2], &[1; 2], &[0; 2]).is_err());
}
