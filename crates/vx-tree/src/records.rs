//! Trees of large directories that rarely change, kept on disk between runs and shared between processes.
//!
//! A record is one JSON file: the listing that was hashed, and the tree that came of it.
//! It is as good as its stamps, so a folder of records belongs to one user, like `VX_HOME` itself.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vx_proto::Digest;

use crate::cache::DigestCache;
use crate::scan::{Rules, Scan, ScanError, scan};
use crate::tree::{HashError, SourceTree};

/// A folder of records.
#[derive(Clone, Debug)]
pub struct Records {
    folder: PathBuf,
}

/// A directory as it was when it was hashed, and its tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The listing; a directory whose listing is equal is the same tree.
    pub scan: Scan,
    /// The tree.
    pub tree: SourceTree,
}

/// Why a directory has no tree.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// It could not be listed.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// It could not be read.
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl Records {
    /// The records in `folder`, which is made when the first one is written.
    pub fn new(folder: PathBuf) -> Records {
        Records { folder }
    }

    /// The tree of `directory`, from the record if no stamp differs from it.
    ///
    /// Of several processes that want the same directory at the same time one reads it, and the others wait.
    ///
    /// # Errors
    ///
    /// A directory or file that cannot be read. A record that cannot be read or written costs time and nothing else.
    pub fn tree(&self, directory: &Path, rules: &Rules) -> Result<Recorded, RecordsError> {
        let place = self.place(directory, rules);
        if let Some(recorded) = current(&place, directory, rules)? {
            return Ok(recorded);
        }
        // Held until the record is written; an error means that nobody is waited for.
        let _turn = turn(&place.with_extension("lock"));
        if let Some(recorded) = current(&place, directory, rules)? {
            return Ok(recorded);
        }
        let scan = scan(directory, rules)?;
        let tree = scan.hash(&DigestCache::default())?;
        let recorded = Recorded { scan, tree };
        if !recorded.scan.is_racy() {
            let _written = write(&place, &recorded);
        }
        Ok(recorded)
    }

    /// Removes what is recorded of a directory that is no more.
    ///
    /// # Errors
    ///
    /// The record is there and cannot be removed.
    pub fn forget(&self, directory: &Path, rules: &Rules) -> io::Result<()> {
        let place = self.place(directory, rules);
        // Whoever holds the lock of that name meanwhile reads alone, which costs time and nothing else.
        for file in [place.with_extension("lock"), place] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn place(&self, directory: &Path, rules: &Rules) -> PathBuf {
        let mut name = directory.as_os_str().as_encoded_bytes().to_vec();
        for only in &rules.only {
            name.push(0);
            name.extend(only.bytes());
        }
        self.folder
            .join(format!("{}.json", Digest::of(&name).hex()))
    }
}

fn current(
    place: &Path,
    directory: &Path,
    rules: &Rules,
) -> Result<Option<Recorded>, RecordsError> {
    let text = fs::read(place).ok();
    let Some(recorded) = text.and_then(|text| serde_json::from_slice::<Recorded>(&text).ok())
    else {
        return Ok(None);
    };
    let now = scan(directory, rules)?;
    Ok((now == recorded.scan).then_some(recorded))
}

fn turn(place: &Path) -> io::Result<File> {
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::create(place)?;
    file.lock()?;
    Ok(file)
}

fn write(place: &Path, recorded: &Recorded) -> io::Result<()> {
    let temporary = place.with_extension("new");
    fs::write(&temporary, serde_json::to_vec(recorded)?)?;
    fs::rename(temporary, place)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    /// A directory whose file is old enough for its stamp to be trusted.
    fn directory(base: &Path) -> PathBuf {
        let dir = base.join("dir");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), "content").unwrap();
        settle(&dir.join("file"));
        dir
    }

    /// Waits until the clock has left the tick of the file's last change.
    fn settle(file: &Path) {
        let changed = fs::metadata(file).unwrap().modified().unwrap();
        let limit = Duration::from_millis(100);
        while SystemTime::now()
            .duration_since(changed)
            .is_ok_and(|age| age < limit)
        {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_record_is_used_as_long_as_the_stamps_are_those_it_was_made_with() {
        let base = tempfile::tempdir().unwrap();
        let dir = directory(base.path());
        let records = Records::new(base.path().join("records"));
        let first = records.tree(&dir, &Rules::default()).unwrap();
        // What is in the record is what is answered, so the file is not read again.
        let place = records.place(&dir, &Rules::default());
        let mut marked = first.clone();
        marked.tree.names.push("marked".to_owned());
        write(&place, &marked).unwrap();
        assert_eq!(records.tree(&dir, &Rules::default()).unwrap(), marked);

        fs::write(dir.join("file"), "other content").unwrap();
        let changed = records.tree(&dir, &Rules::default()).unwrap();
        assert_ne!(changed.tree.digest, first.tree.digest);
        fs::write(&place, "no record").unwrap();
        assert_eq!(records.tree(&dir, &Rules::default()).unwrap(), changed);

        records.forget(&dir, &Rules::default()).unwrap();
        assert_eq!(
            fs::read_dir(base.path().join("records")).unwrap().count(),
            0
        );
        records.forget(&dir, &Rules::default()).unwrap();
    }

    #[test]
    fn a_directory_that_changed_just_now_leaves_no_record() {
        let base = tempfile::tempdir().unwrap();
        let dir = directory(base.path());
        let ahead = SystemTime::now() + Duration::from_secs(3600);
        let file = File::options().write(true).open(dir.join("file")).unwrap();
        file.set_modified(ahead).unwrap();
        let records = Records::new(base.path().join("records"));
        records.tree(&dir, &Rules::default()).unwrap();
        assert!(!records.place(&dir, &Rules::default()).exists());
    }

    #[test]
    fn of_many_at_once_one_reads_and_all_get_the_same() {
        let base = tempfile::tempdir().unwrap();
        let dir = directory(base.path());
        let records = Records::new(base.path().join("records"));
        let found: Vec<Recorded> = std::thread::scope(|scope| {
            let ask = || records.tree(&dir, &Rules::default()).unwrap();
            let all: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(found.iter().all(|one| *one == found[0]));
    }
}
