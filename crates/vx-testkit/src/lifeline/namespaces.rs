//! Namespaces for what a test starts, made without root.
//!
//! Only a process with one thread may enter a user namespace, so this runs in
//! the helper, which has one, or before `main`. Of the helper's namespaces the
//! process namespace holds only its children: it goes on seeing everything by
//! the machine's own process ids, and so does the test.
//!
//! The first process of a process namespace is its `init`: orphans become its
//! children, and when it dies the kernel kills everything in there. That is
//! what ends a test whose helper was killed itself.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The namespaces of one test, as the helper holds them.
pub(super) struct Namespaces {
    pub(super) init: u32,
    init_handle: OwnedFd,
    /// The mount namespace that has a `/proc` of the process namespace.
    pub(super) mounts: OwnedFd,
    disks: Vec<PathBuf>,
}

/// A small file system of its own for one directory.
pub(super) type Disk = (PathBuf, u64);

impl Namespaces {
    /// Enters them. After an error this process is somewhere in between, and of
    /// no use any more.
    pub(super) fn enter(sealed: bool, disks: &[Disk]) -> io::Result<Namespaces> {
        let mut kinds = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
        if sealed {
            kinds |= libc::CLONE_NEWNET;
        }
        unshare(kinds)?;
        keep_mounts_to_ourselves().map_err(step("detach the mounts"))?;
        if sealed {
            bring_loopback_up().map_err(step("bring up the loopback interface"))?;
        }
        for (path, size) in disks {
            let options = format!("size={size},mode=0700\0");
            let options =
                CStr::from_bytes_with_nul(options.as_bytes()).map_err(io::Error::other)?;
            mount(
                "vx-testkit",
                path,
                "tmpfs",
                MountFlags::NOSUID | MountFlags::NODEV,
                Some(options),
            )
            .map_err(|errno| step("mount a small disk")(errno.into()))?;
        }
        let init = start_init()?;
        let handle = i32::try_from(init)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("no process id"))?;
        Ok(Namespaces {
            init,
            init_handle: pidfd_open(handle, PidfdFlags::empty())?,
            mounts: File::open(format!("/proc/{init}/ns/mnt"))
                .map_err(step("open the mount namespace"))?
                .into(),
            disks: disks.iter().map(|(path, _)| path.clone()).collect(),
        })
    }

    /// Ends the namespace and everything that is still in it.
    pub(super) fn close(&self) {
        // It may be gone already.
        let _ = pidfd_send_signal(&self.init_handle, Signal::KILL);
    }

    /// Makes the directories below the small disks ordinary ones again, so that
    /// they can be removed.
    pub(super) fn unmount(&self) {
        for disk in &self.disks {
            unmount(disk.as_path(), UnmountFlags::DETACH).ok();
        }
    }
}

/// Enters new namespaces of these kinds, and a user namespace that allows it;
/// where that is forbidden but the namespaces themselves are not, only those.
pub(super) fn unshare(kinds: libc::c_int) -> io::Result<()> {
    let (user, group) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    // SAFETY: it changes what this process sees, not its memory.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | kinds) } < 0 {
        let refused = io::Error::last_os_error();
        // SAFETY: as above.
        if unsafe { libc::unshare(kinds) } < 0 {
            return Err(step("enter a user namespace")(refused));
        }
        return Ok(());
    }
    // Without this an ordinary user may not map groups.
    fs::write("/proc/self/setgroups", "deny").map_err(step("give up further groups"))?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1")).map_err(step("map the user"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1")).map_err(step("map the group"))
}

/// Mounts of the machine still come in, ours do not go out.
fn keep_mounts_to_ourselves() -> io::Result<()> {
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(mount_change("/", flags)?)
}

pub(super) fn bring_loopback_up() -> io::Result<()> {
    // SAFETY: the request is initialised, outlives the calls, and its name ends
    // with a zero byte; the descriptor belongs to nobody else.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, &from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Starts the first process of the new process namespace.
fn start_init() -> io::Result<u32> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: this process has one thread, so its copy may do what it may.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(step("start the namespace's first process")(
            io::Error::last_os_error(),
        ));
    }
    if pid == 0 {
        run_init(writer);
    }
    drop(writer);
    let mut code = [0; 4];
    let answer = match rustix::io::read(&reader, &mut code) {
        Ok(4) => i32::from_le_bytes(code),
        _ => libc::EIO,
    };
    if answer != 0 {
        return Err(step("mount `/proc`")(io::Error::from_raw_os_error(answer)));
    }
    u32::try_from(pid).map_err(io::Error::other)
}

/// Collects orphans until it is killed.
fn run_init(writer: OwnedFd) -> ! {
    // SAFETY: these change this process only; the name ends with a zero byte.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NAME, c"vx-testkit-init".as_ptr());
    }
    let code = mount_proc().map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0);
    let told = rustix::io::write(&writer, &code.to_le_bytes());
    // Nobody to tell: the helper died before it could take this process along.
    if code != 0 || told.is_err() {
        // SAFETY: ends this process.
        unsafe { libc::_exit(1) };
    }
    // SAFETY: nothing of this copy uses a descriptor any more; they would keep
    // the test's pipes and leases. The set is initialised before it is used.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0u32, u32::MAX, 0u32);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &set, ptr::null_mut());
        loop {
            while libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) > 0 {}
            let mut signal = 0;
            libc::sigwait(&set, &mut signal);
        }
    }
}

/// Programs in the namespace are to see its process ids, the helper is not.
fn mount_proc() -> io::Result<()> {
    // SAFETY: it changes what this process sees, not its memory.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } < 0 {
        return Err(io::Error::last_os_error());
    }
    keep_mounts_to_ourselves()?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("proc", "/proc", "proc", flags, None)?)
}

/// In a child before it executes a program: moves it to the mount namespace, and
/// back into its directory, which that takes away.
pub(super) fn join(mounts: &OwnedFd, cwd: &Path) -> io::Result<()> {
    // SAFETY: it changes what this process sees, not its memory.
    if unsafe { libc::setns(mounts.as_raw_fd(), libc::CLONE_NEWNS) } < 0 {
        return Err(io::Error::last_os_error());
    }
    std::env::set_current_dir(cwd)
}

/// Names what could not be done.
fn step(what: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::other(format!("failed to {what}: {error}"))
}
