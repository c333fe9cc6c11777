//! The two output streams of this process: whether they have colours, whether
//! somebody watches, and what happens when nobody reads any more.
//!
//! Knows nothing of builds. Text is written with colours throughout and
//! stripped here, so that no renderer has two forms of anything.

use std::io::{self, IsTerminal, Stderr, Stdout, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Effects, Style};

use crate::exit::Failure;
use crate::options::When;

/// Verbs of status lines.
pub(crate) const GOOD: Style = bold(AnsiColor::BrightGreen);
/// What runs now, and unimportant verbs.
pub(crate) const NOTE: Style = bold(AnsiColor::BrightCyan);
/// The word `warning`.
pub(crate) const WARNING: Style = bold(AnsiColor::Yellow);
/// The word `error`.
pub(crate) const ERROR: Style = bold(AnsiColor::BrightRed);

const fn bold(color: AnsiColor) -> Style {
    color.on_default().effects(Effects::BOLD)
}

/// A word in a style.
pub(crate) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A status line as cargo's: the verb right-aligned in 12 columns.
pub(crate) fn status_line(style: Style, verb: &str, text: &str) -> String {
    format!("{style}{verb:>12}{style:#} {text}\n")
}

/// When to use colours: `--color`, else what the environment says.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Colors(Option<When>);

impl Colors {
    /// From `--color` and `CARGO_TERM_COLOR`.
    pub(crate) fn new(option: Option<When>, cargo_term_color: Option<&str>) -> Colors {
        Colors(option.or(match cargo_term_color {
            Some("always") => Some(When::Always),
            Some("never") => Some(When::Never),
            _ => None,
        }))
    }

    fn choice(self, stream: &impl anstream::stream::RawStream) -> ColorChoice {
        match self.0 {
            Some(When::Always) => ColorChoice::Always,
            Some(When::Never) => ColorChoice::Never,
            // Looks at NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM and the terminal.
            Some(When::Auto) | None => AutoStream::choice(stream),
        }
    }

    /// Standard error, which strips colours where they are not wanted.
    pub(crate) fn stderr(self) -> AutoStream<Stderr> {
        let stream = io::stderr();
        let choice = self.choice(&stream);
        AutoStream::new(stream, choice)
    }

    /// Standard output, likewise.
    pub(crate) fn stdout(self) -> AutoStream<Stdout> {
        let stream = io::stdout();
        let choice = self.choice(&stream);
        AutoStream::new(stream, choice)
    }
}

/// Whether somebody watches standard error.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes a failure as cargo writes errors. Nothing more can be done when that
/// fails too.
pub(crate) fn tell(out: &mut impl Write, failure: &Failure) {
    let mut text = String::new();
    if !failure.message.is_empty() {
        text.push_str(&format!("{}: {}\n", paint(ERROR, "error"), failure.message));
    }
    for cause in &failure.causes {
        text.push_str(&format!("  caused by: {}\n", cause.replace('\n', "\n    ")));
    }
    for hint in &failure.hints {
        text.push_str(&hint_line(hint));
    }
    let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// `hint: …`
pub(crate) fn hint_line(hint: &str) -> String {
    format!("{}: {hint}\n", paint(NOTE, "hint"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Kind;

    #[test]
    fn the_option_wins_over_the_environment() {
        assert_eq!(
            Colors::new(Some(When::Never), Some("always")).0,
            Some(When::Never)
        );
        assert_eq!(Colors::new(None, Some("always")).0, Some(When::Always));
        assert_eq!(Colors::new(None, Some("nonsense")).0, None);
    }

    #[test]
    fn a_failure_shows_its_causes_and_hints() {
        let mut out = anstream::StripStream::new(Vec::new());
        let failure = Failure::new(Kind::Service, "no service")
            .because("refused\nsecond line")
            .hint("start it");
        tell(&mut out, &failure);
        assert_eq!(
            String::from_utf8(out.into_inner()).unwrap(),
            "error: no service\n  caused by: refused\n    second line\nhint: start it\n"
        );
    }
}
