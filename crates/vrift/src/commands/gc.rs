//! `vrift gc`.

use serde_json::json;

use crate::cli::Gc;
use crate::commands::unwritten;
use crate::exit::Failure;
use crate::output::{Output, bytes, count};
use crate::target::Target;

pub(crate) fn run(options: &Gc, target: &Target, output: &Output) -> Result<u8, Failure> {
    let report = target.collect(options)?;
    let verb = if options.dry_run {
        "Would remove"
    } else {
        "Removed"
    };
    for path in &report.stale {
        output.status(
            if options.dry_run {
                "Would forget"
            } else {
                "Forgot"
            },
            &format!("{}, which is gone", path.display()),
        );
    }
    output.status(
        verb,
        &format!(
            "{}, {}; {} stay",
            count(report.blobs, "blob"),
            bytes(report.bytes_freed),
            bytes(report.bytes_kept)
        ),
    );
    if report.in_use > 0 {
        output.note(&format!(
            "{} that nobody keeps were used recently and stay; `--older-than 0` removes them",
            count(report.in_use, "blob")
        ));
    }
    output
        .json(&json!({
            "reason": "gc",
            "dry_run": options.dry_run,
            "blobs": report.blobs,
            "bytes_freed": report.bytes_freed,
            "bytes_kept": report.bytes_kept,
            "in_use": report.in_use,
            "forgotten": report.stale,
            "temporary": report.temporary,
            "quarantined": report.quarantined,
        }))
        .map_err(unwritten)?;
    Ok(0)
}
