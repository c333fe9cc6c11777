//! Linux: memory that is a file.

use std::fs::File;
use std::io;

use rustix::fs::{MemfdFlags, memfd_create};

/// An empty file that nobody else has and that is gone when it is closed.
pub(crate) fn unnamed_file() -> io::Result<File> {
    Ok(memfd_create("vrift", MemfdFlags::CLOEXEC)?.into())
}
