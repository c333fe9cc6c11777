//! The progress bar: units done of all, what runs now, how many came from the store.
//!
//! Only on a terminal, and only once something has to be built: a build with
//! nothing to do draws nothing.

use std::collections::BTreeMap;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal::{NOTE, paint};

const TEMPLATE: &str = "{prefix} [{bar:26}] {pos}/{len}: {wide_msg}";

/// How far the build is.
#[derive(Debug)]
pub(crate) struct Progress {
    watched: bool,
    bar: Option<ProgressBar>,
    units: u32,
    done: u32,
    hits: u32,
    running: BTreeMap<u32, String>,
}

impl Progress {
    /// Progress that is shown only when somebody watches.
    pub(crate) fn new(watched: bool) -> Progress {
        Progress {
            watched,
            bar: None,
            units: 0,
            done: 0,
            hits: 0,
            running: BTreeMap::new(),
        }
    }

    /// Whether somebody watches.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// The number of units is known.
    pub(crate) fn planned(&mut self, units: u32) {
        self.units = units;
    }

    /// A unit is being built.
    pub(crate) fn started(&mut self, unit: u32, name: String) {
        self.running.insert(unit, name);
        if self.watched && self.bar.is_none() {
            let bar = ProgressBar::hidden();
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(paint(NOTE, &format!("{:>12}", "Building")));
            self.bar = Some(bar);
            self.draw();
            // Drawn for the first time when all of it is known.
            if let Some(bar) = &self.bar {
                bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(20));
            }
        }
        self.draw();
    }

    /// A unit is done, one way or the other.
    pub(crate) fn finished(&mut self, unit: u32, hit: bool) {
        self.running.remove(&unit);
        self.done += 1;
        self.hits += u32::from(hit);
        self.draw();
    }

    /// What stands behind the bar.
    pub(crate) fn message(&self) -> String {
        let names: Vec<&str> = self.running.values().map(String::as_str).collect();
        let mut message = names.join(", ");
        if self.hits > 0 {
            if !message.is_empty() {
                message.push(' ');
            }
            message.push_str(&format!("({} cached)", self.hits));
        }
        message
    }

    fn draw(&self) {
        if let Some(bar) = &self.bar {
            bar.set_length(u64::from(self.units.max(self.done)));
            bar.set_message(self.message());
            bar.set_position(u64::from(self.done));
        }
    }

    /// Writes lines above the bar.
    pub(crate) fn above(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        // What comes after the end of a build is no longer progress.
        self.watched = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_what_runs_and_counts_hits() {
        let mut progress = Progress::new(false);
        progress.planned(4);
        progress.started(2, "b(bin)".into());
        progress.started(1, "a".into());
        progress.finished(0, true);
        assert_eq!(progress.message(), "a, b(bin) (1 cached)");
        progress.finished(1, false);
        assert_eq!(progress.message(), "b(bin) (1 cached)");
    }
}
