//! Keeps an idle daemon small: it works for seconds and waits for days.
//!
//! The C library keeps what was freed, in an arena for each thread, for the next allocations.
//! That is right for programs that go on allocating and wrong for one that is about to wait.
//! Elsewhere than on glibc there is nothing to do.

/// Has all threads allocate from one arena; to be called before there are threads.
///
/// What a burst of work leaves then lies together, instead of being scattered over a dozen arenas.
/// Daemons that move blobs and wait for others do not feel the shared lock.
pub fn limit_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes two numbers and changes how the allocator behaves from now on.
    // That it may not like them is no reason to fail.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that is not used back to the system; takes milliseconds, so it is for the end of a burst of work.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes a number and looks at the allocator's own structures only.
    unsafe {
        libc::malloc_trim(0);
    }
}
