//! The two output streams: results and status lines, for people or as JSON.
//!
//! Knows nothing of stores.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Effects, Style};
use serde_json::Value;

use crate::exit::{Failure, Kind};
use crate::options::{MessageFormat, OutputOptions, When};

const GOOD: Style = bold(AnsiColor::BrightGreen);
const NOTE: Style = bold(AnsiColor::BrightCyan);
const WARNING: Style = bold(AnsiColor::Yellow);
const ERROR: Style = bold(AnsiColor::BrightRed);

const fn bold(color: AnsiColor) -> Style {
    color.on_default().effects(Effects::BOLD)
}

/// Where results and status lines go.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    quiet: bool,
    json: bool,
    color: Option<When>,
}

impl Output {
    pub(crate) fn new(options: &OutputOptions) -> Output {
        Output {
            quiet: options.quiet,
            json: options.message_format == MessageFormat::Json,
            color: options.color,
        }
    }

    /// Whether a progress bar is welcome.
    pub(crate) fn is_watched(&self) -> bool {
        !self.quiet
            && !self.json
            && io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    fn choice(&self, stream: &impl anstream::stream::RawStream) -> ColorChoice {
        match self.color {
            Some(When::Always) => ColorChoice::Always,
            Some(When::Never) => ColorChoice::Never,
            // Looks at NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM and the terminal.
            Some(When::Auto) | None => AutoStream::choice(stream),
        }
    }

    fn stderr(&self, text: &str) {
        let stream = io::stderr();
        let choice = self.choice(&stream);
        // Nothing more can be done when nobody reads it.
        let _gone = AutoStream::new(stream, choice).write_all(text.as_bytes());
    }

    /// A status line as cargo's: the verb right-aligned in 12 columns.
    pub(crate) fn status(&self, verb: &str, text: &str) {
        if !self.quiet && !self.json {
            self.stderr(&format!("{GOOD}{verb:>12}{GOOD:#} {text}\n"));
        }
    }

    /// Something to know.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.stderr(&format!("{NOTE}note{NOTE:#}: {text}\n"));
        }
    }

    /// Something that may be wrong.
    pub(crate) fn warning(&self, text: &str) {
        self.stderr(&format!("{WARNING}warning{WARNING:#}: {text}\n"));
    }

    /// A line of a result for people.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        let stream = io::stdout();
        let choice = self.choice(&stream);
        writeln!(AutoStream::new(stream, choice), "{text}")
    }

    /// A result as JSON, if that is wanted.
    pub(crate) fn json(&self, value: &Value) -> io::Result<()> {
        if self.json {
            writeln!(io::stdout(), "{value}")?;
        }
        Ok(())
    }

    /// A failure as cargo writes errors; as JSON, if that is wanted and can be written.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.kind == Kind::Unread {
            return;
        }
        if self.json {
            let value = serde_json::json!({
                "reason": "error",
                "message": failure.message,
                "causes": failure.causes,
                "hints": failure.hints,
                "code": failure.kind.code(),
            });
            if self.json(&value).is_ok() {
                return;
            }
        }
        let mut text = format!("{ERROR}error{ERROR:#}: {}\n", failure.message);
        for cause in &failure.causes {
            text.push_str(&format!("  caused by: {cause}\n"));
        }
        for hint in &failure.hints {
            text.push_str(&format!("{NOTE}hint{NOTE:#}: {hint}\n"));
        }
        self.stderr(&text);
    }
}

/// A number of bytes for people.
pub(crate) fn bytes(number: u64) -> String {
    if number < 1024 {
        return format!("{number} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = number as f64;
    let mut unit = "";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_digit_behind_the_point() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }
}
