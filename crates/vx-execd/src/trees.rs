//! Immutable directories made of hard links into the local cache, ready to be mounted.
//!
//! Each is built once, under another name first, and shared by all actions that have it among their inputs.
//! They cost inodes for their directories only, so many can be kept; the least recently used go when there are too many, never those in use.
//! Hard links carry no promise about power cuts, so the trees of an earlier boot are not trusted.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use vx_proto::Digest;

use crate::cache::Cache;
use crate::content::{Content, Form};
use crate::disk;
use crate::failure::{Failure, blocking};

/// Entries (files, links, directories) of all trees together.
const MAX_ENTRIES: u64 = 1_000_000;
/// Trees.
const MAX_TREES: usize = 10_000;

/// All trees of this machine. Clones share them.
#[derive(Clone)]
pub(crate) struct Trees {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    state: Mutex<State>,
    numbers: AtomicU64,
}

#[derive(Default)]
struct State {
    known: HashMap<Digest, Known>,
    building: HashMap<Digest, watch::Receiver<()>>,
    entries: u64,
    clock: u64,
}

struct Known {
    name: String,
    entries: u64,
    users: usize,
    last_use: u64,
}

/// A tree that stays as long as this is held.
pub(crate) struct Lease {
    shared: Arc<Shared>,
    digest: Digest,
    path: PathBuf,
}

impl Lease {
    /// The directory to mount.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(known) = self.shared.lock().known.get_mut(&self.digest) {
            known.users -= 1;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trees {
    /// The trees in `root`; those of an earlier boot and half-built ones are removed.
    pub(crate) fn open(root: PathBuf) -> Result<Trees, Failure> {
        let fail = |path: &Path| Failure::local("use the directory of trees", path.to_owned());
        fs::create_dir_all(&root).map_err(fail(&root))?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let mark = root.join("boot");
        let trusted = !boot.is_empty() && fs::read_to_string(&mark).is_ok_and(|then| then == boot);
        let mut state = State::default();
        for entry in fs::read_dir(&root).map_err(fail(&root))? {
            let entry = entry.map_err(fail(&root))?;
            match entry.file_name().to_str().and_then(parse_name) {
                Some((digest, entries)) if trusted => {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    state.entries += entries;
                    state.known.insert(
                        digest,
                        Known {
                            name,
                            entries,
                            users: 0,
                            last_use: 0,
                        },
                    );
                }
                _ if entry.path() == mark => {}
                _ => disk::remove_tree(&entry.path()).map_err(fail(&entry.path()))?,
            }
        }
        fs::write(&mark, boot).map_err(fail(&mark))?;
        let shared = Shared {
            root,
            state: Mutex::new(state),
            numbers: AtomicU64::new(0),
        };
        Ok(Trees {
            shared: Arc::new(shared),
        })
    }

    /// Whether the tree can be had without reading anything.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.shared.lock().known.contains_key(digest)
    }

    /// The tree `digest`, built from `cache` if it is not there.
    pub(crate) async fn get(&self, cache: &Cache, digest: Digest) -> Result<Lease, Failure> {
        loop {
            match self.turn(digest) {
                Turn::Ready(lease) => return Ok(lease),
                // Ends when the other builder is done or has failed; then we look again.
                Turn::Wait(mut theirs) => drop(theirs.changed().await),
                Turn::Build(_mine) => return self.build(cache, digest).await,
            }
        }
    }

    fn turn(&self, digest: Digest) -> Turn {
        if let Some(lease) = self.lease(digest) {
            return Turn::Ready(lease);
        }
        let mut state = self.shared.lock();
        if let Some(theirs) = state.building.get(&digest) {
            return Turn::Wait(theirs.clone());
        }
        let (sender, receiver) = watch::channel(());
        if state.known.contains_key(&digest) {
            // Finished a moment ago: the sender is gone at once, and the next look finds it.
            return Turn::Wait(receiver);
        }
        state.building.insert(digest, receiver);
        drop(state);
        Turn::Build(Building {
            shared: self.shared.clone(),
            digest,
            _sender: sender,
        })
    }

    fn lease(&self, digest: Digest) -> Option<Lease> {
        let mut state = self.shared.lock();
        state.clock += 1;
        let now = state.clock;
        let known = state.known.get_mut(&digest)?;
        known.users += 1;
        known.last_use = now;
        let path = self.shared.root.join(&known.name);
        Some(Lease {
            shared: self.shared.clone(),
            digest,
            path,
        })
    }

    async fn build(&self, cache: &Cache, digest: Digest) -> Result<Lease, Failure> {
        let content = Content::read(cache, digest).await?;
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let temporary = self.shared.root.join(format!("new-{number}"));
        let name = format!("{}-{}-{}", digest.hex(), digest.size, content.entries());
        let entries = content.entries();
        let (store, target) = (cache.clone(), self.shared.root.join(&name));
        blocking(move || {
            let built = content.write(&store, &temporary, Form::Immutable);
            let built = built.and_then(|()| match fs::rename(&temporary, &target) {
                // Whoever asked first was cancelled, and its thread went on to the end.
                Err(_) if target.is_dir() => Ok(true),
                Err(error) => Err(Failure::local("make the tree", &target)(error)),
                Ok(()) => Ok(false),
            });
            if !matches!(built, Ok(false)) {
                // What remains is removed at the next start.
                drop(disk::remove_tree(&temporary));
            }
            built
        })
        .await?;
        let evicted = {
            let mut state = self.shared.lock();
            state.clock += 1;
            let last_use = state.clock;
            state.entries += entries;
            state.known.insert(
                digest,
                Known {
                    name,
                    entries,
                    users: 0,
                    last_use,
                },
            );
            evict(&mut state, &digest)
        };
        self.remove(evicted);
        self.lease(digest)
            .ok_or_else(|| Failure::Missing(vec![digest]))
    }

    /// Gives up names that nobody can ask for any more.
    fn remove(&self, names: Vec<String>) {
        for name in names {
            let path = self.shared.root.join(name);
            let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
            let dead = self.shared.root.join(format!("dead-{number}"));
            drop(tokio::task::spawn_blocking(move || {
                // What cannot be removed now is removed at the next start.
                let gone = fs::rename(&path, &dead).and_then(|()| disk::remove_tree(&dead));
                drop(gone);
            }));
        }
    }
}

/// What to do about a tree that is wanted.
enum Turn {
    Ready(Lease),
    Wait(watch::Receiver<()>),
    Build(Building),
}

struct Building {
    shared: Arc<Shared>,
    digest: Digest,
    _sender: watch::Sender<()>,
}

impl Drop for Building {
    fn drop(&mut self) {
        self.shared.lock().building.remove(&self.digest);
    }
}

/// Forgets the least recently used trees until the rest fits; the answer is their names.
fn evict(state: &mut State, keep: &Digest) -> Vec<String> {
    let mut names = Vec::new();
    while state.entries > MAX_ENTRIES || state.known.len() > MAX_TREES {
        let idle = state
            .known
            .iter()
            .filter(|(digest, known)| known.users == 0 && *digest != keep);
        let Some(oldest) = idle
            .min_by_key(|(_, known)| known.last_use)
            .map(|(digest, _)| *digest)
        else {
            break;
        };
        if let Some(known) = state.known.remove(&oldest) {
            state.entries -= known.entries;
            names.push(known.name);
        }
    }
    names
}

fn parse_name(name: &str) -> Option<(Digest, u64)> {
    let mut parts = name.split('-');
    let (hash, size, entries) = (parts.next()?, parts.next()?, parts.next()?);
    let digest = format!("{hash}/{size}").parse().ok()?;
    Some((digest, entries.parse().ok()?)).filter(|_| parts.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_digest_and_entries() {
        let digest = Digest::of(b"x");
        let name = format!("{}-{}-{}", digest.hex(), digest.size, 17);
        assert_eq!(parse_name(&name), Some((digest, 17)));
        assert_eq!(parse_name("new-3"), None);
        assert_eq!(parse_name(&format!("{name}-1")), None);
    }

    #[test]
    fn the_least_recently_used_idle_trees_go_first() {
        let mut state = State::default();
        for (byte, users, last_use) in [(1, 0, 3), (2, 1, 1), (3, 0, 2)] {
            let digest = Digest {
                hash: [byte; 32],
                size: 1,
            };
            let name = byte.to_string();
            state.known.insert(
                digest,
                Known {
                    name,
                    entries: MAX_ENTRIES / 2,
                    users,
                    last_use,
                },
            );
            state.entries += MAX_ENTRIES / 2;
        }
        let keep = Digest {
            hash: [9; 32],
            size: 1,
        };
        assert_eq!(evict(&mut state, &keep), ["3"]);
        state.entries += MAX_ENTRIES;
        assert_eq!(evict(&mut state, &keep), ["1"]);
        assert_eq!(state.known.len(), 1);
    }
}
