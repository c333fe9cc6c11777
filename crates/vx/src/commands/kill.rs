//! `vx kill`: ends vx-daemon and all that it started, and waits until it is gone.
//!
//! Nothing is signalled from here: the daemon ends itself, since only it knows
//! what it started.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;
use vx_proto::command::Command;

use crate::context::Context;
use crate::exit::{Failure, Kind};
use crate::render::Format;
use crate::{daemon, session};

/// How long the daemon may take: it ends its children with some patience.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends the daemon.
pub(super) fn run(context: &Context) -> Result<u8, Failure> {
    let endpoint = &context.settings.daemon;
    let Some(client) = daemon::connect_to_end(&context.settings)? else {
        return say(context, &format!("vx-daemon is not running ({endpoint})\n"));
    };
    let pid = client.server_version().pid;
    // Taken while it certainly lives, so that its number cannot mean another.
    let process = endpoint.is_local().then(|| handle(pid)).flatten();
    let asked = session::run_with(
        context,
        client,
        &Command::Shutdown,
        Format::of(&[]),
        &mut |_| {},
    );
    match (asked, &process) {
        (Ok(0), None) => {}
        (Ok(0), Some(process)) => {
            if !is_gone(process, PATIENCE) {
                return Err(Failure::new(
                    Kind::Service,
                    format!(
                        "vx-daemon (pid {pid}) still runs {} seconds after it agreed to end",
                        PATIENCE.as_secs()
                    ),
                )
                .hint(format!(
                    "its log is in `{}`",
                    context.settings.home.join("log").display()
                )));
            }
        }
        (Ok(code), _) => return Ok(code),
        // It may be gone before its last words have left it.
        (Err(failure), Some(process)) if failure.kind == Kind::Internal => {
            if !is_gone(process, PATIENCE) {
                return Err(failure);
            }
        }
        (Err(failure), _) => return Err(failure),
    }
    say(
        context,
        &format!("vx-daemon (pid {pid}) at {endpoint} has ended\n"),
    )
}

fn say(context: &Context, text: &str) -> Result<u8, Failure> {
    context
        .colors
        .stdout()
        .write_all(text.as_bytes())
        .map_err(|error| super::output(&error))?;
    Ok(0)
}

/// A handle of the process; none when it is not to be seen from here, e.g. from
/// within a container.
fn handle(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Waits for the end of a process.
fn is_gone(process: &OwnedFd, patience: Duration) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let Ok(timeout) = Timespec::try_from(patience) else {
        return false;
    };
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout))).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// So that every `vx` can end the daemon of every other version.
    #[test]
    fn the_request_to_end_is_the_same_for_ever() {
        let request = vx_proto::command::Command::Shutdown;
        assert_eq!(postcard::to_stdvec(&request).unwrap(), [3]);
    }

    #[test]
    fn a_process_is_gone_when_it_ends_and_not_before() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = handle(child.id()).unwrap();
        assert!(!is_gone(&process, Duration::ZERO));
        drop(child.stdin.take());
        assert!(is_gone(&process, Duration::from_secs(10)));
        child.wait().unwrap();
    }
}
