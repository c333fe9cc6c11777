//! `vrift manifest`.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::json;
use vrift_store::manifest::{Entry, Kind};

use crate::commands::{load_manifest, unwritten};
use crate::exit::Failure;
use crate::output::Output;

pub(crate) fn run(path: &Path, output: &Output) -> Result<u8, Failure> {
    let manifest = load_manifest(path)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for entry in manifest.entries() {
        let line = if output.is_json() {
            as_json(entry)
        } else {
            as_text(entry)
        };
        writeln!(out, "{line}").map_err(unwritten)?;
    }
    out.flush().map_err(unwritten)?;
    Ok(0)
}

/// A path for people: what is no text, and what would end the line, is escaped.
fn shown(path: &[u8]) -> String {
    let path = if path.is_empty() { b"." } else { path };
    match std::str::from_utf8(path) {
        Ok(text) if !text.contains(|c: char| c.is_control()) => text.to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}

fn as_text(entry: &Entry) -> String {
    let path = shown(&entry.path);
    let (kind, rest) = match &entry.kind {
        Kind::Directory => ('d', String::new()),
        Kind::File(digest) => ('f', format!("  {digest}")),
        Kind::Symlink(target) => ('l', format!(" -> {}", shown(target))),
    };
    format!(
        "{kind} {:04o} {}.{:09} {path}{rest}",
        entry.mode, entry.mtime.seconds, entry.mtime.nanoseconds
    )
}

fn as_json(entry: &Entry) -> String {
    let mut value = json!({
        "reason": "entry",
        "path": shown(&entry.path),
        "mode": format!("{:04o}", entry.mode),
        "mtime": [entry.mtime.seconds, i64::from(entry.mtime.nanoseconds)],
    });
    match &entry.kind {
        Kind::Directory => value["kind"] = json!("directory"),
        Kind::File(digest) => {
            value["kind"] = json!("file");
            value["digest"] = json!(digest.to_string());
        }
        Kind::Symlink(target) => {
            value["kind"] = json!("symlink");
            value["target"] = json!(shown(target));
        }
    }
    value.to_string()
}
