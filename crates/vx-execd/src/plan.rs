//! From the Merkle tree of an action's inputs to the mounts of its sandbox.
//!
//! Directories that hold only directories are a skeleton; the first one on each path that holds files is one immutable tree, mounted as a whole.
//! So the cost of an action is that of its handful of mounts, not that of its thousands of files.

use std::collections::BTreeSet;

use vx_proto::Digest;
use vx_proto::reapi::Directory;

use crate::cache::Cache;
use crate::failure::Failure;
use crate::layout::{Job, below};

/// Below this the skeleton ends and trees begin, whatever they hold.
const MAX_DEPTH: usize = 8;
/// A directory with more children than this is cheaper as one tree.
const MAX_CHILDREN: usize = 64;
/// Files mounted one by one, beside writable places.
const MAX_SINGLE_FILES: usize = 1000;

/// What stands at a path of the input root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// An empty directory of the skeleton.
    Empty,
    /// An immutable tree.
    Tree(Digest),
    /// A private copy of a tree whose reads are reported.
    Observed(Digest),
    /// A directory of the action's own, with this content at the start.
    Writable(Option<Digest>),
    /// A single file.
    File { digest: Digest, executable: bool },
    /// A symbolic link.
    Link(String),
}

/// A path relative to the input root, and what stands there.
pub(crate) type Placed = (String, Place);

/// Decides for every path of the input tree of `job`; `is_ready` knows the trees that can be mounted without being read.
pub(crate) async fn plan(
    job: &Job,
    cache: &Cache,
    is_ready: impl Fn(&Digest) -> bool,
) -> Result<Vec<Placed>, Failure> {
    let mut walk = Walk {
        job,
        places: Vec::new(),
        files: 0,
    };
    let mut level = vec![Node {
        path: String::new(),
        digest: job.input_root,
        depth: 0,
    }];
    while !level.is_empty() {
        let mut unread = Vec::new();
        for node in level {
            match walk.place_of(&node, &is_ready) {
                Some(place) => walk.places.push((node.path, place)),
                None => unread.push(node),
            }
        }
        let digests = unread.iter().map(|node| node.digest).collect();
        let directories = cache.messages::<Directory>(digests).await?;
        level = Vec::new();
        for (node, directory) in unread.into_iter().zip(directories) {
            walk.enter(node, directory, &mut level)?;
        }
    }
    walk.finish()
}

struct Node {
    path: String,
    digest: Digest,
    depth: usize,
}

struct Walk<'a> {
    job: &'a Job,
    places: Vec<Placed>,
    files: usize,
}

impl Walk<'_> {
    /// What can be said of a directory by its path and digest alone.
    fn place_of(&self, node: &Node, is_ready: impl Fn(&Digest) -> bool) -> Option<Place> {
        if self.job.writable.contains(&node.path) {
            return Some(Place::Writable(Some(node.digest)));
        }
        if self.job.observed.contains(&node.path) {
            return Some(Place::Observed(node.digest));
        }
        (!self.is_above_a_place(&node.path) && is_ready(&node.digest))
            .then_some(Place::Tree(node.digest))
    }

    /// Whether something must be mounted at or below `path`, which a tree cannot take.
    fn is_above_a_place(&self, path: &str) -> bool {
        let fixed = path.is_empty() && self.job.base.parent().is_none();
        fixed
            || self
                .job
                .writable
                .iter()
                .chain(&self.job.observed)
                .any(|place| below(place, path).is_some())
    }

    fn enter(
        &mut self,
        node: Node,
        directory: Directory,
        next: &mut Vec<Node>,
    ) -> Result<(), Failure> {
        let holds_files = !directory.files.is_empty() || !directory.symlinks.is_empty();
        let is_large = node.depth >= MAX_DEPTH || directory.directories.len() > MAX_CHILDREN;
        if !self.is_above_a_place(&node.path) && (holds_files || is_large) {
            self.places.push((node.path, Place::Tree(node.digest)));
            return Ok(());
        }
        let join = |name: &str| -> Result<String, Failure> {
            if !vx_proto::tree::is_name(name) {
                return Err(Failure::Invalid(format!(
                    "`{name}` is no name of a directory entry"
                )));
            }
            Ok(if node.path.is_empty() {
                name.to_owned()
            } else {
                format!("{}/{name}", node.path)
            })
        };
        let digest = |digest: Option<&vx_proto::reapi::Digest>| {
            vx_proto::digest::required(digest)
                .map_err(|error| Failure::Invalid(format!("directory `{}`: {error}", node.path)))
        };
        if directory.directories.is_empty() && !node.path.is_empty() {
            self.places.push((node.path.clone(), Place::Empty));
        }
        for child in &directory.directories {
            next.push(Node {
                path: join(&child.name)?,
                digest: digest(child.digest.as_ref())?,
                depth: node.depth + 1,
            });
        }
        for file in &directory.files {
            self.files += 1;
            if self.files > MAX_SINGLE_FILES {
                return Err(Failure::Invalid(format!(
                    "more than {MAX_SINGLE_FILES} files stand beside writable or observed directories"
                )));
            }
            let place = Place::File {
                digest: digest(file.digest.as_ref())?,
                executable: file.is_executable,
            };
            self.places.push((join(&file.name)?, place));
        }
        for link in directory.symlinks {
            self.places
                .push((join(&link.name)?, Place::Link(link.target)));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Placed>, Failure> {
        let met: BTreeSet<&str> = self.places.iter().map(|(path, _)| path.as_str()).collect();
        if let Some(path) = self
            .job
            .observed
            .iter()
            .find(|path| !met.contains(path.as_str()))
        {
            let inside_writable = self.job.place(path).is_some();
            let why = if inside_writable {
                "lies inside a writable one"
            } else {
                "is not an input"
            };
            return Err(Failure::Invalid(format!(
                "the observed directory `{path}` {why}"
            )));
        }
        let new: Vec<Placed> = self
            .job
            .writable
            .iter()
            .filter(|path| !met.contains(path.as_str()))
            .map(|path| (path.clone(), Place::Writable(None)))
            .collect();
        self.places.extend(new);
        // The skeleton knows a directory only until something is mounted there.
        let taken: BTreeSet<String> = self
            .places
            .iter()
            .filter(|(_, place)| *place != Place::Empty)
            .map(|(path, _)| path.clone())
            .collect();
        self.places
            .retain(|(path, place)| *place != Place::Empty || !taken.contains(path));
        Ok(self.places)
    }
}
