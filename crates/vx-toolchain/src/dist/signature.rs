//! Who vouches for a manifest: its signature, where a server has one.
//!
//! Whoever can take a signature away can as well put a weak one in its place, so both mean the same: nobody vouches for the manifest, which is told.
//! Those who want more give keys, and then nothing else than a good signature will do.

use vx_download::Error;

use super::error::DistError;
use super::install::Dist;
use super::openpgp::{KeyRing, SignatureError};
use super::record::Record;
use super::resolve::download;
use super::store::blocking;

/// A signature has less than a kilobyte.
const LONGEST_SIGNATURE: u64 = 64 << 10;

/// Why nobody vouches for the manifest of most servers.
const NOT_OFFERED: &str = "the server offers no signature";

/// Whether somebody vouches for a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// Somebody with the key that has this fingerprint.
    By(String),
    /// Nobody; why not, in words.
    Nobody(String),
}

impl Vouched {
    /// What was written down about a release.
    pub fn of(record: &Record) -> Vouched {
        let why = || record.unsigned.clone();
        match &record.signed_by {
            Some(key) => Vouched::By(key.clone()),
            None => Vouched::Nobody(why().unwrap_or_else(|| NOT_OFFERED.to_owned())),
        }
    }

    /// The fingerprint, if somebody does.
    pub fn by(&self) -> Option<&str> {
        match self {
            Vouched::By(key) => Some(key),
            Vouched::Nobody(_) => None,
        }
    }

    /// Why nobody does, in words.
    pub fn why_not(&self) -> Option<&str> {
        match self {
            Vouched::By(_) => None,
            Vouched::Nobody(why) => Some(why),
        }
    }
}

impl Dist {
    /// Whether a release that was resolved before needs no signature any more, now that these keys are asked for.
    pub(super) fn is_vouched_for(&self, record: &Record) -> bool {
        let signed_by = record.signed_by.as_ref();
        let Some(keys) = &self.keys else { return true };
        signed_by.is_some_and(|key| keys.has(key))
    }

    /// Who signed the manifest `text`, which came from `url`.
    ///
    /// A signature that is offered has to be right; one has to be offered where keys were given.
    pub(super) async fn vouched(&self, url: &str, text: String) -> Result<Vouched, DistError> {
        let signature = format!("{url}.asc");
        let content = match self.cache.read(&signature, LONGEST_SIGNATURE).await {
            Ok(content) => content,
            Err(error) if !is_absence(&error) => {
                return Err(download(file_name(&signature))(error));
            }
            Err(_) if self.keys.is_none() => return Ok(Vouched::Nobody(NOT_OFFERED.to_owned())),
            Err(_) => return Err(DistError::Unsigned { url: signature }),
        };
        let is_wanted = self.keys.is_some();
        let keys = match &self.keys {
            Some(keys) => Ok(keys.clone()),
            None => KeyRing::of_rust(),
        };
        blocking(move || {
            let signer = keys
                .and_then(|keys| keys.verify(text.as_bytes(), &String::from_utf8_lossy(&content)));
            match signer {
                Ok(key) => Ok(Vouched::By(key.to_string())),
                Err(source @ SignatureError::Weak(_)) if !is_wanted => Ok(Vouched::Nobody(
                    format!("the signature that the server offers cannot be used: {source}"),
                )),
                Err(source) => Err(DistError::Signature {
                    url: signature,
                    source,
                }),
            }
        })
        .await
    }
}

/// Whether the server says that it has no such file; stores of objects say 403 where nobody may list them.
pub(super) fn is_absence(error: &Error) -> bool {
    match error {
        Error::Status { status, .. } => matches!(status, 403 | 404 | 410),
        Error::Read { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn file_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use vx_download::{Cache, Options};
    use vx_testkit::HttpFixture;

    use super::*;
    use crate::dist::{DEFAULT_SERVER, Store};

    #[tokio::test]
    async fn the_official_server_need_not_offer_a_signature_either() {
        let (server, dir) = (HttpFixture::start(), tempfile::tempdir().unwrap());
        let dist = Dist {
            cache: Cache::open(dir.path(), Options::default()).unwrap(),
            store: Store::new(dir.path()),
            server: DEFAULT_SERVER.to_owned(),
            host: "x86_64-unknown-linux-gnu".to_owned(),
            keys: None,
        };
        let url = server.url("/dist/channel-rust-1.94.0.toml");
        let vouched = dist.vouched(&url, "date = 1".to_owned()).await.unwrap();
        assert_eq!(vouched, Vouched::Nobody(NOT_OFFERED.to_owned()));
        server.assert_requests("/dist/channel-rust-1.94.0.toml.asc", 1);
        let keys = Some(KeyRing::of_rust().unwrap());
        let error = Dist { keys, ..dist }.vouched(&url, String::new()).await;
        assert!(matches!(error, Err(DistError::Unsigned { .. })));
    }
}
