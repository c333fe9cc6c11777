//! A cache in a directory of its own, in front of a fixture server.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use vx_download::{Cache, Digest, Entry, Error, Options, Request};
use vx_testkit::HttpFixture;

/// Longer than anything here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Scene {
    pub(crate) server: HttpFixture,
    pub(crate) dir: TempDir,
    pub(crate) options: Options,
    pub(crate) content: Vec<u8>,
}

impl Scene {
    /// A server with one file, `/file`, and an empty cache that does not pause
    /// between attempts.
    pub(crate) fn new() -> Scene {
        let mut options = Options::default();
        options.retries.first_pause = Duration::ZERO;
        options.retries.attempts = 3;
        // Enough for several reads, and unlike at every place.
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let server = HttpFixture::start();
        server.file("/file", &content);
        Scene {
            server,
            dir: tempfile::tempdir().unwrap(),
            options,
            content,
        }
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::open(self.dir.path(), self.options.clone()).unwrap()
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::sha256(&self.content)
    }

    pub(crate) fn request(&self) -> Request {
        Request::new(self.server.url("/file"), self.digest())
    }

    pub(crate) fn fetch(&self) -> Result<Entry, Error> {
        self.cache().fetch_blocking(&self.request())
    }

    pub(crate) fn entry_path(&self) -> PathBuf {
        self.dir.path().join("v1/sha256").join(self.digest().hex())
    }

    pub(crate) fn partial_path(&self) -> PathBuf {
        let name = format!("sha256-{}", self.digest().hex());
        self.dir.path().join("v1/partial").join(name)
    }

    /// Leaves the first bytes of the file as an interrupted transfer would.
    pub(crate) fn leave_partial(&self, bytes: &[u8]) {
        self.cache();
        std::fs::write(self.partial_path(), bytes).unwrap();
    }

    /// The ranges that were asked for, in order.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        let requests = self.server.requests_for("/file");
        requests
            .iter()
            .map(|request| request.header("range").map(str::to_owned))
            .collect()
    }

    #[track_caller]
    pub(crate) fn assert_fetched(&self) -> Entry {
        let entry = self.fetch().unwrap();
        assert!(std::fs::read(entry.path()).unwrap() == self.content);
        assert!(!self.partial_path().exists());
        entry
    }
}

pub(crate) fn files_in(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}
