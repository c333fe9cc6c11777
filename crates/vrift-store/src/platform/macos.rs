//! macOS: directories are opened step by step, content is copied; nothing tells of writers.
//!
//! This is compiled and was never run.

use std::ffi::{CStr, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, OFlags};

/// `ACL_TYPE_EXTENDED`, the only kind of list there is.
const EXTENDED: c_int = 0x100;

unsafe extern "C" {
    /// The access control list of an open file, null when it has none; declared in `<sys/acl.h>`.
    fn acl_get_fd_np(fd: c_int, kind: c_int) -> *mut c_void;
    /// Frees what the other has returned.
    fn acl_free(list: *mut c_void) -> c_int;
}

/// Not in one call: the caller goes step by step.
pub(super) fn open_at_once(
    _root: BorrowedFd<'_>,
    _path: &Path,
    _flags: OFlags,
) -> Option<rustix::io::Result<OwnedFd>> {
    None
}

/// Calls `visit` with everything in a directory that was just opened, and what kind of file the system says it is; it may not know.
pub(crate) fn list(
    dir: BorrowedFd<'_>,
    _buffer: &mut Vec<u8>,
    mut visit: impl FnMut(&CStr, FileType),
) -> rustix::io::Result<()> {
    for item in Dir::read_from(dir)? {
        let item = item?;
        visit(item.file_name(), item.file_type());
    }
    Ok(())
}

/// Always refused, so the caller copies: `fclonefileat` makes a new file and cannot fill one that is there.
pub(crate) fn reflink(_to: &File, _from: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The system cannot tell, so it may be.
pub(crate) fn has_writers(_file: &File) -> bool {
    true
}

/// Whether an access control list says, besides the mode, who may use an open file or directory; yes, when that cannot be known.
///
/// These lists are no extended attributes here.
pub fn has_access_list(file: impl AsFd) -> bool {
    // SAFETY: it takes two numbers and returns a list of its own; the file is open.
    let list = unsafe { acl_get_fd_np(file.as_fd().as_raw_fd(), EXTENDED) };
    if list.is_null() {
        // `ENOENT` says that there is none.
        return !matches!(
            io::Error::last_os_error().raw_os_error(),
            Some(libc::ENOENT | libc::ENOTSUP)
        );
    }
    // SAFETY: it was returned by the call above and nobody else has it.
    unsafe { acl_free(list) };
    true
}

/// Whether each new file gets this attribute anew, so that it is none of a user's.
pub(super) fn is_given_anew(attribute: &[u8]) -> bool {
    // By which program a file was made, which the system writes.
    attribute == b"com.apple.provenance"
}
