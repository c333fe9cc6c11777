//! `file` URLs: a copy, so that the cache owes nothing to the original.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use tokio::time::Instant;

use crate::error::Error;
use crate::fetch::check_size;
use crate::options::{Options, Progress, Request};
use crate::sink::Partial;

/// Copies the file; blocks.
pub(crate) fn copy(
    path: PathBuf,
    mut partial: Partial,
    request: &Request,
    options: &Options,
    deadline: Instant,
) -> Result<Partial, Error> {
    let failed = |source| Error::Read {
        path: path.clone(),
        source,
    };
    // Opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(&path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let file = File::open(&path).map_err(failed)?;
    let total = file.metadata().map_err(failed)?.len();
    check_size(request, options, Some(total), total)?;
    partial.restart()?;
    request.tell(&Progress::Started {
        resumed_from: 0,
        total: Some(total),
    });
    let go_on = |bytes| {
        request.tell(&Progress::Received {
            bytes,
            total: Some(total),
        });
        // It may grow while it is read.
        check_size(request, options, None, bytes)?;
        if Instant::now() >= deadline {
            return Err(Error::TooSlow {
                url: request.url.clone(),
                limit: options.overall_timeout,
                received: bytes,
            });
        }
        Ok(())
    };
    partial.append_from(file, go_on, failed)?;
    Ok(partial)
}
