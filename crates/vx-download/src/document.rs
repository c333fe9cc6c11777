//! Small files whose hash nobody knows beforehand, such as the hash of another file: read whole, and kept nowhere.
//!
//! What comes is whatever the server says at this moment; nothing here vouches for it.

use std::time::Duration;

use reqwest::Url;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::cache::Cache;
use crate::error::Error;
use crate::fetch::parse;
use crate::http::{self, Answer, Reply};

impl Cache {
    /// The content of a small file at a `http`, `https` or `file` URL, which is not kept.
    ///
    /// Transient failures are tried again as in [`fetch`](Cache::fetch).
    ///
    /// # Errors
    /// If it cannot be had, or has more than `limit` bytes.
    pub async fn read(&self, url: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let parsed = parse(url)?;
        let overall = self.inner.options.overall_timeout;
        timeout(overall, self.attempts(url, &parsed, limit))
            .await
            .unwrap_or_else(|_| {
                Err(Error::TooSlow {
                    url: url.to_owned(),
                    limit: overall,
                    received: 0,
                })
            })
    }

    async fn attempts(&self, url: &str, parsed: &Url, limit: u64) -> Result<Vec<u8>, Error> {
        let retries = self.inner.options.retries;
        let mut attempt = 1;
        loop {
            let error = match self.read_once(url, parsed, limit).await {
                Ok(content) => return Ok(content),
                Err(error) => error,
            };
            if !error.is_transient() || attempt >= retries.attempts {
                return Err(error);
            }
            let asked: Option<Duration> = match &error {
                Error::Status { retry_after, .. } => *retry_after,
                _ => None,
            };
            tokio::time::sleep(retries.pause(attempt, asked)).await;
            attempt += 1;
        }
    }

    async fn read_once(&self, url: &str, parsed: &Url, limit: u64) -> Result<Vec<u8>, Error> {
        let too_large = || Error::TooLarge {
            url: url.to_owned(),
            limit,
        };
        if parsed.scheme() == "file" {
            return read_local(url, parsed, limit).await;
        }
        let options = &self.inner.options;
        let reply = http::get(&self.inner.clients, options, parsed, 0).await?;
        let Reply::Answer(Answer {
            mut response,
            total,
            ..
        }) = reply
        else {
            return Err(Error::WrongRange {
                url: url.to_owned(),
                asked: 0,
                sent: "nothing".to_owned(),
            });
        };
        if total.is_some_and(|total| total > limit) {
            return Err(too_large());
        }
        let mut content = Vec::new();
        loop {
            let received = content.len() as u64;
            match timeout(options.stall_timeout, response.chunk()).await {
                Err(_) => {
                    return Err(Error::Stalled {
                        url: url.to_owned(),
                        limit: options.stall_timeout,
                        received,
                    });
                }
                Ok(Ok(Some(chunk))) if received + chunk.len() as u64 > limit => {
                    return Err(too_large());
                }
                Ok(Ok(Some(chunk))) => content.extend_from_slice(&chunk),
                Ok(Ok(None)) if total.is_none_or(|total| received >= total) => return Ok(content),
                Ok(Ok(None) | Err(_)) => {
                    return Err(Error::Truncated {
                        url: url.to_owned(),
                        received,
                        expected: total,
                    });
                }
            }
        }
    }
}

async fn read_local(url: &str, parsed: &Url, limit: u64) -> Result<Vec<u8>, Error> {
    let path = parsed.to_file_path().map_err(|()| Error::Url {
        url: url.to_owned(),
        reason: "it is no path of this machine".to_owned(),
    })?;
    let failed = |source| Error::Read {
        path: path.clone(),
        source,
    };
    let metadata = tokio::fs::metadata(&path).await.map_err(failed)?;
    // Opening a pipe would wait for its writer.
    if !metadata.is_file() {
        return Err(failed(std::io::Error::other("it is not a regular file")));
    }
    let file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let mut content = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut content).await;
    if read.map_err(failed)? as u64 > limit {
        return Err(Error::TooLarge {
            url: url.to_owned(),
            limit,
        });
    }
    Ok(content)
}
