//! Linux: systemd, `SO_PEERCRED`, flags that make descriptors safe at once, glibc.

use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use daemon_lifecycle::Listener;
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::net::{RecvFlags, SendFlags};

use crate::caller::Caller;

/// Where the daemon keeps blobs and roots unless told otherwise.
pub const DEFAULT_HOME: &str = "/var/lib/vrift";
/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/vrift/daemon.sock";
/// The command that starts the daemon of all users.
pub const HOW_TO_START: &str = "systemctl start vrift";
/// What a user does with the units of [`install_for_user`](crate::install_for_user): what starts the daemon, and what has commands use it.
pub const HOW_TO_START_ALONE: [&str; 2] = [
    "systemctl --user daemon-reload && systemctl --user enable --now vrift.socket",
    "export VRIFT_SOCKET=\"$XDG_RUNTIME_DIR/vrift/daemon.sock\"",
];

/// The events of a connection whose other side is gone.
pub(crate) const GONE: PollFlags = PollFlags::RDHUP.union(PollFlags::HUP).union(PollFlags::ERR);
/// The flag of descriptors that name a file and cannot read it.
pub(crate) const NAMES_ONLY: OFlags = OFlags::PATH;
/// How messages are received.
pub(crate) const RECEIVE: RecvFlags = RecvFlags::CMSG_CLOEXEC;

/// How messages are sent, so that a connection that is gone is an error and no signal.
pub(crate) fn send_flags(_stream: &UnixStream) -> SendFlags {
    SendFlags::NOSIGNAL
}

/// Descriptors that came with a message; [`RECEIVE`] has them closed in programs that this process starts.
pub(crate) fn receive_fds(fds: impl Iterator<Item = OwnedFd>) -> impl Iterator<Item = OwnedFd> {
    fds
}

/// The other side of a connection, as the kernel says.
pub(crate) fn peer(stream: &UnixStream) -> io::Result<Caller> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(Caller {
        uid: peer.uid.as_raw(),
        gid: peer.gid.as_raw(),
        pid: peer.pid.as_raw_nonzero().get(),
    })
}

/// The socket that the service manager hands over, if there is one.
pub(crate) fn inherited() -> Result<Option<UnixListener>, Box<dyn Error + Send + Sync>> {
    match Listener::inherited()? {
        Some(Listener::Unix(listener)) => Ok(Some(listener)),
        Some(Listener::Tcp(_)) => Err("it is a TCP socket".into()),
        None => Ok(None),
    }
}

/// Tells the service manager how the daemon is, by its protocol `sd_notify`: a datagram to `NOTIFY_SOCKET`.
///
/// Nothing happens without a service manager.
pub(crate) fn notify(state: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let socket = UnixDatagram::unbound()?;
    let text = address.to_string_lossy();
    if let Some(name) = text.strip_prefix('@') {
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        return socket.send_to_addr(state.as_bytes(), &address).map(drop);
    }
    socket.send_to(state.as_bytes(), text.as_ref()).map(drop)
}

/// Tables and buffers from this size on, in bytes, are the system's own mappings, which end when they are freed.
///
/// glibc begins with this value too, but raises it with each mapping that is freed.
#[cfg(target_env = "gnu")]
const MAPPED: libc::c_int = 128 << 10;

/// Keeps the allocator from keeping ever more; for `main`, before it starts a thread.
///
/// glibc keeps what each thread has freed, for as long as the process lives; a daemon that mostly waits would keep what its busiest moment took.
pub fn keep_little_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets two numbers of the allocator, before other threads are there.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
        libc::mallopt(libc::M_TRIM_THRESHOLD, MAPPED);
    }
}

/// Gives what is free back to the system, where the allocator can: for when a caller has left.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and frees nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The units of a service of one user, a socket and a service of systemd.
pub(crate) fn units(home: &Path, program: &Path) -> Vec<(PathBuf, String)> {
    let dir = home.join(".config/systemd/user");
    vec![
        (dir.join("vrift.socket"), socket()),
        (dir.join("vrift.service"), service(program)),
    ]
}

fn socket() -> String {
    "[Unit]\n\
     Description=Deduplicating store of this user, socket\n\n\
     [Socket]\n\
     ListenStream=%t/vrift/daemon.sock\n\
     SocketMode=0600\n\
     DirectoryMode=0700\n\
     RemoveOnStop=yes\n\n\
     [Install]\n\
     WantedBy=sockets.target\n"
        .to_owned()
}

fn service(program: &Path) -> String {
    // systemd reads `%` and `\` specially in commands.
    let program = program
        .display()
        .to_string()
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    format!(
        "[Unit]\n\
         Description=Deduplicating store of this user\n\
         Requires=vrift.socket\n\n\
         [Service]\n\
         Type=notify\n\
         ExecStart=\"{program}\" --private --home %h/.vrift --socket %t/vrift/daemon.sock\n\
         UMask=0077\n\
         NoNewPrivileges=yes\n\
         RestrictAddressFamilies=AF_UNIX\n\
         Restart=on-failure\n"
    )
}
