//! Memory that runs out: the process's, or that of a GPU. Whoever asks for much of it asks here or
//! asks libtorch, so that it is an error and not the end of the process.
#![expect(
    unsafe_code,
    reason = "zeros from the allocator, which is asked whether it has them"
)]

use std::alloc::{Layout, alloc_zeroed};

use tch::TchError;

use crate::error::{Error, Result};

/// Where there was no memory left, and what for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the memory of {} ran out: {reason}", .place.name())]
pub struct OutOfMemory {
    /// Whose memory it was.
    pub place: Place,
    /// What was asked for.
    pub reason: String,
}

/// Whose memory ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// This process's: its limit, or that of the host or the container.
    Process,
    /// A GPU's.
    Gpu,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Process => "this process",
            Self::Gpu => "the GPU",
        }
    }
}

/// What libtorch and its libraries say when they get no memory.
const SAYINGS: [(&str, Place); 7] = [
    ("CUDA out of memory", Place::Gpu),
    ("CUDA error: out of memory", Place::Gpu),
    ("CUBLAS_STATUS_ALLOC_FAILED", Place::Gpu),
    ("CUDNN_STATUS_ALLOC_FAILED", Place::Gpu),
    // Our heap of tensors, libtorch's own, C++.
    ("not enough memory", Place::Process),
    ("can't allocate memory", Place::Process),
    ("std::bad_alloc", Place::Process),
];

impl OutOfMemory {
    /// What `error` says, if it is that memory ran out.
    fn of(error: &TchError) -> Option<Self> {
        let text = error.to_string();
        SAYINGS.iter().find_map(|&(saying, place)| {
            // What follows on other lines is libtorch's stack.
            let said = text.get(text.find(saying)?..)?.lines().next()?;
            Some(Self {
                place,
                reason: said.to_owned(),
            })
        })
    }
}

impl From<TchError> for Error {
    fn from(error: TchError) -> Self {
        match OutOfMemory::of(&error) {
            Some(out) => Self::Memory(out),
            None => Self::Torch(error),
        }
    }
}

/// `len` zeros for `what`. Their pages are taken when they are written.
///
/// # Errors
/// [`Error::Memory`].
pub(crate) fn zeros(len: usize, what: &str) -> Result<Vec<f32>> {
    if len == 0 {
        return Ok(Vec::new());
    }
    let refused = || {
        Error::Memory(OutOfMemory {
            place: Place::Process,
            reason: format!("{len} numbers for {what}"),
        })
    };
    let layout = Layout::array::<f32>(len).map_err(|_| refused())?;
    // SAFETY: the layout is not of size zero.
    let block = unsafe { alloc_zeroed(layout) }.cast::<f32>();
    if block.is_null() {
        return Err(refused());
    }
    // SAFETY: the block comes from the global allocator, with the layout of `len` f32, and bytes of
    // zero are an f32.
    Ok(unsafe { Vec::from_raw_parts(block, len, len) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_memory_is_left_for_is_an_error() {
        assert_eq!(zeros(3, "x").unwrap(), [0.0; 3]);
        assert_eq!(zeros(0, "x").unwrap(), [0.0; 0]);
        for len in [usize::MAX, usize::MAX / 8] {
            let error = zeros(len, "Adam's momentum").unwrap_err().to_string();
            assert!(
                error.starts_with("the memory of this process ran out"),
                "{error}"
            );
            assert!(error.ends_with("numbers for Adam's momentum"), "{error}");
        }
    }

    #[test]
    fn libtorch_is_understood_when_it_gets_no_memory() {
        flambeau_libtorch::set_up();
        let size = [1 << 28, 1 << 28];
        let refused = tch::Tensor::f_zeros(size, (tch::Kind::Float, tch::Device::Cpu));
        let error = Error::from(refused.unwrap_err());
        let Error::Memory(out) = &error else {
            panic!("{error}")
        };
        assert_eq!(out.place, Place::Process);
        let size = 4_u64 << 56;
        assert_eq!(
            out.reason,
            format!("not enough memory for a tensor of {size} bytes")
        );
        let text =
            "CUDA out of memory. Tried to allocate 2.00 GiB.\nframe #0: at: not enough memory";
        let error = Error::from(TchError::Torch(text.to_owned()));
        assert_eq!(
            error.to_string(),
            "the memory of the GPU ran out: CUDA out of memory. Tried to allocate 2.00 GiB."
        );
        let other = Error::from(TchError::Torch("shapes differ".to_owned()));
        assert!(matches!(other, Error::Torch(_)));
    }
}
