//! Calls to the kernel that wait: on a word in shared memory, on sockets, for the next turn.

#![expect(
    unsafe_code,
    reason = "futex and ppoll have no safe form in the standard library"
)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while `word` is `expected`, until woken or for `patience`; may wake for no reason.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, patience: Duration) {
    let patience = timespec(patience);
    // SAFETY: the word and the time outlive the call; the other arguments are not used.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            &raw const patience,
            ptr::null::<u32>(),
            0,
        );
    }
}

/// Wakes all who sleep on `word`, in whatever process.
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: the kernel only takes the address of the word, which is that of a live reference.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX);
    }
}

/// A socket, and whether to wait until it takes bytes (else until it has some).
pub(crate) type Wanted<'a> = (BorrowedFd<'a>, bool);

/// Waits until one of `sockets` is ready, or for `patience`.
pub(crate) fn poll(sockets: &[Wanted<'_>], patience: Duration) {
    let mut polled: Vec<libc::pollfd> = sockets
        .iter()
        .map(|(socket, writes)| libc::pollfd {
            fd: socket.as_raw_fd(),
            events: if *writes { libc::POLLOUT } else { libc::POLLIN },
            revents: 0,
        })
        .collect();
    let patience = timespec(patience);
    // SAFETY: the array has as many entries as told, and outlives the call, as does the time.
    unsafe {
        libc::ppoll(
            polled.as_mut_ptr(),
            polled.len() as libc::nfds_t,
            &raw const patience,
            ptr::null(),
        );
    }
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
