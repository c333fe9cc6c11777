//! What a service answers when it is asked who it is.
//!
//! How the question travels is up to each protocol; the answer is the same.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The identity of a running service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceVersion {
    /// The name of the service, e.g. `vx-casd`.
    pub service: String,
    /// The version of the program.
    pub crate_version: String,
    /// The version of the protocol; both sides must have the same number.
    pub protocol: u32,
    /// The process that answers.
    pub pid: u32,
    /// Further facts, by name; each service documents its own.
    pub properties: BTreeMap<String, String>,
}

impl fmt::Display for ServiceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} (protocol {}, pid {})",
            self.service, self.crate_version, self.protocol, self.pid
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_all_but_the_properties() {
        let version = ServiceVersion {
            service: "vx-casd".into(),
            crate_version: "0.1.0".into(),
            protocol: 1,
            pid: 42,
            properties: BTreeMap::new(),
        };
        assert_eq!(version.to_string(), "vx-casd 0.1.0 (protocol 1, pid 42)");
    }
}
