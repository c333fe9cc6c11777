//! Messages between the test and its helper: a length, a JSON body, and file
//! descriptors that travel with the length.
//!
//! Both ends are the same executable, so the format carries no version.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::leaks::Report;
use crate::tier::Tier;

/// At most this many descriptors travel with one message.
pub(crate) const MAX_FDS: usize = 32;
/// A message longer than this is a bug; command lines and environments are far
/// below it.
const MAX_BODY: usize = 16 << 20;

/// What to execute; everything is given, nothing is inherited.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) cwd: PathBuf,
    /// How many of the descriptors that travel with the request are listeners,
    /// handed over from descriptor 3 on.
    pub(crate) listeners: usize,
    /// The only TCP ports it may use; `None` for any.
    pub(crate) tcp_ports: Option<Vec<u16>>,
}

impl Launch {
    /// The command line, for people.
    pub(crate) fn line(&self) -> String {
        self.args
            .iter()
            .fold(self.program.display().to_string(), |line, arg| {
                line + " " + &arg.to_string_lossy()
            })
    }
}

/// Facts of the test that the helper needs once the test itself is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Context {
    /// Value of the marking environment variable.
    pub(crate) tag: String,
    /// Name of the test, for people.
    pub(crate) test: String,
    /// The directory that holds everything of the environment.
    pub(crate) root: PathBuf,
    /// Where evidence goes when the test fails.
    pub(crate) bundle: PathBuf,
    /// The command that runs this test again.
    pub(crate) reproduce: String,
    /// The test's environment for the evidence, secrets left out.
    pub(crate) environment: String,
    /// How long a service may take to end after SIGTERM.
    pub(crate) grace: Duration,
    /// How long what is left may take to end by itself before it is a leak.
    pub(crate) settle: Duration,
    /// Whether the reader of our standard error is the test runner, whose death
    /// ends the test as well.
    pub(crate) runner_reads_stderr: bool,
    /// How far what the test starts is shut off.
    pub(crate) tier: Tier,
    /// Why it is not as far as the test wanted.
    pub(crate) tier_reason: Option<String>,
    /// Directories with a small file system of their own, and its size in bytes.
    pub(crate) disks: Vec<(PathBuf, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Open(Context),
    /// Descriptors: stdin, stdout, stderr, exit channel, listeners.
    Spawn {
        launch: Launch,
        /// The name of a service, which is that of its log.
        service: Option<String>,
    },
    /// Run this before anything is killed, at most for the given time.
    Teardown {
        launch: Launch,
        limit: Duration,
    },
    /// Kill the process group of a program that was started and has not been
    /// collected: only its collector knows that the number is still its own.
    KillGroup {
        pid: u32,
    },
    /// Keep the descriptors open until the last process is dead.
    Hold,
    /// Signal a service, now or as soon as the log of a service (the first) has a
    /// line with a text (the second). Descriptor: where to tell that it is done.
    Strike {
        service: String,
        signal: i32,
        line: Option<(String, String)>,
    },
    /// Answer with a socket that listens at the address.
    Listen {
        address: SocketAddr,
    },
    /// Answer with a socket that is about to be connected to the address.
    Connect {
        address: SocketAddr,
    },
    /// Stop everything and answer with a report.
    Finish {
        failed: bool,
        /// Faults that have not fired.
        faults: Vec<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// A descriptor may travel with it.
    Done,
    /// A pidfd travels with it.
    Spawned {
        pid: u32,
    },
    Failed {
        errno: Option<i32>,
        message: String,
    },
    Finished(Report),
}

/// Sends one message with its descriptors.
pub(crate) fn send<T: Serialize>(
    mut socket: &UnixStream,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    assert!(fds.len() <= MAX_FDS, "too many descriptors in one message");
    let body = serde_json::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|&length| length as usize <= MAX_BODY)
        .ok_or_else(|| io::Error::other("message too long"))?
        .to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let sent = retry(|| {
        sendmsg(
            socket.as_fd(),
            &[IoSlice::new(&length)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    socket.write_all(&length[sent..])?;
    socket.write_all(&body)
}

/// Receives one message; `None` when the other end is gone.
pub(crate) fn receive<T: DeserializeOwned>(
    mut socket: &UnixStream,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut length = [0u8; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry(|| {
        recvmsg(
            socket.as_fd(),
            &mut [IoSliceMut::new(&mut length)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    });
    let received = match received {
        Ok(message) => message.bytes,
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if received == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut length[received..])?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_BODY {
        return Err(io::Error::other("message too long"));
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body)?;
    let message = serde_json::from_slice(&body).map_err(io::Error::other)?;
    Ok(Some((message, fds)))
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom};

    #[test]
    fn messages_carry_descriptors_and_end_with_none() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"through the socket").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let finish = Request::Finish {
            failed: true,
            faults: Vec::new(),
        };
        send(&ours, &finish, &[file.as_fd()]).unwrap();
        drop(ours);

        let (message, mut fds) = receive::<Request>(&theirs).unwrap().unwrap();
        assert!(matches!(message, Request::Finish { failed: true, .. }));
        let mut text = String::new();
        std::fs::File::from(fds.remove(0))
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "through the socket");
        assert!(receive::<Request>(&theirs).unwrap().is_none());
    }
}
