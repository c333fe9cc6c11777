//! From what a command left to the outputs of its result.
//!
//! Outputs go into the local cache first, so that dependents on this machine find them, and from there to the store.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cas_store::Store;
use prost::Message;
use vx_proto::Digest;
use vx_proto::cas::Blob;
use vx_proto::reapi::{ActionResult, Directory, OutputDirectory, OutputFile, OutputSymlink, Tree};
use vx_proto::tree::TreeBuilder;

use crate::cache::Cache;
use crate::failure::{Failure, blocking};

/// Entries in one output directory.
const MAX_ENTRIES: usize = 1_000_000;

/// An output and where the host has it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// As it was asked for.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// What was found, and what the store needs to have of it.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    files: Vec<OutputFile>,
    directories: Vec<OutputDirectory>,
    links: Vec<OutputSymlink>,
    /// Files, by digest, that are in the local cache.
    cached: Vec<Digest>,
    /// Messages about directories.
    messages: Vec<Blob>,
}

impl Collected {
    /// Looks at all `sources`; one that is not there is no error, since whoever asked sees what is missing.
    pub(crate) async fn of(cache: &Cache, sources: Vec<Source>) -> Result<Collected, Failure> {
        let store = cache.store().clone();
        blocking(move || {
            let mut collected = Collected::default();
            for source in sources {
                collected.add(&store, source)?;
            }
            Ok(collected)
        })
        .await
    }

    fn add(&mut self, store: &Store, source: Source) -> Result<(), Failure> {
        let Source { name, path } = source;
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(Failure::local("read the output", path)(error)),
        };
        if meta.is_symlink() {
            let target = link_target(&path)?;
            self.links.push(OutputSymlink {
                path: name,
                target,
                node_properties: None,
            });
        } else if meta.is_dir() {
            let directory = self.directory(store, name, &path)?;
            self.directories.push(directory);
        } else if meta.is_file() {
            let (digest, is_executable) = self.file(store, &path, &meta)?;
            self.files.push(OutputFile {
                path: name,
                digest: Some(digest.into()),
                is_executable,
                ..OutputFile::default()
            });
        } else {
            return Err(Failure::Invalid(format!(
                "the output `{name}` is neither file, directory nor link"
            )));
        }
        Ok(())
    }

    fn file(
        &mut self,
        store: &Store,
        path: &Path,
        meta: &fs::Metadata,
    ) -> Result<(Digest, bool), Failure> {
        let is_executable = meta.permissions().mode() & 0o100 != 0;
        let digest = store
            .ingest_file(path, is_executable)
            .map_err(Failure::cache)?;
        self.cached.push(digest);
        Ok((digest, is_executable))
    }

    fn directory(
        &mut self,
        store: &Store,
        name: String,
        root: &Path,
    ) -> Result<OutputDirectory, Failure> {
        let mut tree = TreeBuilder::new();
        let wrong = |error| Failure::Invalid(format!("output directory `{name}`: {error}"));
        let mut pending = vec![(root.to_path_buf(), String::new())];
        let mut entries = 0;
        while let Some((folder, prefix)) = pending.pop() {
            for entry in
                fs::read_dir(&folder).map_err(Failure::local("list the output", &folder))?
            {
                let entry = entry.map_err(Failure::local("list the output", &folder))?;
                entries += 1;
                if entries > MAX_ENTRIES {
                    return Err(Failure::Invalid(format!(
                        "the output directory `{name}` has more than {MAX_ENTRIES} entries"
                    )));
                }
                let path = entry.path();
                let file_name = entry.file_name();
                let text = file_name.to_str().ok_or_else(|| {
                    Failure::Invalid(format!("the output `{}` has no UTF-8 name", path.display()))
                })?;
                let inner = if prefix.is_empty() {
                    text.to_owned()
                } else {
                    format!("{prefix}/{text}")
                };
                let meta = entry
                    .metadata()
                    .map_err(Failure::local("read the output", &path))?;
                if meta.is_symlink() {
                    tree.insert_symlink(&inner, &link_target(&path)?)
                        .map_err(wrong)?;
                } else if meta.is_dir() {
                    tree.insert_empty_directory(&inner).map_err(wrong)?;
                    pending.push((path, inner));
                } else if meta.is_file() {
                    let (digest, is_executable) = self.file(store, &path, &meta)?;
                    tree.insert_file(&inner, digest, is_executable)
                        .map_err(wrong)?;
                }
                // Sockets and pipes of a test run are nothing that could be kept.
            }
        }
        let built = tree.build();
        let mut message = Tree::default();
        for (digest, bytes) in built.directories {
            let directory = Directory::decode(bytes.as_slice())
                .map_err(|error| Failure::Invalid(error.to_string()))?;
            if digest == built.root {
                message.root = Some(directory);
            } else {
                message.children.push(directory);
            }
            store.put_bytes(&digest, &bytes).map_err(Failure::cache)?;
            self.messages.push(Blob::bytes(digest, bytes));
        }
        let message = Blob::of_message(&message);
        let tree_digest = message.digest;
        self.messages.push(message);
        Ok(OutputDirectory {
            path: name,
            tree_digest: Some(tree_digest.into()),
            is_topologically_sorted: false,
            root_directory_digest: Some(built.root.into()),
        })
    }

    /// The digest of the output file `name`.
    pub(crate) fn digest_of(&self, name: &str) -> Option<Digest> {
        let file = self.files.iter().find(|file| file.path == name)?;
        vx_proto::digest::required(file.digest.as_ref()).ok()
    }

    /// The outputs found, as files.
    pub(crate) fn files(&self) -> &[OutputFile] {
        &self.files
    }

    /// Adds a blob of the local cache that the store shall have.
    pub(crate) fn also(&mut self, digest: Digest) {
        self.cached.push(digest);
    }

    /// Sends to the store what it does not have.
    pub(crate) async fn upload(&mut self, cache: &Cache) -> Result<(), Failure> {
        let mut blobs = std::mem::take(&mut self.messages);
        let cached = crate::cache::distinct(std::mem::take(&mut self.cached));
        let store = cache.store().clone();
        let files = blocking(move || {
            let blob = |digest: Digest| -> Result<Blob, Failure> {
                let path = store.path(&digest, false).map_err(Failure::cache)?;
                let path = path.ok_or_else(|| Failure::Missing(vec![digest]))?;
                Ok(Blob::file(digest, path))
            };
            cached
                .into_iter()
                .filter(|digest| !digest.is_empty())
                .map(blob)
                .collect::<Result<Vec<_>, _>>()
        })
        .await?;
        blobs.extend(files);
        if blobs.is_empty() {
            return Ok(());
        }
        cache
            .cas()
            .ensure(blobs)
            .await
            .map_err(Failure::store("store outputs"))?;
        Ok(())
    }

    /// Puts the outputs into a result.
    pub(crate) fn fill(self, result: &mut ActionResult) {
        result.output_files = self.files;
        result.output_directories = self.directories;
        result.output_symlinks = self.links;
    }
}

fn link_target(path: &Path) -> Result<String, Failure> {
    let target = fs::read_link(path).map_err(Failure::local("read the output", path))?;
    target.into_os_string().into_string().map_err(|_| {
        Failure::Invalid(format!(
            "the target of the link `{}` is not UTF-8",
            path.display()
        ))
    })
}
