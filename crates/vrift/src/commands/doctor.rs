//! `vrift doctor`.

use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::commands::unwritten;
use crate::exit::Failure;
use crate::options::StoreOptions;
use crate::output::{Output, bytes, count};
use crate::target::Target;

/// One thing that was looked at.
struct Finding {
    good: bool,
    what: &'static str,
    text: String,
}

pub(crate) fn run(options: &StoreOptions, output: &Output) -> Result<u8, Failure> {
    let mut findings = Vec::new();
    let mut found = |good, what, text: String| findings.push(Finding { good, what, text });
    match Target::find(options, output) {
        Ok(target) => {
            found(true, "store", target.blobs().name());
            match target.status() {
                Ok(status) => {
                    let quarantine = status["quarantine"].as_u64().unwrap_or(0);
                    found(
                        quarantine == 0,
                        "damage",
                        match quarantine {
                            0 => "none found so far; `vrift verify` looks at every byte".to_owned(),
                            n => format!(
                                "{} in quarantine; `vrift verify --repair` replaces what is damaged, `vrift gc` throws it away",
                                count(n, "file")
                            ),
                        },
                    );
                }
                Err(failure) => found(false, "roots", failure.in_one_line()),
            }
            match target.blobs().projection() {
                vrift_store::Projection::Allowed => {
                    found(
                        true,
                        "phantom",
                        "links into the store can be made".to_owned(),
                    );
                }
                vrift_store::Projection::Refused { why } => {
                    found(true, "phantom", format!("not available: {why}"));
                }
            }
            if let Target::Direct(home) = &target {
                for root in home
                    .roots_of(vrift_store::HomeOptions::own().uid)
                    .into_iter()
                    .flatten()
                {
                    let path = &root.request.path;
                    if root.request.phantom && vrift_store::is_gone(path, root.request.device) {
                        found(
                            false,
                            "links",
                            format!(
                                "`{}`, whose files were links, is gone; `vrift forget` gives its content up",
                                path.display()
                            ),
                        );
                    }
                }
                if let Ok(space) = rustix::fs::statvfs(home.path()) {
                    let free = space.f_bavail.saturating_mul(space.f_frsize);
                    found(free > 1 << 30, "space", format!("{} free", bytes(free)));
                    let inodes = space.f_favail;
                    found(
                        space.f_files == 0 || inodes > 10_000,
                        "inodes",
                        if space.f_files == 0 {
                            "made as they are needed".to_owned()
                        } else {
                            format!("{inodes} free")
                        },
                    );
                }
                if let Ok(metadata) = std::fs::metadata(home.path()) {
                    let private = metadata.mode() & 0o077 == 0;
                    found(
                        private,
                        "privacy",
                        if private {
                            "nobody else can enter the store".to_owned()
                        } else {
                            format!(
                                "others can enter `{}`; make its mode 0700",
                                home.path().display()
                            )
                        },
                    );
                }
            }
        }
        Err(failure) => found(false, "store", failure.in_one_line()),
    }
    let good = findings.iter().all(|finding| finding.good);
    for finding in findings {
        output
            .json(&json!({
                "reason": "finding", "good": finding.good, "what": finding.what, "text": finding.text
            }))
            .map_err(unwritten)?;
        if !output.is_json() {
            let mark = if finding.good { "ok  " } else { "BAD " };
            output
                .line(&format!("{mark} {:<8} {}", finding.what, finding.text))
                .map_err(unwritten)?;
        }
    }
    Ok(u8::from(!good))
}
