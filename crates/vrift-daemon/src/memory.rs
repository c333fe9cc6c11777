//! Gives memory back to the system, at the latest when a caller has left.
//!
//! The allocator of glibc keeps what each thread has freed, for as long as the process lives; a daemon that mostly waits would keep what its busiest moment took.

/// Tables and buffers from this size on, in bytes, are the system's own mappings, which end when they are freed.
///
/// glibc begins with this value too, but raises it with each mapping that is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: libc::c_int = 128 << 10;

/// Keeps the allocator from keeping ever more; for `main`, before it starts a thread.
pub fn keep_little_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it sets two numbers of the allocator, before other threads are there.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
        libc::mallopt(libc::M_TRIM_THRESHOLD, MAPPED);
    }
}

/// Returns what is free to the system, where the allocator can.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer and frees nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
