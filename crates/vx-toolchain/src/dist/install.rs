//! From a channel to an installed toolchain: resolve, download, unpack, check, rename.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, TryStreamExt, stream};
use vx_download::{Cache, Digest, Entry, Progress};

use super::error::DistError;
use super::manifest::{Archive, Manifest};
use super::record::{self, Receipt, Record};
use super::store::{self, Lease, Lock, Store, blocking};
use super::unpack::unpack;
use crate::find::{Toolchain, is_too_old};
use crate::name::Channel;

/// Archives that are downloaded at a time.
const DOWNLOADS: usize = 3;
/// The file with the hash of a manifest has a line.
const LONGEST_SUM: u64 = 4 << 10;
/// Manifests of releases have about a megabyte.
const LARGEST_MANIFEST: u64 = 32 << 20;

/// What is wanted of a release.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The release.
    pub channel: Channel,
    /// `minimal`, `default` or `complete`.
    pub profile: Option<String>,
    /// Components besides.
    pub components: BTreeSet<String>,
    /// Targets besides the host.
    pub targets: BTreeSet<String>,
}

/// How far one may go for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What the channel means here already; the server is asked only when it means nothing yet.
    Known,
    /// As `Known`, without any network.
    Offline,
    /// What the channel means on the server now.
    Newest,
}

/// What happens meanwhile.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Another process changes the store.
    Waiting,
    /// The server said what a channel means.
    Resolved {
        /// The channel.
        name: String,
        /// The version of the release.
        release: String,
        /// Its day.
        date: String,
    },
    /// A download goes on.
    Download {
        /// The name of the file.
        file: String,
        /// Where it comes from.
        url: String,
        /// What happened.
        progress: Progress,
    },
    /// An archive is being unpacked.
    Unpacking {
        /// The name of the file.
        file: String,
    },
    /// A toolchain is there that was not before.
    Installed {
        /// The channel.
        name: String,
        /// The version of the release.
        release: String,
        /// What was unpacked, in bytes.
        bytes: u64,
    },
}

/// Is told what happens; must not block.
pub type Tell = Arc<dyn Fn(Event) + Send + Sync>;

/// A distribution server, and the store for what comes from there.
#[derive(Clone)]
pub struct Dist {
    /// For the downloads.
    pub cache: Cache,
    /// For the toolchains.
    pub store: Store,
    /// The root of the server, without a slash at its end.
    pub server: String,
    /// The triple of this machine.
    pub host: String,
}

impl fmt::Debug for Dist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dist")
            .field("server", &self.server)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// An installed toolchain in somebody's hands.
#[derive(Debug)]
pub struct Installed {
    /// The toolchain.
    pub toolchain: Toolchain,
    /// What its channel means.
    pub record: Record,
    /// Keeps it from being removed.
    pub lease: Lease,
    /// Whether it was not there before.
    pub is_new: bool,
}

/// Stops the work in other threads when its caller goes away.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Dist {
    /// The toolchain that has all of `wanted`, installed if need be.
    ///
    /// What a channel means is asked for once and written down; it changes only with [`Mode::Newest`].
    /// Components and targets that were asked for before stay.
    ///
    /// # Errors
    ///
    /// Anything that keeps it from being installed; then nothing has changed.
    pub async fn obtain(
        &self,
        wanted: &Wanted,
        mode: Mode,
        tell: &Tell,
    ) -> Result<Installed, DistError> {
        let name = wanted.channel.to_string();
        if wanted
            .channel
            .host
            .as_ref()
            .is_some_and(|host| *host != self.host)
        {
            return Err(DistError::OtherHost {
                name,
                host: self.host.clone(),
            });
        }
        let wanted = &Wanted {
            channel: Channel {
                host: None,
                ..wanted.channel.clone()
            },
            ..wanted.clone()
        };
        if mode != Mode::Newest
            && let Some(installed) = self.known(wanted).await?
        {
            return Ok(installed);
        }
        let lock = self.store.lock(|| tell(Event::Waiting)).await?;
        // Whoever had the lock may have installed it.
        if mode != Mode::Newest
            && let Some(installed) = self.known(wanted).await?
        {
            return Ok(installed);
        }
        let before = self.record(&wanted.channel).await?;
        let (manifest, digest) = match &before {
            Some(record) if mode != Mode::Newest => self.same_manifest(record, mode).await?,
            _ => self.newest_manifest(&wanted.channel, mode, tell).await?,
        };
        let record = self.new_record(wanted, before.as_ref(), &manifest, digest, mode)?;
        let archives = self.archives(&manifest, &record)?;
        let is_new = self
            .install(&lock, &manifest, &record, &archives, mode, tell)
            .await?;
        let store = self.store.clone();
        blocking(move || {
            store.write_record(&lock, &record)?;
            let leased = store.lease(&record.id)?;
            // What cannot be removed now is in nobody's way, and is tried again the next time.
            let _left = store.sweep(&lock);
            let (toolchain, lease) = leased.ok_or(DistError::CutOff)?;
            Ok(Installed {
                toolchain,
                record,
                lease,
                is_new,
            })
        })
        .await
    }

    /// Forgets what `record` says, and removes the toolchain if nobody else means it.
    ///
    /// Returns how many toolchains were removed.
    ///
    /// # Errors
    ///
    /// A toolchain that is in use, or a store that cannot be written.
    pub async fn remove(store: &Store, record: Record) -> Result<u32, DistError> {
        let lock = store.lock(|| {}).await?;
        let store = store.clone();
        blocking(move || {
            let is_shared = store
                .records()
                .iter()
                .any(|other| other.id == record.id && *other != record);
            if !is_shared
                && store.receipt(&record.id).is_some()
                && !store.remove(&lock, &record.id)?
            {
                return Err(DistError::InUse {
                    path: store.sysroot(&record.id),
                });
            }
            store.remove_record(&lock, &record)?;
            Ok(u32::from(!is_shared) + store.sweep(&lock)?)
        })
        .await
    }

    /// What is there already, if it has all of `wanted`.
    async fn known(&self, wanted: &Wanted) -> Result<Option<Installed>, DistError> {
        let Some(record) = self.record(&wanted.channel).await? else {
            return Ok(None);
        };
        let profile = record::larger_profile(record.profile.as_deref(), wanted.profile.as_deref());
        if profile != record.profile
            || !wanted.components.is_subset(&record.components)
            || !wanted
                .targets
                .iter()
                .all(|target| *target == self.host || record.targets.contains(target))
        {
            return Ok(None);
        }
        let store = self.store.clone();
        blocking(move || {
            let leased = store.lease(&record.id)?;
            Ok(leased.map(|(toolchain, lease)| Installed {
                toolchain,
                record,
                lease,
                is_new: false,
            }))
        })
        .await
    }

    async fn record(&self, channel: &Channel) -> Result<Option<Record>, DistError> {
        let (dist, channel) = (self.clone(), channel.clone());
        blocking(move || Ok(dist.store.record(&dist.server, &dist.host, &channel))).await
    }

    /// The record after this: what was asked for before stays.
    fn new_record(
        &self,
        wanted: &Wanted,
        before: Option<&Record>,
        manifest: &Manifest,
        digest: Digest,
        mode: Mode,
    ) -> Result<Record, DistError> {
        let release = manifest.release().to_owned();
        if is_too_old(manifest.package_version("rustc").unwrap_or_default()) {
            return Err(DistError::NoComponent {
                release,
                component: "rustc that can be used: at least 1.80 is needed".to_owned(),
            });
        }
        let mut components = wanted.components.clone();
        let mut targets = wanted.targets.clone();
        targets.remove(&self.host);
        let mut profile = wanted.profile.clone();
        let mut resolved = seconds_now();
        if let Some(before) = before {
            components.extend(before.components.iter().cloned());
            targets.extend(before.targets.iter().cloned());
            profile = record::larger_profile(before.profile.as_deref(), profile.as_deref());
            if mode != Mode::Newest {
                resolved = before.resolved;
            }
        }
        let mut record = Record {
            channel: wanted.channel.clone(),
            server: self.server.clone(),
            host: self.host.clone(),
            release,
            date: manifest.date.clone(),
            manifest: digest.hex(),
            resolved,
            profile,
            components,
            targets,
            id: String::new(),
        };
        record.id = record::id(&self.archives(manifest, &record)?);
        Ok(record)
    }

    fn archives(&self, manifest: &Manifest, record: &Record) -> Result<Vec<Archive>, DistError> {
        manifest.archives(
            &self.server,
            &self.host,
            record.profile.as_deref(),
            &record.components,
            &record.targets,
        )
    }

    /// Installs what is not; returns whether it did.
    async fn install(
        &self,
        lock: &Arc<Lock>,
        manifest: &Manifest,
        record: &Record,
        archives: &[Archive],
        mode: Mode,
        tell: &Tell,
    ) -> Result<bool, DistError> {
        let (store, id) = (self.store.clone(), record.id.clone());
        if blocking(move || Ok(store.receipt(&id))).await?.is_some() {
            return Ok(false);
        }
        let name = record.channel.dated_name();
        if mode == Mode::Offline {
            let missing = self.missing(archives).await?;
            if !missing.is_empty() {
                return Err(DistError::Offline { name, missing });
            }
        }
        let entries: Vec<Entry> = stream::iter(archives.to_vec())
            .map(|archive| {
                let (dist, tell) = (self.clone(), tell.clone());
                async move {
                    let file = archive.file_name();
                    dist.fetch(file, &archive.url, archive.digest, &tell).await
                }
            })
            .buffered(DOWNLOADS)
            .try_collect()
            .await?;
        let abandon = Abandon(Arc::default());
        let work = Work {
            store: self.store.clone(),
            lock: lock.clone(),
            name: name.clone(),
            server: self.server.clone(),
            record: record.clone(),
            archives: archives.to_vec(),
            rustc: manifest.package_version("rustc").map(str::to_owned),
            cargo: manifest.package_version("cargo").map(str::to_owned),
            cancelled: abandon.0.clone(),
            tell: tell.clone(),
        };
        let bytes = blocking(move || work.run(&entries)).await?;
        drop(abandon);
        tell(Event::Installed {
            name,
            release: record.release.clone(),
            bytes,
        });
        Ok(true)
    }

    /// Names of archives that are not in the download cache.
    async fn missing(&self, archives: &[Archive]) -> Result<Vec<String>, DistError> {
        let (cache, archives) = (self.cache.clone(), archives.to_vec());
        blocking(move || {
            let mut missing = Vec::new();
            for archive in &archives {
                let found = cache.lookup(&archive.digest);
                if found
                    .map_err(|error| download(archive.file_name())(error))?
                    .is_none()
                {
                    missing.push(archive.file_name().to_owned());
                }
            }
            Ok(missing)
        })
        .await
    }

    async fn fetch(
        &self,
        file: &str,
        url: &str,
        digest: Digest,
        tell: &Tell,
    ) -> Result<Entry, DistError> {
        let (tell, name, address) = (tell.clone(), file.to_owned(), url.to_owned());
        let request = vx_download::Request::new(url, digest).on_progress(move |progress| {
            tell(Event::Download {
                file: name.clone(),
                url: address.clone(),
                progress: progress.clone(),
            });
        });
        self.cache.fetch(&request).await.map_err(download(file))
    }

    /// The manifest of a release that was resolved before, by its hash.
    async fn same_manifest(
        &self,
        record: &Record,
        mode: Mode,
    ) -> Result<(Manifest, Digest), DistError> {
        let file = manifest_file(&record.channel);
        let digest = record.manifest_digest().ok_or_else(|| DistError::NoHash {
            url: self.store.channels().display().to_string(),
        })?;
        // Where the release stays when the channel has moved on.
        let url = format!("{}/dist/{}/{file}", self.server, record.date);
        if mode == Mode::Offline {
            let cache = self.cache.clone();
            let found = blocking(move || cache.lookup(&digest).map_err(download("the manifest")));
            if found.await?.is_none() {
                return Err(DistError::Offline {
                    name: record.channel.dated_name(),
                    missing: vec![file],
                });
            }
        }
        let quiet: Tell = Arc::new(|_| {});
        let entry = self.fetch(&file, &url, digest, &quiet).await?;
        Ok((read_manifest(&url, entry).await?, digest))
    }

    /// The manifest of the release that the channel means now.
    async fn newest_manifest(
        &self,
        channel: &Channel,
        mode: Mode,
        tell: &Tell,
    ) -> Result<(Manifest, Digest), DistError> {
        let file = manifest_file(channel);
        let url = match &channel.date {
            Some(date) => format!("{}/dist/{date}/{file}", self.server),
            None => format!("{}/dist/{file}", self.server),
        };
        if mode == Mode::Offline {
            return Err(DistError::Offline {
                name: channel.dated_name(),
                missing: vec![file],
            });
        }
        let mut digest = self.sum(channel, &url).await?;
        let quiet: Tell = Arc::new(|_| {});
        let entry = match self.fetch(&file, &url, digest, &quiet).await {
            // The channel may have moved on between the two.
            Err(DistError::Download { source, .. })
                if matches!(*source, vx_download::Error::WrongDigest { .. }) =>
            {
                digest = self.sum(channel, &url).await?;
                self.fetch(&file, &url, digest, &quiet).await?
            }
            other => other?,
        };
        let manifest = read_manifest(&url, entry).await?;
        tell(Event::Resolved {
            name: channel.dated_name(),
            release: manifest.release().to_owned(),
            date: manifest.date.clone(),
        });
        Ok((manifest, digest))
    }

    /// The hash of a manifest, as the server tells it.
    async fn sum(&self, channel: &Channel, manifest: &str) -> Result<Digest, DistError> {
        let url = format!("{manifest}.sha256");
        let content = match self.cache.read(&url, LONGEST_SUM).await {
            Ok(content) => content,
            Err(vx_download::Error::Status { status: 404, .. }) => {
                return Err(DistError::NoRelease {
                    name: channel.dated_name(),
                    url,
                });
            }
            Err(error) => return Err(download(&manifest_file(channel))(error)),
        };
        let text = String::from_utf8_lossy(&content);
        let hash = text.split_whitespace().next().unwrap_or_default();
        format!("sha256:{hash}")
            .parse()
            .map_err(|_| DistError::NoHash { url })
    }
}

fn manifest_file(channel: &Channel) -> String {
    format!("channel-rust-{}.toml", channel.name)
}

async fn read_manifest(url: &str, entry: Entry) -> Result<Manifest, DistError> {
    let url = url.to_owned();
    blocking(move || {
        if entry.size() > LARGEST_MANIFEST {
            return Err(DistError::Manifest {
                url,
                source: "it is too large".into(),
            });
        }
        let text =
            fs::read_to_string(entry.path()).map_err(DistError::store("read", entry.path()))?;
        Manifest::parse(&url, &text)
    })
    .await
}

fn download(what: &str) -> impl FnOnce(vx_download::Error) -> DistError {
    let what = format!("`{what}`");
    move |source| DistError::Download {
        what,
        source: Box::new(source),
    }
}

fn seconds_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |duration| duration.as_secs())
}

/// The part of an installation that blocks.
struct Work {
    store: Store,
    lock: Arc<Lock>,
    name: String,
    server: String,
    record: Record,
    archives: Vec<Archive>,
    rustc: Option<String>,
    cargo: Option<String>,
    cancelled: Arc<AtomicBool>,
    tell: Tell,
}

impl Work {
    /// Unpacks aside, checks, and moves into place. Returns the bytes that were unpacked.
    fn run(&self, entries: &[Entry]) -> Result<u64, DistError> {
        let staging = self.store.staging(&self.record.id);
        let installed = self.aside(&staging, entries);
        if installed.is_err() {
            // A second failure must not hide the first one; the next installation removes what is left.
            let _left = store::remove_tree(&staging);
        }
        installed
    }

    fn aside(&self, staging: &Path, entries: &[Entry]) -> Result<u64, DistError> {
        store::remove_tree(staging)?;
        fs::create_dir_all(staging).map_err(DistError::store("create", staging))?;
        let mut bytes = 0;
        for (archive, entry) in self.archives.iter().zip(entries) {
            let file = archive.file_name();
            (self.tell)(Event::Unpacking {
                file: file.to_owned(),
            });
            bytes += unpack(entry.file(), file, staging, &self.cancelled).map_err(|source| {
                DistError::Unpack {
                    archive: archive.url.clone(),
                    source,
                }
            })?;
        }
        let (toolchain, cargo) = self.checked(staging)?;
        let sysroot = self.store.sysroot(&self.record.id);
        // What stands there has no receipt: somebody was killed, or it was found to be damaged.
        store::remove_tree(&sysroot)?;
        fs::rename(staging, &sysroot).map_err(DistError::store("rename", staging))?;
        let mut receipt = Receipt {
            version: toolchain.version,
            cargo,
            host: toolchain.host,
            archives: self
                .archives
                .iter()
                .map(|a| (a.package.clone(), a.target.clone(), a.digest.to_string()))
                .collect(),
            trees: Vec::new(),
            bytes,
        };
        let trees = receipt.toolchain(&sysroot).trees(&self.store.trees())?;
        receipt.trees = record::names_and_digests(&trees);
        self.store
            .write_receipt(&self.lock, &self.record.id, &receipt)?;
        Ok(bytes)
    }

    /// The programs that were unpacked must run, and be those of the manifest.
    fn checked(&self, staging: &Path) -> Result<(Toolchain, String), DistError> {
        let broken = |source| DistError::Broken {
            name: self.name.clone(),
            server: self.server.clone(),
            source,
        };
        let toolchain = Toolchain::at(staging).map_err(broken)?;
        let cargo = toolchain.cargo_release().map_err(broken)?;
        for (expected, found) in [(&self.rustc, toolchain.release()), (&self.cargo, &cargo)] {
            if let Some(expected) = expected
                && !is_version(found, expected)
            {
                return Err(DistError::WrongVersion {
                    name: self.name.clone(),
                    server: self.server.clone(),
                    expected: expected.clone(),
                    found: found.to_owned(),
                });
            }
        }
        if toolchain.host != self.record.host {
            return Err(DistError::WrongVersion {
                name: self.name.clone(),
                server: self.server.clone(),
                expected: format!("host: {}", self.record.host),
                found: format!("host: {}", toolchain.host),
            });
        }
        Ok((toolchain, cargo))
    }
}

/// Whether a program that prints `found` is the one that a manifest calls `expected`.
///
/// Manifests count cargo as 0.x, so it is the commit that tells: `0.91.0 (840b83a10 2025-07-30)` is `cargo 1.90.0 (840b83a10 2025-07-30)`.
fn is_version(found: &str, expected: &str) -> bool {
    match expected.split_once('(') {
        Some((_, commit)) => found.ends_with(&format!("({commit}")),
        None => found.split(' ').nth(1) == Some(expected.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_commit_where_there_is_one() {
        let cargo = "cargo 1.90.0 (840b83a10 2025-07-30)";
        assert!(is_version(cargo, "0.91.0 (840b83a10 2025-07-30)"));
        assert!(!is_version(cargo, "0.91.0 (840b83a11 2025-07-30)"));
        assert!(is_version(cargo, "1.90.0"));
        assert!(!is_version(cargo, "1.90"));
    }
}
