//! Local directories that stand for trees of the store, such as the libraries of installed toolchains.
//!
//! They are hashed once; later their files' stamps (size, times, inode) are enough.
//! An action that has such a tree among its inputs gets the directory itself, so nobody sends hundreds of megabytes from one place of a machine to another.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use vx_proto::Digest;
use vx_tree::{Kind, Records, Rules, Scan, scan};

use vx_proto::causes;

/// Directories beyond these are not taken: the list of files of each is kept in memory.
const MOST_DIRECTORIES: usize = 64;

/// All provided directories. Clones share them.
#[derive(Clone)]
pub(crate) struct Provided {
    shared: Arc<Shared>,
    ready: watch::Receiver<bool>,
}

struct Shared {
    records: Records,
    trees: Mutex<HashMap<Digest, Tree>>,
    /// Held by whoever hashes again, so that all others wait for the outcome.
    hashing: Mutex<()>,
}

struct Tree {
    path: PathBuf,
    scan: Scan,
}

impl Provided {
    /// Starts to hash `directories` in the background; those that cannot be used are logged and left out.
    pub(crate) fn start(directories: Vec<PathBuf>, records: Records) -> Provided {
        let (sender, ready) = watch::channel(directories.is_empty());
        let shared = Arc::new(Shared {
            records,
            trees: Mutex::default(),
            hashing: Mutex::default(),
        });
        let worker = Arc::clone(&shared);
        drop(tokio::task::spawn_blocking(move || {
            for path in directories {
                worker.add(&path);
            }
            sender.send_replace(true);
        }));
        Provided { shared, ready }
    }

    /// Waits until all are hashed, but not longer than `limit`.
    pub(crate) async fn ready(&self, limit: Duration) {
        let mut ready = self.ready.clone();
        // The outcome shows in the digests.
        drop(tokio::time::timeout(limit, ready.wait_for(|ready| *ready)).await);
    }

    /// Whether `path` is the tree `digest`; if it is, it is provided from now on.
    ///
    /// Nothing else that it may be is provided: who offers a directory has to know what is in it.
    pub(crate) async fn offer(&self, path: PathBuf, digest: Digest) -> bool {
        let mut ready = self.ready.clone();
        // It may be one of those that are being hashed.
        drop(ready.wait_for(|ready| *ready).await);
        let shared = Arc::clone(&self.shared);
        let offered = tokio::task::spawn_blocking(move || shared.offer(&path, digest));
        offered.await.unwrap_or(false)
    }

    /// All digests, sorted.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        let mut digests: Vec<Digest> = self.shared.lock().keys().copied().collect();
        digests.sort_unstable();
        digests
    }

    /// Whether a tree was provided when it was looked at last.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.shared.lock().contains_key(digest)
    }

    /// The directory that is the tree `digest`, if it still is. Blocks: every file is looked at.
    ///
    /// A directory whose stamps have moved is hashed again, and stays provided when its content is what it was: a hard link made elsewhere to one of its files is enough to move them.
    pub(crate) fn directory(&self, digest: &Digest) -> Option<PathBuf> {
        if let Some(path) = self.shared.unchanged(digest) {
            return Some(path);
        }
        let turn = &self.shared.hashing;
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever had the turn before may have hashed it.
        if let Some(path) = self.shared.unchanged(digest) {
            return Some(path);
        }
        let path = self.shared.lock().get(digest)?.path.clone();
        self.shared.replace(digest, &path).then_some(path)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Tree>> {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory of `digest`, if no stamp in it has moved.
    fn unchanged(&self, digest: &Digest) -> Option<PathBuf> {
        let (path, then) = {
            let trees = self.lock();
            let tree = trees.get(digest)?;
            (tree.path.clone(), tree.scan.clone())
        };
        let now = scan(&path, &Rules::default()).ok()?;
        (now == then).then_some(path)
    }

    fn add(&self, path: &Path) {
        if let Some((digest, tree)) = self.hash(path) {
            self.lock().insert(digest, tree);
        }
    }

    fn offer(&self, path: &Path, digest: Digest) -> bool {
        let _turn = self.hashing.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let trees = self.lock();
            if trees.contains_key(&digest) || trees.len() >= MOST_DIRECTORIES {
                return trees.contains_key(&digest);
            }
        }
        match self.hash(path) {
            Some((found, tree)) if found == digest => {
                self.lock().insert(digest, tree);
                true
            }
            _ => false,
        }
    }

    /// Hashes the directory that was `before`; whether it still is.
    ///
    /// Until that is known it counts as provided: whoever asks meanwhile has to wait, not to look elsewhere.
    fn replace(&self, before: &Digest, path: &Path) -> bool {
        let hashed = self.hash(path);
        let mut trees = self.lock();
        trees.remove(before);
        let Some((digest, tree)) = hashed else {
            return false;
        };
        trees.insert(digest, tree);
        digest == *before
    }

    fn hash(&self, path: &Path) -> Option<(Digest, Tree)> {
        match usable(&self.records, path) {
            Ok((digest, scan)) => {
                let path = path.to_owned();
                Some((digest, Tree { path, scan }))
            }
            Err(why) => {
                crate::log(&format!("`{}` is not provided: {why}", path.display()));
                None
            }
        }
    }
}

/// The tree that is seen when `path` itself is mounted, if that is the one which its digest names.
fn usable(records: &Records, path: &Path) -> Result<(Digest, Scan), String> {
    let recorded = records
        .tree(path, &Rules::default())
        .map_err(|error| causes(&error))?;
    let (scan, tree) = (recorded.scan, recorded.tree);
    if let Some(odd) = scan.unusable.first() {
        return Err(format!("`{}` cannot be part of a tree", odd.display()));
    }
    // A link that leads outside is a file in the tree, but would be a dangling link in a sandbox.
    let is_link = |name: &String| {
        let mut entries = scan.entries.iter();
        entries.any(|entry| entry.path == *name && matches!(entry.kind, Kind::Symlink { .. }))
    };
    if let Some(file) = tree.files.iter().find(|file| is_link(&file.path)) {
        return Err(format!("the link `{}` leads outside", file.path));
    }
    Ok((tree.digest, scan))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use vx_tree::DigestCache;

    use super::*;

    #[tokio::test]
    async fn a_directory_is_provided_as_long_as_it_is_what_it_was() {
        let base = tempfile::tempdir().unwrap();
        let lib = base.path().join("lib");
        fs::create_dir_all(lib.join("sub")).unwrap();
        fs::write(lib.join("sub/file"), "content").unwrap();
        let records = Records::new(base.path().join("records"));
        let start = || Provided::start(vec![lib.clone()], records.clone());
        let provided = start();
        provided.ready(Duration::from_secs(60)).await;
        let [digest] = provided.digests()[..] else {
            panic!("not provided")
        };
        let tree = scan(&lib, &Rules::default())
            .unwrap()
            .hash(&DigestCache::default())
            .unwrap();
        assert_eq!(digest, tree.digest);
        assert_eq!(provided.directory(&digest), Some(lib.clone()));

        fs::write(lib.join("sub/file"), "other content").unwrap();
        assert_eq!(provided.directory(&digest), None);
        let again = start();
        again.ready(Duration::from_secs(60)).await;
        assert_eq!(again.digests(), provided.digests());
        assert_ne!(again.digests(), [digest]);
    }

    #[tokio::test]
    async fn a_directory_is_taken_from_who_knows_what_is_in_it() {
        let base = tempfile::tempdir().unwrap();
        let lib = base.path().join("lib");
        fs::create_dir(&lib).unwrap();
        fs::write(lib.join("file"), "content").unwrap();
        let provided = Provided::start(Vec::new(), Records::new(base.path().join("records")));
        let guess = Digest::of(b"a guess");
        assert!(!provided.offer(lib.clone(), guess).await);
        assert_eq!(provided.digests(), []);
        let scanned = scan(&lib, &Rules::default()).unwrap();
        let digest = scanned.hash(&DigestCache::default()).unwrap().digest;
        assert!(!provided.offer(base.path().join("absent"), digest).await);
        assert!(provided.offer(lib.clone(), digest).await);
        assert_eq!(provided.directory(&digest), Some(lib.clone()));
        // Once it is known, nobody looks at the place.
        assert!(provided.offer(base.path().join("absent"), digest).await);
        fs::write(lib.join("file"), "other content").unwrap();
        assert_eq!(provided.directory(&digest), None);
        assert!(!provided.offer(lib, digest).await);
    }

    #[tokio::test]
    async fn who_asks_while_a_directory_is_hashed_again_waits_for_the_outcome() {
        let base = tempfile::tempdir().unwrap();
        let lib = base.path().join("lib");
        fs::create_dir(&lib).unwrap();
        for number in 0..50 {
            fs::write(lib.join(format!("file-{number}")), vec![number; 100_000]).unwrap();
        }
        let provided =
            Provided::start(vec![lib.clone()], Records::new(base.path().join("records")));
        provided.ready(Duration::from_secs(60)).await;
        let [digest] = provided.digests()[..] else {
            panic!("not provided")
        };
        for round in 0..20 {
            // Moves the time of the file's last status change, and nothing else of it.
            let link = base.path().join(format!("link-{round}"));
            fs::hard_link(lib.join("file-7"), link).unwrap();
            std::thread::scope(|scope| {
                let ask = || {
                    assert!(provided.has(&digest), "gone in round {round}");
                    assert_eq!(provided.directory(&digest), Some(lib.clone()));
                };
                for _ in 0..8 {
                    scope.spawn(ask);
                }
            });
        }
    }

    #[tokio::test]
    async fn a_link_that_leads_outside_keeps_a_directory_out() {
        let base = tempfile::tempdir().unwrap();
        let lib = base.path().join("lib");
        fs::create_dir(&lib).unwrap();
        fs::write(base.path().join("outside"), "x").unwrap();
        std::os::unix::fs::symlink("../outside", lib.join("link")).unwrap();
        let provided = Provided::start(vec![lib], Records::new(base.path().join("records")));
        provided.ready(Duration::from_secs(60)).await;
        assert_eq!(provided.digests(), []);
    }
}
