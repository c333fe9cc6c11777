//! `vrift verify`.

use serde_json::json;

use crate::cli::Verify;
use crate::commands::unwritten;
use crate::exit::Failure;
use crate::output::{Output, bytes, count};
use crate::target::Target;

pub(crate) fn run(options: &Verify, target: &Target, output: &Output) -> Result<u8, Failure> {
    let report = target.check(options)?;
    output.status(
        "Verified",
        &format!("{}, {}", count(report.blobs, "blob"), bytes(report.bytes)),
    );
    for name in &report.names {
        output.warning(&format!(
            "`{name}` was damaged or foreign, and is in quarantine now"
        ));
    }
    if report.repaired > 0 {
        output.status("Repaired", &count(report.repaired, "blob"));
    }
    for (digest, path) in &report.missing {
        output.warning(&format!("`{digest}` of `{}` is missing", path.display()));
    }
    if report.missing_count > 0 && !options.repair {
        output.note("`vrift verify --repair` stores again what files still have");
    }
    output
        .json(&json!({
            "reason": "verify",
            "blobs": report.blobs,
            "bytes": report.bytes,
            "quarantined": report.quarantined,
            "names": report.names,
            "missing": report.missing_count,
            "missing_paths": report.missing.iter().map(|(_, path)| path).collect::<Vec<_>>(),
            "repaired": report.repaired,
        }))
        .map_err(unwritten)?;
    Ok(u8::from(
        report.quarantined > report.repaired || report.missing_count > 0,
    ))
}
