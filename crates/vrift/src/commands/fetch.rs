//! `vrift fetch`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use vx_digest::Digest;

use crate::commands::unwritten;
use crate::exit::{Failure, Kind};
use crate::output::{Output, bytes};
use crate::target::Target;

pub(crate) fn run(
    digest: &str,
    file: Option<&Path>,
    target: &Target,
    output: &Output,
) -> Result<u8, Failure> {
    let parsed: Digest = digest
        .replacen('_', "/", 1)
        .parse()
        .map_err(|error: vx_digest::DigestError| Failure::new(Kind::Request, error.to_string()))?;
    let opened = target.blobs().open(&[parsed])?.into_iter().next().flatten();
    let Some(mut blob) = opened else {
        return Err(Failure::new(
            Kind::Request,
            format!("there is no blob `{parsed}` that you may have"),
        ));
    };
    match file {
        None => {
            let mut out = io::stdout().lock();
            io::copy(&mut blob, &mut out).map_err(unwritten)?;
            // What comes after the last line break has not been written yet.
            out.flush().map_err(unwritten)?;
        }
        Some(path) => {
            let mut write = || -> io::Result<u64> {
                let mut to = OpenOptions::new().write(true).create_new(true).open(path)?;
                io::copy(&mut blob, &mut to).inspect_err(|_| {
                    // The error that matters is the one before.
                    let _ignored = fs::remove_file(path);
                })
            };
            let size = write().map_err(|error| {
                Failure::new(
                    Kind::Internal,
                    format!("could not write `{}`", path.display()),
                )
                .because(error.to_string())
            })?;
            output.status("Fetched", &format!("{} to {}", bytes(size), path.display()));
        }
    }
    Ok(0)
}
