//! Which process is meant: a number alone is reused, so it is kept with what
//! makes it unique.
//!
//! How these facts are found out is not known here.

use serde::{Deserialize, Serialize};

/// A process of one boot of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id.
    pub pid: u32,
    /// When it started, in clock ticks since the boot.
    pub start_ticks: u64,
    /// The boot: a random identifier that the kernel makes anew each time.
    pub boot_id: String,
}
