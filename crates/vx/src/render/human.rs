//! Events as people read them: cargo's words in cargo's places.
//!
//! Everything goes to one stream and is written a piece at a time, above the
//! progress bar when there is one. What cannot be written is dropped: the build
//! matters more than its narration.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write;

use vx_proto::command::{BuildEvent, How, UnitName};

use super::{Downloads, Messages, Progress, Verbosity, names, short};
use crate::terminal::{ERROR, GOOD, WARNING, hint_line, paint, status_line};

/// Renders for people.
#[derive(Debug)]
pub(crate) struct Human<W: Write> {
    out: W,
    verbosity: Verbosity,
    messages: Messages,
    progress: Progress,
    downloads: Downloads,
    /// Packages that have been announced, by their ids: one line each.
    announced: BTreeSet<String>,
    /// Warnings so far of units that have not ended.
    warnings: BTreeMap<UnitName, u32>,
}

impl<W: Write> Human<W> {
    /// Writes to `out`, which strips colours when they are not wanted.
    pub(crate) fn new(
        out: W,
        verbosity: Verbosity,
        messages: Messages,
        progress: Progress,
    ) -> Human<W> {
        Human {
            out,
            verbosity,
            messages,
            downloads: Downloads::new(progress.is_watched()),
            progress,
            announced: BTreeSet::new(),
            warnings: BTreeMap::new(),
        }
    }

    /// Renders one event.
    pub(crate) fn event(&mut self, event: &BuildEvent) {
        match event {
            BuildEvent::Planned { units, .. } => self.progress.planned(*units),
            BuildEvent::Started { unit, name } => {
                self.announce(name);
                self.progress.started(*unit, names::brief(name));
            }
            BuildEvent::Finished { unit, how, .. } => {
                self.progress.finished(*unit, *how != How::Ran);
            }
            BuildEvent::Failed { unit, .. } => {
                self.progress.finished(*unit, false);
                self.failed(event);
            }
            BuildEvent::Diagnostic {
                name,
                level,
                rendered,
                json,
                ..
            } => {
                if level == "warning" {
                    *self.warnings.entry(name.clone()).or_default() += 1;
                }
                self.diagnostic(rendered, json);
            }
            BuildEvent::Artifact { name, fresh, .. } => {
                if *fresh
                    && self.verbosity == Verbosity::Verbose
                    && self.announced.insert(name.package_id.clone())
                {
                    self.status("Fresh", &names::package(name));
                }
            }
            BuildEvent::Summary { success, .. } => {
                self.progress.clear();
                if *success {
                    self.status("Finished", &summary(event));
                }
            }
            BuildEvent::Download(download) => {
                let line = self.downloads.event(download);
                if let Some(line) = line.filter(|_| self.verbosity > Verbosity::Quiet) {
                    self.write(&line);
                }
            }
            BuildEvent::Crates(crates) => {
                let line = self.downloads.crates(crates);
                if let Some(line) = line.filter(|_| self.verbosity > Verbosity::Quiet) {
                    self.write(&line);
                }
            }
            BuildEvent::Status(_)
            | BuildEvent::Explained(_)
            | BuildEvent::Toolchain(_)
            | BuildEvent::BuildScript { .. } => {}
            other => self.remark(other),
        }
    }

    /// Lines that stand for themselves.
    fn remark(&mut self, event: &BuildEvent) {
        match event {
            BuildEvent::Note { verb, text } => self.status(verb, text),
            BuildEvent::Warning(text) if self.verbosity > Verbosity::Quiet => {
                self.write(&format!("{}: {text}\n", paint(WARNING, "warning")));
            }
            BuildEvent::Hint(text) if self.verbosity > Verbosity::Quiet => {
                self.write(&hint_line(text));
            }
            BuildEvent::Error { message, hints } => {
                let mut text = format!("{}: {message}\n", paint(ERROR, "error"));
                for hint in hints {
                    text.push_str(&hint_line(hint));
                }
                self.write(&text);
            }
            BuildEvent::UnitWarnings {
                name,
                count,
                duplicates,
            } if self.verbosity > Verbosity::Quiet && self.messages != Messages::Omitted => {
                self.write(&unit_warnings(name, *count, *duplicates));
            }
            BuildEvent::Command { line, .. } if self.verbosity == Verbosity::Verbose => {
                self.status("Running", &format!("`{line}`"));
            }
            _ => {}
        }
    }

    /// Passes on what another program printed.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let (out, progress) = (&mut self.out, &self.progress);
        self.downloads.above(|| {
            progress.above(|| {
                let _gone = out.write_all(bytes).and_then(|()| out.flush());
            });
        });
    }

    /// Takes the progress bar away.
    pub(crate) fn finish(&mut self) {
        self.downloads.clear();
        self.progress.clear();
    }

    fn write(&mut self, text: &str) {
        self.raw(text.as_bytes());
    }

    fn status(&mut self, verb: &str, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            self.write(&status_line(GOOD, verb, text));
        }
    }

    /// One line for the first unit of a package that has to be built.
    fn announce(&mut self, name: &UnitName) {
        if self.announced.insert(name.package_id.clone()) {
            let verb = match name.mode.as_str() {
                "check" | "check-test" => "Checking",
                _ => "Compiling",
            };
            self.status(verb, &names::package(name));
        }
    }

    fn diagnostic(&mut self, rendered: &str, json: &str) {
        match self.messages {
            Messages::Full => self.write(rendered),
            // What is no JSON is not the compiler's and has no short form.
            Messages::Short if json.is_empty() => self.write(rendered),
            Messages::Short => {
                if let Some(line) = short::line(json) {
                    self.write(&line);
                }
            }
            Messages::Omitted if json.is_empty() => self.write(rendered),
            Messages::Omitted => {}
        }
    }

    fn failed(&mut self, event: &BuildEvent) {
        let BuildEvent::Failed {
            name,
            errors,
            message,
            hints,
            command,
            ..
        } = event
        else {
            return;
        };
        let warnings = self.warnings.remove(name).unwrap_or(0);
        let mut text = format!("{}: ", paint(ERROR, "error"));
        // Writing to a string cannot fail.
        let _ok = if names::is_script_run(name) {
            write!(
                text,
                "failed to run custom build command for `{}`",
                names::package(name)
            )
        } else {
            write!(text, "could not compile {}", names::target(name))
        };
        if *errors > 0 {
            let _ok = write!(text, " due to {}", count(*errors, "previous error"));
        }
        if warnings > 0 {
            let _ok = write!(text, "; {} emitted", count(warnings, "warning"));
        }
        text.push('\n');
        if let Some(message) = message {
            let _ok = write!(text, "\nCaused by:\n{}", indented(message));
        }
        if let Some(command) = command {
            let _ok = write!(text, "\nCommand:\n{}", indented(command));
        }
        for hint in hints {
            text.push_str(&hint_line(hint));
        }
        self.write(&text);
    }
}

fn indented(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if !line.is_empty() {
            out.push_str("  ");
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

fn count(number: u32, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

fn unit_warnings(name: &UnitName, number: u32, duplicates: u32) -> String {
    let repeated = match duplicates {
        0 => String::new(),
        _ => format!(" ({})", count(duplicates, "duplicate")),
    };
    format!(
        "{}: {} generated {}{repeated}\n",
        paint(WARNING, "warning"),
        names::target(name),
        count(number, "warning"),
    )
}

/// The text behind `Finished`.
fn summary(event: &BuildEvent) -> String {
    let BuildEvent::Summary {
        units,
        hits,
        ran,
        up_to_date,
        millis,
        profile,
        opt_desc,
        ..
    } = event
    else {
        return String::new();
    };
    let work = if *up_to_date {
        format!("{}, all up to date", count(*units, "unit"))
    } else {
        let there = units.saturating_sub(hits.saturating_add(*ran));
        let mut work = format!("{}: {hits} cached, {ran} built", count(*units, "unit"));
        if there > 0 {
            let _ok = write!(work, ", {there} up to date");
        }
        work
    };
    format!(
        "`{profile}` profile [{opt_desc}] target(s) in {} ({work})",
        elapsed(*millis)
    )
}

/// `0.02s`, `1m 05s`
fn elapsed(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{seconds}.{:02}s", millis % 1000 / 10),
        _ => format!("{}m {:02}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_look_like_cargos() {
        assert_eq!(elapsed(20), "0.02s");
        assert_eq!(elapsed(59_999), "59.99s");
        assert_eq!(elapsed(65_000), "1m 05s");
    }
}
