//! Which build of a program runs: the identity that two builds never share.
//!
//! A time of building says nothing about what was built: a dependency changes and
//! the time of the program that uses it does not. So the identity is the build id
//! that the linker derived from all it linked, or, without one, what the file
//! system says about the executable. The time travels along for people to read.

use std::cmp::Ordering;
use std::fmt::{self, Write};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use serde::{Deserialize, Serialize};

/// The executable of this process, also after its file was replaced.
const SELF: &str = "/proc/self/exe";
/// Headers and notes stand at the begin of an executable.
const HEAD: usize = 8 << 10;

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
    /// The build of this process: the GNU build id of its executable, else the
    /// device, inode, size and change time of that file. Costs a few system calls.
    ///
    /// # Errors
    /// If `/proc/self/exe` cannot be read.
    pub fn of_this_process() -> io::Result<BuildInfo> {
        let file = File::open(SELF)?;
        let mut head = vec![0; HEAD];
        let length = file.read_at(&mut head, 0)?;
        let id = match gnu_build_id(&head[..length]) {
            Some(id) => id.iter().fold(String::new(), |mut text, byte| {
                // Writing to a string does not fail.
                let _written = write!(text, "{byte:02x}");
                text
            }),
            None => {
                let metadata = file.metadata()?;
                format!(
                    "file-{:x}-{:x}-{:x}-{:x}.{:09}",
                    metadata.dev(),
                    metadata.ino(),
                    metadata.size(),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                )
            }
        };
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
        let id = self.id.get(..16).unwrap_or(&self.id);
        f.write_str(if id.is_empty() { "unknown" } else { id })?;
        match self.time {
            Some(time) => write!(f, " (built at {time})"),
            None => Ok(()),
        }
    }
}

/// The note `NT_GNU_BUILD_ID` of a 64 bit ELF file of this machine's byte order,
/// as the System V ABI and the GNU linker lay it out.
fn gnu_build_id(file: &[u8]) -> Option<&[u8]> {
    const PT_NOTE: u32 = 4;
    const NT_GNU_BUILD_ID: u32 = 3;
    let order = u8::from(cfg!(target_endian = "big")) + 1;
    if file.get(..6)? != [0x7f, b'E', b'L', b'F', 2, order] {
        return None;
    }
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(
            file.get(at..at.checked_add(4)?)?.try_into().ok()?,
        ))
    };
    let half = |at: usize| -> Option<usize> {
        Some(usize::from(u16::from_ne_bytes(
            file.get(at..at.checked_add(2)?)?.try_into().ok()?,
        )))
    };
    let long = |at: usize| -> Option<usize> {
        let bytes = file.get(at..at.checked_add(8)?)?.try_into().ok()?;
        usize::try_from(u64::from_ne_bytes(bytes)).ok()
    };
    let (table, size, count) = (long(0x20)?, half(0x36)?, half(0x38)?);
    for index in 0..count {
        let header = table.checked_add(index.checked_mul(size)?)?;
        if word(header)? != PT_NOTE {
            continue;
        }
        let (mut at, length) = (
            long(header.checked_add(8)?)?,
            long(header.checked_add(32)?)?,
        );
        let end = at.checked_add(length)?;
        while at < end {
            let (Some(name), Some(data), Some(kind)) = (word(at), word(at + 4), word(at + 8))
            else {
                break;
            };
            let padded = |length: u32| (length as usize).div_ceil(4) * 4;
            let content = at + 12 + padded(name);
            if kind == NT_GNU_BUILD_ID && file.get(at + 12..at + 16) == Some(b"GNU\0") {
                return file.get(content..content.checked_add(data as usize)?);
            }
            at = content + padded(data);
        }
    }
    None
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
}

impl VersionCheck {
    /// Compares the daemon (`theirs`) with this program (`ours`): each its
    /// protocol, its version such as `1.2.3`, and its build.
    pub fn compare(ours: (u32, &str, &BuildInfo), theirs: (u32, &str, &BuildInfo)) -> VersionCheck {
        let order = theirs.0.cmp(&ours.0);
        match order.then_with(|| release(theirs.1).cmp(&release(ours.1))) {
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

/// The numbers of a version before any pre-release or build suffix; a version
/// with a pre-release suffix is older than the one without.
fn release(version: &str) -> (Vec<u64>, bool, &str) {
    let version = version.split('+').next().unwrap_or(version);
    let (numbers, suffix) = version.split_once('-').unwrap_or((version, ""));
    let numbers = numbers
        .split('.')
        .map(|number| number.parse().unwrap_or(0))
        .collect();
    (numbers, suffix.is_empty(), suffix)
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
    fn the_note_is_found_and_nothing_else_is_taken_for_it() {
        let mut file = vec![0; 0x78];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        file[0x20..0x28].copy_from_slice(&0x40u64.to_le_bytes());
        file[0x36..0x38].copy_from_slice(&56u16.to_le_bytes());
        file[0x38..0x3a].copy_from_slice(&1u16.to_le_bytes());
        file[0x40..0x44].copy_from_slice(&4u32.to_le_bytes());
        file[0x48..0x50].copy_from_slice(&0x78u64.to_le_bytes());
        let mut note = Vec::new();
        for (kind, data) in [(1u32, &b"abi "[..]), (3, b"identity")] {
            note.extend(4u32.to_le_bytes());
            note.extend((data.len() as u32).to_le_bytes());
            note.extend(kind.to_le_bytes());
            note.extend(b"GNU\0");
            note.extend(data);
        }
        file[0x60..0x68].copy_from_slice(&(note.len() as u64).to_le_bytes());
        file.extend(note);
        assert_eq!(gnu_build_id(&file), Some(&b"identity"[..]));
        // Cut anywhere, it is not there, and nothing breaks.
        for length in 0..file.len() {
            assert_eq!(gnu_build_id(&file[..length]), None);
        }
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
        for (ours, theirs) in [(&a, &a), (&a, &unknown), (&unknown, &b)] {
            let check = VersionCheck::compare((1, "1.0.0", ours), (1, "1.0.0", theirs));
            assert_eq!(check, VersionCheck::Same);
        }
    }
}
