//! The memory of tensors. A training step frees and asks for the same blocks again and again, and
//! the page faults of memory that went back to the system in between would cost as much as the
//! arithmetic. So tensors have a heap of their own, beside that of the process, which belongs to the
//! JVM too: it keeps what is free while there are sessions, lets the system use huge pages, and is
//! one piece of address space that grows upwards, so that all above the last block in use goes back.
#![expect(unsafe_code, reason = "an allocator and its system calls")]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::{Allocator, Dlmalloc};

/// Bytes that are asked of the system at once. They are resident only where they were written.
const GRANULARITY: usize = 64 << 20;
/// Address space that is looked for when the heap begins, in bytes.
const ROOM: usize = 1 << 40;
/// What libtorch's own allocator gives, in bytes: a line of the cache.
const ALIGNMENT: usize = 64;

/// The system's pages, and who keeps them.
#[derive(Debug)]
struct Pages {
    /// Address after those that were mapped last; 0 before.
    end: Cell<usize>,
    /// How many sessions live in this process.
    sessions: usize,
}

static HEAP: Mutex<Dlmalloc<Pages>> = Mutex::new(
    const {
        let mut heap = Dlmalloc::new_with_allocator(Pages {
            end: Cell::new(0),
            sessions: 0,
        });
        assert!(heap.set_granularity(GRANULARITY));
        heap
    },
);

/// Every change of the heap is done before its lock goes: nothing in here panics.
fn heap() -> MutexGuard<'static, Dlmalloc<Pages>> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The heap keeps its free memory while one of these lives. What is free when the last one goes is
/// given back.
#[derive(Debug)]
pub struct KeptMemory(());

impl KeptMemory {
    /// Keeps freed memory from now on. Tensors that are made after it are in the heap.
    pub fn begin() -> Self {
        crate::set_up();
        heap().allocator_mut().sessions += 1;
        Self(())
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        let mut heap = heap();
        heap.allocator_mut().sessions -= 1;
        give_back(&mut heap);
    }
}

/// Gives back what is free in the process's own heap, which else keeps the pages of what is smaller
/// than 32 MiB: for after much was freed, as it looks through the whole heap.
pub fn trim_process_heap() {
    // SAFETY: only pages without a block in use go back, whoever they belonged to.
    unsafe { libc::malloc_trim(0) };
}

/// Gives back what is free, unless a session keeps it.
fn give_back(heap: &mut Dlmalloc<Pages>) {
    if heap.allocator().sessions == 0 {
        // SAFETY: only pages without a block in use go back.
        unsafe { heap.trim(0) };
    }
}

#[link(name = "flambeau_libtorch", kind = "static")]
unsafe extern "C" {
    fn flambeau_use_heap(
        allocate: extern "C" fn(usize) -> *mut c_void,
        free: extern "C" fn(*mut c_void),
    );
}

/// Tensors get their memory from the heap from now on. To be called once.
pub(crate) fn use_heap() {
    // SAFETY: the functions do what `heap.cpp` asks of them, from any thread and for ever. Blocks
    // that tensors have already go back to where they came from.
    unsafe { flambeau_use_heap(allocate, free) }
}

extern "C" fn allocate(bytes: usize) -> *mut c_void {
    // SAFETY: the alignment is a power of two.
    unsafe { heap().c_memalign(ALIGNMENT, bytes) }.cast()
}

extern "C" fn free(block: *mut c_void) {
    let mut heap = heap();
    // SAFETY: libtorch frees what `allocate` gave, once, or null.
    unsafe { heap.c_free(block.cast()) };
    give_back(&mut heap);
}

// SAFETY: pages that `alloc` gives are mapped for nobody else, are zero, and stay until `free` or
// `free_part` of them, which are called only where `can_release_part` said so.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if self.end.get() == 0 {
            self.end.set(room());
        }
        let Some(pages) = map(self.end.get(), size, libc::PROT_READ | libc::PROT_WRITE) else {
            return (ptr::null_mut(), 0, 0);
        };
        // SAFETY: advice on the pages just mapped; it may be refused.
        #[cfg(target_os = "linux")]
        unsafe {
            libc::madvise(pages.cast(), size, libc::MADV_HUGEPAGE);
        }
        self.end.set(pages.addr() + size);
        (pages, size, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, pages: *mut u8, size: usize, kept: usize) -> bool {
        self.free(pages.wrapping_add(kept), size - kept)
    }

    fn free(&self, pages: *mut u8, size: usize) -> bool {
        // SAFETY: the heap has no block in these pages, which are its own.
        let freed = unsafe { libc::munmap(pages.cast(), size) } == 0;
        if freed && self.end.get() == pages.addr() + size {
            self.end.set(pages.addr());
        }
        freed
    }

    fn can_release_part(&self, _: u32) -> bool {
        self.sessions == 0
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}

/// An address that much can be mapped from; 0 if the limits of the process forbid to ask for it.
fn room() -> usize {
    let Some(found) = map(0, ROOM, libc::PROT_NONE) else {
        return 0;
    };
    // SAFETY: nobody knows of these pages yet.
    unsafe { libc::munmap(found.cast(), ROOM) };
    found.addr()
}

/// Pages at an address if they are free, else elsewhere; `None` if there is no memory.
fn map(address: usize, size: usize, protection: c_int) -> Option<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let wanted = ptr::without_provenance_mut(address);
    // SAFETY: without MAP_FIXED no mapping of anybody is replaced.
    let pages = unsafe { libc::mmap(wanted, size, protection, flags, -1, 0) };
    (pages != libc::MAP_FAILED).then(|| pages.cast())
}
