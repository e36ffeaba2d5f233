//! GPUs, of which the staged libtorch has none: it is laid out for the CPU. Tests in tests/device run
//! on a stand-in for one.

use flambeau_libtorch::{NoGpu, gpus, set_up};

#[test]
fn a_libtorch_for_cpus_names_its_folder_and_what_is_missing() {
    if std::env::var_os("FLAMBEAU_LIBTORCH").is_some() {
        assert_ne!(gpus(), Ok(0));
        return;
    }
    set_up();
    let Err(reason @ NoGpu::CpuBuild(_)) = gpus() else {
        panic!("{:?}", gpus());
    };
    let text = reason.to_string();
    assert!(text.contains("build/libtorch/lib"), "{text}");
    assert!(text.contains("libtorch_cuda.so"), "{text}");
    // Nothing changes by asking again.
    assert_eq!(gpus(), Err(reason));
}
