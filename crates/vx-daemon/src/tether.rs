//! Programs that end when this process does, however it ends.
//!
//! cargo holds the lock of its package cache while it downloads: one that outlived a daemon would keep everybody else waiting.

use std::io;

use rustix::process::getppid;
use tokio::process::Command;

/// Has the kernel kill the program that `command` starts when the thread that started it ends.
///
/// Call it from a thread that lives as long as the process: one of those that run async tasks.
pub(crate) fn tie(command: &mut Command) {
    let parent = std::process::id().cast_signed();
    let tie = move || {
        die_with_parent()?;
        // It may have ended before that, and somebody else is the parent now.
        match getppid().is_some_and(|now| now.as_raw_nonzero().get() == parent) {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    };
    // SAFETY: between fork and exec nothing happens but two system calls; nothing is allocated or locked.
    unsafe { command.pre_exec(tie) };
}

#[cfg(target_os = "linux")]
fn die_with_parent() -> io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Other kernels know no such thing: what runs there goes on until it is done.
#[cfg(not(target_os = "linux"))]
fn die_with_parent() -> io::Result<()> {
    Ok(())
}
