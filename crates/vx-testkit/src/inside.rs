//! Runs the body of a test inside a sealed network: the test's own executable
//! is run again for this one test, and enters the namespaces before `main`.
//!
//! A process with several threads cannot enter a user namespace, and a test is
//! one thread of many. The copy says so when it has run the body: a test
//! harness that finds no test of the given name succeeds as well.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::OnceLock;

use crate::lifeline::enter;

/// What the copy says once it has run the body.
const DONE: &[u8; 4] = b"done";

/// What the copy knows of how it was made.
pub(crate) struct Inside {
    /// Whether it got inside.
    pub(crate) entered: io::Result<()>,
}

pub(crate) static INSIDE: OnceLock<Inside> = OnceLock::new();

/// Runs the body of a test, and nothing else of the test, in a network that has
/// only a loopback interface, where every port is free: the test itself, its
/// threads, and all environments that it makes.
///
/// ```
/// // With `#[test]` before it.
/// fn every_port_is_free() {
///     vx_testkit::sealed(|| {
///         let server = std::net::TcpListener::bind("127.0.0.1:9001");
///         assert!(server.is_ok());
///     });
/// }
/// ```
///
/// It needs the standard test harness. The copy has the caller's environment
/// and arguments of its own; what it prints is printed again when it fails.
///
/// # Panics
/// If the body panics, or if there can be no sealed network here; it is never
/// skipped.
#[track_caller]
pub fn sealed<F: FnOnce()>(body: F) {
    if let Some(inside) = INSIDE.get() {
        if let Err(error) = &inside.entered {
            panic!("no sealed network can be had here: {error}");
        }
        body();
        if let Err(error) = rustix::io::write(rustix::stdio::stdin(), DONE) {
            panic!("failed to tell that the test has run: {error}");
        }
        return;
    }
    let name = test_name(std::any::type_name::<F>());
    match run_copy(&name) {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.text);
            assert!(
                output.ran,
                "test `{name}` failed in the sealed network:\n{text}"
            );
        }
        Err(error) => panic!("failed to run test `{name}` in a sealed network: {error}"),
    }
}

/// The name the harness has for the test in which a closure of this type is:
/// `crate::module::test::{{closure}}` is in `module::test`.
fn test_name(closure: &str) -> String {
    let path = closure.split_once("::").map_or(closure, |(_, path)| path);
    let path = path.split("::{{closure}}").next().unwrap_or(path);
    path.to_owned()
}

struct Copy {
    text: Vec<u8>,
    /// Whether it has run the body to its end, and nothing failed after it.
    ran: bool,
}

fn run_copy(name: &str) -> io::Result<Copy> {
    if !enter::available() {
        return Err(io::Error::other(
            "this program's start-up functions were not run",
        ));
    }
    // Its standard input has nothing to read, and takes the word that the body
    // has run; a file for that would stay when this process is killed.
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.shutdown(Shutdown::Write)?;
    // It ends with this thread, which waits for it.
    let output = Command::new("/proc/self/exe")
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .args(["--include-ignored"])
        .env(enter::ROLE, enter::ROLE_SEALED)
        .env(enter::PARENT, std::process::id().to_string())
        .stdin(OwnedFd::from(theirs))
        .output()?;
    // It is there by now if it ever will be.
    ours.set_nonblocking(true)?;
    let mut word = [0; DONE.len()];
    let told = ours.read_exact(&mut word).is_ok() && word == *DONE;
    let mut text = output.stdout;
    text.extend(output.stderr);
    Ok(Copy {
        text,
        ran: output.status.success() && told,
    })
}

#[cfg(test)]
mod tests {
    use super::test_name;

    #[test]
    fn the_test_is_found_by_the_type_of_its_closure() {
        let name = "inside::tests::the_test_is_found_by_the_type_of_its_closure";
        let closure = || ();
        fn of<F>(_: &F) -> String {
            test_name(std::any::type_name::<F>())
        }
        assert_eq!(of(&closure), name);
        let nested = || of(&|| ());
        assert_eq!(nested(), name);
    }
}
