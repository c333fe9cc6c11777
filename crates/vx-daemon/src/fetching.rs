//! What a client is told while a toolchain is fetched.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use vx_download::Progress;
use vx_proto::command::BuildEvent;
use vx_proto::toolchain::{Download, DownloadState};
use vx_toolchain::dist::{Event, Tell, Vouched};

use crate::report::Reporter;

/// Progress of a download is told so often.
const PACE_MILLIS: u128 = 100;

/// Passes on what happens while a toolchain is fetched. A client that reads slowly misses some of it.
///
/// `why` is told with the first thing that is done.
pub(crate) fn teller(reporter: &Reporter, why: Option<String>) -> Tell {
    let reporter = reporter.clone();
    let running: Mutex<Vec<Running>> = Mutex::default();
    Arc::new(move |event| {
        let note = |verb: &str, text: String| {
            reporter.now(BuildEvent::Note {
                verb: verb.to_owned(),
                text,
            });
        };
        match event {
            Event::Waiting => note(
                "Blocking",
                "waiting for another process that installs a toolchain".to_owned(),
            ),
            Event::Resolved {
                name,
                release,
                date,
                vouched,
            } => {
                let origin = why.as_deref().map(|why| format!(", {why}"));
                note(
                    "Resolved",
                    format!(
                        "`{name}` to Rust {release} of {date}{}",
                        origin.unwrap_or_default()
                    ),
                );
                match vouched {
                    Vouched::By(key) => note(
                        "Verified",
                        format!("the channel manifest, signed by the key {key}"),
                    ),
                    Vouched::Nobody(why) => note(
                        "Unsigned",
                        format!("the channel manifest is checked by its SHA-256 only: {why}"),
                    ),
                }
            }
            Event::Download {
                file,
                url,
                progress,
            } => {
                let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(state) = state_of(&mut running, &file, progress) {
                    reporter.now(BuildEvent::Download(Download { file, url, state }));
                }
            }
            Event::Unpacking { file } => note("Unpacking", file),
            Event::Installed {
                name,
                release,
                bytes,
            } => note(
                "Installed",
                format!("toolchain `{name}`: Rust {release}, {} MiB", bytes >> 20),
            ),
            _ => {}
        }
    })
}

/// A download that is going on.
struct Running {
    file: String,
    since: Instant,
    told: Instant,
}

/// What to tell of a download, not too often.
fn state_of(running: &mut Vec<Running>, file: &str, progress: Progress) -> Option<DownloadState> {
    let now = Instant::now();
    let at = running.iter().position(|one| one.file == file);
    match progress {
        Progress::Waiting => Some(DownloadState::Waiting),
        Progress::Started {
            resumed_from,
            total,
        } => {
            if at.is_none() {
                running.push(Running {
                    file: file.to_owned(),
                    since: now,
                    told: now,
                });
            }
            Some(DownloadState::Running {
                bytes: resumed_from,
                total,
            })
        }
        Progress::Received { bytes, total } => {
            let one = &mut running[at?];
            if now.duration_since(one.told).as_millis() < PACE_MILLIS {
                return None;
            }
            one.told = now;
            Some(DownloadState::Running { bytes, total })
        }
        Progress::Retrying {
            attempt, reason, ..
        } => Some(DownloadState::Retrying { attempt, reason }),
        Progress::Stored { bytes } => {
            let since = running.swap_remove(at?).since;
            let millis = u64::try_from(now.duration_since(since).as_millis()).ok();
            Some(DownloadState::Done { bytes, millis })
        }
        _ => None,
    }
}
