//! From a channel to an installed toolchain: what is known already, what is to be changed, and who may do that.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, TryStreamExt, stream};
use vx_download::{Cache, Entry, Progress};

use super::error::DistError;
use super::manifest::{Archive, Manifest};
use super::openpgp::KeyRing;
use super::record::{self, Record};
use super::resolve::Resolved;
use super::signature::Vouched;
use super::store::{Lease, Lock, Store, blocking};
use super::work::Work;
use crate::find::{Toolchain, is_too_old};
use crate::name::Channel;

/// Archives that are downloaded at a time.
const DOWNLOADS: usize = 3;

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
        /// Whether somebody signed its manifest.
        vouched: Vouched,
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
    /// Those one of whom has to have signed manifests; where none are given, the Rust project, or nobody.
    pub keys: Option<KeyRing>,
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
        let resolved = match &before {
            Some(record) if mode != Mode::Newest => self.same_manifest(record, mode).await?,
            _ => self.newest_manifest(&wanted.channel, mode, tell).await?,
        };
        let record = self.new_record(wanted, before.as_ref(), &resolved, mode)?;
        let archives = self.archives(&resolved.manifest, &record)?;
        let is_new = self
            .install(&lock, &resolved.manifest, &record, &archives, mode, tell)
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
                .any(|other| other.id == record.id && !other.is_same_channel(&record));
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
        if !self.is_vouched_for(&record)
            || profile != record.profile
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
        resolved: &Resolved,
        mode: Mode,
    ) -> Result<Record, DistError> {
        let manifest = &resolved.manifest;
        let release = manifest.release().to_owned();
        if is_too_old(manifest.package_version("rustc").unwrap_or_default()) {
            return Err(DistError::TooOld { release });
        }
        let mut components = wanted.components.clone();
        let mut targets = wanted.targets.clone();
        targets.remove(&self.host);
        let mut profile = wanted.profile.clone();
        let mut asked = seconds_now();
        if let Some(before) = before {
            components.extend(before.components.iter().cloned());
            targets.extend(before.targets.iter().cloned());
            profile = record::larger_profile(before.profile.as_deref(), profile.as_deref());
            if mode != Mode::Newest {
                asked = before.resolved;
            }
        }
        let mut record = Record {
            channel: wanted.channel.clone(),
            server: self.server.clone(),
            host: self.host.clone(),
            release,
            date: manifest.date.clone(),
            manifest: resolved.digest.hex(),
            signed_by: resolved.vouched.by().map(str::to_owned),
            unsigned: resolved.vouched.why_not().map(str::to_owned),
            resolved: asked,
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
        let fetched: Vec<(Archive, Entry)> = stream::iter(archives.to_vec())
            .map(|archive| {
                let (dist, tell) = (self.clone(), tell.clone());
                async move { dist.fetch_archive(archive, &tell).await }
            })
            .buffered(DOWNLOADS)
            .try_collect()
            .await?;
        let (archives, entries): (Vec<_>, Vec<_>) = fetched.into_iter().unzip();
        let abandon = Abandon(Arc::default());
        let work = Work {
            store: self.store.clone(),
            lock: lock.clone(),
            name: name.clone(),
            server: self.server.clone(),
            record: record.clone(),
            archives,
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
}

fn seconds_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |duration| duration.as_secs())
}
