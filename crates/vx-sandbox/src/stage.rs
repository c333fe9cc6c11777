//! Stage one: the fresh process that makes the namespaces and waits for PID 1.
//!
//! It stays outside the PID namespace it made, so that its end tells the host that the whole namespace is empty.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use crate::error::SetupFailure;
use crate::failure::{Step, invalid};
use crate::wire::{Envelope, Message};
use crate::{pid1, privileges};

/// Build the sandbox and run; never returns.
pub(crate) fn run() -> ! {
    close_everything_else();
    // SAFETY: the host started this process with a socket as descriptor 0 and nothing else uses it.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(0) });
    let code = match stage_one(&socket) {
        Ok(()) => 0,
        Err(failure) => {
            report(&socket, &Message::Failed(failure));
            1
        }
    };
    std::process::exit(code)
}

/// Send the last word; a host that does not listen any more needs none.
pub(crate) fn report(mut socket: &UnixStream, message: &Message) {
    use std::io::Write;
    if let Ok(text) = serde_json::to_vec(message) {
        drop(socket.write_all(&text));
    }
}

/// Descriptors that the host's own parents left open are nobody's business here.
fn close_everything_else() {
    // SAFETY: nothing in this fresh process owns a descriptor above 2.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
}

fn stage_one(socket: &UnixStream) -> Result<(), SetupFailure> {
    let (envelope, descriptors) = receive(socket)?;
    let outside = privileges::Outside::of_this_process();
    let tier = privileges::enter_namespaces(envelope.spec.user_namespace, outside)?;
    // After the change of credentials, which clears it.
    privileges::die_with_parent()?;
    // A host that died before that line has closed the socket, which `wait_for` sees.
    let (watched, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .step("make", "the lifeline pipe")?;
    // SAFETY: this process has a single thread, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error()).step("start", "PID 1 of the sandbox"),
        0 => {
            drop(held);
            pid1::run(pid1::Job {
                socket,
                watched,
                envelope,
                descriptors,
                tier,
                outside,
            })
        }
        child => {
            drop((watched, descriptors));
            wait_for(child, socket)?;
            drop(held);
            Ok(())
        }
    }
}

/// Return when `child` has ended; end it when the host hangs up.
fn wait_for(child: libc::pid_t, socket: &UnixStream) -> Result<(), SetupFailure> {
    let pid = Pid::from_raw(child).ok_or_else(|| invalid("wait for", "PID 1 of the sandbox"))?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .step("watch", "PID 1 of the sandbox")?;
    loop {
        let mut watched = [
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::new(socket, PollFlags::IN | PollFlags::RDHUP),
        ];
        let _ready = match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result.step("watch", "PID 1 of the sandbox")?,
        };
        if watched[0].revents().is_empty() {
            // The host says nothing after the spec, so this is the end of the stream.
            // It may have ended this moment.
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        }
        // PID 1 becomes waitable only after the kernel has ended everything else in its namespace.
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            result => {
                result.step("wait for", "PID 1 of the sandbox")?;
                return Ok(());
            }
        }
    }
}

fn receive(socket: &UnixStream) -> Result<(Envelope, Vec<OwnedFd>), SetupFailure> {
    let what = "the specification";
    let mut head = [0u8; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut head)];
    let received = recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        .step("receive", what)?;
    if received.bytes != 4 {
        return Err(invalid("receive", what));
    }
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    let mut body = Vec::new();
    let length = u64::from(u32::from_be_bytes(head));
    let mut stream: &UnixStream = socket;
    let read = Read::take(&mut stream, length)
        .read_to_end(&mut body)
        .step("receive", what)?;
    let envelope: Envelope =
        serde_json::from_slice(&body).map_err(|_| invalid("understand", what))?;
    if read as u64 != length || descriptors.len() != envelope.inherited.len() + 2 {
        return Err(invalid("receive", what));
    }
    Ok((envelope, descriptors))
}
