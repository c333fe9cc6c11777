//! What a distribution server has: manifests and archives.

use std::fs;
use std::sync::Arc;

use vx_download::{Digest, Entry};

use super::error::DistError;
use super::install::{Dist, Event, Mode, Tell};
use super::manifest::{Archive, Manifest};
use super::record::Record;
use super::signature::{Vouched, is_absence};
use super::store::blocking;
use crate::name::Channel;

/// The file with the hash of a manifest has a line.
const LONGEST_SUM: u64 = 4 << 10;
/// Manifests of releases have about a megabyte.
const LARGEST_MANIFEST: u64 = 32 << 20;

/// What a channel turned out to mean.
pub(super) struct Resolved {
    pub(super) manifest: Manifest,
    /// SHA-256 of the manifest.
    pub(super) digest: Digest,
    /// Whether somebody signed it.
    pub(super) vouched: Vouched,
}

impl Dist {
    pub(super) async fn fetch(
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

    /// An archive with the packing that is here, or else that the server has, and which one that is.
    pub(super) async fn fetch_archive(
        &self,
        archive: Archive,
        tell: &Tell,
    ) -> Result<(Archive, Entry), DistError> {
        let fetch = async |archive: Archive| {
            let file = archive.file_name();
            let entry = self.fetch(file, &archive.url, archive.digest, tell).await?;
            Ok((archive, entry))
        };
        let Some(other) = archive.repacked() else {
            return fetch(archive).await;
        };
        if !self.has(&archive).await? && self.has(&other).await? {
            return fetch(other).await;
        }
        match fetch(archive).await {
            Err(DistError::Download { what, source }) if is_absence(&source) => {
                match fetch(other).await {
                    // It has neither of them.
                    Err(DistError::Download { source: no, .. }) if is_absence(&no) => {
                        Err(DistError::Download { what, source })
                    }
                    other => other,
                }
            }
            result => result,
        }
    }

    /// Whether an archive is in the download cache, with this packing.
    async fn has(&self, archive: &Archive) -> Result<bool, DistError> {
        let (cache, archive) = (self.cache.clone(), archive.clone());
        blocking(move || {
            let found = cache.lookup(&archive.digest);
            let found = found.map_err(|error| download(archive.file_name())(error))?;
            Ok(found.is_some())
        })
        .await
    }

    /// Names of archives that are not in the download cache, whatever their packing.
    pub(super) async fn missing(&self, archives: &[Archive]) -> Result<Vec<String>, DistError> {
        let mut missing = Vec::new();
        for archive in archives {
            let is_here = self.has(archive).await?
                || match archive.repacked() {
                    Some(other) => self.has(&other).await?,
                    None => false,
                };
            if !is_here {
                missing.push(archive.file_name().to_owned());
            }
        }
        Ok(missing)
    }

    /// The manifest of a release that was resolved before, by its hash.
    pub(super) async fn same_manifest(
        &self,
        record: &Record,
        mode: Mode,
    ) -> Result<Resolved, DistError> {
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
        let text = read(&url, entry).await?;
        let vouched = match self.is_vouched_for(record) {
            true => Vouched::of(record),
            false if mode == Mode::Offline => {
                let url = format!("{url}.asc");
                return Err(DistError::Unsigned { url });
            }
            false => self.vouched(&url, text.clone()).await?,
        };
        Ok(Resolved {
            manifest: Manifest::parse(&url, &text)?,
            digest,
            vouched,
        })
    }

    /// The manifest of the release that the channel means now.
    pub(super) async fn newest_manifest(
        &self,
        channel: &Channel,
        mode: Mode,
        tell: &Tell,
    ) -> Result<Resolved, DistError> {
        let file = manifest_file(channel);
        if mode == Mode::Offline {
            return Err(DistError::Offline {
                name: channel.dated_name(),
                missing: vec![file],
            });
        }
        let url = match &channel.date {
            Some(date) => format!("{}/dist/{date}/{file}", self.server),
            None => format!("{}/dist/{file}", self.server),
        };
        let mut resolved = self.resolve(channel, &file, &url).await;
        // The channel may have moved on between two of its files.
        if resolved.as_ref().is_err_and(DistError::may_have_moved) {
            resolved = self.resolve(channel, &file, &url).await;
        }
        let resolved = resolved?;
        tell(Event::Resolved {
            name: channel.dated_name(),
            release: resolved.manifest.release().to_owned(),
            date: resolved.manifest.date.clone(),
            vouched: resolved.vouched.clone(),
        });
        Ok(resolved)
    }

    /// Reads the hash of a manifest, the manifest, and its signature.
    async fn resolve(
        &self,
        channel: &Channel,
        file: &str,
        url: &str,
    ) -> Result<Resolved, DistError> {
        let digest = self.sum(channel, url).await?;
        let quiet: Tell = Arc::new(|_| {});
        let entry = self.fetch(file, url, digest, &quiet).await?;
        let text = read(url, entry).await?;
        // Before anything in it is looked at.
        let vouched = self.vouched(url, text.clone()).await?;
        Ok(Resolved {
            manifest: Manifest::parse(url, &text)?,
            digest,
            vouched,
        })
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

async fn read(url: &str, entry: Entry) -> Result<String, DistError> {
    let url = url.to_owned();
    blocking(move || {
        if entry.size() > LARGEST_MANIFEST {
            return Err(DistError::Manifest {
                url,
                source: "it is too large".into(),
            });
        }
        fs::read_to_string(entry.path()).map_err(DistError::store("read", entry.path()))
    })
    .await
}

pub(super) fn download(what: &str) -> impl FnOnce(vx_download::Error) -> DistError {
    let what = format!("`{what}`");
    move |source| DistError::Download {
        what,
        source: Box::new(source),
    }
}
