//! Memory that several processes of a host have mapped, without a name in any file system.
//!
//! The owner makes an anonymous file (`memfd_create`) that only its user may open. Others open it
//! as `/proc/PID/fd/N`, which the kernel grants to processes of the same user that see the owner
//! under that number. So nothing is left behind by whoever dies whenever, no `/dev/shm` can be too
//! small, and containers that share a host but no processes have no memory in common either. The
//! file is sealed: nobody can make it shorter under a mapping.

#![expect(
    unsafe_code,
    reason = "memory is mapped by hand, and other processes change it meanwhile"
)]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::transport::stream;

/// A mapping of shared memory, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Memory {
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: the address is that of a shared mapping, which any thread may use; what is not atomic is
// handed from one writer to one reader by atomic indices.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// New memory of `length` bytes, all zero, and the file to open it by, which says in a process's
    /// list of mappings that it is for `purpose`. It takes up no memory before it is written to or
    /// reserved.
    pub(crate) fn create(purpose: &str, length: usize) -> io::Result<(Self, OwnedFd)> {
        let name = CString::new(name(purpose)).map_err(io::Error::other)?;
        // SAFETY: the name is a C string.
        let fd = unsafe {
            libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.set_len(length as u64)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: both calls only take a descriptor and numbers.
        let refused = unsafe {
            libc::fchmod(fd, 0o600) != 0 || libc::fcntl(fd, libc::F_ADD_SEALS, seals) != 0
        };
        if refused {
            return Err(io::Error::last_os_error());
        }
        Ok((Self::map(&file, length)?, file.into()))
    }

    /// Maps what process `pid` has open as descriptor `fd`, if that is memory made by
    /// [`create`](Self::create) for `purpose`, of `length` bytes.
    pub(crate) fn open(purpose: &str, (pid, fd): (u32, i32), length: usize) -> io::Result<Self> {
        let path = format!("/proc/{pid}/fd/{fd}");
        let target = std::fs::read_link(&path)?;
        if !target
            .as_os_str()
            .as_encoded_bytes()
            .starts_with(format!("/memfd:{}", name(purpose)).as_bytes())
        {
            return Err(io::Error::other(format!("{path} is {}", target.display())));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(&path)?;
        // SAFETY: the call only takes a descriptor and a number.
        let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
        if seals < 0 || seals & libc::F_SEAL_SHRINK == 0 || file.metadata()?.len() != length as u64
        {
            return Err(io::Error::other(format!("{path} is no {purpose}")));
        }
        Self::map(&file, length)
    }

    fn map(file: &File, length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { address, length })
    }

    /// Takes the first `length` bytes from the system now, so that a lack of memory is an error
    /// here and not a signal at the first write.
    pub(crate) fn reserve(fd: &OwnedFd, length: usize) -> io::Result<()> {
        let length = libc::off_t::try_from(length).map_err(io::Error::other)?;
        // SAFETY: the call only takes a descriptor and numbers.
        match unsafe { libc::posix_fallocate(fd.as_raw_fd(), 0, length) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Where `offset` is, in this process; the beginning if that is beyond the end.
    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        if offset > self.length {
            return self.address;
        }
        // SAFETY: inside the mapping or right behind it.
        unsafe { self.address.add(offset) }
    }

    /// The word at `offset`, a multiple of 8. Beyond the end it is a word of its own.
    pub(crate) fn word64(&self, offset: usize) -> &AtomicU64 {
        static BEYOND: AtomicU64 = AtomicU64::new(0);
        if !offset.is_multiple_of(8) || offset + 8 > self.length {
            return &BEYOND;
        }
        // SAFETY: inside the mapping, aligned, and only ever used as an atomic.
        unsafe { AtomicU64::from_ptr(self.address.as_ptr().add(offset).cast()) }
    }

    /// The word at `offset`, a multiple of 4. Beyond the end it is a word of its own.
    pub(crate) fn word32(&self, offset: usize) -> &AtomicU32 {
        static BEYOND: AtomicU32 = AtomicU32::new(0);
        if !offset.is_multiple_of(4) || offset + 4 > self.length {
            return &BEYOND;
        }
        // SAFETY: inside the mapping, aligned, and only ever used as an atomic.
        unsafe { AtomicU32::from_ptr(self.address.as_ptr().add(offset).cast()) }
    }

    /// Writes `bytes` at `offset`; nothing if they reach beyond the end.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        if offset
            .checked_add(bytes.len())
            .is_some_and(|end| end <= self.length)
        {
            // SAFETY: the target is inside the mapping, and no reference of this process covers it:
            // a ring's producer writes only what the consumer has given back.
            unsafe { stream::copy(bytes, self.address.as_ptr().add(offset)) };
        }
    }

    /// The `length` bytes at `offset`; none if they reach beyond the end.
    pub(crate) fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        if offset
            .checked_add(length)
            .is_none_or(|end| end > self.length)
        {
            return &[];
        }
        // SAFETY: inside the mapping. By the ring's protocol the producer leaves published bytes
        // alone until they are given back; it is a rank of this job and of this user. If it broke
        // the protocol the bytes would be other bytes, which any bytes may be here: they are only
        // copied or added, never looked at twice.
        unsafe { slice::from_raw_parts(self.address.as_ptr().add(offset), length) }
    }
}

fn name(purpose: &str) -> String {
    format!("flambeau-{purpose}")
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and all borrows of it have ended.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.length) };
    }
}
