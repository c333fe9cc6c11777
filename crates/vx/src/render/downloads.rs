//! Downloads as people see them: a line each, with size, speed and the time that is left.
//!
//! On a terminal the lines stand below everything else and move; elsewhere the beginning and the end of each download are lines of the log.
//! Crates are many and small: on a terminal they have one line together, and elsewhere one each when they are there.

use std::collections::BTreeMap;

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use vx_proto::toolchain::{Crates, Download, DownloadState};

use crate::terminal::{GOOD, NOTE, WARNING, paint, status_line};

const TEMPLATE: &str =
    "{prefix} {msg} [{bar:20}] {bytes}/{total_bytes}, {binary_bytes_per_sec}, {eta} left";
/// For servers that do not tell the size.
const TEMPLATE_WITHOUT_SIZE: &str = "{prefix} {msg} {bytes}, {binary_bytes_per_sec}";
const TEMPLATE_OF_CRATES: &str = "{prefix} [{bar:20}] {pos}/{len} {wide_msg}";

/// The downloads that go on.
#[derive(Debug)]
pub(crate) struct Downloads {
    bars: MultiProgress,
    watched: bool,
    running: BTreeMap<String, ProgressBar>,
    /// All crates together.
    crates: Option<ProgressBar>,
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
            crates: None,
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
                } else if self.crates.is_some() && self.watched {
                    // It is one of those that have a line together.
                    return None;
                }
                Some(status_line(
                    GOOD,
                    "Downloaded",
                    &done(file, *bytes, *millis),
                ))
            }
        }
    }

    /// Takes in how far the downloads of crates are; the line to write, when they are over.
    pub(crate) fn crates(&mut self, crates: &Crates) -> Option<String> {
        if crates.is_over {
            self.without_crates();
            let what = match crates.done {
                0 => return None,
                1 => "1 crate".to_owned(),
                done => format!("{done} crates"),
            };
            let text = done(&what, crates.bytes, Some(crates.millis));
            return Some(status_line(GOOD, "Downloaded", &text));
        }
        let is_new = self.crates.is_none();
        let bar = self.crates.get_or_insert_with(bar_of_crates);
        bar.set_length(u64::from(crates.done) + u64::from(crates.pending));
        bar.set_message(how_far(crates));
        bar.set_position(crates.done.into());
        if is_new {
            // Drawn for the first time when all of it is known.
            self.bars.add(bar.clone());
            bar.tick();
        }
        None
    }

    fn without_crates(&mut self) {
        if let Some(bar) = self.crates.take() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    /// Writes lines above the moving ones.
    pub(crate) fn above(&self, write: impl FnOnce()) {
        match self.running.is_empty() && self.crates.is_none() {
            true => write(),
            false => self.bars.suspend(write),
        }
    }

    /// Takes the lines away.
    pub(crate) fn clear(&mut self) {
        for (_, bar) in std::mem::take(&mut self.running) {
            bar.finish_and_clear();
        }
        self.without_crates();
    }
}

/// One bar for all crates.
fn bar_of_crates() -> ProgressBar {
    let bar = ProgressBar::hidden();
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE_OF_CRATES) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(paint(NOTE, &format!("{:>12}", "Downloading")));
    bar
}

/// `crates, 1.50 MiB, 512.00 KiB/s, 2s left`
fn how_far(crates: &Crates) -> String {
    let mut text = format!("crates, {}", HumanBytes(crates.bytes));
    let speed = crates.bytes.saturating_mul(1000) / crates.millis.max(1);
    if speed > 0 {
        text.push_str(&format!(", {}/s", HumanBytes(speed)));
        if let Some(pending) = crates.pending_bytes {
            text.push_str(&format!(", {}s left", pending.div_ceil(speed)));
        }
    }
    text
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

fn done(file: &str, bytes: u64, millis: Option<u64>) -> String {
    let size = HumanBytes(bytes);
    let Some(millis) = millis else {
        return format!("{file} ({size})");
    };
    let speed = bytes.saturating_mul(1000) / millis.max(1);
    format!(
        "{file} ({size} in {}.{:02}s, {}/s)",
        millis / 1000,
        millis % 1000 / 10,
        HumanBytes(speed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_that_have_come_are_lines_without_a_terminal_and_all_of_them_in_any_case() {
        let plain = |line: String| anstream::adapter::strip_str(&line).to_string();
        let came = Download {
            file: "one-1.0.0.crate".into(),
            url: "https://r".into(),
            state: DownloadState::Done {
                bytes: 2048,
                millis: None,
            },
        };
        let so_far = Crates {
            done: 1,
            pending: 2,
            bytes: 2048,
            pending_bytes: Some(3000),
            millis: 1000,
            is_over: false,
        };
        assert_eq!(how_far(&so_far), "crates, 2.00 KiB, 2.00 KiB/s, 2s left");
        let unknown = Crates {
            pending_bytes: None,
            bytes: 0,
            ..so_far
        };
        assert_eq!(how_far(&unknown), "crates, 0 B");
        let over = |done| Crates {
            done,
            is_over: true,
            ..so_far
        };
        for (watched, line) in [
            (true, None),
            (false, Some("  Downloaded one-1.0.0.crate (2.00 KiB)\n")),
        ] {
            let mut downloads = Downloads::new(watched);
            downloads.bars.set_draw_target(ProgressDrawTarget::hidden());
            assert_eq!(downloads.crates(&so_far), None);
            assert_eq!(downloads.event(&came).map(plain).as_deref(), line);
            for (done, line) in [
                (
                    3,
                    Some("  Downloaded 3 crates (2.00 KiB in 1.00s, 2.00 KiB/s)\n"),
                ),
                (
                    1,
                    Some("  Downloaded 1 crate (2.00 KiB in 1.00s, 2.00 KiB/s)\n"),
                ),
                // It ended otherwise.
                (0, None),
            ] {
                assert_eq!(downloads.crates(&over(done)).map(plain).as_deref(), line);
                assert!(downloads.crates.is_none());
            }
        }
    }

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
            millis: Some(1500),
        };
        assert_eq!(
            line(done).as_deref(),
            Some("  Downloaded a.tar.xz (3.00 MiB in 1.50s, 2.00 MiB/s)\n")
        );
    }
}
