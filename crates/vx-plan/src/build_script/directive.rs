//! One line of a build script's output: is it a directive, and what are its key and value?

use crate::error::OutputError;

const DOCS: &str = "See https://doc.rust-lang.org/cargo/reference/build-scripts.html#outputs-of-the-build-script \
for more information about build script outputs.";

/// Keys that the old syntax (one colon) knows; anything else there is metadata.
const OLD_KEYS: [&str; 17] = [
    "rustc-flags",
    "rustc-link-lib",
    "rustc-link-search",
    "rustc-link-arg-cdylib",
    "rustc-cdylib-link-arg",
    "rustc-link-arg-bins",
    "rustc-link-arg-bin",
    "rustc-link-arg-tests",
    "rustc-link-arg-benches",
    "rustc-link-arg-examples",
    "rustc-link-arg",
    "rustc-cfg",
    "rustc-check-cfg",
    "rustc-env",
    "warning",
    "rerun-if-changed",
    "rerun-if-env-changed",
];

/// A directive, before its value is understood.
#[derive(Debug)]
pub(super) struct Directive<'a> {
    pub(super) line: &'a str,
    /// `cargo:` or `cargo::`.
    pub(super) prefix: &'static str,
    pub(super) key: &'a str,
    pub(super) value: &'a str,
}

/// Splits a line; `None` if it is no directive.
pub(super) fn split<'a>(line: &'a str, whence: &str) -> Result<Option<Directive<'a>>, OutputError> {
    if let Some(data) = line.strip_prefix("cargo::") {
        let (key, value) = data
            .split_once('=')
            .ok_or_else(|| without_value(line, "cargo::", "KEY=VALUE", whence))?;
        return Ok(Some(Directive {
            line,
            prefix: "cargo::",
            key,
            value: value.trim_end(),
        }));
    }
    let Some(data) = line.strip_prefix("cargo:") else {
        return Ok(None);
    };
    let known = data
        .split_once('=')
        .filter(|(key, _)| OLD_KEYS.contains(key));
    let (key, value) = known.unwrap_or(("metadata", data));
    Ok(Some(Directive {
        line,
        prefix: "cargo:",
        key,
        value: value.trim_end(),
    }))
}

/// Key and value of a metadata directive.
pub(super) fn metadata<'a>(
    found: &Directive<'a>,
    whence: &str,
) -> Result<(&'a str, &'a str), OutputError> {
    let shape = if found.prefix == "cargo::" {
        "metadata=KEY=VALUE"
    } else {
        "KEY=VALUE"
    };
    found
        .value
        .split_once('=')
        .ok_or_else(|| without_value(found.line, found.prefix, shape, whence))
}

/// The error for a key that does not exist.
pub(super) fn unknown_key(found: &Directive<'_>, whence: &str) -> OutputError {
    OutputError {
        message: format!(
            "unsupported output in {whence}: `{}`\nUnknown key: `{}`.\n{DOCS}",
            found.line, found.key
        ),
    }
}

fn without_value(line: &str, prefix: &str, shape: &str, whence: &str) -> OutputError {
    OutputError {
        message: format!(
            "invalid output in {whence}: `{line}`\n\
             Expected a line with `{prefix}{shape}` with an `=` character, but none was found.\n{DOCS}"
        ),
    }
}
