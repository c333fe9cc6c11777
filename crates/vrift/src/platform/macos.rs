//! macOS: a temporary file whose name is taken away.
//!
//! This is compiled and was never run.

use std::fs::File;
use std::io;

/// An empty file that nobody else has and that is gone when it is closed.
pub(crate) fn unnamed_file() -> io::Result<File> {
    // In the user's own directory for temporary files, readable for this user only.
    tempfile::tempfile()
}
