//! A fingerprint of what actions see of this machine beside their inputs: its compilers, linkers, headers and libraries.
//!
//! It is made of contents, never of times or paths of this machine, so that equal machines have equal fingerprints:
//! the list of installed packages, the programs and objects that every link uses, and what stands in `/usr/local`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use vx_proto::{DigestFunction, Hasher};

/// Databases of the package managers; the first one that is there counts.
const DATABASES: [&str; 6] = [
    "var/lib/dpkg/status",
    "var/lib/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages",
    "lib/apk/db/installed",
    "var/lib/pacman/local",
];

const PROGRAMS: [&str; 4] = ["cc", "ld", "as", "ar"];

/// Objects and libraries that decide what a link produces.
const OBJECTS: [&str; 2] = ["libc.so.6", "crt1.o"];

/// Local additions are listed this deep.
const LOCAL_DEPTH: usize = 2;

/// The fingerprint of one machine, computed again when its packages changed.
#[derive(Debug)]
pub(crate) struct HostTools {
    root: PathBuf,
    known: Mutex<Option<(Stamp, String)>>,
}

/// Tells cheaply whether packages may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp(Vec<(i64, i64, u64, u64)>);

impl HostTools {
    /// Of the machine whose root directory is `root`.
    pub(crate) fn of(root: PathBuf) -> HostTools {
        HostTools {
            root,
            known: Mutex::new(None),
        }
    }

    /// The fingerprint, in hex digits. Blocks; some ten milliseconds when something changed, else a few looks.
    pub(crate) fn fingerprint(&self) -> String {
        let stamp = self.stamp();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((then, fingerprint)) if *then == stamp => fingerprint.clone(),
            _ => {
                let fingerprint = self.compute();
                *known = Some((stamp, fingerprint.clone()));
                fingerprint
            }
        }
    }

    fn stamp(&self) -> Stamp {
        let mut watched: Vec<PathBuf> = DATABASES.iter().map(|path| self.root.join(path)).collect();
        watched
            .extend(["bin", "lib", "include"].map(|name| self.root.join("usr/local").join(name)));
        watched.extend(PROGRAMS.iter().filter_map(|name| self.program(name)));
        let of = |path: &PathBuf| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.mtime(), meta.mtime_nsec(), meta.ino(), meta.len()))
        };
        Stamp(
            watched
                .iter()
                .map(|path| of(path).unwrap_or_default())
                .collect(),
        )
    }

    fn compute(&self) -> String {
        let mut hasher = DigestFunction::Blake3.hasher();
        let mut add = |name: &str, content: &[u8]| field(&mut hasher, name, content);
        add("format", b"1");
        add("packages", self.packages().as_bytes());
        for name in PROGRAMS {
            add(
                name,
                &self
                    .program(name)
                    .map(|path| content(&path))
                    .unwrap_or_default(),
            );
        }
        for name in OBJECTS {
            add(
                name,
                &self
                    .object(name)
                    .map(|path| content(&path))
                    .unwrap_or_default(),
            );
        }
        add("local", self.local().as_bytes());
        hasher.finish().hex()
    }

    /// What is installed, by name, version and architecture where the format is known.
    fn packages(&self) -> String {
        for path in DATABASES.map(|path| self.root.join(path)) {
            if path.is_dir() {
                return names(&path).join("\n");
            }
            let Ok(text) = fs::read(&path) else { continue };
            if path.ends_with("dpkg/status") {
                return dpkg(&String::from_utf8_lossy(&text));
            }
            return DigestFunction::Blake3.digest(&text).hex();
        }
        String::new()
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let folders = ["usr/local/bin", "usr/bin", "bin"];
        self.first(folders.iter().map(|folder| Path::new(folder).join(name)))
    }

    fn object(&self, name: &str) -> Option<PathBuf> {
        let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
        let folders = ["lib64", "usr/lib64", "usr/lib", "lib"].map(PathBuf::from);
        let multiarch = [
            Path::new("usr/lib").join(&triple),
            Path::new("lib").join(&triple),
        ];
        self.first(
            multiarch
                .iter()
                .chain(&folders)
                .map(|folder| folder.join(name)),
        )
    }

    fn first(&self, candidates: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
        candidates
            .map(|path| self.root.join(path))
            .find(|path| path.is_file())
    }

    /// What was put beside the packages: relative paths and sizes.
    fn local(&self) -> String {
        let mut lines = Vec::new();
        for name in ["bin", "lib", "include"] {
            list(
                &self.root.join("usr/local").join(name),
                name,
                LOCAL_DEPTH,
                &mut lines,
            );
        }
        lines.sort_unstable();
        lines.join("\n")
    }
}

fn field(hasher: &mut Hasher, name: &str, content: &[u8]) {
    for part in [name.as_bytes(), content] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
}

/// The digest of a file's content; of what it is, since a wrapper script is small and a compiler is not.
fn content(path: &Path) -> Vec<u8> {
    fs::read(path)
        .map(|bytes| DigestFunction::Blake3.digest(&bytes).hash.to_vec())
        .unwrap_or_default()
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

fn list(folder: &Path, prefix: &str, depth: usize, lines: &mut Vec<String>) {
    for name in names(folder) {
        let path = folder.join(&name);
        let shown = format!("{prefix}/{name}");
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() && depth > 1 => list(&path, &shown, depth - 1, lines),
            Ok(meta) if meta.is_dir() => lines.push(format!("{shown}/")),
            Ok(meta) => lines.push(format!("{shown} {}", meta.len())),
            Err(_) => lines.push(format!("{shown} ?")),
        }
    }
}

/// `name version architecture` of every installed package, sorted.
fn dpkg(status: &str) -> String {
    let mut lines = Vec::new();
    for stanza in status.split("\n\n") {
        let value = |name: &str| {
            stanza
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .unwrap_or_default()
        };
        if value("Status").ends_with(" installed") {
            let line = [value("Package"), value("Version"), value("Architecture")];
            lines.push(line.join(" "));
        }
    }
    lines.sort_unstable();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: gcc\nStatus: install ok installed\nArchitecture: amd64\nVersion: 12\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: binutils\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.40\nDescription: x\n Version: 9\n";

    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("var/lib/dpkg/status", STATUS),
            ("usr/bin/cc", "compiler"),
            ("usr/bin/ld", "linker"),
            ("usr/lib/crt1.o", "object"),
            ("usr/local/include/a/b.h", "header"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn installed_packages_are_listed_in_order() {
        assert_eq!(dpkg(STATUS), "binutils 2.40 amd64\ngcc 12 amd64");
    }

    #[test]
    fn equal_machines_have_equal_fingerprints_and_differences_show() {
        let (one, other) = (machine(), machine());
        let of = |root: &tempfile::TempDir| HostTools::of(root.path().into()).fingerprint();
        assert_eq!(of(&one), of(&other));
        for (path, text) in [
            ("usr/bin/cc", "COMPILER"),
            ("usr/lib/crt1.o", "OBJECT"),
            ("usr/local/include/a/b.h", "longer header"),
            (
                "var/lib/dpkg/status",
                "Package: gcc\nStatus: install ok installed\nVersion: 13\n",
            ),
        ] {
            let before = of(&other);
            fs::write(other.path().join(path), text).unwrap();
            assert_ne!(of(&other), before, "{path}");
        }
    }

    #[test]
    fn a_change_of_packages_is_noticed_while_running() {
        let root = machine();
        let tools = HostTools::of(root.path().into());
        let before = tools.fingerprint();
        assert_eq!(tools.fingerprint(), before);
        fs::write(root.path().join("var/lib/dpkg/status"), "").unwrap();
        assert_ne!(tools.fingerprint(), before);
    }
}
