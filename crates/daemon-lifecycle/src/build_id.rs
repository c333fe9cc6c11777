//! Which build of a program runs: the build id that the linker put into it, else a
//! hash of the file.
//!
//! A time of building is no identity: a dependency that changes leaves the time of
//! the program's own build script as it was, and two checkouts have two times for
//! the same code.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use object::read::{Object, ReadCache};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::instance::hex;

/// A build of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// `gnu:` and the build id of the ELF note `NT_GNU_BUILD_ID`, or `sha256:` and
    /// the hash of the whole file; in hexadecimal.
    pub id: String,
    /// The version of the program, as in `CARGO_PKG_VERSION`.
    pub version: String,
}

impl Build {
    /// The build of this process, whose program has this `version`.
    ///
    /// The first call reads the headers of the executable, and all of it if it has
    /// no build id.
    ///
    /// # Errors
    /// If the executable cannot be read.
    pub fn current(version: impl Into<String>) -> io::Result<Build> {
        static ID: OnceLock<String> = OnceLock::new();
        let id = match ID.get() {
            Some(id) => id.clone(),
            None => {
                // This leads to what runs, also when another file has its name now.
                let id = id_of(Path::new("/proc/self/exe"))?;
                ID.get_or_init(|| id).clone()
            }
        };
        Ok(Build {
            id,
            version: version.into(),
        })
    }
}

/// The id of an executable file.
fn id_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    if let Some(id) = linker_id(&file) {
        return Ok(format!("gnu:{}", hex(&id)));
    }
    io::Seek::rewind(&mut file)?;
    Ok(format!("sha256:{}", sha256(&mut file)?))
}

/// The SHA-256 of what is read until the end, in hexadecimal.
pub(crate) fn sha256(from: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What the linker wrote, unless the file is of another format or has none.
fn linker_id(file: &File) -> Option<Vec<u8>> {
    let cache = ReadCache::new(file);
    let object = object::File::parse(&cache).ok()?;
    object
        .build_id()
        .ok()?
        .filter(|id| !id.is_empty())
        .map(<[u8]>::to_vec)
}

/// Whether another file has taken the name of the program that the process `pid`
/// runs: it was installed anew, or removed. `None` if that cannot be seen.
pub(crate) fn is_superseded(pid: u32) -> Option<bool> {
    let exe = format!("/proc/{pid}/exe");
    let runs = fs::metadata(&exe).ok()?;
    let name: PathBuf = fs::read_link(&exe).ok()?;
    // A removed file has a name that does not exist, with a note behind it.
    let there = fs::metadata(name).ok();
    Some(there.is_none_or(|there| (there.dev(), there.ino()) != (runs.dev(), runs.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linkers_id_wins_over_a_hash_of_the_file() {
        let own = Build::current("1.2.3").unwrap();
        assert_eq!(own, Build::current("1.2.3").unwrap());
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("program");
        fs::copy("/proc/self/exe", &file).unwrap();
        assert_eq!(id_of(&file).unwrap(), own.id);
        fs::write(&file, "#!/bin/sh\n").unwrap();
        let id = id_of(&file).unwrap();
        assert!(id.starts_with("sha256:"), "{id}");
        assert_eq!(id.len(), "sha256:".len() + 64);
        fs::write(&file, "#!/bin/sh \n").unwrap();
        assert_ne!(id_of(&file).unwrap(), id);
    }

    #[test]
    fn a_program_that_was_replaced_is_superseded() {
        assert_eq!(is_superseded(std::process::id()), Some(false));
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("sleep");
        fs::copy("/bin/sleep", &program).unwrap();
        let started = std::time::Instant::now();
        let mut child = loop {
            let child = std::process::Command::new(&program).arg("600").spawn();
            match child {
                Ok(child) => break child,
                // A program that another test starts at this moment has a copy of our
                // descriptors until it is executed.
                Err(error) => assert!(
                    error.kind() == io::ErrorKind::ExecutableFileBusy
                        && started.elapsed().as_secs() < 60,
                    "{error}"
                ),
            }
        };
        let before = is_superseded(child.id());
        fs::remove_file(&program).unwrap();
        let removed = is_superseded(child.id());
        fs::copy("/bin/sleep", &program).unwrap();
        let replaced = is_superseded(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(
            (before, removed, replaced),
            (Some(false), Some(true), Some(true))
        );
        assert_eq!(is_superseded(child.id()), None);
    }
}
