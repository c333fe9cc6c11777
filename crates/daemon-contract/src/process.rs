//! Which process is meant: a number alone is reused, so it is kept with what
//! makes it unique.
//!
//! How these facts are found out is not known here; `daemon-lifecycle` reads
//! them from the kernel.

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
    /// The namespace in which `pid` is its number, by the inode that the kernel
    /// gave it; absent where nobody told. Two containers of one machine have the
    /// same boot and the same small numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_a_namespace_is_still_read() {
        let old = r#"{"pid":7,"start_ticks":99,"boot_id":"b"}"#;
        let identity: ProcessIdentity = serde_json::from_str(old).unwrap();
        assert_eq!(identity.pid_namespace, None);
        assert_eq!(serde_json::to_string(&identity).unwrap(), old);
    }
}
