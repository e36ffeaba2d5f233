//! Values whose gradient Rust knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use flambeau_libtorch::{backward, is_same, with_gradient};
use tch::{Device, Kind, TchError, Tensor};

fn leaf(values: &[f32]) -> Tensor {
    flambeau_libtorch::set_up();
    Tensor::from_slice(values).set_requires_grad(true)
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.flatten(0, -1)).unwrap_or_default()
}

#[test]
fn the_gradient_is_what_the_function_makes_of_the_slope() {
    let x = leaf(&[1.0, 2.0, 3.0]);
    let square = &x * &x;
    let y = square.detach() + 1.0;
    let y = with_gradient(&square, &y, |slope| Some(slope * 10.0)).unwrap();
    assert_eq!(numbers(&y), [2.0, 5.0, 10.0]);
    let loss = (&y * Tensor::from_slice(&[1.0_f32, 1.0, 2.0])).sum(Kind::Float);
    let gradient = Tensor::f_run_backward(&[&loss], &[&x], false, false).unwrap();
    assert_eq!(numbers(&gradient[0]), [20.0, 40.0, 120.0]);
}

/// What the exchanges of a tensor group rely on: calls come in the thread that asked, from the last
/// value to the first.
#[test]
fn functions_are_called_in_the_calling_thread_from_the_last_to_the_first() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let marked = |x: &Tensor, mark: usize| {
        let sender = sender.clone();
        with_gradient(x, &x.detach(), move |slope| {
            sender.send((mark, thread::current().id())).ok()?;
            Some(slope.shallow_clone())
        })
        .unwrap()
    };
    let x = leaf(&[1.0, 2.0]);
    let a = marked(&x, 0);
    // Two branches that do not depend on each other, the shorter one recorded last.
    let b = marked(&a.square().exp().square(), 1);
    let c = marked(&a, 2);
    let loss = marked(&(b.sum(Kind::Float) + c.sum(Kind::Float)), 3);
    Tensor::f_run_backward(&[&loss], &[&x], false, false).unwrap();
    let here = thread::current().id();
    let calls: Vec<_> = receiver.try_iter().collect();
    assert_eq!(calls, [(3, here), (2, here), (1, here), (0, here)]);
}

#[test]
fn a_refusal_or_a_panic_ends_the_pass_with_an_error() {
    for panics in [false, true] {
        let x = leaf(&[1.0]);
        let y = with_gradient(&x, &x.detach(), move |_| {
            assert!(!panics, "on purpose");
            None
        });
        let loss = y.unwrap().sum(Kind::Float);
        assert!(Tensor::f_run_backward(&[&loss], &[&x], true, false).is_err());
        assert!(backward::<TchError>(&loss, &[&x], &mut |_, _| Ok(())).is_err());
    }
}

#[test]
fn functions_are_dropped_with_their_graph() {
    let count = Arc::new(AtomicUsize::new(0));
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let x = leaf(&[1.0]);
    let value = |x: &Tensor| {
        let counted = Counted(Arc::clone(&count));
        with_gradient(x, &x.detach(), move |slope| {
            let _held = &counted;
            Some(slope.shallow_clone())
        })
        .unwrap()
    };
    let y = value(&x);
    assert_eq!(count.load(Ordering::SeqCst), 0);
    drop(y);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // Without a graph there is nothing to hold it.
    let plain = value(&Tensor::ones([1], (Kind::Float, Device::Cpu)));
    assert_eq!(count.load(Ordering::SeqCst), 2);
    assert!(!plain.requires_grad());
}

#[test]
fn clones_are_the_same_value_and_copies_of_the_memory_are_not() {
    let x = leaf(&[1.0]);
    assert!(is_same(&x, &x.shallow_clone()));
    assert!(!is_same(&x, &x.detach()));
}
