//! What a client is told while cargo downloads crates: each one that has come, and how far all of them are.
//!
//! cargo says how many are to come, which nobody else knows: Cargo.lock names those for other platforms as well.
//! It names a crate that has come before it is checked and written, so its size is looked up when cargo goes on to speak.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vx_proto::command::{BuildEvent, BuildRequest};
use vx_proto::toolchain::{Crates, Download, DownloadState};

use crate::cargo_words::{Downloaded, downloaded, pending};
use crate::lock_file::{self, Locked};
use crate::missing::directories;
use crate::report::Reporter;

/// How far the downloads are is told so often.
pub(crate) const PACE: Duration = Duration::from_millis(100);

/// Tells of the downloads of one run of cargo.
pub(crate) struct CrateDownloads<'a> {
    reporter: &'a Reporter,
    request: &'a BuildRequest,
    /// Where archives are when they are whole and right.
    archives: PathBuf,
    since: Option<Instant>,
    told: Option<Instant>,
    /// What has not been told yet.
    untold: Option<Crates>,
    /// The one that was named last.
    last: Option<Came>,
    named: u32,
    /// Of those that are there.
    bytes: u64,
    estimate: Estimate,
    locked: Option<Vec<Locked>>,
}

/// A crate of which cargo has said that it has come.
struct Came {
    name: String,
    version: String,
    line: String,
}

impl<'a> CrateDownloads<'a> {
    /// Nothing is told before cargo says something. `downloads` is where cargo downloads to.
    pub(crate) fn new(
        reporter: &'a Reporter,
        request: &'a BuildRequest,
        downloads: &Path,
    ) -> CrateDownloads<'a> {
        CrateDownloads {
            reporter,
            request,
            archives: downloads.join("registry/cache"),
            since: None,
            told: None,
            untold: None,
            last: None,
            named: 0,
            bytes: 0,
            estimate: Estimate::default(),
            locked: None,
        }
    }

    /// Takes in a progress bar.
    pub(crate) fn bar(&mut self, bar: &str) {
        let Some(pending) = pending(bar) else { return };
        let millis = self.millis();
        self.untold = Some(Crates {
            done: self.named,
            pending: pending.crates,
            bytes: self.estimate.bytes(self.bytes, pending.bytes),
            pending_bytes: pending.bytes,
            millis,
            is_over: false,
        });
        if self.told.is_none_or(|told| told.elapsed() >= PACE) {
            self.catch_up();
        }
    }

    /// Takes in a line; returns whether there is nothing more to say about it.
    pub(crate) async fn line(&mut self, line: &str) -> bool {
        self.settle().await;
        match downloaded(line) {
            None => return false,
            Some(Downloaded::Crate { name, version }) => {
                self.named += 1;
                self.since.get_or_insert_with(Instant::now);
                self.last = Some(Came {
                    name,
                    version,
                    line: line.to_owned(),
                });
            }
            Some(Downloaded::All) => self.over(self.named).await,
        }
        true
    }

    /// Whether something will have to be told also if cargo says nothing more.
    pub(crate) fn is_behind(&self) -> bool {
        self.untold.is_some()
    }

    /// Tells what has not been told.
    pub(crate) fn catch_up(&mut self) {
        if let Some(crates) = self.untold.take() {
            self.told = Some(Instant::now());
            self.reporter.now(BuildEvent::Crates(crates));
        }
    }

    /// cargo has ended.
    pub(crate) async fn end(&mut self) {
        self.settle().await;
        // It did not say that all had come, so nobody else is to say it.
        if self.told.is_some() {
            self.over(0).await;
        }
    }

    async fn over(&mut self, done: u32) {
        let millis = self.millis();
        (self.told, self.untold) = (None, None);
        self.reporter
            .event(BuildEvent::Crates(Crates {
                done,
                pending: 0,
                bytes: self.bytes,
                pending_bytes: None,
                millis,
                is_over: true,
            }))
            .await;
    }

    /// Since the first one was asked for.
    fn millis(&mut self) -> u64 {
        let since = *self.since.get_or_insert_with(Instant::now);
        u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells of the crate that was named last.
    async fn settle(&mut self) {
        let Some(came) = self.last.take() else { return };
        let file = format!("{}-{}.crate", came.name, came.version);
        let (archives, name) = (self.archives.clone(), file.clone());
        let size = tokio::task::spawn_blocking(move || size(&archives, &name)).await;
        let Ok(Some(bytes)) = size else {
            // It was not what it should be, as cargo says next, or is not where archives usually are.
            self.reporter.cargo_says(came.line.as_bytes()).await;
            return;
        };
        self.bytes += bytes;
        let url = self.registry(&came).await;
        let state = DownloadState::Done {
            bytes,
            millis: None,
        };
        let download = Download { file, url, state };
        self.reporter.event(BuildEvent::Download(download)).await;
    }

    /// What Cargo.lock calls the registry of a crate; nothing where it has none.
    async fn registry(&mut self, came: &Came) -> String {
        if self.locked.is_none() {
            let request = self.request.clone();
            let read = tokio::task::spawn_blocking(move || lock_file::of_request(&request));
            self.locked = Some(read.await.unwrap_or_default());
        }
        let mut locked = self.locked.iter().flatten();
        let found = locked.find(|one| one.name == came.name && one.version == came.version);
        let source = found.map_or("", |package| package.source.as_str());
        source
            .split_once('+')
            .map_or(source, |(_, url)| url)
            .to_owned()
    }
}

/// The size of the archive that was written last under this name. Blocks.
fn size(archives: &Path, file: &str) -> Option<u64> {
    let found = directories(archives).into_iter().filter_map(|registry| {
        let metadata = fs::metadata(registry.join(file)).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    });
    found.max().map(|(_, bytes)| bytes)
}

/// How many bytes have come, those of unfinished crates included, which cargo does not tell.
#[derive(Debug, Default)]
struct Estimate {
    /// The most that was known to be there or to come.
    known: u64,
    bytes: u64,
}

impl Estimate {
    fn bytes(&mut self, whole: u64, pending: Option<u64>) -> u64 {
        let pending = pending.unwrap_or(0);
        self.known = self.known.max(whole + pending);
        let come = match pending {
            0 => whole,
            pending => whole.max(self.known - pending),
        };
        // What was said before was said.
        self.bytes = self.bytes.max(come);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use vx_proto::command::{BuildKind, Selection};

    use super::*;
    use crate::report::Report;

    #[test]
    fn unfinished_crates_count_as_far_as_they_have_come() {
        let mut estimate = Estimate::default();
        for (whole, pending, bytes) in [
            (0, None, 0),
            (0, Some(100), 0),
            (0, Some(60), 40),
            // Another size has become known.
            (0, Some(90), 40),
            (70, Some(20), 80),
            (70, None, 80),
            (100, Some(0), 100),
        ] {
            assert_eq!(estimate.bytes(whole, pending), bytes, "{whole} {pending:?}");
        }
    }

    #[tokio::test]
    async fn crates_are_told_with_their_sizes_once_they_are_there_and_then_all_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let registry = dir.path().join("registry/cache/r");
        fs::create_dir_all(&registry).unwrap();
        let lock =
            "[[package]]\nname = \"one\"\nversion = \"1.0.0\"\nsource = \"registry+http://r\"\n";
        fs::write(dir.path().join("Cargo.lock"), lock).unwrap();
        let request = BuildRequest {
            cwd: dir.path().to_owned(),
            kind: BuildKind::Build,
            selection: Selection::default(),
            env: Vec::new(),
            jobs: None,
            keep_going: false,
            toolchain: None,
            action_timeout_secs: None,
            fresh_json: false,
            verbose: false,
            quiet: false,
        };
        let (reporter, mut reports) = Reporter::new();
        let mut downloads = CrateDownloads::new(&reporter, &request, dir.path());
        downloads.bar(" Downloading 2 crates");
        assert!(!downloads.is_behind());
        downloads.bar(" Downloading 2 crates, remaining bytes: 7B");
        assert!(downloads.line("  Downloaded one v1.0.0\n").await);
        // It is written when cargo goes on.
        fs::write(registry.join("one-1.0.0.crate"), "12345").unwrap();
        assert!(downloads.line("  Downloaded two v2.0.0\n").await);
        assert!(!downloads.line("error: two is wrong\n").await);
        assert!(
            downloads
                .line("  Downloaded 2 crates (7B) in 0.01s\n")
                .await
        );
        downloads.end().await;
        drop(downloads);
        drop(reporter);
        let mut told = Vec::new();
        while let Some(report) = reports.recv().await {
            told.push(match report {
                Report::Stderr(line) => String::from_utf8(line).unwrap(),
                Report::Event(event) => match *event {
                    BuildEvent::Download(Download { file, url, state }) => {
                        let DownloadState::Done { bytes, .. } = state else {
                            panic!("{state:?}")
                        };
                        format!("{file} {url} {bytes}")
                    }
                    BuildEvent::Crates(c) => {
                        format!("{}+{} {} {}", c.done, c.pending, c.bytes, c.is_over)
                    }
                    other => panic!("{other:?}"),
                },
            });
        }
        assert_eq!(
            told,
            [
                "0+2 0 false",
                "one-1.0.0.crate http://r 5",
                "  Downloaded two v2.0.0\n",
                "2+0 5 true"
            ]
        );
    }
}
