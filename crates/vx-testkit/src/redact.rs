//! The one table of what differs from run to run, and what stands for it in a
//! snapshot.

use std::path::Path;
use std::sync::OnceLock;

use regex::{Captures, Regex};

/// Replaces what differs from run to run:
///
/// | what | example | becomes |
/// |---|---|---|
/// | private directories | `/tmp/vxt-a1b2c3/home/x` | `[HOME]/x` (`[RUNTIME]`, `[TEMP]`, `[WORK]`, `[LOGS]`, the names of own directories, else `[ENV]`) |
/// | where binaries are built | `…/target/debug/vx` | `[BIN]/vx` |
/// | caller's cargo and rustup | `/home/u/.cargo/registry` | `[CARGO_HOME]/registry`, `[RUSTUP_HOME]` |
/// | ports on loopback | `127.0.0.1:41233`, `localhost:41233` | `127.0.0.1:[PORT]` |
/// | process ids | `pid 4711`, `pid=4711`, `process 4711` | `pid [PID]` |
/// | digests | 32 hex digits and more, with `/size` if there is one | `[DIGEST]` |
/// | file name hashes | `libfoo-0123456789abcdef.rlib` | `libfoo-[HASH].rlib` |
/// | durations | `0.12s`, `3 ms`, `1m 03s`, `2.5 seconds` | `[TIME]` |
/// | versions of programs | `vx 0.1.0`, `rustc 1.95.0 (abc 2026-01-01)` | `vx [VERSION]` |
///
/// Paths go first, longest first; what a test adds itself goes last.
#[derive(Clone, Debug, Default)]
pub struct Redactions {
    paths: Vec<(String, String)>,
    programs: Vec<String>,
    own: Vec<(Regex, String)>,
}

impl Redactions {
    /// The table without any path or program of its own.
    #[must_use]
    pub fn new() -> Redactions {
        Redactions::default()
    }

    /// Shows everything below `path` as `[name]`.
    pub fn path(&mut self, path: &Path, name: &str) {
        let text = path.display().to_string();
        if text.len() > 1 {
            self.paths.push((text, format!("[{name}]")));
            self.paths
                .sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        }
    }

    /// Hides the version that stands behind this program's name.
    pub fn program(&mut self, name: &str) {
        if !self.programs.iter().any(|known| known == name) {
            self.programs.push(name.to_owned());
        }
    }

    /// Adds a rule of the test's own.
    ///
    /// # Errors
    /// Returns the error of a pattern that is not a regular expression.
    pub fn rule(&mut self, pattern: &str, replacement: &str) -> Result<(), regex::Error> {
        self.own
            .push((Regex::new(pattern)?, replacement.to_owned()));
        Ok(())
    }

    /// The text with everything of the table replaced.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        let mut text = text.replace("\r\n", "\n");
        for (path, name) in &self.paths {
            text = replace_path(&text, path, name);
        }
        for (pattern, replacement) in table() {
            text = pattern.replace_all(&text, *replacement).into_owned();
        }
        text = versions()
            .replace_all(&text, |found: &Captures<'_>| {
                let name = &found["name"];
                if ["cargo", "rustc"].contains(&name) || self.programs.iter().any(|p| p == name) {
                    format!("{name} [VERSION]")
                } else {
                    found[0].to_owned()
                }
            })
            .into_owned();
        for (pattern, replacement) in &self.own {
            text = pattern.replace_all(&text, replacement).into_owned();
        }
        text
    }
}

/// Replaces the path only where it ends there: `/tmp/ab` is not in `/tmp/abc`.
fn replace_path(text: &str, path: &str, name: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(path) {
        let end = at + path.len();
        let goes_on = rest[end..]
            .chars()
            .next()
            .is_some_and(|next| next.is_alphanumeric() || matches!(next, '-' | '_'));
        out.push_str(&rest[..at]);
        out.push_str(if goes_on { path } else { name });
        rest = &rest[end..];
    }
    out + rest
}

type Rule = (Regex, &'static str);

fn table() -> &'static [Rule] {
    static TABLE: OnceLock<Vec<Rule>> = OnceLock::new();
    TABLE.get_or_init(|| {
        [
            (
                r"(?P<host>127\.0\.0\.1|localhost|\[::1\]|0\.0\.0\.0):\d{1,5}\b",
                "$host:[PORT]",
            ),
            (r"(?i)\b(?P<name>pid|process)(?P<sep>[ =:]+)\d+\b", "$name$sep[PID]"),
            (r"\b[0-9a-f]{32,128}(?:/\d+)?\b", "[DIGEST]"),
            (r"-[0-9a-f]{16}\b", "-[HASH]"),
            (
                r"\b\d+(?:\.\d+)?m ?\d+(?:\.\d+)?s\b|\b\d+(?:\.\d+)? ?(?:ns|us|µs|ms|s|secs?|seconds?|mins?|minutes?)\b",
                "[TIME]",
            ),
        ]
        .into_iter()
        .filter_map(|(pattern, replacement)| Some((Regex::new(pattern).ok()?, replacement)))
        .collect()
    })
}

fn versions() -> &'static Regex {
    static VERSIONS: OnceLock<Regex> = OnceLock::new();
    VERSIONS.get_or_init(|| {
        Regex::new(
            r"\b(?P<name>[A-Za-z][\w-]*) v?\d+\.\d+\.\d+(?:-[\w.]+)?(?:\+[\w.]+)?(?: \([0-9a-f]{6,12} \d{4}-\d\d-\d\d\))?",
        )
        .unwrap_or_else(|error| unreachable!("a constant pattern: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactions() -> Redactions {
        let mut all = Redactions::new();
        all.path(Path::new("/tmp/vxt-1"), "ENV");
        all.path(Path::new("/tmp/vxt-1/home"), "HOME");
        all.program("vx");
        all.rule("colou?r", "[C]").unwrap();
        all
    }

    #[test]
    fn every_row_of_the_table_holds() {
        assert_eq!(table().len(), 5, "every pattern is a regular expression");
        for (text, expected) in [
            ("/tmp/vxt-1/home/x /tmp/vxt-1/y", "[HOME]/x [ENV]/y"),
            ("/tmp/vxt-12/home", "/tmp/vxt-12/home"),
            ("on 127.0.0.1:41233.", "on 127.0.0.1:[PORT]."),
            ("[::1]:80 localhost:8080", "[::1]:[PORT] localhost:[PORT]"),
            (
                "(pid 4711) pid=1, process 22",
                "(pid [PID]) pid=[PID], process [PID]",
            ),
            (
                "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262/42",
                "[DIGEST]",
            ),
            ("libfoo-0123456789abcdef.rlib", "libfoo-[HASH].rlib"),
            (
                "in 0.12s, 3 ms, 1m 03s and 2.5 seconds",
                "in [TIME], [TIME], [TIME] and [TIME]",
            ),
            ("vx 0.1.0", "vx [VERSION]"),
            ("rustc 1.95.0 (abcdef123 2026-01-01)", "rustc [VERSION]"),
            ("Compiling serde v1.0.1", "Compiling serde v1.0.1"),
            ("color colour", "[C] [C]"),
            ("exit code 101, 3 units", "exit code 101, 3 units"),
        ] {
            assert_eq!(redactions().apply(text), expected);
        }
    }
}
