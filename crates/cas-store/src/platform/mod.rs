//! What the operating systems do differently: clones of file content, opening several levels at once, syncing one file system, waiting for writers.
//!
//! The rest of the crate contains no `cfg(target_os)`.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{no_atime, open_below, reflink, sync_file_system, wait_for_writers};

#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::{no_atime, open_below, reflink, sync_file_system, wait_for_writers};
