//! Who vouches for a manifest: its signature, where a server has one.

use vx_download::Error;

use super::error::DistError;
use super::install::Dist;
use super::openpgp::KeyRing;
use super::record::Record;
use super::resolve::download;
use super::{DEFAULT_SERVER, store::blocking};

/// A signature has less than a kilobyte.
const LONGEST_SIGNATURE: u64 = 64 << 10;

impl Dist {
    /// Whether a release that was resolved before needs no signature any more, now that these keys are asked for.
    pub(super) fn is_vouched_for(&self, record: &Record) -> bool {
        let signed_by = record.signed_by.as_ref();
        let Some(keys) = &self.keys else { return true };
        signed_by.is_some_and(|key| keys.has(key))
    }

    /// The key that signed the manifest `text`, which came from `url`; `None` where the server offers no signature and need not.
    ///
    /// The server of the Rust project has to, and so has any for which keys were given.
    pub(super) async fn signed_by(
        &self,
        url: &str,
        text: String,
    ) -> Result<Option<String>, DistError> {
        let signature = format!("{url}.asc");
        let content = match self.cache.read(&signature, LONGEST_SIGNATURE).await {
            Ok(content) => content,
            Err(error) if !is_absence(&error) => {
                return Err(download(file_name(&signature))(error));
            }
            Err(_) if self.keys.is_none() && self.server != DEFAULT_SERVER => return Ok(None),
            Err(_) => return Err(DistError::Unsigned { url: signature }),
        };
        let keys = match &self.keys {
            Some(keys) => Ok(keys.clone()),
            None => KeyRing::of_rust(),
        };
        blocking(move || {
            let signer = keys
                .and_then(|keys| keys.verify(text.as_bytes(), &String::from_utf8_lossy(&content)));
            match signer {
                Ok(key) => Ok(Some(key.to_string())),
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
fn is_absence(error: &Error) -> bool {
    match error {
        Error::Status { status, .. } => matches!(status, 403 | 404 | 410),
        Error::Read { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

fn file_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}
