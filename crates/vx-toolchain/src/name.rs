//! What users call a toolchain: a channel with or without a date, or a name of their own.
//!
//! The forms are those of <https://rust-lang.github.io/rustup/concepts/toolchains.html>.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A release channel, as the distribution server knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Channel {
    /// `stable`, `beta`, `nightly` or a version such as `1.90` or `1.90.0`.
    pub name: String,
    /// The day of a dated release, e.g. `2025-09-18`.
    pub date: Option<String>,
    /// The host triple, where it was written out.
    pub host: Option<String>,
}

impl Channel {
    /// Whether it may mean another release tomorrow.
    pub fn is_moving(&self) -> bool {
        let numbers = self.name.split('.').count();
        self.date.is_none() && (numbers < 3 || self.name.ends_with("-beta"))
    }

    /// The name without the host.
    pub fn dated_name(&self) -> String {
        match &self.date {
            Some(date) => format!("{}-{date}", self.name),
            None => self.name.clone(),
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dated_name())?;
        match &self.host {
            Some(host) => write!(f, "-{host}"),
            None => Ok(()),
        }
    }
}

/// What a toolchain is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolchainName {
    /// A release of the Rust project.
    Channel(Channel),
    /// A toolchain that was linked into rustup under this name.
    Custom(String),
    /// A sysroot, by its absolute path.
    Path(PathBuf),
}

/// A text that names no toolchain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a toolchain, such as `stable`, `1.90.0` or `nightly-2025-09-01`")]
pub struct NameError(String);

impl FromStr for ToolchainName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<ToolchainName, NameError> {
        let text = text.trim();
        if text.starts_with('/') {
            return Ok(ToolchainName::Path(PathBuf::from(text)));
        }
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\' | b':'));
        if text.is_empty() || !plain || matches!(text, "." | ".." | "none") || text.len() > 128 {
            return Err(NameError(text.to_owned()));
        }
        Ok(match channel(text) {
            Some(channel) => ToolchainName::Channel(channel),
            None => ToolchainName::Custom(text.to_owned()),
        })
    }
}

impl fmt::Display for ToolchainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToolchainName::Channel(channel) => channel.fmt(f),
            ToolchainName::Custom(name) => f.write_str(name),
            ToolchainName::Path(path) => path.display().fmt(f),
        }
    }
}

/// `<channel>[-<date>][-<host>]`; whatever has another form is a name of the user's.
fn channel(text: &str) -> Option<Channel> {
    let mut parts: Vec<&str> = text.split('-').collect();
    let first = parts.remove(0);
    let mut name = first.to_owned();
    if !matches!(first, "stable" | "beta" | "nightly") {
        if !is_version(first) {
            return None;
        }
        // `1.90.0-beta` and `1.90.0-beta.3` are channels of their own.
        let pre = parts
            .first()
            .filter(|pre| **pre == "beta" || pre.starts_with("beta."));
        if let Some(pre) = pre {
            name = format!("{first}-{pre}");
            parts.remove(0);
        }
    }
    let mut date = None;
    if let [year, month, day, ..] = parts[..]
        && [(year, 4), (month, 2), (day, 2)]
            .iter()
            .all(|(part, length)| part.len() == *length && is_number(part))
    {
        date = Some(format!("{year}-{month}-{day}"));
        parts.drain(..3);
    }
    let host = match parts.len() {
        0 => None,
        // An architecture alone is no triple, and no release has such a name.
        1 | 2 => return None,
        _ => Some(parts.join("-")),
    };
    Some(Channel { name, date, host })
}

fn is_version(text: &str) -> bool {
    let numbers: Vec<&str> = text.split('.').collect();
    matches!(numbers.len(), 2 | 3) && numbers.iter().all(|number| is_number(number))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<String>, Option<String>) {
        match text.parse() {
            Ok(ToolchainName::Channel(Channel { name, date, host })) => (name, date, host),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn channels_have_a_date_and_a_host_at_will() {
        let some = |text: &str| Some(text.to_owned());
        let host = "x86_64-unknown-linux-gnu";
        assert_eq!(parsed("stable"), ("stable".into(), None, None));
        assert_eq!(parsed("1.90"), ("1.90".into(), None, None));
        assert_eq!(
            parsed("1.90.0-beta.3"),
            ("1.90.0-beta.3".into(), None, None)
        );
        assert_eq!(
            parsed(&format!("nightly-2025-09-01-{host}")),
            ("nightly".into(), some("2025-09-01"), some(host))
        );
        assert_eq!(
            parsed(&format!("1.90.0-{host}")),
            ("1.90.0".into(), None, some(host))
        );
    }

    #[test]
    fn other_names_are_the_users_and_paths_are_absolute() {
        for text in ["mine", "stable-mine", "stage1", "1", "nightly-2025"] {
            let name = text.parse::<ToolchainName>().unwrap();
            assert_eq!(name, ToolchainName::Custom(text.to_owned()));
        }
        let path = "/opt/rust".parse::<ToolchainName>().unwrap();
        assert_eq!(path, ToolchainName::Path("/opt/rust".into()));
        for text in ["", "a/b", "..", "none", "a b", "../x"] {
            let error = text.parse::<ToolchainName>().unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("`{text}`")),
                "{error}"
            );
        }
    }

    #[test]
    fn full_versions_and_dates_never_move() {
        for (text, moves) in [
            ("stable", true),
            ("1.90", true),
            ("1.90.0", false),
            ("nightly-2025-09-01", false),
            ("1.90.0-beta", true),
            ("1.90.0-beta.3", false),
        ] {
            let Ok(ToolchainName::Channel(channel)) = text.parse() else {
                panic!("{text}");
            };
            assert_eq!(channel.is_moving(), moves, "{text}");
        }
    }
}
