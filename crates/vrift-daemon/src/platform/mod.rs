//! What the operating systems do differently: the service manager and its units, who calls, descriptors over a socket, the allocator, the places of things.
//!
//! These are Linux and macOS; the rest of the crate contains no `cfg(target_os)`.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as system;

pub use system::{
    DEFAULT_HOME, DEFAULT_SOCKET, HOW_TO_START, HOW_TO_START_ALONE, keep_little_memory,
};
pub(crate) use system::{
    GONE, NAMES_ONLY, RECEIVE, give_back, inherited, notify, peer, receive_fds, send_flags, units,
};
