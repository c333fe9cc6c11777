//! Gives memory back to the system when a caller has left.
//!
//! The allocator of glibc keeps what each thread has freed, for as long as the process lives; a daemon that mostly waits would keep what its busiest moment took.

/// Returns what is free to the system, where the allocator can.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer and frees nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
