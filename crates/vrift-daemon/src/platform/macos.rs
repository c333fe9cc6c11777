//! macOS: launchd, `getpeereid`, descriptors that are made safe once they are here.
//!
//! This is compiled and was never run.

use std::error::Error;
use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{RecvFlags, SendFlags, sockopt};

use crate::caller::Caller;

/// Where the daemon keeps blobs and roots unless told otherwise.
pub const DEFAULT_HOME: &str = "/var/db/vrift";
/// Where the daemon listens unless told otherwise: no directory of its own, since the system empties `/var/run` when it starts.
pub const DEFAULT_SOCKET: &str = "/var/run/vrift.sock";
/// The command that starts the daemon of all users.
pub const HOW_TO_START: &str =
    "sudo launchctl bootstrap system /Library/LaunchDaemons/org.vrift.daemon.plist";
/// What a user does with the units of [`install_for_user`](crate::install_for_user): what starts the daemon, and what has commands use it.
pub const HOW_TO_START_ALONE: [&str; 2] = [
    "launchctl bootstrap gui/$UID ~/Library/LaunchAgents/org.vrift.daemon.plist",
    "export VRIFT_SOCKET=\"$HOME/.vrift/run/daemon.sock\"",
];

/// The name of the socket in `dist/org.vrift.daemon.plist`.
const SOCKET_OF_LAUNCHD: &CStr = c"Listener";

unsafe extern "C" {
    /// The sockets that launchd made for this process; declared in `<launch.h>`, from macOS 10.10 on.
    ///
    /// Returns 0 and an array to be freed with `free`, or an error number.
    fn launch_activate_socket(
        name: *const c_char,
        fds: *mut *mut c_int,
        count: *mut libc::size_t,
    ) -> c_int;
}

/// The events of a connection whose other side is gone.
pub(crate) const GONE: PollFlags = PollFlags::HUP.union(PollFlags::ERR);
/// There are no descriptors that name a file and cannot read it.
pub(crate) const NAMES_ONLY: OFlags = OFlags::empty();
/// How messages are received.
pub(crate) const RECEIVE: RecvFlags = RecvFlags::empty();

/// How messages are sent, so that a connection that is gone is an error and no signal.
pub(crate) fn send_flags(stream: &UnixStream) -> SendFlags {
    // There is no flag for it but an option. Where it cannot be set, programs in Rust ignore the signal.
    let _kept = sockopt::set_socket_nosigpipe(stream, true);
    SendFlags::empty()
}

/// Descriptors that came with a message, closed from now on in programs that this process starts; it starts none meanwhile.
pub(crate) fn receive_fds(fds: impl Iterator<Item = OwnedFd>) -> impl Iterator<Item = OwnedFd> {
    fds.inspect(|fd| {
        // It can fail only for descriptors that are not open.
        let _open = fcntl_setfd(fd, FdFlags::CLOEXEC);
    })
}

/// The other side of a connection, as the kernel says.
pub(crate) fn peer(stream: &UnixStream) -> io::Result<Caller> {
    let fd = stream.as_raw_fd();
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: both pointers are to numbers of the types that it writes.
    if unsafe { libc::getpeereid(fd, &mut uid, &mut gid) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut pid: libc::pid_t = 0;
    let mut size = size_of::<libc::pid_t>() as libc::socklen_t;
    // SAFETY: it writes at most `size` bytes, those of a `pid_t`.
    let known = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_LOCAL,
            libc::LOCAL_PEERPID,
            (&raw mut pid).cast(),
            &raw mut size,
        )
    };
    // For the log only.
    let pid = if known == 0 { pid } else { 0 };
    Ok(Caller { uid, gid, pid })
}

/// The socket that launchd made for this process, if it did.
pub(crate) fn inherited() -> Result<Option<UnixListener>, Box<dyn Error + Send + Sync>> {
    let mut array: *mut c_int = std::ptr::null_mut();
    let mut count: libc::size_t = 0;
    // SAFETY: the name ends with NUL, and both pointers are to variables of the types that it writes.
    let error = unsafe {
        launch_activate_socket(SOCKET_OF_LAUNCHD.as_ptr(), &raw mut array, &raw mut count)
    };
    match error {
        0 if array.is_null() => return Err("launchd handed over nothing".into()),
        0 => {}
        // Not started by launchd, or without a socket.
        libc::ESRCH | libc::ENOENT => return Ok(None),
        error => return Err(io::Error::from_raw_os_error(error).into()),
    }
    // SAFETY: it is an array of `count` numbers, of descriptors that were opened for this process to own, once.
    let sockets: Vec<OwnedFd> = unsafe { std::slice::from_raw_parts(array, count) }
        .iter()
        .map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) })
        .collect();
    // SAFETY: it was made by `malloc`, and nothing refers to it any more.
    unsafe { libc::free(array.cast()) };
    let mut sockets = sockets.into_iter();
    let (Some(socket), None) = (sockets.next(), sockets.next()) else {
        return Err("launchd handed over another number of sockets than one".into());
    };
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    let listener = UnixListener::from(socket);
    // Only a socket of this family has such an address.
    listener.local_addr()?;
    Ok(Some(listener))
}

/// launchd wants to be told nothing.
pub(crate) fn notify(_state: &str) -> io::Result<()> {
    Ok(())
}

/// Keeps the allocator from keeping ever more; for `main`, before it starts a thread. This one needs no such settings.
pub fn keep_little_memory() {}

/// The allocator gives back what it does not need by itself.
pub(crate) fn give_back() {}

/// The units of a service of one user, an agent of launchd.
pub(crate) fn units(home: &Path, program: &Path) -> Vec<(PathBuf, String)> {
    let dir = home.join("Library/LaunchAgents");
    vec![(dir.join("org.vrift.daemon.plist"), agent(home, program))]
}

fn agent(home: &Path, program: &Path) -> String {
    let escape = |path: PathBuf| {
        path.display()
            .to_string()
            .replace('&', "&amp;")
            .replace('<', "&lt;")
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\"><dict>\n\
         <key>Label</key><string>org.vrift.daemon</string>\n\
         <key>ProgramArguments</key><array>\n\
         <string>{}</string><string>--private</string>\n\
         <string>--home</string><string>{}</string>\n\
         <string>--socket</string><string>{}</string>\n\
         </array>\n\
         <key>KeepAlive</key><true/>\n\
         <key>RunAtLoad</key><true/>\n\
         <key>StandardErrorPath</key><string>{}</string>\n\
         </dict></plist>\n",
        escape(program.to_owned()),
        escape(home.join(".vrift")),
        escape(home.join(".vrift/run/daemon.sock")),
        escape(home.join("Library/Logs/vrift-daemon.log")),
    )
}
