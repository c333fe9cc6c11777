//! What the operating systems do differently: files without a name.
//!
//! These are Linux and macOS; the rest of the crate contains no `cfg(target_os)`.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::unnamed_file;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub(crate) use macos::unnamed_file;
