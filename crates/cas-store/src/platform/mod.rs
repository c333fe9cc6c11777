//! What the operating systems do differently: clones of file content, opening several levels at once, syncing, waiting for writers.
//!
//! These are Linux and macOS; the rest of the crate contains no `cfg(target_os)`.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::sync_file_system;
#[cfg(target_os = "linux")]
pub(crate) use linux::{no_atime, open_below, reflink, sync_directory, wait_for_writers};

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub use macos::sync_file_system;
#[cfg(target_os = "macos")]
pub(crate) use macos::{no_atime, open_below, reflink, sync_directory, wait_for_writers};

use rustix::fs::{Mode, RawMode};

/// Permission bits as the system takes them, whose number type is not the same everywhere.
pub(crate) fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits as RawMode)
}
