//! Gradients that are handed over one by one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use flambeau_libtorch::backward;
use tch::{Device, Kind, TchError, Tensor};

fn leaves() -> Vec<Tensor> {
    flambeau_libtorch::set_up();
    let leaf = |_| Tensor::randn([5, 5], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    (0..4).map(leaf).collect()
}

/// Of a chain of products of leaves; the first is used twice, the last not at all.
fn loss(leaves: &[Tensor]) -> Tensor {
    let x = Tensor::ones([3, 5], (Kind::Float, Device::Cpu));
    let y = x.matmul(&leaves[0]).relu().matmul(&leaves[1]).tanh();
    let y = y.matmul(&leaves[2]) + x.matmul(&leaves[0]);
    y.square().sum(Kind::Float)
}

#[test]
fn gradients_come_in_the_order_of_the_pass_and_are_those_of_libtorch() {
    let leaves = leaves();
    let all: Vec<&Tensor> = leaves.iter().collect();
    let expected = Tensor::f_run_backward(&[&loss(&leaves)], &all[..3], false, false).unwrap();
    let mut found = Vec::new();
    backward::<TchError>(&loss(&leaves), &all, &mut |index, gradient| {
        found.push((index, gradient.shallow_clone()));
        Ok(())
    })
    .unwrap();
    for (index, gradient) in &found {
        assert!(gradient.equal(&expected[*index]));
    }
    let order: Vec<_> = found.into_iter().map(|(index, _)| index).collect();
    // The first leaf's is not whole before the pass has come to its beginning.
    assert_eq!(order, [2, 1, 0]);
}

#[test]
fn a_pass_ends_with_the_error_or_the_panic_of_its_caller_and_leaves_no_hook() {
    let leaves = leaves();
    let all: Vec<&Tensor> = leaves.iter().collect();
    let mut calls = 0;
    let refused = backward(&loss(&leaves), &all, &mut |_, _| {
        calls += 1;
        Err(TchError::Shape("enough".to_owned()))
    });
    assert!(matches!(refused, Err(TchError::Shape(reason)) if reason == "enough"));
    let panics = || backward::<TchError>(&loss(&leaves), &all, &mut |_, _| panic!("on purpose"));
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    Tensor::f_run_backward(&[&loss(&leaves)], &all[..3], false, false).unwrap();
    assert_eq!(calls, 1);
    let no_scalar = leaves[0].square();
    assert!(backward::<TchError>(&no_scalar, &all, &mut |_, _| Ok(())).is_err());
}
