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
            "{} not kept by anybody, and left alone since the last use is recent{}",
            count(report.in_use, "blob"),
            if options.older_than.is_zero() {
                "; try again in a minute"
            } else {
                "; see `--older-than`"
            }
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
