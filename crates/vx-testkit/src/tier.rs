//! How far the commands and services of a test are shut off from the machine.
//!
//! Knows the names of the tiers and their order; how one is entered is with the
//! lifeline.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far commands and services are shut off from the rest of the machine; none
/// of it needs root.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Tier {
    /// Private directories, ports and environment, and the lifeline.
    #[default]
    Plain,
    /// TCP only to and on the ports of the environment's endpoints (Landlock), for
    /// machines that forbid user namespaces. UDP, Unix sockets and other
    /// addresses with one of these ports are *not* shut off.
    Landlock,
    /// Process ids of their own (process, mount and user namespace): they see and
    /// signal nobody else, and the kernel itself ends them with the helper, even
    /// if that is killed with SIGKILL.
    Processes,
    /// [`Processes`](Tier::Processes), and a network that has nothing but a
    /// loopback interface of its own: whatever wants to leave the machine fails
    /// at once, and every test may use the same port numbers
    /// ([`Flavour::Fixed`](crate::Flavour::Fixed)). The test itself is outside;
    /// it connects by [`TestEnv::connect`](crate::TestEnv::connect), or goes
    /// inside with [`sealed`](crate::sealed).
    Sealed,
}

impl Tier {
    /// The tiers to try for this one, best first.
    pub(crate) fn ladder(self) -> &'static [Tier] {
        match self {
            Tier::Plain => &[Tier::Plain],
            Tier::Landlock => &[Tier::Landlock, Tier::Plain],
            Tier::Processes => &[Tier::Processes, Tier::Plain],
            Tier::Sealed => &[Tier::Sealed, Tier::Landlock, Tier::Plain],
        }
    }

    /// Whether it has namespaces of its own.
    pub(crate) fn has_namespaces(self) -> bool {
        matches!(self, Tier::Processes | Tier::Sealed)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Plain => "plain",
            Tier::Landlock => "limited TCP ports (Landlock)",
            Tier::Processes => "process namespace",
            Tier::Sealed => "sealed network",
        })
    }
}
