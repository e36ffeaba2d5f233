//! The memory of tensors while there are sessions and after them. One test, as it looks at the
//! memory of the whole process.
#![cfg(target_os = "linux")]

use std::error::Error;

use flambeau_libtorch::KeptMemory;
use tch::{Device, Kind, Tensor};

const MEGABYTE: i64 = 1 << 20;

/// Megabytes that the process has resident.
fn resident() -> Result<i64, Box<dyn Error>> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm
        .split(' ')
        .nth(1)
        .ok_or("statm has no second number")?;
    Ok(pages.parse::<i64>()? * 4096 / MEGABYTE)
}

fn bytes(megabytes: i64) -> Tensor {
    Tensor::ones([megabytes * MEGABYTE], (Kind::Uint8, Device::Cpu))
}

#[test]
fn memory_is_kept_while_there_are_sessions_and_given_back_after() -> Result<(), Box<dyn Error>> {
    let foreign = bytes(1);
    let (first, second) = (KeptMemory::begin(), KeptMemory::begin());
    let early = bytes(1);
    let before = resident()?;
    let tensors: Vec<Tensor> = [200, 3, 100].into_iter().map(bytes).collect();
    assert!(resident()? >= before + 300);
    drop(tensors);
    assert!(resident()? >= before + 300, "kept for the next step");
    drop(first);
    assert!(resident()? >= before + 300, "there is one more session");

    // What the threads of a step do at once: nobody gets a block that another one has.
    std::thread::scope(|scope| {
        for seed in 1..=4_i64 {
            scope.spawn(move || {
                let mut held = Vec::new();
                for step in 0..300 {
                    let elements = (seed * 7919 + step * step * 104_729) % 300_000;
                    let tensor = Tensor::full([elements], seed, (Kind::Int64, Device::Cpu));
                    assert_eq!(tensor.data_ptr().addr() % 64, 0);
                    held.push(tensor);
                    if step % 3 == 0 {
                        drop(held.swap_remove(held.len() / 2));
                    }
                }
                for tensor in held {
                    assert_eq!(tensor.eq(seed).all().int64_value(&[]), 1);
                }
            });
        }
    });

    let late = bytes(300);
    drop(second);
    assert_eq!(late.sum(Kind::Int64).int64_value(&[]), 300 * MEGABYTE);
    drop(late);
    assert!(resident()? <= before + 100, "given back");
    drop(bytes(200));
    assert!(resident()? <= before + 100, "given back at once");
    assert_eq!(early.sum(Kind::Int64).int64_value(&[]), MEGABYTE);
    assert_eq!(foreign.sum(Kind::Int64).int64_value(&[]), MEGABYTE);
    Ok(())
}
