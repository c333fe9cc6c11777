//! The progress bar: bytes done of all; only on a terminal, and only once there is something to do.

use std::sync::OnceLock;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vrift_store::Progress;

use crate::interrupt::Interrupt;
use crate::output::Output;

const TEMPLATE: &str = "{prefix:>12} [{bar:26}] {bytes}/{total_bytes}, {bytes_per_sec}";

/// Shows progress and carries the wish to stop.
pub(crate) struct Bar<'a> {
    output: &'a Output,
    verb: &'static str,
    interrupt: Interrupt,
    bar: OnceLock<ProgressBar>,
}

impl<'a> Bar<'a> {
    pub(crate) fn new(output: &'a Output, verb: &'static str, interrupt: Interrupt) -> Bar<'a> {
        Bar {
            output,
            verb,
            interrupt,
            bar: OnceLock::new(),
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Progress for Bar<'_> {
    fn expect(&self, _files: u64, bytes: u64) {
        if bytes == 0 || !self.output.is_watched() {
            return;
        }
        let bar = self.bar.get_or_init(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(20));
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(self.verb);
            bar
        });
        bar.set_length(bytes);
    }

    fn advance(&self, _files: u64, bytes: u64) {
        if let Some(bar) = self.bar.get() {
            bar.inc(bytes);
        }
    }

    fn cancelled(&self) -> bool {
        self.interrupt.came()
    }
}
