//! Which store is meant: that of the daemon if there is one, else one's own.
//!
//! A daemon that is there and cannot be used is an error and no reason to use another store, since two stores that take turns would surprise everybody.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vrift_daemon::{CallError, HOW_TO_START, status_of};
use vrift_store::{
    Blobs, CheckOptions, CheckReport, CollectOptions, CollectReport, Home, HomeOptions, Project,
    repair,
};

use crate::cli::{Gc, Verify};
use crate::exit::{Failure, Kind};
use crate::options::StoreOptions;
use crate::output::Output;
use crate::remote::Remote;

/// The store that commands work on.
pub(crate) enum Target {
    /// In a directory, without a daemon.
    Direct(Home),
    /// Behind a daemon.
    Daemon(Remote),
}

impl Target {
    /// Finds and opens the store; says so in one line when it is one's own because there is no daemon.
    pub(crate) fn find(options: &StoreOptions, output: &Output) -> Result<Target, Failure> {
        let path = match &options.store {
            Some(path) => path.clone(),
            None if !options.direct && options.socket.symlink_metadata().is_ok() => {
                return connect(&options.socket).map(Target::Daemon);
            }
            None => {
                let path = own_home()?;
                let why = if options.direct {
                    "as asked".to_owned()
                } else {
                    format!("no daemon at {}", options.socket.display())
                };
                output.note(&format!(
                    "direct mode, store {} ({why})",
                    path.join("the_source").display()
                ));
                path
            }
        };
        Ok(Target::Direct(Home::open(&path, HomeOptions::own())?))
    }

    /// The blobs and roots of this user.
    pub(crate) fn blobs(&self) -> &dyn Blobs {
        match self {
            Target::Direct(home) => home,
            Target::Daemon(remote) => remote,
        }
    }

    /// What `vrift status` shows, as the daemon's method `status` answers it.
    pub(crate) fn status(&self) -> Result<Value, Failure> {
        match self {
            Target::Direct(home) => Ok(status_of(home, "direct", |_| true)?),
            Target::Daemon(remote) => Ok(remote.call("status", json!({}))?),
        }
    }

    /// Collects garbage; directories of this user that are gone are forgotten first.
    pub(crate) fn collect(&self, options: &Gc) -> Result<CollectReport, Failure> {
        match self {
            Target::Direct(home) => Ok(home.collect(&CollectOptions {
                only: None,
                max_bytes: options.max_size,
                older_than: options.older_than,
                dry_run: options.dry_run,
                stale_of: Some(HomeOptions::own().uid),
                without: None,
            })?),
            Target::Daemon(remote) => collect_there(remote, options),
        }
    }

    /// Checks every blob.
    pub(crate) fn check(&self, options: &Verify) -> Result<CheckReport, Failure> {
        match self {
            Target::Direct(home) => Ok(home.check(&CheckOptions {
                repair_from: options.repair.then(|| HomeOptions::own().uid),
                sources: options.from.clone(),
            })?),
            Target::Daemon(remote) => check_there(remote, options),
        }
    }

    /// Stops keeping a directory; returns whether it was kept.
    pub(crate) fn forget(&self, path: &Path) -> Result<bool, Failure> {
        match self {
            Target::Direct(home) => Ok(home.forget(HomeOptions::own().uid, path)?),
            Target::Daemon(remote) => {
                let answer = remote.call("forget", json!({ "path": path.to_string_lossy() }))?;
                Ok(answer["kept"] == json!(true))
            }
        }
    }
}

/// `~/.vrift`.
pub(crate) fn own_home() -> Result<PathBuf, Failure> {
    std::env::home_dir()
        .filter(|home| home.is_absolute())
        .map(|home| home.join(".vrift"))
        .ok_or_else(|| {
            Failure::new(Kind::Request, "your home directory is not known")
                .hint("set HOME, or name a store with `--store DIR`")
        })
}

fn connect(socket: &Path) -> Result<Remote, Failure> {
    Remote::connect(socket).map_err(|error| {
        let mut failure = Failure::new(
            Kind::Service,
            format!("the daemon at `{}` cannot be used", socket.display()),
        )
        .because(error.to_string());
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            failure = failure.because(error.to_string());
            cause = error.source();
        }
        failure.hint(match error {
            // It is there, so that starting it does not help.
            CallError::Refused { .. } => "`--direct` uses your own store".to_owned(),
            _ => format!("start it with `{HOW_TO_START}`, or use your own store with `--direct`"),
        })
    })
}

/// Only the owner can see whether a directory is gone, so the daemon is told; then it collects.
fn collect_there(remote: &Remote, options: &Gc) -> Result<CollectReport, Failure> {
    let roots = remote.call("roots", json!({}))?;
    let mut report = CollectReport::default();
    for root in roots["roots"].as_array().into_iter().flatten() {
        let path = PathBuf::from(root["path"].as_str().unwrap_or_default());
        let device = root["device"].as_u64().unwrap_or(0);
        if vrift_store::is_gone(&path, device) {
            // A dry run does not see what forgetting would set free.
            if !options.dry_run {
                remote.call("forget", json!({ "path": path.to_string_lossy() }))?;
            }
            report.stale.push(path);
        }
    }
    let answer = remote.call(
        "gc",
        json!({
            "dry_run": options.dry_run,
            "max_size": options.max_size,
            "older_than": options.older_than.as_secs(),
            "without": options.dry_run.then_some(&report.stale),
        }),
    )?;
    let number = |name: &str| answer[name].as_u64().unwrap_or(0);
    report.blobs = number("blobs");
    report.bytes_freed = number("bytes_freed");
    report.bytes_kept = number("bytes_kept");
    report.in_use = number("in_use");
    report.temporary = number("temporary");
    report.quarantined = number("quarantined");
    Ok(report)
}

fn check_there(remote: &Remote, options: &Verify) -> Result<CheckReport, Failure> {
    if let Some(source) = options.from.first() {
        return Err(Failure::new(
            Kind::Request,
            format!(
                "the daemon takes no content from `{}` for other directories",
                source.display()
            ),
        )
        .hint("`vrift ingest` there stores what it has; `--repair` alone uses the directories that are kept"));
    }
    let answer = remote.call("verify", json!({}))?;
    let number = |name: &str| answer[name].as_u64().unwrap_or(0);
    let names = answer["names"].as_array().into_iter().flatten();
    let mut report = CheckReport {
        blobs: number("blobs"),
        bytes: number("bytes"),
        quarantined: number("quarantined"),
        names: names
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        missing_count: number("missing"),
        ..CheckReport::default()
    };
    if options.repair {
        repair_there(remote, &mut report)?;
    }
    Ok(report)
}

/// The daemon reads no directory of a user, so the user brings what is missing of each.
fn repair_there(remote: &Remote, report: &mut CheckReport) -> Result<(), Failure> {
    let roots = remote.call("roots", json!({}))?;
    let mut missing = HashMap::new();
    for root in roots["roots"].as_array().into_iter().flatten() {
        let path = PathBuf::from(root["path"].as_str().unwrap_or_default());
        let Ok(project) = Project::open(&path) else {
            continue;
        };
        let repaired = repair(&project, remote)?;
        report.repaired += repaired.blobs;
        missing.extend(repaired.missing);
    }
    report.missing_count = report
        .missing_count
        .saturating_sub(report.repaired)
        .max(missing.len() as u64);
    report.missing = missing.into_iter().collect();
    report.missing.sort();
    Ok(())
}
