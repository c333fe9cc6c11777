//! The content of a tree, and how it gets onto the disk: as links for all, or as copies for one.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vx_proto::Digest;
use vx_proto::reapi::Directory;

use crate::cache::{Cache, distinct};
use crate::disk;
use crate::failure::Failure;

/// Directories of one tree.
const MAX_DIRECTORIES: usize = 200_000;

/// How the files of a tree are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Links that nobody may change.
    Immutable,
    /// Copies for one action to do with as it likes.
    Private,
}

/// All directories below a root.
pub(crate) struct Content {
    root: Digest,
    directories: HashMap<Digest, Directory>,
    count: u64,
}

impl Content {
    /// Reads the directories and sees to it that all files are in the cache.
    pub(crate) async fn read(cache: &Cache, root: Digest) -> Result<Content, Failure> {
        let mut content = Content {
            root,
            directories: HashMap::new(),
            count: 0,
        };
        let mut files = HashSet::new();
        let mut level = vec![root];
        while !level.is_empty() {
            let found = cache.messages::<Directory>(level.clone()).await?;
            let mut next = Vec::new();
            for (digest, directory) in level.into_iter().zip(found) {
                let wrong = |error| Failure::Invalid(format!("directory `{digest}`: {error}"));
                for child in &directory.directories {
                    next.push(vx_proto::digest::required(child.digest.as_ref()).map_err(wrong)?);
                }
                for file in &directory.files {
                    files.insert(vx_proto::digest::required(file.digest.as_ref()).map_err(wrong)?);
                }
                content.directories.insert(digest, directory);
            }
            level = distinct(next);
            level.retain(|digest| !content.directories.contains_key(digest));
            if content.directories.len() + level.len() > MAX_DIRECTORIES {
                return Err(Failure::Invalid(format!(
                    "the tree `{root}` has more than {MAX_DIRECTORIES} directories"
                )));
            }
        }
        content.count = content
            .directories
            .values()
            .map(|directory| 1 + directory.files.len() as u64 + directory.symlinks.len() as u64)
            .sum();
        cache.ensure(files.into_iter().collect()).await?;
        Ok(content)
    }

    /// Files, links and directories in it, each directory once.
    pub(crate) fn entries(&self) -> u64 {
        self.count
    }

    /// Writes the tree to `path`, which must not exist. Blocks.
    pub(crate) fn write(&self, cache: &Cache, path: &Path, form: Form) -> Result<(), Failure> {
        let mut pending = vec![(path.to_path_buf(), self.root)];
        let mut made = Vec::new();
        while let Some((folder, digest)) = pending.pop() {
            let directory = self
                .directories
                .get(&digest)
                .ok_or_else(|| Failure::Missing(vec![digest]))?;
            fs::create_dir(&folder).map_err(Failure::local("make the directory", &folder))?;
            for file in &directory.files {
                let target = folder.join(name(&file.name)?);
                let digest = vx_proto::digest::required(file.digest.as_ref())
                    .map_err(|error| Failure::Invalid(error.to_string()))?;
                place_file(cache, &digest, file.is_executable, &target, form)?;
            }
            for link in &directory.symlinks {
                let target = folder.join(name(&link.name)?);
                std::os::unix::fs::symlink(&link.target, &target)
                    .map_err(Failure::local("make the link", &target))?;
            }
            for child in &directory.directories {
                let digest = vx_proto::digest::required(child.digest.as_ref())
                    .map_err(|error| Failure::Invalid(error.to_string()))?;
                pending.push((folder.join(name(&child.name)?), digest));
            }
            made.push(folder);
        }
        // Children before parents, since each entry made moves the time of its parent.
        for folder in made.iter().rev() {
            settle(folder, form).map_err(Failure::local("finish the directory", folder))?;
        }
        Ok(())
    }
}

/// Puts one blob of the cache at `target`. Blocks.
pub(crate) fn place_file(
    cache: &Cache,
    digest: &Digest,
    executable: bool,
    target: &Path,
    form: Form,
) -> Result<(), Failure> {
    let store = cache.store();
    if form == Form::Immutable {
        let placed = store
            .link_or_copy_to(digest, executable, target)
            .map_err(Failure::cache)?;
        return placed
            .map(|_| ())
            .ok_or_else(|| Failure::Missing(vec![*digest]));
    }
    let source = store.path(digest, false).map_err(Failure::cache)?;
    let source = source.ok_or_else(|| Failure::Missing(vec![*digest]))?;
    let copy = || -> io::Result<()> {
        fs::copy(&source, target)?;
        let mode = if executable { 0o755 } else { 0o644 };
        fs::set_permissions(target, fs::Permissions::from_mode(mode))?;
        disk::set_normal_time(target)
    };
    copy().map_err(Failure::local("write the input", target))
}

fn settle(folder: &Path, form: Form) -> io::Result<()> {
    disk::set_normal_time(folder)?;
    let mode = if form == Form::Immutable {
        0o555
    } else {
        0o755
    };
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
}

fn name(text: &str) -> Result<&str, Failure> {
    if vx_proto::tree::is_name(text) {
        Ok(text)
    } else {
        Err(Failure::Invalid(format!(
            "`{text}` is no name of a directory entry"
        )))
    }
}
