//! Lists a directory with the stamps that tell whether a file changed.
//!
//! A scan reads no file content; two scans that are equal mean that nothing which a build could see has changed, so a build with nothing to do costs one `lstat` per file.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What `lstat` says of a file; equal stamps mean equal content, except for changes within one clock tick (see [`crate::DigestCache`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Modification time in nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Status change time in nanoseconds since the epoch: it moves even when a tool sets the modification time back.
    pub ctime_ns: i64,
    /// Size in bytes.
    pub size: u64,
    /// Inode number.
    pub inode: u64,
}

impl Stamp {
    /// The stamp of a file from its metadata.
    pub fn of(meta: &Metadata) -> Stamp {
        Stamp {
            mtime_ns: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
            ctime_ns: meta.ctime() * 1_000_000_000 + meta.ctime_nsec(),
            size: meta.size(),
            inode: meta.ino(),
        }
    }
}

/// What stands at a path of a scanned directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File {
        /// Whether the owner may execute it.
        executable: bool,
        /// Its stamp at the time of the scan.
        stamp: Stamp,
    },
    /// A symbolic link with its target as written.
    Symlink {
        /// The target; not resolved.
        target: String,
    },
    /// A directory.
    Directory,
}

/// One path below the scanned root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path relative to the root, with `/` between its parts.
    pub path: String,
    /// What stands there.
    pub kind: Kind,
}

/// What a scan leaves out.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Names of directories that are never entered, at any depth.
    pub skip_names: HashSet<String>,
    /// Absolute paths that are never entered.
    pub skip_paths: HashSet<PathBuf>,
    /// Whether directories below the root that carry a `CACHEDIR.TAG` are left out.
    ///
    /// Cargo marks its target directories that way, wherever they stand; see <https://bford.info/cachedir/>.
    pub skip_tagged_caches: bool,
    /// When not empty, only these are taken of the root's own entries: names that begin like one of them.
    pub only: Vec<String>,
}

impl Rules {
    /// Rules for a directory of sources: no version control data, no tagged caches, nothing below `skip`.
    pub fn sources(skip: impl IntoIterator<Item = PathBuf>) -> Rules {
        Rules {
            skip_names: [".git", ".hg", ".jj", ".svn", ".pijul"]
                .map(str::to_owned)
                .into(),
            skip_paths: skip.into_iter().collect(),
            skip_tagged_caches: true,
            only: Vec::new(),
        }
    }
}

/// The listing of a directory, sorted by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// The directory that was scanned.
    pub root: PathBuf,
    /// Everything below it, a directory before what it holds.
    pub entries: Vec<Entry>,
    /// Paths left out because they cannot be part of a tree: sockets, devices, pipes, and names that are not UTF-8.
    pub unusable: Vec<PathBuf>,
}

/// Why a directory could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list `{}`", path.display())]
pub struct ScanError {
    path: PathBuf,
    source: io::Error,
}

/// Lists `root`.
///
/// # Errors
///
/// A directory that cannot be read; files that vanish while the scan runs are left out.
pub fn scan(root: &Path, rules: &Rules) -> Result<Scan, ScanError> {
    let mut scan = Scan {
        root: root.to_owned(),
        entries: Vec::new(),
        unusable: Vec::new(),
    };
    list(root, "", rules, &mut scan)?;
    scan.entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(scan)
}

fn list(dir: &Path, prefix: &str, rules: &Rules, out: &mut Scan) -> Result<(), ScanError> {
    let failed = |source| ScanError {
        path: dir.to_owned(),
        source,
    };
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !prefix.is_empty() => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    for item in listing {
        let item = item.map_err(failed)?;
        let path = item.path();
        let Ok(name) = item.file_name().into_string() else {
            out.unusable.push(path);
            continue;
        };
        if prefix.is_empty() && !rules.only.is_empty() {
            let wanted = rules
                .only
                .iter()
                .any(|start| name.starts_with(start.as_str()));
            if !wanted {
                continue;
            }
        }
        let meta = match item.metadata() {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ScanError { path, source }),
        };
        let relative = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}/{name}")
        };
        let kind = meta.file_type();
        if kind.is_dir() {
            if is_left_out(&path, &name, rules) {
                continue;
            }
            out.entries.push(Entry {
                path: relative.clone(),
                kind: Kind::Directory,
            });
            list(&path, &relative, rules, out)?;
        } else if kind.is_symlink() {
            match fs::read_link(&path).map(|t| t.into_os_string().into_string()) {
                Ok(Ok(target)) => out.entries.push(Entry {
                    path: relative,
                    kind: Kind::Symlink { target },
                }),
                _ => out.unusable.push(path),
            }
        } else if kind.is_socket()
            || kind.is_fifo()
            || kind.is_block_device()
            || kind.is_char_device()
        {
            out.unusable.push(path);
        } else {
            out.entries.push(Entry {
                path: relative,
                kind: Kind::File {
                    executable: meta.mode() & 0o100 != 0,
                    stamp: Stamp::of(&meta),
                },
            });
        }
    }
    Ok(())
}

fn is_left_out(path: &Path, name: &str, rules: &Rules) -> bool {
    const TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
    if rules.skip_names.contains(name) || rules.skip_paths.contains(path) {
        return true;
    }
    rules.skip_tagged_caches
        && fs::read(path.join("CACHEDIR.TAG")).is_ok_and(|text| text.starts_with(TAG))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(scan: &Scan) -> Vec<&str> {
        scan.entries.iter().map(|e| e.path.as_str()).collect()
    }

    #[test]
    fn lists_sorted_and_leaves_out_what_the_rules_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for d in ["src", ".git", "target", "deep/.git", "cache"] {
            fs::create_dir_all(root.join(d)).unwrap();
        }
        for f in [
            "src/lib.rs",
            ".git/HEAD",
            "target/x",
            "deep/.git/HEAD",
            "cache/y",
            "a",
        ] {
            fs::write(root.join(f), f).unwrap();
        }
        fs::write(
            root.join("cache/CACHEDIR.TAG"),
            "Signature: 8a477f597d28d172789f06886806bc55\n",
        )
        .unwrap();
        let scan = scan(root, &Rules::sources([root.join("target")])).unwrap();
        assert_eq!(paths(&scan), ["a", "deep", "src", "src/lib.rs"]);
    }

    #[test]
    fn a_root_may_be_shared_with_others() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("rustlib/other")).unwrap();
        for f in [
            "rustlib/x",
            "rustlib/other/y",
            "librustc_driver-1.so",
            "libc.so",
        ] {
            fs::write(dir.path().join(f), "").unwrap();
        }
        let rules = Rules {
            only: vec!["rustlib".into(), "librustc_driver".into()],
            ..Rules::default()
        };
        let scan = scan(dir.path(), &rules).unwrap();
        assert_eq!(
            paths(&scan),
            [
                "librustc_driver-1.so",
                "rustlib",
                "rustlib/other",
                "rustlib/other/y",
                "rustlib/x"
            ]
        );
    }

    #[test]
    fn a_touched_file_changes_the_scan_and_an_untouched_tree_does_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "1").unwrap();
        let first = scan(dir.path(), &Rules::default()).unwrap();
        assert_eq!(first, scan(dir.path(), &Rules::default()).unwrap());
        fs::write(dir.path().join("a"), "22").unwrap();
        assert_ne!(first, scan(dir.path(), &Rules::default()).unwrap());
    }

    #[test]
    fn a_missing_root_names_the_path() {
        let error = scan(Path::new("/does/not/exist"), &Rules::default()).unwrap_err();
        assert_eq!(error.to_string(), "cannot list `/does/not/exist`");
    }
}
