//! What a distribution server has: manifests and archives.

use std::fs;
use std::sync::Arc;

use vx_download::{Digest, Entry};

use super::error::DistError;
use super::install::{Dist, Event, Mode, Tell};
use super::manifest::Manifest;
use super::record::Record;
use super::store::blocking;
use crate::name::Channel;

/// The file with the hash of a manifest has a line.
const LONGEST_SUM: u64 = 4 << 10;
/// Manifests of releases have about a megabyte.
const LARGEST_MANIFEST: u64 = 32 << 20;

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

    /// The manifest of a release that was resolved before, by its hash.
    pub(super) async fn same_manifest(
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
    pub(super) async fn newest_manifest(
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

pub(super) fn download(what: &str) -> impl FnOnce(vx_download::Error) -> DistError {
    let what = format!("`{what}`");
    move |source| DistError::Download {
        what,
        source: Box::new(source),
    }
}
