//! How the test's own executable becomes the helper before its `main` runs.
//!
//! A function in `.init_array` runs in every process that has this crate linked
//! in. It returns at once unless the environment says that this process is to
//! be the helper; then it never returns, so the test harness in `main` does not
//! start. The process is fresh and has one thread, and the C library is set up.
//! What Rust's standard library does *not* promise before `main` is avoided:
//! it has not yet ignored SIGPIPE (done here), and panics are caught.
//!
//! A program that is not a test and has the variable in its environment by
//! mistake is left alone: descriptor 0 must be a Unix socket.

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use super::namespaces;
use crate::inside::{INSIDE, Inside};

/// Names the role of a re-executed test binary.
pub(crate) const ROLE: &str = "VX_TESTKIT_ROLE";
pub(crate) const ROLE_HELPER: &str = "helper";
/// The test harness again, for one test in a sealed network.
pub(crate) const ROLE_SEALED: &str = "sealed";
/// The process that started it, with which it ends.
pub(crate) const PARENT: &str = "VX_TESTKIT_PARENT";

/// Whether [`before_main`] ran here. If it did not, it would not run in the
/// re-executed binary either, which would then run all tests again.
static RAN: AtomicBool = AtomicBool::new(false);

#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    RAN.store(true, Ordering::Relaxed);
    if std::env::var_os(ROLE).is_some_and(|role| role == ROLE_SEALED) {
        go_inside();
        return;
    }
    if std::env::var_os(ROLE).is_none_or(|role| role != ROLE_HELPER) || !stdin_is_unix_socket() {
        return;
    }
    // SAFETY: descriptor 0 is open (checked above), and this process has run
    // no code yet that could own it.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(0) });
    super::supervisor::run(socket)
}

/// Enters a sealed network; the test harness then runs in it.
fn go_inside() {
    let Some(parent) = std::env::var_os(PARENT) else {
        return;
    };
    for name in [ROLE, PARENT] {
        // What the test starts is not to do the same.
        // SAFETY: no other thread runs before `main`.
        unsafe { std::env::remove_var(name) };
    }
    let entered =
        namespaces::unshare(libc::CLONE_NEWNET).and_then(|()| namespaces::bring_loopback_up());
    // SAFETY: it changes this process only, and entering the namespaces would
    // have taken it back.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if parent != *now.to_string() {
        // SAFETY: ends this process, which its parent did not live to see.
        unsafe { libc::_exit(1) };
    }
    INSIDE.get_or_init(|| Inside { entered });
}

/// Whether a re-executed copy of this program can become the helper.
pub(crate) fn available() -> bool {
    RAN.load(Ordering::Relaxed)
}

fn stdin_is_unix_socket() -> bool {
    let stdin = rustix::stdio::stdin();
    rustix::net::sockopt::socket_domain(stdin)
        .is_ok_and(|domain| domain == rustix::net::AddressFamily::UNIX)
}
