//! `vrift ingest`.

use std::io::ErrorKind;

use serde_json::json;
use vrift_store::{Error, IngestOptions, Ingested, Project, Skipped, ingest, phantom};

use crate::cli::{Ingest, Mode};
use crate::commands::unwritten;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Output, bytes, count};
use crate::progress::Bar;
use crate::target::Target;

pub(crate) fn run(
    options: &Ingest,
    target: &Target,
    output: &Output,
    interrupt: Interrupt,
) -> Result<u8, Failure> {
    let project = Project::open(&options.path)?;
    let bar = Bar::new(output, "Ingesting", interrupt);
    let how = IngestOptions {
        ignore_cache: options.no_cache,
    };
    let (report, replaced) = match options.mode {
        Mode::Solid => {
            let report = ingest(&project, target.blobs(), &how, &bar);
            (report.map_err(|error| explain(error, options))?, None)
        }
        Mode::Phantom => {
            let done = phantom(&project, target.blobs(), &how, &bar);
            let done = done.map_err(|error| explain(error, options))?;
            (done.ingested, Some((done.replaced, done.bytes, done.kept)))
        }
    };
    bar.clear();
    tell(&report, output);
    let kept = replaced.as_ref().map(|(_, _, kept)| kept.as_slice());
    if let Some((files, size, _)) = &replaced {
        output.status(
            "Replaced",
            &format!(
                "{} ({}) by links into the store; `vrift restore` undoes it",
                count(*files, "file"),
                bytes(*size)
            ),
        );
        name(output, "left as it is", kept.unwrap_or_default());
    }
    output
        .json(&json!({
            "reason": "ingest",
            "path": project.path(),
            "files": report.files,
            "bytes": report.bytes,
            "unique": report.unique,
            "new": report.new,
            "new_bytes": report.new_bytes,
            "read": report.read,
            "seconds": report.elapsed.as_secs_f64(),
            "manifest": report.manifest.map(|digest| digest.to_string()),
            "manifest_path": project.manifest_path(),
            "replaced": replaced.as_ref().map(|(files, _, _)| files),
            "kept": kept.map(|kept| kept.iter().map(|k| &k.path).collect::<Vec<_>>()),
            "skipped": report.skipped.iter().map(|s| &s.path).collect::<Vec<_>>(),
            "changed": report.changed,
        }))
        .map_err(unwritten)?;
    Ok(u8::from(!report.changed.is_empty()))
}

/// Names of files are those beneath the directory, which is named here.
fn explain(error: Error, options: &Ingest) -> Failure {
    let denied = match &error {
        Error::Io {
            task: "list" | "read" | "look at",
            source,
            ..
        } => source.kind() == ErrorKind::PermissionDenied,
        _ => false,
    };
    let failure = Failure::from(error);
    if denied {
        failure.hint(format!(
            "all of `{}` is kept or nothing: make it readable, or move it away",
            options.path.display()
        ))
    } else {
        failure
    }
}

fn tell(report: &Ingested, output: &Output) {
    output.status(
        "Ingested",
        &format!(
            "{}, {} ({} unique, {} new with {}) in {:.2}s",
            count(report.files, "file"),
            bytes(report.bytes),
            report.unique,
            report.new,
            bytes(report.new_bytes),
            report.elapsed.as_secs_f64()
        ),
    );
    name(output, "left out", &report.skipped);
    for path in &report.changed {
        output.warning(&format!(
            "`{}` changed each time it was read; the store has its last reading",
            path.display()
        ));
    }
}

fn name(output: &Output, what: &str, list: &[Skipped]) {
    const SHOWN: usize = 10;
    for skipped in list.iter().take(SHOWN) {
        output.warning(&format!(
            "`{}` is {what}: {}",
            skipped.path.display(),
            skipped.why
        ));
    }
    if list.len() > SHOWN {
        output.warning(&format!("{} more are {what}", list.len() - SHOWN));
    }
}
