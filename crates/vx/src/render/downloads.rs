//! Downloads as people see them: a line each, with size, speed and the time that is left.
//!
//! On a terminal the lines stand below everything else and move; elsewhere the beginning and the end of each download are lines of the log.

use std::collections::BTreeMap;

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use vx_proto::toolchain::{Download, DownloadState};

use crate::terminal::{GOOD, NOTE, WARNING, paint, status_line};

const TEMPLATE: &str =
    "{prefix} {msg} [{bar:20}] {bytes}/{total_bytes}, {binary_bytes_per_sec}, {eta} left";
/// For servers that do not tell the size.
const TEMPLATE_WITHOUT_SIZE: &str = "{prefix} {msg} {bytes}, {binary_bytes_per_sec}";

/// The downloads that go on.
#[derive(Debug)]
pub(crate) struct Downloads {
    bars: MultiProgress,
    watched: bool,
    running: BTreeMap<String, ProgressBar>,
}

impl Downloads {
    /// Lines that move only when somebody watches.
    pub(crate) fn new(watched: bool) -> Downloads {
        let target = match watched {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        };
        Downloads {
            bars: MultiProgress::with_draw_target(target),
            watched,
            running: BTreeMap::new(),
        }
    }

    /// Takes in how far a download is; the line to write, when there is one.
    pub(crate) fn event(&mut self, download: &Download) -> Option<String> {
        let file = &download.file;
        match &download.state {
            DownloadState::Waiting => Some(status_line(
                NOTE,
                "Waiting",
                &format!("for another process that downloads {file}"),
            )),
            DownloadState::Running { bytes, total } => {
                let begins = !self.running.contains_key(file);
                let bars = &self.bars;
                let bar = self
                    .running
                    .entry(file.clone())
                    .or_insert_with(|| bar(bars, file, *bytes, *total));
                bar.set_position(*bytes);
                let size = total.map_or(String::new(), |total| format!(" ({})", HumanBytes(total)));
                (begins && !self.watched)
                    .then(|| status_line(GOOD, "Downloading", &format!("{file}{size}")))
            }
            DownloadState::Retrying { attempt, reason } => Some(format!(
                "{}: attempt {attempt} to download {file} failed: {reason}; trying again\n",
                paint(WARNING, "warning")
            )),
            DownloadState::Done { bytes, millis } => {
                if let Some(bar) = self.running.remove(file) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                }
                Some(status_line(
                    GOOD,
                    "Downloaded",
                    &done(file, *bytes, *millis),
                ))
            }
        }
    }

    /// Writes lines above the moving ones.
    pub(crate) fn above(&self, write: impl FnOnce()) {
        match self.running.is_empty() {
            true => write(),
            false => self.bars.suspend(write),
        }
    }

    /// Takes the lines away.
    pub(crate) fn clear(&mut self) {
        for (_, bar) in std::mem::take(&mut self.running) {
            bar.finish_and_clear();
        }
    }
}

fn bar(bars: &MultiProgress, file: &str, bytes: u64, total: Option<u64>) -> ProgressBar {
    // Drawn for the first time when all of it is known.
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
    let template = match total {
        Some(_) => TEMPLATE,
        None => TEMPLATE_WITHOUT_SIZE,
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(paint(NOTE, &format!("{:>12}", "Downloading")));
    bar.set_message(file.to_owned());
    // What an earlier download left took no time now.
    let bar = bars.add(bar.with_position(bytes));
    bar.reset_eta();
    bar
}

fn done(file: &str, bytes: u64, millis: u64) -> String {
    let speed = bytes.saturating_mul(1000) / millis.max(1);
    format!(
        "{file} ({} in {}.{:02}s, {}/s)",
        HumanBytes(bytes),
        millis / 1000,
        millis % 1000 / 10,
        HumanBytes(speed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_the_beginning_and_the_end_are_lines() {
        let mut downloads = Downloads::new(false);
        let mut line = |state| {
            let download = Download {
                file: "a.tar.xz".into(),
                url: "http://s/a.tar.xz".into(),
                state,
            };
            let line = downloads.event(&download)?;
            Some(anstream::adapter::strip_str(&line).to_string())
        };
        let running = |bytes| DownloadState::Running {
            bytes,
            total: Some(3 << 20),
        };
        assert_eq!(
            line(running(0)).as_deref(),
            Some(" Downloading a.tar.xz (3.00 MiB)\n")
        );
        assert_eq!(line(running(1 << 20)), None);
        let done = DownloadState::Done {
            bytes: 3 << 20,
            millis: 1500,
        };
        assert_eq!(
            line(done).as_deref(),
            Some("  Downloaded a.tar.xz (3.00 MiB in 1.50s, 2.00 MiB/s)\n")
        );
    }
}
