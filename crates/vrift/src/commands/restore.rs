//! `vrift restore`.

use std::path::Path;

use serde_json::json;
use vrift_store::{Project, restore};

use crate::commands::unwritten;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Output, bytes, count};
use crate::progress::Bar;
use crate::target::Target;

pub(crate) fn run(
    path: &Path,
    target: &Target,
    output: &Output,
    interrupt: Interrupt,
) -> Result<u8, Failure> {
    let project = Project::open(path)?;
    let bar = Bar::new(output, "Restoring", interrupt);
    let report = restore(&project, target.blobs(), &bar)?;
    bar.clear();
    output.status(
        "Restored",
        &format!(
            "{}, {} in {}",
            count(report.files, "file"),
            bytes(report.bytes),
            project.path().display()
        ),
    );
    for path in &report.missing {
        output.warning(&format!(
            "`{}` stays a link: its content is not in the store",
            path.display()
        ));
    }
    output
        .json(&json!({
            "reason": "restore",
            "path": project.path(),
            "files": report.files,
            "bytes": report.bytes,
            "missing": report.missing,
        }))
        .map_err(unwritten)?;
    Ok(u8::from(!report.missing.is_empty()))
}
