//! Unpacks one component: an archive in the layout of rust-installer, version 3.
//!
//! An archive is not trusted, even though its hash is right: it may place files below the toolchain and nowhere else.
//! No entry may have an absolute path or `..`, stand below a link, be a device or a hard link, or replace another one; links must stay in the tree; sizes and numbers have limits; permissions are normalised.
//! Memory is bounded whatever the archive says: it is read as a stream, and the window of the decompressor has a limit.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tar::{Archive, EntryType, PaxExtensions};

use paths::{LONGEST_PATH, safe_parts, stays_inside};

/// What one archive may unpack to, in bytes; the largest component of a release has less than 1 GiB.
const MOST_BYTES: u64 = 8 << 30;
/// Entries of one archive; the largest component has about 10 000.
const MOST_ENTRIES: u64 = 500_000;
/// Bytes of the lists that describe a component.
const LONGEST_LIST: u64 = 32 << 20;
/// Memory of the decompressor for xz; large archives of releases need 129 MiB, which is why those packed with gzip are preferred.
const XZ_MEMORY: u64 = 160 << 20;
/// How much is read and written at a time.
const BUFFER: usize = 128 << 10;

/// Why an archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The archive ends early or is garbled.
    #[error("the archive is damaged")]
    Damaged(#[source] io::Error),
    /// An entry that has no business there.
    #[error("the entry `{path}` {why}")]
    Entry {
        /// Its path in the archive.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The whole is too large.
    #[error("it has more than {limit} {what}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
    /// Files that the archive lists are not in it, or the other way round.
    #[error("the list of files of `{component}` does not fit its content: `{path}` {why}")]
    List {
        /// The component.
        component: String,
        /// The first such file.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is no archive of a component.
    #[error("it is not in the layout of rust-installer, version 3: {0}")]
    Layout(&'static str),
    /// There is no room for a file.
    #[error("no space is left for `{}`", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody wants it any more.
    #[error("it was cancelled")]
    Cancelled,
}

fn write_failed(path: &Path) -> impl FnOnce(io::Error) -> UnpackError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            UnpackError::DiskFull { path, source }
        }
        _ => UnpackError::Write { path, source },
    }
}

/// Unpacks the component in `file` into the sysroot `into`, which has to exist; returns the bytes that were written. Blocks.
///
/// The end of `name` says how the archive is packed: `.gz` or `.xz`.
///
/// # Errors
///
/// An archive that breaks a rule, or a disk that does not take it. What was written by then stays: `into` is to be thrown away.
pub(crate) fn unpack(
    file: &File,
    name: &str,
    into: &Path,
    cancelled: &AtomicBool,
) -> Result<u64, UnpackError> {
    let file = BufReader::with_capacity(BUFFER, file);
    let reader: Box<dyn Read + '_> = if name.ends_with(".xz") {
        let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0)
            .map_err(|error| UnpackError::Damaged(error.into()))?;
        Box::new(liblzma::bufread::XzDecoder::new_stream(file, decoder))
    } else if name.ends_with(".gz") {
        Box::new(flate2::bufread::GzDecoder::new(file))
    } else {
        return Err(UnpackError::Layout("it is neither .tar.gz nor .tar.xz"));
    };
    let mut unpacking = Unpacking {
        into,
        cancelled,
        bytes: 0,
        entries: 0,
        paths: HashSet::new(),
        links: Vec::new(),
        components: None,
        version_seen: false,
        lists: Vec::new(),
    };
    unpacking.all(reader)?;
    unpacking.check_links()?;
    unpacking.check_lists()?;
    Ok(unpacking.bytes)
}

struct Unpacking<'a> {
    into: &'a Path,
    cancelled: &'a AtomicBool,
    bytes: u64,
    entries: u64,
    /// What was unpacked, as `<component>/<path>`.
    paths: HashSet<String>,
    /// Links among them, as paths in the sysroot.
    links: Vec<PathBuf>,
    /// The text of `components`.
    components: Option<String>,
    version_seen: bool,
    /// The components with the text of their `manifest.in`.
    lists: Vec<(String, String)>,
}

/// What long names and extended headers say about the entry that follows them.
#[derive(Default)]
struct Announced {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Unpacking<'_> {
    fn all(&mut self, mut reader: impl Read) -> Result<(), UnpackError> {
        let mut archive = Archive::new(&mut reader);
        let mut announced = Announced::default();
        // Raw, since the library would read names of any length into memory.
        let entries = archive.entries().map_err(UnpackError::Damaged)?.raw(true);
        for entry in entries {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(UnpackError::Cancelled);
            }
            let mut entry = entry.map_err(UnpackError::Damaged)?;
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                return Err(UnpackError::TooLarge {
                    limit: MOST_ENTRIES,
                    what: "entries",
                });
            }
            match entry.header().entry_type() {
                EntryType::GNULongName => announced.path = Some(long_name(&mut entry)?),
                EntryType::GNULongLink => announced.link = Some(long_name(&mut entry)?),
                EntryType::XHeader => extended(&mut entry, &mut announced)?,
                // Comments on the archive as a whole, such as the commit it was made from.
                EntryType::XGlobalHeader => {}
                _ => {
                    self.entry(&mut entry, std::mem::take(&mut announced))?;
                }
            }
        }
        // Damage behind the last entry is damage as well: the checksum of the packed stream is there.
        io::copy(&mut reader.take(MOST_BYTES), &mut io::sink()).map_err(UnpackError::Damaged)?;
        Ok(())
    }

    fn entry<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        says: Announced,
    ) -> Result<(), UnpackError> {
        let path = says.path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let refused = |why| UnpackError::Entry {
            path: String::from_utf8_lossy(&path).into_owned(),
            why,
        };
        let parts = safe_parts(&path).map_err(refused)?;
        // `<name of the archive>/<component>/<path in the sysroot>`
        let (component, inner) = match parts[..] {
            [] | [_] => return Ok(()),
            [_, top] => return self.top_level(top, entry),
            [_, component, ref inner @ ..] => (component, inner),
        };
        if inner == ["manifest.in"] {
            let list = text(entry)?.map_err(refused)?;
            self.lists.push((component.to_owned(), list));
            return Ok(());
        }
        let target = inner
            .iter()
            .fold(self.into.to_owned(), |path, part| path.join(part));
        if self.links.iter().any(|link| target.starts_with(link)) {
            return Err(refused("stands at or below a link"));
        }
        match entry.header().entry_type() {
            EntryType::Directory => {
                return fs::create_dir_all(&target).map_err(write_failed(&target));
            }
            EntryType::Regular | EntryType::Continuous => {
                self.regular(entry, &target).map_err(|error| match error {
                    UnpackError::Write { source, .. }
                        if source.kind() == io::ErrorKind::AlreadyExists =>
                    {
                        refused("is there twice")
                    }
                    other => other,
                })?;
            }
            EntryType::Symlink => {
                let link = match says.link {
                    Some(link) => link,
                    None => entry
                        .link_name_bytes()
                        .ok_or_else(|| refused("is a link to nothing"))?
                        .into_owned(),
                };
                let link = String::from_utf8(link).map_err(|_| refused("is a link to no text"))?;
                if link.starts_with('/') || !stays_inside(&inner[..inner.len() - 1], &link) {
                    return Err(refused("is a link that leaves the toolchain"));
                }
                create_parent(&target)?;
                symlink(&link, &target).map_err(write_failed(&target))?;
                self.links.push(target);
            }
            EntryType::Link => return Err(refused("is a hard link")),
            EntryType::Char | EntryType::Block => return Err(refused("is a device")),
            _ => return Err(refused("is neither a file nor a directory nor a link")),
        }
        self.paths
            .insert(format!("{component}/{}", inner.join("/")));
        Ok(())
    }

    /// A file that describes the archive; most are for an installer that is not used here.
    fn top_level(&mut self, name: &str, entry: &mut impl Read) -> Result<(), UnpackError> {
        match name {
            "components" => {
                let list = text(entry)?;
                self.components =
                    Some(list.map_err(|_| UnpackError::Layout("`components` is no text"))?);
            }
            "rust-installer-version" => {
                if text(entry)?.as_deref().map(str::trim) != Ok("3") {
                    return Err(UnpackError::Layout(
                        "`rust-installer-version` is another one",
                    ));
                }
                self.version_seen = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn regular<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        target: &Path,
    ) -> Result<(), UnpackError> {
        let executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
        create_parent(target)?;
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(if executable { 0o755 } else { 0o644 })
            .open(target)
            .map_err(write_failed(target))?;
        let announced = entry.size();
        let mut buffer = vec![
            0;
            BUFFER
                .min(usize::try_from(announced).unwrap_or(BUFFER))
                .max(1)
        ];
        let mut copied = 0;
        loop {
            let length = match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(UnpackError::Damaged(error)),
            };
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(UnpackError::Cancelled);
            }
            copied += length as u64;
            self.bytes += length as u64;
            if self.bytes > MOST_BYTES {
                return Err(UnpackError::TooLarge {
                    limit: MOST_BYTES,
                    what: "bytes",
                });
            }
            file.write_all(&buffer[..length])
                .map_err(write_failed(target))?;
        }
        if copied != announced {
            return Err(UnpackError::Damaged(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// Where links really lead, now that all of them are there: one may go through another.
    fn check_links(&self) -> Result<(), UnpackError> {
        let root = fs::canonicalize(self.into).map_err(write_failed(self.into))?;
        for link in &self.links {
            if !fs::canonicalize(link).is_ok_and(|end| end.starts_with(&root)) {
                let path = link.strip_prefix(self.into).unwrap_or(link);
                return Err(UnpackError::Entry {
                    path: path.display().to_string(),
                    why: "is a link that leaves the toolchain, or leads nowhere",
                });
            }
        }
        Ok(())
    }

    /// Whether the archive has what it lists, and lists what it has.
    fn check_lists(&self) -> Result<(), UnpackError> {
        if !self.version_seen {
            return Err(UnpackError::Layout("it has no `rust-installer-version`"));
        }
        let Some(components) = &self.components else {
            return Err(UnpackError::Layout("it has no `components`"));
        };
        let mut left: HashSet<&str> = self.paths.iter().map(String::as_str).collect();
        for component in components.lines().filter(|line| !line.is_empty()) {
            let wrong = |path: &str, why| UnpackError::List {
                component: component.to_owned(),
                path: path.to_owned(),
                why,
            };
            let Some((_, list)) = self.lists.iter().find(|(name, _)| name == component) else {
                return Err(wrong("manifest.in", "is not there"));
            };
            for line in list.lines() {
                if let Some(file) = line.strip_prefix("file:") {
                    if !left.remove(format!("{component}/{file}").as_str()) {
                        return Err(wrong(file, "is listed and not there"));
                    }
                } else if let Some(directory) = line.strip_prefix("dir:") {
                    let prefix = format!("{component}/{directory}/");
                    left.retain(|path| !path.starts_with(&prefix));
                }
            }
        }
        match left.into_iter().min() {
            None => Ok(()),
            Some(path) => {
                let (component, path) = path.split_once('/').unwrap_or(("", path));
                Err(UnpackError::List {
                    component: component.to_owned(),
                    path: path.to_owned(),
                    why: "is there and not listed",
                })
            }
        }
    }
}

fn create_parent(target: &Path) -> Result<(), UnpackError> {
    match target.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(write_failed(parent)),
        None => Ok(()),
    }
}

/// The text of an entry; the inner error is what is wrong with it, the outer one damage of the archive.
fn text(entry: &mut impl Read) -> Result<Result<String, &'static str>, UnpackError> {
    let mut content = Vec::new();
    let read = entry.take(LONGEST_LIST + 1).read_to_end(&mut content);
    Ok(match read.map_err(UnpackError::Damaged)? as u64 {
        length if length > LONGEST_LIST => Err("is too long"),
        _ => String::from_utf8(content).map_err(|_| "is no text"),
    })
}

fn long_name(entry: &mut impl Read) -> Result<Vec<u8>, UnpackError> {
    let mut name = record(entry)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

/// A record that describes the next entry.
fn record(entry: &mut impl Read) -> Result<Vec<u8>, UnpackError> {
    let mut content = Vec::new();
    let limit = 4 * LONGEST_PATH;
    let read = entry.take(limit + 1).read_to_end(&mut content);
    match read.map_err(UnpackError::Damaged)? as u64 {
        length if length <= limit => Ok(content),
        _ => Err(UnpackError::TooLarge {
            limit,
            what: "bytes in a path",
        }),
    }
}

fn extended(entry: &mut impl Read, announced: &mut Announced) -> Result<(), UnpackError> {
    let content = record(entry)?;
    for extension in PaxExtensions::new(&content) {
        let extension = extension.map_err(UnpackError::Damaged)?;
        match extension.key_bytes() {
            b"path" => announced.path = Some(extension.value_bytes().to_vec()),
            b"linkpath" => announced.link = Some(extension.value_bytes().to_vec()),
            b"size" => return Err(UnpackError::Layout("an entry has an extended size")),
            _ => {}
        }
    }
    Ok(())
}

mod paths;
#[cfg(test)]
mod tests;
