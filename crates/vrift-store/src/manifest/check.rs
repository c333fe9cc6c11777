//! What holds for every manifest, written here or by anybody.

use std::collections::HashSet;

use super::{Entry, Kind, MAX_ENTRIES, MAX_PATH, ManifestError};

/// Refuses what no manifest may have.
///
/// A parent is a directory of the same manifest and stands before its children, so nothing is ever created through a symbolic link.
pub(super) fn check(entries: &[Entry]) -> Result<(), ManifestError> {
    if entries.len() > MAX_ENTRIES {
        return Err(ManifestError::TooLarge);
    }
    let mut directories: HashSet<&[u8]> = HashSet::new();
    let mut previous: Option<&[u8]> = None;
    for (index, entry) in entries.iter().enumerate() {
        let wrong = |why| {
            Err(ManifestError::Entry {
                index,
                path: String::from_utf8_lossy(&entry.path).into_owned(),
                why,
            })
        };
        if let Err(why) = check_entry(entry) {
            return wrong(why);
        }
        if previous.is_some_and(|previous| previous >= entry.path.as_slice()) {
            return wrong("is out of order or there twice");
        }
        previous = Some(&entry.path);
        if entry.path.is_empty() {
            if entry.kind != Kind::Directory {
                return wrong("is the root and no directory");
            }
        } else {
            let parent = match entry.path.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => &entry.path[..slash],
                None => &[][..],
            };
            if !directories.contains(parent) {
                return wrong("lies in something that is no directory");
            }
        }
        if entry.kind == Kind::Directory {
            directories.insert(&entry.path);
        }
    }
    if entries.is_empty() {
        return Err(ManifestError::Length("entries"));
    }
    Ok(())
}

fn check_entry(entry: &Entry) -> Result<(), &'static str> {
    if entry.path.len() > MAX_PATH {
        return Err("has a path that is too long");
    }
    if !entry.path.is_empty()
        && entry
            .path
            .split(|byte| *byte == b'/')
            .any(|name| matches!(name, b"" | b"." | b"..") || name.len() > 255)
    {
        return Err("has a path that is not relative and plain");
    }
    if entry.path.contains(&0) {
        return Err("has a zero byte in its path");
    }
    if entry.mode > 0o7777 {
        return Err("has a mode that is none");
    }
    if entry.mtime.nanoseconds >= 1_000_000_000 {
        return Err("has a time that is none");
    }
    match &entry.kind {
        Kind::Symlink(target) if target.is_empty() || target.len() > MAX_PATH => {
            Err("is a link with an empty or too long target")
        }
        Kind::Symlink(target) if target.contains(&0) => Err("is a link with a zero byte"),
        _ => Ok(()),
    }
}
