//! One fetch: look, wait for whoever is at it already, transfer, verify, store.
//!
//! ```text
//! look ──right──► done
//!   └─ lock ─► look again ──right──► done
//!                 ├─ wrong ─► quarantine
//!                 └─ transfer ─► verify ─► store ─► evict
//!                       ▲ └─ transient failure: pause, a few times
//!                       └─── the rest did not fit what was there: once from the start
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Url;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cache::{Cache, Inner};
use crate::entry::{self, Entry, Found};
use crate::error::Error;
use crate::http::{self, Answer, Reply};
use crate::local;
use crate::lock::Lock;
use crate::options::{Options, Progress, Request};
use crate::sink::{Partial, Sink};

const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Cache {
    /// The file, out of the cache or from its URL. Its content has the digest.
    ///
    /// If the future is dropped, what has come so far is kept for the next one.
    ///
    /// # Errors
    /// If it cannot be had; see [`Error`].
    pub async fn fetch(&self, request: &Request) -> Result<Entry, Error> {
        let url = parse(&request.url)?;
        let now = Instant::now();
        // A limit beyond what a clock can tell is none.
        let deadline = now
            .checked_add(self.inner.options.overall_timeout)
            .unwrap_or(now + NEVER);
        let entry = match self.look(request).await? {
            Found::Good(entry) => entry,
            Found::Nothing | Found::Corrupt => self.fetch_missing(request, &url, deadline).await?,
        };
        match request.size {
            // Right content, so it is the caller who is wrong.
            Some(expected) if expected != entry.size() => Err(Error::WrongSize {
                url: request.url.clone(),
                expected,
                found: entry.size(),
            }),
            _ => Ok(entry),
        }
    }

    async fn look(&self, request: &Request) -> Result<Found, Error> {
        let (path, digest) = (self.inner.layout.entry(&request.digest), request.digest);
        blocking(move || entry::look(&path, &digest)).await
    }

    async fn fetch_missing(
        &self,
        request: &Request,
        url: &Url,
        deadline: Instant,
    ) -> Result<Entry, Error> {
        let inner = &self.inner;
        let flight = inner.flight(&request.digest);
        let waited = timeout_at(deadline, async {
            let turn = match flight.try_lock() {
                Ok(turn) => turn,
                Err(_) => {
                    request.tell(&Progress::Waiting);
                    flight.lock().await
                }
            };
            let path = inner.layout.lock(&request.digest);
            let taken = {
                let path = path.clone();
                blocking(move || Lock::take(&path).map_err(Error::cache("lock", path)))
            };
            let lock = match taken.await? {
                Some(lock) => lock,
                None => {
                    request.tell(&Progress::Waiting);
                    let waited = Lock::wait_async(&path).await;
                    waited.map_err(Error::cache("lock", path))?
                }
            };
            Ok((turn, lock))
        });
        let busy = |_| Error::Busy {
            url: request.url.clone(),
            limit: inner.options.overall_timeout,
        };
        let (_turn, lock) = waited.await.map_err(busy)??;
        match self.look(request).await? {
            Found::Good(entry) => return Ok(entry),
            Found::Nothing => {}
            Found::Corrupt => {
                let (cache, digest, lock) = (self.clone(), request.digest, lock.clone());
                blocking(move || {
                    let _held = lock;
                    cache.inner.quarantine(&digest)
                })
                .await?;
                request.tell(&Progress::Quarantined);
            }
        }
        let received = AtomicU64::new(0);
        let transfer = attempts(inner, request, url, lock, deadline, &received);
        let slow = |_| Error::TooSlow {
            url: request.url.clone(),
            limit: inner.options.overall_timeout,
            received: received.load(Ordering::Relaxed),
        };
        let partial = timeout_at(deadline, transfer).await.map_err(slow)??;
        let cache = self.clone();
        let entry = blocking(move || {
            let entry = partial.commit()?;
            // The file is there, even if others cannot be removed.
            cache.evict().ok();
            Ok(entry)
        })
        .await?;
        request.tell(&Progress::Stored {
            bytes: entry.size(),
        });
        Ok(entry)
    }
}

/// Tries until it succeeds, fails for good, or has tried often enough. Returns a
/// file that has the digest.
async fn attempts(
    inner: &Inner,
    request: &Request,
    url: &Url,
    lock: Lock,
    deadline: Instant,
    received: &AtomicU64,
) -> Result<Partial, Error> {
    let retries = inner.options.retries;
    let mut attempt = 1;
    let mut from_the_start = false;
    loop {
        let failure = match try_once(inner, request, url, &lock, deadline, received).await {
            Ok(partial) => return Ok(partial),
            Err(failure) => failure,
        };
        // What was there before may be to blame, and it is gone now.
        if failure.resumed && !from_the_start {
            from_the_start = true;
            continue;
        }
        let error = failure.error;
        if !error.is_transient() || attempt >= retries.attempts {
            return Err(error);
        }
        let asked = match &error {
            Error::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        let pause = retries.pause(attempt, asked);
        request.tell(&Progress::Retrying {
            attempt,
            pause,
            reason: error.to_string(),
        });
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
}

/// Why an attempt failed.
struct Failure {
    error: Error,
    /// Whether it may be the fault of what an earlier transfer had left, which
    /// has been removed.
    resumed: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure {
            error,
            resumed: false,
        }
    }
}

async fn try_once(
    inner: &Inner,
    request: &Request,
    url: &Url,
    lock: &Lock,
    deadline: Instant,
    received: &AtomicU64,
) -> Result<Partial, Failure> {
    let (layout, digest, ours) = (inner.layout.clone(), request.digest, lock.clone());
    let mut partial = blocking(move || Partial::open(&layout, digest, ours)).await?;
    // Its writer may have been killed after the last byte.
    if partial.length() > 0 && partial.is_complete() {
        return Ok(partial);
    }
    if request.size.is_some_and(|size| partial.length() >= size) {
        partial = blocking(move || partial.restart().map(|()| partial)).await?;
    }
    let before = partial.length();
    let outcome = if url.scheme() == "file" {
        let path = url.to_file_path().map_err(|()| Error::Url {
            url: request.url.clone(),
            reason: "it is no path of this machine".to_owned(),
        })?;
        let (request, options) = (request.clone(), inner.options.clone());
        blocking(move || local::copy(path, partial, &request, &options, deadline)).await
    } else {
        transfer(inner, request, url, partial, received).await
    };
    let (wrong, error) = match outcome {
        Ok(partial) if partial.is_complete() => return Ok(partial),
        Ok(partial) => {
            let found = partial.found();
            let error = Error::WrongDigest {
                url: request.url.clone(),
                expected: request.digest,
                found,
            };
            blocking(move || partial.discard()).await?;
            (true, error)
        }
        Err(error) => {
            let wrong = matches!(error, Error::WrongRange { .. } | Error::WrongSize { .. });
            if wrong {
                let (path, held) = (inner.layout.partial(&digest), lock.clone());
                blocking(move || {
                    let _held = held;
                    Ok(std::fs::remove_file(path).ok())
                })
                .await?;
            }
            (wrong, error)
        }
    };
    Err(Failure {
        error,
        resumed: wrong && before > 0,
    })
}

/// Fetches the file, or the rest of it.
async fn transfer(
    inner: &Inner,
    request: &Request,
    url: &Url,
    partial: Partial,
    received: &AtomicU64,
) -> Result<Partial, Error> {
    let options = &inner.options;
    let mut from = partial.length();
    let reply = match http::get(&inner.clients, options, url, from).await? {
        // What is there is longer than the file.
        Reply::NoSuchRange => {
            from = 0;
            http::get(&inner.clients, options, url, 0).await?
        }
        reply => reply,
    };
    let Reply::Answer(Answer {
        mut response,
        from: begin,
        total,
    }) = reply
    else {
        return Err(Error::WrongRange {
            url: request.url.clone(),
            asked: 0,
            sent: "nothing".to_owned(),
        });
    };
    check_size(request, options, total, begin.max(total.unwrap_or(0)))?;
    let mut partial = partial;
    if begin == 0 || from == 0 {
        partial = blocking(move || partial.restart().map(|()| partial)).await?;
    }
    let mut bytes = partial.length();
    received.store(bytes, Ordering::Relaxed);
    request.tell(&Progress::Started {
        resumed_from: bytes,
        total,
    });
    // The sink has the partial file, and with it the lock.
    let sink = Sink::start(partial);
    let broken = loop {
        match timeout(options.stall_timeout, response.chunk()).await {
            Err(_) => {
                break Some(Error::Stalled {
                    url: request.url.clone(),
                    limit: options.stall_timeout,
                    received: bytes,
                });
            }
            Ok(Ok(Some(chunk))) => {
                bytes += chunk.len() as u64;
                if let Err(error) = check_size(request, options, None, bytes) {
                    break Some(error);
                }
                received.store(bytes, Ordering::Relaxed);
                if !sink.send(chunk).await {
                    break None;
                }
                request.tell(&Progress::Received { bytes, total });
            }
            Ok(Ok(None)) if total.is_none_or(|total| bytes >= total) => break None,
            Ok(Ok(None) | Err(_)) => {
                break Some(Error::Truncated {
                    url: request.url.clone(),
                    received: bytes,
                    expected: total,
                });
            }
        }
    };
    // First of all what the disk says: a full one is the reason for the rest.
    let partial = sink.finish().await?;
    match broken {
        Some(error) => Err(error),
        // It ended as if it were whole; a known size tells otherwise.
        None => match request.size {
            Some(size) if bytes < size => Err(Error::Truncated {
                url: request.url.clone(),
                received: bytes,
                expected: Some(size),
            }),
            _ => Ok(partial),
        },
    }
}

/// Whether a size is what was asked for and fits into the cache. `total` is what
/// the whole file has, if known; `bytes` is what it has at least.
pub(crate) fn check_size(
    request: &Request,
    options: &Options,
    total: Option<u64>,
    bytes: u64,
) -> Result<(), Error> {
    let url = || request.url.clone();
    match request.size {
        Some(expected) if bytes > expected || total.is_some_and(|total| total != expected) => {
            Err(Error::WrongSize {
                url: url(),
                expected,
                found: total.unwrap_or(bytes),
            })
        }
        _ if bytes > options.size_limit => Err(Error::TooLarge {
            url: url(),
            limit: options.size_limit,
        }),
        _ => Ok(()),
    }
}

pub(crate) fn parse(text: &str) -> Result<Url, Error> {
    let wrong = |reason: String| Error::Url {
        url: text.to_owned(),
        reason,
    };
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    match url.scheme() {
        "http" | "https" | "file" => Ok(url),
        scheme => Err(wrong(format!("scheme `{scheme}` is not supported"))),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::CutOff)?
}
