//! Trees of files as the Remote Execution API stores them: one `Directory`
//! message for each directory, which names its children by their digests.
//!
//! The encoding is canonical (names sorted by their bytes, no name twice), so
//! equal trees have equal digests whatever order they were built in. Nothing
//! here touches a disk.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use prost::Message;

use crate::{Digest, DigestFunction, reapi};

/// Collects the entries of a tree.
#[derive(Clone, Debug, Default)]
pub struct TreeBuilder {
    root: BTreeMap<String, Node>,
}

#[derive(Clone, Debug)]
enum Node {
    File {
        digest: Digest,
        executable: bool,
    },
    Symlink {
        target: String,
    },
    /// A directory whose content is known by digest only.
    Sealed {
        digest: Digest,
    },
    Directory(BTreeMap<String, Node>),
}

/// A finished tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The digest of the root directory.
    pub root: Digest,
    /// Every directory that was built here, encoded, each once, children before
    /// their parents. Directories that were inserted by digest are not among
    /// them.
    pub directories: Vec<(Digest, Vec<u8>)>,
}

/// Why an entry cannot be in the tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The path is absolute, empty, or has a part that no file can have.
    #[error("`{path}` is not a relative path without `.` and `..`")]
    Path {
        /// The path.
        path: String,
    },
    /// The path is taken by something else.
    #[error("`{path}` is in the tree twice, with different content")]
    Conflict {
        /// The path.
        path: String,
    },
    /// The path leads through something that is not a directory.
    #[error("`{path}` leads through `{through}`, which is not a directory that can be added to")]
    NotADirectory {
        /// The path.
        path: String,
        /// The part of it that is a file, a link, or a finished directory.
        through: String,
    },
}

impl TreeBuilder {
    /// A tree without entries.
    pub fn new() -> TreeBuilder {
        TreeBuilder::default()
    }

    /// Adds a file. The same file twice is fine.
    pub fn insert_file(
        &mut self,
        path: &str,
        digest: Digest,
        executable: bool,
    ) -> Result<(), TreeError> {
        self.insert(path, Node::File { digest, executable })
    }

    /// Adds a symbolic link. The target is kept as it is.
    pub fn insert_symlink(&mut self, path: &str, target: &str) -> Result<(), TreeError> {
        self.insert(
            path,
            Node::Symlink {
                target: target.to_owned(),
            },
        )
    }

    /// Adds a directory that was stored before, with all that is in it. Nothing
    /// can be added below it.
    pub fn insert_directory(&mut self, path: &str, digest: Digest) -> Result<(), TreeError> {
        self.insert(path, Node::Sealed { digest })
    }

    /// Makes sure that there is a directory; it may have entries.
    pub fn insert_empty_directory(&mut self, path: &str) -> Result<(), TreeError> {
        self.insert(path, Node::Directory(BTreeMap::new()))
    }

    fn insert(&mut self, path: &str, node: Node) -> Result<(), TreeError> {
        let (parents, name) = match path.rsplit_once('/') {
            Some((parents, name)) => (Some(parents), name),
            None => (None, path),
        };
        let parts = || parents.into_iter().flat_map(|parents| parents.split('/'));
        if !is_name(name) || !parts().all(is_name) {
            return Err(TreeError::Path {
                path: path.to_owned(),
            });
        }
        let mut directory = &mut self.root;
        let mut walked = 0;
        for part in parts() {
            walked += part.len() + 1;
            let child = directory
                .entry(part.to_owned())
                .or_insert_with(|| Node::Directory(BTreeMap::new()));
            let Node::Directory(children) = child else {
                return Err(TreeError::NotADirectory {
                    path: path.to_owned(),
                    through: path[..walked - 1].to_owned(),
                });
            };
            directory = children;
        }
        match directory.entry(name.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(node);
                Ok(())
            }
            Entry::Occupied(entry) if entry.get().accepts(&node) => Ok(()),
            Entry::Occupied(_) => Err(TreeError::Conflict {
                path: path.to_owned(),
            }),
        }
    }

    /// The tree with BLAKE3 digests.
    pub fn build(&self) -> Tree {
        self.build_with(DigestFunction::Blake3)
    }

    /// The tree with digests of another function, which must also be that of the
    /// digests inserted.
    pub fn build_with(&self, function: DigestFunction) -> Tree {
        let mut directories = Vec::new();
        let mut known = std::collections::HashSet::new();
        let root = encode(&self.root, function, &mut |digest, bytes| {
            if known.insert(digest) {
                directories.push((digest, bytes));
            }
        });
        Tree { root, directories }
    }
}

impl Node {
    /// Whether inserting `other` at the place of `self` changes nothing.
    fn accepts(&self, other: &Node) -> bool {
        match (self, other) {
            (
                Node::File { digest, executable },
                Node::File {
                    digest: other,
                    executable: other_executable,
                },
            ) => digest == other && executable == other_executable,
            (Node::Symlink { target }, Node::Symlink { target: other }) => target == other,
            (Node::Sealed { digest }, Node::Sealed { digest: other }) => digest == other,
            // `other` is an empty directory then.
            (Node::Directory(_), Node::Directory(_)) => true,
            _ => false,
        }
    }
}

/// Whether a text can be the name of a file.
pub fn is_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.contains(['/', '\0'])
}

fn encode(
    children: &BTreeMap<String, Node>,
    function: DigestFunction,
    emit: &mut impl FnMut(Digest, Vec<u8>),
) -> Digest {
    let mut message = reapi::Directory::default();
    // A BTreeMap of strings iterates in the order of the bytes, as demanded.
    for (name, node) in children {
        let name = name.clone();
        match node {
            Node::File { digest, executable } => message.files.push(reapi::FileNode {
                name,
                digest: Some(digest.into()),
                is_executable: *executable,
                node_properties: None,
            }),
            Node::Symlink { target } => message.symlinks.push(reapi::SymlinkNode {
                name,
                target: target.clone(),
                node_properties: None,
            }),
            Node::Sealed { digest } => message.directories.push(reapi::DirectoryNode {
                name,
                digest: Some(digest.into()),
            }),
            Node::Directory(children) => {
                let digest = encode(children, function, emit);
                message.directories.push(reapi::DirectoryNode {
                    name,
                    digest: Some(digest.into()),
                });
            }
        }
    }
    let bytes = message.encode_to_vec();
    let digest = function.digest(&bytes);
    emit(digest, bytes);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(tree: &Tree, digest: Digest) -> reapi::Directory {
        let (_, bytes) = tree
            .directories
            .iter()
            .find(|(found, _)| *found == digest)
            .unwrap();
        reapi::Directory::decode(bytes.as_slice()).unwrap()
    }

    #[test]
    fn the_order_of_insertion_does_not_matter() {
        let file = Digest::of(b"file");
        let sealed = Digest::of(b"sealed");
        let mut one = TreeBuilder::new();
        one.insert_file("src/main.rs", file, false).unwrap();
        one.insert_file("build", file, true).unwrap();
        one.insert_directory("vx/toolchain", sealed).unwrap();
        one.insert_symlink("src/link", "../x").unwrap();
        one.insert_empty_directory("out/deep").unwrap();
        let mut two = TreeBuilder::new();
        two.insert_empty_directory("out/deep").unwrap();
        two.insert_symlink("src/link", "../x").unwrap();
        two.insert_empty_directory("src").unwrap();
        two.insert_directory("vx/toolchain", sealed).unwrap();
        two.insert_file("build", file, true).unwrap();
        two.insert_file("src/main.rs", file, false).unwrap();
        two.insert_file("src/main.rs", file, false).unwrap();
        let tree = one.build();
        assert_eq!(tree, two.build());
        assert_eq!(tree.directories.last().unwrap().0, tree.root);

        let root = decoded(&tree, tree.root);
        let names: Vec<_> = root.directories.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["out", "src", "vx"]);
        assert!(root.files[0].is_executable);
    }

    #[test]
    fn the_empty_tree_is_the_empty_blob() {
        let tree = TreeBuilder::new().build();
        assert_eq!(tree.root, Digest::EMPTY);
        assert_eq!(tree.directories, [(Digest::EMPTY, Vec::new())]);
    }

    #[test]
    fn equal_directories_are_stored_once() {
        let mut builder = TreeBuilder::new();
        for dir in ["a", "b", "c"] {
            builder
                .insert_file(&format!("{dir}/x"), Digest::of(b"x"), false)
                .unwrap();
        }
        assert_eq!(builder.build().directories.len(), 2);
    }

    #[test]
    fn names_sort_by_their_bytes() {
        let mut builder = TreeBuilder::new();
        for name in ["b", "a.b", "a", "é", "B", "a-b"] {
            builder.insert_file(name, Digest::EMPTY, false).unwrap();
        }
        let tree = builder.build();
        let names: Vec<_> = decoded(&tree, tree.root)
            .files
            .into_iter()
            .map(|f| f.name)
            .collect();
        assert_eq!(names, ["B", "a", "a-b", "a.b", "b", "é"]);
    }

    #[test]
    fn conflicts_and_bad_paths_are_errors() {
        let mut builder = TreeBuilder::new();
        builder.insert_file("a/f", Digest::EMPTY, false).unwrap();
        builder.insert_directory("d", Digest::EMPTY).unwrap();
        assert_eq!(
            builder.insert_file("a/f", Digest::EMPTY, true),
            Err(TreeError::Conflict { path: "a/f".into() })
        );
        assert_eq!(
            builder.insert_file("a", Digest::EMPTY, false),
            Err(TreeError::Conflict { path: "a".into() })
        );
        assert_eq!(
            builder.insert_file("a/f/g/h", Digest::EMPTY, false),
            Err(TreeError::NotADirectory {
                path: "a/f/g/h".into(),
                through: "a/f".into()
            })
        );
        assert!(builder.insert_file("d/x", Digest::EMPTY, false).is_err());
        for path in ["", "/a", "a/", "a//b", ".", "a/../b", "..", "a\0"] {
            assert!(
                matches!(
                    builder.insert_empty_directory(path),
                    Err(TreeError::Path { .. })
                ),
                "{path:?}"
            );
        }
    }
}
