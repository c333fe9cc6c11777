//! The evidence of a failed test: its directories, the processes it had, its
//! environment without secrets, and the command that runs it again.
//!
//! Written by the helper, since nobody else is left after a kill.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::leaks::Report;
use crate::lifeline::sweep;
use crate::lifeline::wire::Context;

/// This many bytes of a test's directories are copied, small files first: logs
/// and settings are small, stores and build outputs are not.
const TOTAL_MAX: u64 = 32 << 20;
/// This many larger files are named instead; the others are only counted.
const NAMED_MAX: usize = 50;

/// The processes of a test as text, one line each.
pub(crate) fn processes(pids: &BTreeSet<u32>) -> String {
    sweep::describe(pids)
        .iter()
        .fold(String::new(), |mut text, process| {
            let _ = writeln!(text, "{process} (parent {})", process.parent);
            text
        })
}

/// What the helper saw.
pub(crate) struct Evidence<'a> {
    /// How the test ended.
    pub(crate) why: &'a str,
    /// What ran when it ended.
    pub(crate) processes: &'a str,
    /// How programs ended, in that order.
    pub(crate) exits: &'a VecDeque<String>,
    /// What services said, and what befell them, in one order.
    pub(crate) timeline: &'a str,
}

/// Writes the bundle and returns its directory.
pub(crate) fn write(
    context: &Context,
    report: &Report,
    evidence: &Evidence<'_>,
) -> io::Result<PathBuf> {
    let Evidence {
        why,
        processes,
        exits,
        timeline,
    } = evidence;
    let bundle = context.bundle.clone();
    if bundle.exists() {
        crate::dirs::remove(&bundle)?;
    }
    fs::create_dir_all(&bundle)?;
    let omitted = copy_capped(&context.root, &bundle.join("env"), TOTAL_MAX)?;
    fs::write(bundle.join("processes.txt"), processes)?;
    fs::write(bundle.join("timeline.txt"), timeline)?;
    let exits: String = exits.iter().map(|exit| format!("{exit}\n")).collect();
    fs::write(bundle.join("exits.txt"), exits)?;
    fs::write(bundle.join("environment.txt"), &context.environment)?;
    let reproduce = bundle.join("reproduce.sh");
    fs::write(
        &reproduce,
        format!("#!/bin/sh\nexec {}\n", context.reproduce),
    )?;
    fs::set_permissions(
        &reproduce,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    let mut text = format!(
        "the test {why}\n{report}\n\ntier of hermeticity: {}{}\nrun again: {}\n",
        context.tier,
        context
            .tier_reason
            .as_deref()
            .map(|reason| format!(", since {reason}"))
            .unwrap_or_default(),
        context.reproduce
    );
    if !processes.is_empty() {
        let _ = write!(text, "\nprocesses at the end:\n{processes}");
    }
    if !omitted.is_empty() {
        let _ = write!(text, "\nnot copied:\n{omitted}");
    }
    fs::write(bundle.join("report.txt"), text)?;
    Ok(bundle)
}

/// Copies what can be read, up to the budget; notes what it leaves out.
fn copy_capped(from: &Path, to: &Path, budget: u64) -> io::Result<String> {
    let mut found = Found::default();
    found.walk(from, to)?;
    found.files.sort_by_key(|file| file.size);
    let (mut left, mut skipped) = (budget, 0);
    for file in found.files {
        if file.size > left {
            skipped += 1;
            if skipped <= NAMED_MAX {
                let line = format!("{}: {} bytes", file.path.display(), file.size);
                found.omitted.push(line);
            }
        } else if let Err(error) = fs::copy(&file.path, &file.target) {
            let line = format!("{}: {error}", file.path.display());
            found.omitted.push(line);
        } else {
            left -= file.size;
        }
    }
    if skipped > NAMED_MAX {
        let line = format!("{} more files", skipped - NAMED_MAX);
        found.omitted.push(line);
    }
    Ok(found
        .omitted
        .iter()
        .map(|line| format!("{line}\n"))
        .collect())
}

struct Regular {
    path: PathBuf,
    target: PathBuf,
    size: u64,
}

#[derive(Default)]
struct Found {
    files: Vec<Regular>,
    omitted: Vec<String>,
}

impl Found {
    /// Makes the directories and links of a tree again, and lists its files.
    fn walk(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        let Ok(entries) = fs::read_dir(from) else {
            self.omitted
                .push(format!("{}: cannot be read", from.display()));
            return Ok(());
        };
        for entry in entries.flatten() {
            let (path, target) = (entry.path(), to.join(entry.file_name()));
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            let kind = metadata.file_type();
            if kind.is_dir() {
                self.walk(&path, &target)?;
            } else if kind.is_symlink() {
                fs::read_link(&path)
                    .and_then(|link| std::os::unix::fs::symlink(link, target))
                    .ok();
            } else if kind.is_file() {
                let size = metadata.len();
                self.files.push(Regular { path, target, size });
            } else {
                self.omitted
                    .push(format!("{}: not a regular file", path.display()));
            }
        }
        Ok(())
    }
}

/// This process's environment as text, one variable a line; the values of
/// variables whose names sound secret are left out.
pub(crate) fn environment() -> String {
    let mut lines: Vec<String> = std::env::vars_os()
        .map(|(name, value)| {
            without_secret(&format!(
                "{}={}",
                name.to_string_lossy(),
                value.to_string_lossy()
            ))
        })
        .collect();
    lines.sort();
    lines.join("\n") + "\n"
}

fn without_secret(entry: &str) -> String {
    let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
    let upper = name.to_uppercase();
    let secret = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "KEY"]
        .iter()
        .any(|word| upper.contains(word));
    if secret {
        format!("{name}=[REDACTED]")
    } else {
        format!("{name}={value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_variables_are_not_written() {
        assert_eq!(
            without_secret("GITHUB_TOKEN=abc"),
            "GITHUB_TOKEN=[REDACTED]"
        );
        assert_eq!(without_secret("api_key=abc"), "api_key=[REDACTED]");
        assert_eq!(without_secret("HOME=/h"), "HOME=/h");
    }

    #[test]
    fn small_files_are_copied_and_large_ones_named() {
        let from = tempfile::tempdir().unwrap();
        let to = tempfile::tempdir().unwrap();
        fs::create_dir(from.path().join("d")).unwrap();
        fs::write(from.path().join("a-large"), "1234567890").unwrap();
        fs::write(from.path().join("d/small"), "12345").unwrap();
        std::os::unix::fs::symlink("d/small", from.path().join("link")).unwrap();
        let omitted = copy_capped(from.path(), to.path(), 10).unwrap();
        assert!(to.path().join("d/small").exists());
        assert!(to.path().join("link").is_symlink());
        assert!(!to.path().join("a-large").exists());
        assert!(omitted.contains("a-large: 10 bytes"), "{omitted}");
    }
}
