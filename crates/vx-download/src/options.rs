//! What a caller decides: limits, retries, and what to fetch.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;

/// The limits of a cache; the defaults suit a developer's machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What the files of the cache may take together, in bytes (10 GiB). Entries
    /// that are in use do not make room, so they may take more for a while.
    pub size_limit: u64,
    /// How long a connection may take to come about (10 s).
    pub connect_timeout: Duration,
    /// How long a server may be silent (30 s).
    pub stall_timeout: Duration,
    /// How long one fetch may take, with all waiting and retries (30 min).
    pub overall_timeout: Duration,
    /// How many redirects are followed (10).
    pub redirects: usize,
    /// When a failure is tried again.
    pub retries: Retries,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            size_limit: 10 << 30,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            overall_timeout: Duration::from_secs(30 * 60),
            redirects: 10,
            retries: Retries::default(),
        }
    }
}

/// How often and when a transient failure is tried again: the pause doubles from
/// one attempt to the next; a server may ask for a longer one (`Retry-After`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retries {
    /// All attempts, the first one included (4). One that got further than those
    /// before it counts as well.
    pub attempts: u32,
    /// The pause after the first attempt (250 ms).
    pub first_pause: Duration,
    /// The longest pause, whatever a server asks for (20 s).
    pub longest_pause: Duration,
}

impl Default for Retries {
    fn default() -> Retries {
        Retries {
            attempts: 4,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(20),
        }
    }
}

impl Retries {
    /// The pause after the given attempt (1 for the first).
    pub(crate) fn pause(&self, attempt: u32, asked: Option<Duration>) -> Duration {
        let doubled = 1_u32
            .checked_shl(attempt.saturating_sub(1))
            .and_then(|factor| self.first_pause.checked_mul(factor))
            .unwrap_or(self.longest_pause);
        doubled
            .max(asked.unwrap_or_default())
            .min(self.longest_pause)
    }
}

/// What happens during a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Another fetch of the same file is under way; its result will be used.
    Waiting,
    /// A transfer begins.
    Started {
        /// What an earlier transfer has left, in bytes.
        resumed_from: u64,
        /// The size of the whole file, if the server tells it.
        total: Option<u64>,
    },
    /// Bytes have come.
    Received {
        /// All bytes so far, those of an earlier transfer included.
        bytes: u64,
        /// The size of the whole file, if the server tells it.
        total: Option<u64>,
    },
    /// An attempt failed in a way that may pass.
    Retrying {
        /// The attempt that failed, 1 for the first.
        attempt: u32,
        /// How long until the next one.
        pause: Duration,
        /// Why it failed.
        reason: String,
    },
    /// An entry of the cache did not have its hash and was put aside.
    Quarantined,
    /// The file is in the cache.
    Stored {
        /// Its size.
        bytes: u64,
    },
}

type Hook = dyn Fn(&Progress) + Send + Sync;

/// A file to fetch.
#[derive(Clone)]
#[must_use = "a request does nothing by itself"]
pub struct Request {
    pub(crate) url: String,
    pub(crate) digest: Digest,
    pub(crate) size: Option<u64>,
    hook: Option<Arc<Hook>>,
}

impl Request {
    /// The file at a `http`, `https` or `file` URL whose content has this digest.
    pub fn new(url: impl Into<String>, digest: Digest) -> Request {
        Request {
            url: url.into(),
            digest,
            size: None,
            hook: None,
        }
    }

    /// The size is known too: a server that has another one is found out before
    /// anything is transferred.
    pub fn size(mut self, bytes: u64) -> Request {
        self.size = Some(bytes);
        self
    }

    /// Calls the hook when something happens. It should return quickly: the
    /// transfer waits for it.
    pub fn on_progress(mut self, hook: impl Fn(&Progress) + Send + Sync + 'static) -> Request {
        self.hook = Some(Arc::new(hook));
        self
    }

    pub(crate) fn tell(&self, progress: &Progress) {
        if let Some(hook) = &self.hook {
            hook(progress);
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("url", &self.url)
            .field("digest", &self.digest)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_one() {
        let retries = Retries::default();
        let pauses: Vec<_> = (1..=9)
            .map(|n| retries.pause(n, None).as_millis())
            .collect();
        assert_eq!(pauses[..4], [250, 500, 1000, 2000]);
        assert_eq!(pauses[8], 20_000);
        assert_eq!(retries.pause(200, None), retries.longest_pause);
        let asked = |seconds| retries.pause(1, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(3), Duration::from_secs(3));
        assert_eq!(asked(3600), retries.longest_pause);
    }
}
