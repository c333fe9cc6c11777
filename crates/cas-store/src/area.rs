//! A tree of shard directories that is never left by a symbolic link.
//!
//! Each shard is opened component by component with `O_NOFOLLOW`, and every operation on a file is relative to that descriptor: a link planted inside the store leads nowhere.
//! The same descriptor carries the shard's lock (`flock`, shared for uses, exclusive for removals), which therefore holds between processes as well as between threads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::{layout, platform};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// One sharded directory of the store, such as `blobs/blake3`.
#[derive(Debug)]
pub(crate) struct Area {
    dir: OwnedFd,
    levels: u8,
    mode: Mode,
}

/// A shard that [`Area::shard_or_create`] opened.
pub(crate) struct Shard {
    pub(crate) dir: OwnedFd,
    /// Whether a directory entry above the shard is new and wants to be synced.
    pub(crate) created: bool,
}

impl Area {
    /// Opens `path` (relative, no `..`) below `root`, creating what is missing.
    pub(crate) fn open(root: &OwnedFd, path: &str, levels: u8, mode: Mode) -> io::Result<Area> {
        Ok(Area {
            dir: open_or_create_path(root, path, mode)?,
            levels,
            mode,
        })
    }

    pub(crate) fn levels(&self) -> u8 {
        self.levels
    }

    /// What one look finds under this name.
    ///
    /// Nothing is opened or locked, so what is found by it, or by a link on the way, is no claim to anything.
    pub(crate) fn glance(&self, hash: &[u8; 32], name: &str) -> io::Result<Option<Stat>> {
        let path = format!("{}/{name}", layout::shard_path(hash, self.levels));
        stat(&self.dir, &path)
    }

    /// The shard directory of `hash`, if it exists.
    pub(crate) fn shard(&self, hash: &[u8; 32]) -> io::Result<Option<OwnedFd>> {
        let path = layout::shard_path(hash, self.levels);
        if let Some(opened) = platform::open_below(&self.dir, &path, DIRECTORY) {
            return match opened {
                Ok(dir) => Ok(Some(dir)),
                Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        let mut current: Option<OwnedFd> = None;
        for name in layout::shards(hash, self.levels) {
            let parent = current.as_ref().unwrap_or(&self.dir);
            match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
                Ok(dir) => current = Some(dir),
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        // A store has at least one level; its format file is refused otherwise.
        current
            .map(Some)
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// The shard directory of `hash`, created when it is the first of its name.
    pub(crate) fn shard_or_create(&self, hash: &[u8; 32]) -> io::Result<Shard> {
        let mut current: Option<OwnedFd> = None;
        let mut created = false;
        for name in layout::shards(hash, self.levels) {
            let parent = current.as_ref().unwrap_or(&self.dir);
            let (dir, new) = open_or_create(parent, &name, self.mode)?;
            created |= new;
            current = Some(dir);
        }
        let dir = current.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Shard { dir, created })
    }

    /// Goes through shards in the order of their hashes.
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        Cursor {
            area: self,
            above: None,
        }
    }

    /// Calls `visit` with every shard directory and the two-digit names that lead to it.
    pub(crate) fn for_each_shard(
        &self,
        visit: &mut dyn FnMut(&OwnedFd, &[String]) -> io::Result<()>,
    ) -> io::Result<()> {
        walk(&self.dir, self.levels, &mut Vec::new(), visit)
    }

    /// Calls `visit` with whatever is no directory and stands where only shards do.
    pub(crate) fn for_each_stray(
        &self,
        visit: &mut dyn FnMut(&Found<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        strays(&self.dir, self.levels, &mut Vec::new(), visit)
    }

    /// Calls `visit` with everything that lies in a shard; what disappears meanwhile is left out.
    pub(crate) fn for_each_file(
        &self,
        visit: &mut dyn FnMut(&Found<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.for_each_shard(&mut |shard, above| {
            for name in names(shard)? {
                if let Some(stat) = stat(shard, &name)? {
                    visit(&Found {
                        shard,
                        above,
                        name: &name,
                        stat,
                    })?;
                }
            }
            Ok(())
        })
    }
}

/// Keeps open what two shards have in common, from one to the next.
pub(crate) struct Cursor<'a> {
    area: &'a Area,
    above: Option<(u8, OwnedFd)>,
}

impl Cursor<'_> {
    /// Calls `publish` with a directory and the path of `name` in the shard of `hash` as seen from there, after making what is missing.
    pub(crate) fn in_shard<T>(
        &mut self,
        hash: &[u8; 32],
        name: &str,
        publish: impl FnOnce(BorrowedFd<'_>, &str) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut shards = layout::shards(hash, self.area.levels);
        let first = shards.next().unwrap_or_default();
        if self.above.as_ref().is_none_or(|(byte, _)| *byte != hash[0]) {
            let (dir, _) = open_or_create(&self.area.dir, &first, self.area.mode)?;
            self.above = Some((hash[0], dir));
        }
        let Some((_, above)) = &self.above else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let Some(second) = shards.next() else {
            return publish(above.as_fd(), name);
        };
        let open = || rustix::fs::openat(above, &second, DIRECTORY, Mode::empty());
        match open() {
            Ok(dir) => return publish(dir.as_fd(), name),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::fs::mkdirat(above, &second, self.area.mode) {
            // What was made just now is a directory and no link.
            Ok(()) => publish(above.as_fd(), &format!("{second}/{name}")),
            Err(Errno::EXIST) => publish(open()?.as_fd(), name),
            Err(error) => Err(error.into()),
        }
    }
}

/// Something that lies in a shard, or stands where only shards do.
pub(crate) struct Found<'a> {
    /// The directory that it is in.
    pub(crate) shard: &'a OwnedFd,
    above: &'a [String],
    pub(crate) name: &'a str,
    pub(crate) stat: Stat,
}

impl Found<'_> {
    /// Whether a file of this hash belongs into this shard.
    pub(crate) fn is_in_place(&self, hash: &[u8; 32]) -> bool {
        layout::shards(hash, u8::try_from(self.above.len()).unwrap_or(0))
            .eq(self.above.iter().cloned())
    }

    /// The name with its shards.
    pub(crate) fn path(&self) -> String {
        let above = self.above.iter().map(String::as_str);
        above.chain([self.name]).collect::<Vec<_>>().join("/")
    }

    /// The number of bytes.
    pub(crate) fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }
}

fn walk(
    dir: &OwnedFd,
    levels: u8,
    above: &mut Vec<String>,
    visit: &mut dyn FnMut(&OwnedFd, &[String]) -> io::Result<()>,
) -> io::Result<()> {
    if levels == 0 {
        return visit(dir, above);
    }
    for name in names(dir)? {
        match rustix::fs::openat(dir, &name, DIRECTORY, Mode::empty()) {
            Ok(below) => {
                above.push(name);
                let result = walk(&below, levels - 1, above, visit);
                above.pop();
                result?;
            }
            // Files and links that somebody put between the shards are no shards.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn strays(
    dir: &OwnedFd,
    levels: u8,
    above: &mut Vec<String>,
    visit: &mut dyn FnMut(&Found<'_>) -> io::Result<()>,
) -> io::Result<()> {
    for name in names(dir)? {
        let Some(stat) = stat(dir, &name)? else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            visit(&Found {
                shard: dir,
                above,
                name: &name,
                stat,
            })?;
        } else if levels > 1 {
            let below = match rustix::fs::openat(dir, &name, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                result => result?,
            };
            above.push(name);
            let result = strays(&below, levels - 1, above, visit);
            above.pop();
            result?;
        }
    }
    Ok(())
}

/// The names in a directory, sorted; those that are not UTF-8 are nobody's we know and left out.
pub(crate) fn names(dir: impl AsFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        if let Ok(name) = entry?.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// `lstat` of a name in a directory.
pub(crate) fn stat(dir: impl AsFd, name: &str) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes a name; one that is gone already is fine.
pub(crate) fn unlink(dir: impl AsFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Locks a directory until its descriptor is closed.
pub(crate) fn lock(dir: impl AsFd, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(dir.as_fd(), operation) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Opens a path (relative, no `..`) below a directory, creating what is missing.
pub(crate) fn open_or_create_path(root: &OwnedFd, path: &str, mode: Mode) -> io::Result<OwnedFd> {
    let mut current: Option<OwnedFd> = None;
    for name in path.split('/') {
        let (dir, _) = open_or_create(current.as_ref().unwrap_or(root), name, mode)?;
        current = Some(dir);
    }
    current.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn open_or_create(parent: &OwnedFd, name: &str, mode: Mode) -> io::Result<(OwnedFd, bool)> {
    match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(dir) => return Ok((dir, false)),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::mkdirat(parent, name, mode) {
        // Another process may have been first.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok((
        rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?,
        true,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn a_symbolic_link_in_place_of_a_shard_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let area = Area::open(&root(dir.path()), "blobs/blake3", 1, Mode::RWXU).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("blobs/blake3/ab")).unwrap();
        assert!(area.shard(&[0xab; 32]).is_err());
        assert!(area.shard_or_create(&[0xab; 32]).is_err());
        assert!(
            std::fs::read_dir(elsewhere.path())
                .unwrap()
                .next()
                .is_none()
        );
    }

    #[test]
    fn two_levels_make_two_directories_and_are_walked() {
        let dir = tempfile::tempdir().unwrap();
        let area = Area::open(&root(dir.path()), "blobs/blake3", 2, Mode::RWXU).unwrap();
        assert!(area.shard(&[1; 32]).unwrap().is_none());
        assert!(area.shard_or_create(&[1; 32]).unwrap().created);
        assert!(!area.shard_or_create(&[1; 32]).unwrap().created);
        assert!(dir.path().join("blobs/blake3/01/01").is_dir());
        let mut seen = Vec::new();
        area.for_each_shard(&mut |_, above| {
            seen.push(above.join("/"));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["01/01"]);
    }
}
