//! Which build of a program runs: the identity that two builds never share.
//!
//! A time of building says nothing about what was built: a dependency changes and
//! the time of the program that uses it does not. So the time only travels along for
//! people to read.

use std::cmp::Ordering;
use std::fmt;
use std::io;

use daemon_lifecycle::compare_versions;
use serde::{Deserialize, Serialize};

/// A build of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildInfo {
    /// What no other build has; empty: unknown.
    pub id: String,
    /// When it was built, in seconds since 1970, as the program says. Only shown
    /// to people; nothing is decided by it.
    pub time: Option<u64>,
}

impl BuildInfo {
    /// The build of this process, with the identity of [`daemon_lifecycle::Build`].
    ///
    /// # Errors
    /// If `/proc/self/exe` cannot be read.
    pub fn of_this_process() -> io::Result<BuildInfo> {
        let id = daemon_lifecycle::Build::current("")?.id;
        Ok(BuildInfo { id, time: None })
    }

    /// With a time of building, in seconds since 1970.
    #[must_use]
    pub fn built_at(mut self, time: u64) -> BuildInfo {
        self.time = Some(time);
        self
    }
}

impl fmt::Display for BuildInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `gnu:` or `sha256:`, and enough to tell builds apart.
        let id = self.id.get(..23).unwrap_or(&self.id);
        f.write_str(if id.is_empty() { "unknown" } else { id })?;
        match self.time {
            Some(time) => write!(f, " (built at {time})"),
            None => Ok(()),
        }
    }
}

/// How the daemon that answers relates to this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionCheck {
    /// The same build.
    Same,
    /// Protocol and version are the same, the build is another one.
    OtherBuild,
    /// The daemon is older: its protocol is, or with the same protocol its version.
    Older,
    /// The daemon is newer. Nobody older may replace it.
    Newer,
    /// The versions differ and one of them is none that Cargo knows, so neither is
    /// known to be newer.
    Unordered,
}

impl VersionCheck {
    /// Compares the daemon (`theirs`) with this program (`ours`): each its
    /// protocol, its version such as `1.2.3`, and its build.
    pub fn compare(ours: (u32, &str, &BuildInfo), theirs: (u32, &str, &BuildInfo)) -> VersionCheck {
        let order = match theirs.0.cmp(&ours.0) {
            Ordering::Equal => compare_versions(theirs.1, ours.1),
            other => Some(other),
        };
        let Some(order) = order else {
            return VersionCheck::Unordered;
        };
        match order {
            Ordering::Less => VersionCheck::Older,
            Ordering::Greater => VersionCheck::Newer,
            // Who does not know its build cannot claim that it differs.
            Ordering::Equal
                if ours.2.id == theirs.2.id || ours.2.id.is_empty() || theirs.2.id.is_empty() =>
            {
                VersionCheck::Same
            }
            Ordering::Equal => VersionCheck::OtherBuild,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_build() {
        let build = BuildInfo::of_this_process().unwrap();
        assert!(build.id.len() >= 16, "{build:?}");
        assert_eq!(build, BuildInfo::of_this_process().unwrap());
        let shown = build.built_at(1_700_000_000).to_string();
        assert!(shown.ends_with(" (built at 1700000000)"), "{shown}");
    }

    #[test]
    fn only_protocol_and_version_make_newer_and_older() {
        let build = |id: &str| BuildInfo {
            id: id.to_owned(),
            time: Some(5),
        };
        let (a, b, unknown) = (build("a"), build("b"), build(""));
        let check = |ours: (u32, &str), theirs: (u32, &str)| {
            VersionCheck::compare((ours.0, ours.1, &a), (theirs.0, theirs.1, &b))
        };
        assert_eq!(check((1, "1.0.0"), (1, "1.0.0")), VersionCheck::OtherBuild);
        assert_eq!(check((1, "1.2.0"), (1, "1.10.0")), VersionCheck::Newer);
        assert_eq!(check((1, "1.2.0"), (1, "1.2.0-rc.1")), VersionCheck::Older);
        assert_eq!(check((2, "1.2.0"), (1, "9.0.0")), VersionCheck::Older);
        assert_eq!(check((1, "9.2.0"), (2, "1.0.0")), VersionCheck::Newer);
        assert_eq!(check((1, "one"), (1, "1.0.0")), VersionCheck::Unordered);
        assert_eq!(check((1, "one"), (2, "1.0.0")), VersionCheck::Newer);
        assert_eq!(check((1, "one"), (1, "one")), VersionCheck::OtherBuild);
        for (ours, theirs) in [(&a, &a), (&a, &unknown), (&unknown, &b)] {
            let check = VersionCheck::compare((1, "1.0.0", ours), (1, "1.0.0", theirs));
            assert_eq!(check, VersionCheck::Same);
        }
    }
}
