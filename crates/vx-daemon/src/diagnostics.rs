//! From what a compiler printed to what its user sees, now or replayed from the store.
//!
//! rustc prints one JSON object a line; see <https://doc.rust-lang.org/rustc/json.html>.

use serde::Deserialize;
use vx_plan::{PathMap, undefined_env_name};

/// A message of the compiler, with paths as the user knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    /// `error`, `warning`, `note`, `failure-note` …
    pub(crate) level: String,
    /// For people, with colours.
    pub(crate) rendered: String,
    /// The compiler's own object; empty for lines that were not JSON.
    pub(crate) json: String,
}

/// All that a compiler run had to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Diagnostics {
    /// In the order in which they were printed.
    pub(crate) messages: Vec<Diagnostic>,
    /// Number of errors.
    pub(crate) errors: u32,
    /// Number of warnings.
    pub(crate) warnings: u32,
    /// Environment variables that `env!` asked for in vain.
    pub(crate) missing_variables: Vec<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "$message_type")]
    kind: Option<String>,
    level: Option<String>,
    rendered: Option<String>,
    message: Option<String>,
}

/// Reads the stderr of a compiler; `paths` leads from the paths of the action to those of the user.
pub(crate) fn read(stderr: &[u8], paths: &PathMap) -> Diagnostics {
    let text = String::from_utf8_lossy(stderr);
    let mut found = Diagnostics::default();
    for line in text.lines() {
        if line.is_empty() {
            continue;
        }
        let mapped = paths.to_real(line);
        match serde_json::from_str::<Message>(&mapped) {
            Ok(message) if line.starts_with('{') => found.add(message, mapped),
            _ => found.messages.push(Diagnostic {
                level: "note".to_owned(),
                rendered: format!("{mapped}\n"),
                json: String::new(),
            }),
        }
    }
    found
}

impl Diagnostics {
    fn add(&mut self, message: Message, json: String) {
        if message
            .kind
            .as_deref()
            .is_some_and(|kind| kind != "diagnostic")
        {
            return;
        }
        let (Some(level), Some(rendered)) = (message.level, message.rendered) else {
            return;
        };
        let text = message.message.unwrap_or_default();
        // Cargo leaves these counts out and prints its own.
        if text.starts_with("aborting due to")
            || text.ends_with("warning emitted")
            || text.ends_with("warnings emitted")
        {
            return;
        }
        match level.as_str() {
            "error" | "error: internal compiler error" => self.errors += 1,
            "warning" => self.warnings += 1,
            _ => {}
        }
        self.missing_variables.extend(undefined_env_name(&json));
        self.messages.push(Diagnostic {
            level,
            rendered,
            json,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: &str, message: &str) -> String {
        serde_json::json!({
            "$message_type": "diagnostic",
            "level": level,
            "message": message,
            "rendered": format!("{level}: {message}\n --> /vx/path/a-1/src/lib.rs:1:1\n"),
        })
        .to_string()
    }

    #[test]
    fn messages_are_counted_mapped_and_kept_in_order() {
        let stderr = [
            line("warning", "unused variable: `x`"),
            line(
                "error",
                "environment variable `TOKEN` not defined at compile time",
            ),
            line(
                "error",
                "aborting due to 1 previous error; 1 warning emitted",
            ),
            r#"{"$message_type":"artifact","artifact":"/vx/out/a.rmeta","emit":"metadata"}"#
                .to_owned(),
            "thread 'rustc' panicked".to_owned(),
        ]
        .join("\n");
        let found = read(
            stderr.as_bytes(),
            &PathMap::new(vec![("/vx/path/a-1".into(), "/home/ann/a".into())]),
        );
        assert_eq!((found.errors, found.warnings), (1, 1));
        assert_eq!(found.missing_variables, ["TOKEN"]);
        let rendered: Vec<_> = found.messages.iter().map(|m| m.rendered.as_str()).collect();
        assert_eq!(rendered.len(), 3);
        assert!(rendered[0].contains("/home/ann/a/src/lib.rs"));
        assert_eq!(rendered[2], "thread 'rustc' panicked\n");
    }
}
